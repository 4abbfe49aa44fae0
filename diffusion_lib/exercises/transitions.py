"""Exercise of notebook 01: the forward steps between two noise levels."""

from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.formulas import PAIRS, Formulas, about_number, near, number


def _forward_transition(alpha_bar_s, alpha_bar_t):
    # q(xt | xs) = N(sqrt(alpha_bar_t / alpha_bar_s) xs, (1 - alpha_bar_t / alpha_bar_s) I): (1.3) for a chain that starts at s
    left = alpha_bar_t / alpha_bar_s
    return left.sqrt(), 1 - left


def _values(answer: Any) -> Any:
    """The numbers in a tuple, a list or a row; anything else unchanged."""
    if isinstance(answer, list | tuple) or (isinstance(answer, Tensor) and answer.ndim == 1):
        return tuple(map(number, answer))
    return answer


def _factor_and_variance(answer: Any) -> Any:
    """A pair with 10 (1 - factor) beside the factor, so that a factor clamped just below 1 counts as wrong; anything else unchanged."""
    values = _values(answer)
    if not isinstance(values, tuple) or len(values) != 2 or not isinstance(values[0], Tensor | float | int):
        return values
    factor = torch.as_tensor(values[0])
    return (factor, 10 * (1 - factor.double())), values[1]


FACTORS_OF_XS: Formulas = {
    "alpha_bar_t / alpha_bar_s, without the root": lambda s, t: t / s,
    "the root of alpha_bar_t, which counts the steps up to s twice: xs already includes them": lambda s, t: t.sqrt(),
    "alpha_bar_t, without the root and not divided by alpha_bar_s": lambda s, t: t,
    "the root of alpha_bar_s / alpha_bar_t: the quotient is upside down": lambda s, t: (s / t).sqrt(),
    "alpha_bar_s / alpha_bar_t, upside down and without the root": lambda s, t: s / t,
    "the standard deviation of the noise": lambda s, t: (1 - t / s).sqrt(),
    "the variance of the noise": lambda s, t: 1 - t / s,
    "the root of alpha_bar_s, for the steps already taken; those from s + 1 to t remain": lambda s, t: s.sqrt(),
    "alpha_bar_s, for the steps already taken; those from s + 1 to t remain": lambda s, t: s,
    "so xs does not shrink": lambda s, t: s**0,
    "the root of alpha_bar_s - alpha_bar_t: alpha_bar is a product of alphas, so divide": lambda s, t: (s - t).sqrt(),
    "alpha_bar_s - alpha_bar_t: alpha_bar is a product of alphas, so divide": lambda s, t: s - t,
    "the root of 1 - (alpha_bar_s - alpha_bar_t): alpha_bar is a product of alphas, so divide": lambda s, t: (1 - s + t).sqrt(),
    "the difference of the roots: alpha_bar is a product of alphas, so divide": lambda s, t: s.sqrt() - t.sqrt(),
    "the root of alpha_bar_s alpha_bar_t; divide them, since the steps up to s are in both": lambda s, t: (s * t).sqrt(),
    "alpha_bar_s alpha_bar_t; divide them, and take the root": lambda s, t: s * t,
    "the root of alpha_bar_t over alpha_bar_s: both are under the root": lambda s, t: t.sqrt() / s,
    "alpha_bar_t over the root of alpha_bar_s: both are under the root": lambda s, t: t / s.sqrt(),
    "the square of alpha_bar_t / alpha_bar_s; take the root": lambda s, t: (t / s) ** 2,
}
VARIANCES_OF_XT: Formulas = {
    "the standard deviation": lambda s, t: (1 - t / s).sqrt(),
    "1 - alpha_bar_t, the variance of all noise up to t: xs already contains some of it": lambda s, t: 1 - t,
    "alpha_bar_s - alpha_bar_t: the noise in xs shrinks along with the image, so the variances do not subtract": lambda s, t: s - t,
    "1 minus the factor; it is 1 minus the factor's square": lambda s, t: 1 - (t / s).sqrt(),
    "alpha_bar_t / alpha_bar_s, the factor's square; the variance is 1 minus that": lambda s, t: t / s,
    "the root of 1 - alpha_bar_t": lambda s, t: (1 - t).sqrt(),
    "1 - alpha_bar_s, the variance of the noise in xs": lambda s, t: 1 - s,
    "(1 - alpha_bar_t) / (1 - alpha_bar_s)": lambda s, t: (1 - t) / (1 - s),
    "(1 - alpha_bar_s) / (1 - alpha_bar_t)": lambda s, t: (1 - s) / (1 - t),
    "1 - alpha_bar_s / alpha_bar_t: the quotient is upside down": lambda s, t: 1 - s / t,
    "alpha_bar_s / alpha_bar_t - 1: the quotient is upside down": lambda s, t: s / t - 1,
    "the right size with the wrong sign": lambda s, t: t / s - 1,
    "the variance of a backward step (1.8)": lambda s, t: (1 - s) / (1 - t) * (1 - t / s),
    "1 - alpha_bar_t minus the factor times 1 - alpha_bar_s: a factor multiplies a variance by its square": lambda s, t: (
        1 - t - (t / s).sqrt() * (1 - s)
    ),
    "the root of alpha_bar_s - alpha_bar_t": lambda s, t: (s - t).sqrt(),
    "1 - (alpha_bar_s - alpha_bar_t)": lambda s, t: 1 - s + t,
    "1 minus the square of alpha_bar_t / alpha_bar_s; take 1 minus the quotient itself": lambda s, t: 1 - (t / s) ** 2,
    "the square of the variance": lambda s, t: (1 - t / s) ** 2,
    "1 minus alpha_bar_t over the root of alpha_bar_s: leave the root out": lambda s, t: 1 - t / s.sqrt(),
    "1 - alpha_bar_s alpha_bar_t; divide them, since the steps up to s are in both": lambda s, t: 1 - s * t,
}


def _about_transition(got: Any, expected: tuple, alpha_bar_s: Tensor, alpha_bar_t: Tensor) -> str | None:
    values = _values(got)
    if isinstance(values, Tensor | float | int):
        single = float(number(torch.as_tensor(values)))
        named = [name for name, right in zip(("factor", "variance"), expected, strict=True) if near(single, float(right))]
        return f"it returns one number, {'the ' + named[0] if len(named) == 1 else f'{single:.4g}'}; expected two: factor, variance"
    if not isinstance(values, tuple) or len(values) != 2:
        return None
    said = about_number("the variance", values[1], expected[1], VARIANCES_OF_XT, alpha_bar_s, alpha_bar_t)
    seen, right = _factor_and_variance(values)[0], _factor_and_variance(expected)[0]
    if isinstance(seen, tuple) and near(float(seen[0]), float(right[0])) and not near(float(seen[1]), float(right[1])):
        return f"the factor is {float(seen[0]):.6g}; expected {float(right[0]):.8g} (is it clamped or rounded?); {said}"
    return f"{about_number('the factor', values[0], expected[0], FACTORS_OF_XS, alpha_bar_s, alpha_bar_t)}; {said}"


check_forward_transition = Exercise(
    reference=_forward_transition,
    # the last two with little noise
    inputs=lambda random: [(torch.tensor(s), torch.tensor(t)) for s, t in (*PAIRS, (0.98, 0.9799), (0.97, 0.969999))],
    look=_factor_and_variance,
    mistakes=(
        Mistake(
            lambda s, t: (t.sqrt(), 1 - t),
            "this is the jump from the clean image; the steps up to s are already taken, and only those from s + 1 to t remain",
        ),
        Mistake(
            lambda s, t: (s.sqrt(), 1 - s),
            "this is the jump from the clean image to xs; the exercise asks for the steps from s + 1 to t",
        ),
        Mistake(
            lambda s, t: ((t / s).sqrt(), (1 - t / s).sqrt()),
            "the second value is the standard deviation; the exercise asks for the variance",
        ),
        Mistake(lambda s, t: (t / s, 1 - t / s), "the variance is right; the factor of xs is the root of yours"),
        Mistake(lambda s, t: (t / s, (1 - t / s).sqrt()), "the root is on the wrong value: the factor is a root, the variance is not"),
        Mistake(
            lambda s, t: ((s / t).sqrt(), 1 - s / t),
            "the quotient is upside down: alpha_bar falls with t, so alpha_bar_t / alpha_bar_s is below 1",
        ),
        Mistake(
            lambda s, t: (1 - t / s, (t / s).sqrt()),
            "the two values are right, but in the wrong order: return the factor first, then the variance",
        ),
        Mistake(
            lambda s, t: ((1 - t / s).sqrt(), (t / s).sqrt()),
            "these are the factors of noise and image; expected the factor of xs and the variance of the noise",
        ),
        Mistake(
            lambda s, t: ((1 - s + t).sqrt(), s - t),
            "this uses the difference of the two alpha_bar as the variance; alpha_bar is a product of alphas, so divide",
        ),
        Mistake(
            lambda s, t: ((t - s).sqrt(), 1 - (t - s)),
            "alpha_bar_t - alpha_bar_s is negative, and its root is nan; alpha_bar is a product of alphas, so divide",
        ),
        Mistake(
            lambda s, t: (t - s, 1 - (t - s)),
            "alpha_bar_t - alpha_bar_s is negative; alpha_bar is a product of alphas, so divide and take the root",
        ),
    ),
    praise="with s = 0 this is (1.3), with s = t - 1 a single step (1.2)",
    diagnose=_about_transition,
)
