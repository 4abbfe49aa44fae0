"""Exercise of notebook 01: one step back, from xt to xs, when x0 is known."""

from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.formulas import (
    PAIRS,
    Formulas,
    about_number,
    near,
    noise,
    noised,
    number,
    said_of,
    said_of_constant,
    signs,
    weights,
)


def _posterior(x0, xt, alpha_bar_s, alpha_bar_t):
    # with beta = 1 - alpha_bar_t / alpha_bar_s of the stride from s to t:                            Ho et al. 2020, equations 6, 7
    # mean = sqrt(alpha_bar_s) beta / (1 - alpha_bar_t) x0 + sqrt(1 - beta) (1 - alpha_bar_s) / (1 - alpha_bar_t) xt
    # variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) beta
    return _posterior_with(x0, xt, alpha_bar_s, alpha_bar_t, 1 - alpha_bar_t / alpha_bar_s)


def _posterior_with(x0, xt, s, t, beta):
    mean = s.sqrt() * beta / (1 - t) * x0 + (1 - beta).sqrt() * (1 - s) / (1 - t) * xt
    return mean, (1 - s) / (1 - t) * beta


def _one_variance(mean: Any, variance: Any) -> Any:
    """The variance as one number, if it is constant and broadcasts with the mean; otherwise unchanged."""
    value = torch.as_tensor(variance) if isinstance(variance, Tensor | float | int | list) else variance
    if not isinstance(value, Tensor) or not isinstance(mean, Tensor):
        return value
    fits = value.ndim in (0, mean.ndim) and all(n in (1, m) for n, m in zip(value.shape, mean.shape, strict=False))
    return value.flatten()[0] if value.numel() == 1 or (fits and bool((value == value.flatten()[0]).all())) else value


ATOL_VARIANCE = 3e-7  # above the rounding of float32, below the usual floors for a variance


def _mean_and_variance(answer: Any) -> Any:
    """A pair with the variance enlarged, so that a small one does not count as 0; anything else unchanged."""
    if not isinstance(answer, list | tuple) or len(answer) != 2:
        return answer
    variance = _one_variance(*answer)
    return answer[0], variance / ATOL_VARIANCE * 1e-5 if isinstance(variance, Tensor) else variance


def _xt_and_x0(random: torch.Generator) -> list[tuple]:
    shapes = [(2, 3, 4, 6), (1, 1, 5, 3), (3, 2, 2, 5), (1, 3, 6, 2), (2, 1, 3, 4), (4, 1, 4, 4)]
    calls = []
    # the last step starts where float32 keeps enough digits for (1.11), which subtracts the noise
    for k, (s, t) in enumerate(torch.tensor((*PAIRS[:-1], (1.0, 0.01)))):
        x0 = 2 * torch.randn(shapes[k - 1], generator=random) if k else signs(random)
        eps = torch.randn(x0.shape, generator=random) if k else noise(random)
        call = (x0, noised(x0, t, eps), s, t)
        # (1.11) divides a small difference by the root of alpha_bar_t: next to nothing of it survives in float32
        calls.append(tuple(each.double() for each in call) if t < 1e-4 else call)
    return calls


def _alpha(s: Tensor, t: Tensor) -> Tensor:
    return t / s


def _stride(s: Tensor, t: Tensor) -> Tensor:
    return 1 - t / s


def _by_variance(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of the estimates of xs from x0 and from xt, if each is weighted by its variance."""
    of_x0, of_xt = 1 - s, _stride(s, t) / _alpha(s, t)
    return of_x0 / (of_x0 + of_xt), of_xt / (of_x0 + of_xt)


WEIGHTS_OF_X0: Formulas = {
    "with alpha_bar_s instead of its root": lambda s, t: s * _stride(s, t) / (1 - t),
    "without the root of alpha_bar_s": lambda s, t: _stride(s, t) / (1 - t),
    "with the root of alpha_bar_t instead of alpha_bar_s": lambda s, t: t.sqrt() * _stride(s, t) / (1 - t),
    "with alpha_bar_t instead of the root of alpha_bar_s": lambda s, t: t * _stride(s, t) / (1 - t),
    "not divided by 1 - alpha_bar_t": lambda s, t: s.sqrt() * _stride(s, t),
    "divided by 1 - alpha_bar_s instead of 1 - alpha_bar_t": lambda s, t: s.sqrt() * _stride(s, t) / (1 - s),
    "divided by the root of 1 - alpha_bar_t": lambda s, t: s.sqrt() * _stride(s, t) / (1 - t).sqrt(),
    "multiplied by 1 - alpha_bar_t instead of divided": lambda s, t: s.sqrt() * _stride(s, t) * (1 - t),
    "with 1 - beta instead of beta": lambda s, t: s.sqrt() * _alpha(s, t) / (1 - t),
    "with the root of 1 - beta instead of beta": lambda s, t: s.sqrt() * _alpha(s, t).sqrt() / (1 - t),
    "with the root of beta": lambda s, t: s.sqrt() * _stride(s, t).sqrt() / (1 - t),
    "without beta": lambda s, t: s.sqrt() / (1 - t),
    "with 1 - alpha_bar_t instead of beta": lambda s, t: s.sqrt(),
    "with alpha_bar_s - alpha_bar_t instead of beta": lambda s, t: s.sqrt() * (s - t) / (1 - t),
    "with 1 - alpha_bar_s instead of beta": lambda s, t: s.sqrt() * (1 - s) / (1 - t),
    "with the root of alpha_bar_t / alpha_bar_s instead of alpha_bar_s": lambda s, t: _alpha(s, t).sqrt() * _stride(s, t) / (1 - t),
    "with 1 - alpha_bar_t not in brackets": lambda s, t: s.sqrt() * _stride(s, t) - t,
    "the factor of xt": lambda s, t: _alpha(s, t).sqrt() * (1 - s) / (1 - t),
    "with both estimates weighted by their variances instead of their precisions, 1 / variance": lambda s, t: (
        s.sqrt() * _by_variance(s, t)[0]
    ),
    "so x0 is missing": lambda s, t: 0 * t,
    "so x0 counts in full": lambda s, t: t**0,
}
WEIGHTS_OF_XT: Formulas = {
    "with 1 - beta instead of its root": lambda s, t: _alpha(s, t) * (1 - s) / (1 - t),
    "without the root of 1 - beta": lambda s, t: (1 - s) / (1 - t),
    "with the root of alpha_bar_t instead of alpha_bar_t / alpha_bar_s": lambda s, t: t.sqrt() * (1 - s) / (1 - t),
    "with alpha_bar_t instead of the root of alpha_bar_t / alpha_bar_s": lambda s, t: t * (1 - s) / (1 - t),
    "with the root of alpha_bar_s instead of alpha_bar_t / alpha_bar_s": lambda s, t: s.sqrt() * (1 - s) / (1 - t),
    "with the root of beta instead of 1 - beta": lambda s, t: _stride(s, t).sqrt() * (1 - s) / (1 - t),
    "with beta instead of the root of 1 - beta": lambda s, t: _stride(s, t) * (1 - s) / (1 - t),
    "with the quotient alpha_bar_t / alpha_bar_s upside down": lambda s, t: (s / t).sqrt() * (1 - s) / (1 - t),
    "with the fraction (1 - alpha_bar_s) / (1 - alpha_bar_t) upside down": lambda s, t: _alpha(s, t).sqrt() * (1 - t) / (1 - s),
    "not divided by 1 - alpha_bar_t": lambda s, t: _alpha(s, t).sqrt() * (1 - s),
    "without 1 - alpha_bar_s": lambda s, t: _alpha(s, t).sqrt() / (1 - t),
    "without the fraction (1 - alpha_bar_s) / (1 - alpha_bar_t)": lambda s, t: _alpha(s, t).sqrt(),
    "with the roots of 1 - alpha_bar_s and of 1 - alpha_bar_t": lambda s, t: (_alpha(s, t) * (1 - s) / (1 - t)).sqrt(),
    "divided by the root of 1 - alpha_bar_t": lambda s, t: _alpha(s, t).sqrt() * (1 - s) / (1 - t).sqrt(),
    "with the root of 1 - (alpha_bar_s - alpha_bar_t)": lambda s, t: (1 - s + t).sqrt() * (1 - s) / (1 - t),
    "with 1 - alpha_bar_t not in brackets": lambda s, t: _alpha(s, t).sqrt() * (1 - s) - t,
    "with 1 minus the root of beta instead of the root of 1 - beta": lambda s, t: (1 - _stride(s, t).sqrt()) * (1 - s) / (1 - t),
    "with the square of 1 - beta": lambda s, t: _alpha(s, t) ** 2 * (1 - s) / (1 - t),
    "the factor of x0": lambda s, t: s.sqrt() * _stride(s, t) / (1 - t),
    "which only undoes the shrinking of xt": lambda s, t: (s / t).sqrt(),
    "with both estimates weighted by their variances instead of their precisions, 1 / variance": lambda s, t: (
        _by_variance(s, t)[1] / _alpha(s, t).sqrt()
    ),
    "so xt is missing": lambda s, t: 0 * t,
    "so xt counts in full": lambda s, t: t**0,
}
VARIANCES_OF_XS: Formulas = {
    "beta, the variance of a forward step: knowing x0 leaves less uncertainty (1.8)": _stride,
    "the standard deviation": lambda s, t: ((1 - s) / (1 - t) * _stride(s, t)).sqrt(),
    "its logarithm": lambda s, t: ((1 - s) / (1 - t) * _stride(s, t)).log(),
    "the root of beta, the standard deviation of a forward step": lambda s, t: _stride(s, t).sqrt(),
    "(1 - alpha_bar_t) / (1 - alpha_bar_s) beta, with the fraction upside down: it should be smaller than beta": lambda s, t: (
        (1 - t) / (1 - s) * _stride(s, t)
    ),
    "1 - alpha_bar_s, the variance of xs when only x0 is known": lambda s, t: 1 - s,
    "1 - alpha_bar_t, the variance of xt when only x0 is known": lambda s, t: 1 - t,
    "the fraction of (1.8) without beta": lambda s, t: (1 - s) / (1 - t),
    "without the division by 1 - alpha_bar_t": lambda s, t: (1 - s) * _stride(s, t),
    "without 1 - alpha_bar_s": lambda s, t: _stride(s, t) / (1 - t),
    "with alpha_bar_s - alpha_bar_t instead of beta": lambda s, t: (1 - s) / (1 - t) * (s - t),
    "alpha_bar_s - alpha_bar_t": lambda s, t: s - t,
    "with 1 - beta instead of beta": lambda s, t: (1 - s) / (1 - t) * _alpha(s, t),
    "with the root of beta": lambda s, t: (1 - s) / (1 - t) * _stride(s, t).sqrt(),
    "with the roots of 1 - alpha_bar_s and of 1 - alpha_bar_t": lambda s, t: ((1 - s) / (1 - t)).sqrt() * _stride(s, t),
    "with beta squared": lambda s, t: (1 - s) / (1 - t) * _stride(s, t) ** 2,
    "the square of the variance": lambda s, t: ((1 - s) / (1 - t) * _stride(s, t)) ** 2,
    "1 / variance": lambda s, t: (1 - t) / ((1 - s) * _stride(s, t)),
    "with the quotient alpha_bar_t / alpha_bar_s upside down": lambda s, t: (1 - s) / (1 - t) * (1 - s / t),
    "with 1 - alpha_bar_t not in brackets": lambda s, t: (1 - s) - t * _stride(s, t),
    "so the step has no noise": lambda s, t: 0 * t,
}


def _about_posterior(got: Any, expected: tuple, x0: Tensor, xt: Tensor, s: Tensor, t: Tensor) -> str | None:
    both = isinstance(got, list | tuple) and len(got) == 2
    if not both and not isinstance(got, Tensor | float | int):
        return None
    if not both:
        if torch.as_tensor(got).numel() == 1 != x0.numel():
            said = about_number("the variance", number(got), expected[1], VARIANCES_OF_XS, s, t, atol=ATOL_VARIANCE)
            return f"it returns one number; expected two values, mean and variance ({said})"
        return f"it returns one tensor; expected two values, mean and variance ({_about_mean(got, expected[0], x0, xt, s, t)})"
    mean, variance = got
    said = about_number("the variance", _one_variance(mean, variance), expected[1], VARIANCES_OF_XS, s, t, atol=ATOL_VARIANCE)
    return f"{_about_mean(mean, expected[0], x0, xt, s, t)}; {said}"


def _about_mean(got: Any, mean: Tensor, x0: Tensor, xt: Tensor, s: Tensor, t: Tensor) -> str:
    if not isinstance(got, Tensor):
        return "the mean is missing (None)" if got is None else f"the mean is a {type(got).__name__}; expected a tensor"
    if got.shape != mean.shape:
        return f"the mean has shape {tuple(got.shape)}; expected {tuple(mean.shape)}"
    if torch.allclose(got.double(), mean.double(), rtol=1e-4):
        return "the mean is right"
    if not got.isfinite().all():
        division = ": at s = 0, 1 - alpha_bar_s is 0, and something is divided by it; use the simplified form (1.9)" if s == 1 else ""
        return f"the mean contains numbers that are not finite{division}"
    s_, t_ = s.double(), t.double()
    a, b = (s_.sqrt() * _stride(s_, t_) / (1 - t_)).item(), (_alpha(s_, t_).sqrt() * (1 - s_) / (1 - t_)).item()
    found = weights(got, x0, xt)
    if not found or (near(found[0], a) and near(found[1], b) and not found[2]):
        off = f"the mean is off by up to {(got.double() - mean).abs().max().item():.3g}"
        coarse = got.dtype in (torch.float16, torch.bfloat16)
        if coarse:
            return f"{off}, in {got.dtype}, which keeps few digits"
        return off if found else f"{off}, and is not a sum of x0 and xt with one factor each"
    of_x0 = said_of("the factor of x0", found[0], a, WEIGHTS_OF_X0, s, t)
    of_xt = said_of("the factor of xt", found[1], b, WEIGHTS_OF_XT, s, t)
    return f"in the mean, {said_of_constant(found[2])}{of_x0}, and {of_xt}"


check_posterior = Exercise(
    reference=_posterior,
    inputs=_xt_and_x0,
    look=_mean_and_variance,
    mistakes=(
        Mistake(
            lambda x0, xt, s, t: (_posterior(x0, xt, s, t)[0], 1 - t / s),
            "the mean is right; the variance is beta, the variance of a forward step: knowing x0 leaves less uncertainty (1.8)",
        ),
        Mistake(
            lambda x0, xt, s, t: (_posterior(x0, xt, s, t)[0], _posterior(x0, xt, s, t)[1].sqrt()),
            "the mean is right; the second value is the standard deviation; the exercise asks for the variance",
        ),
        Mistake(
            lambda x0, xt, s, t: (_posterior(x0, xt, s, t)[0], (1 - t) / (1 - s) * (1 - t / s)),
            "the mean is right; in the variance the fraction is upside down: it should be smaller than beta",
        ),
        Mistake(
            lambda x0, xt, s, t: (_posterior(xt, x0, s, t)[0], _posterior(x0, xt, s, t)[1]),
            "the variance is right; in the mean, the factors of x0 and xt are swapped",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior_with(x0, xt, s, t, 1 - t),
            "beta is 1 - alpha_bar_t, for the steps from the clean image; it should be for the steps from s to t (exercise 3)",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior_with(x0, xt, s, t, s - t),
            "beta is the difference of the two alpha_bar; it should be 1 minus their quotient (exercise 3)",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior_with(x0, xt, s, t, t / s),
            "beta is alpha_bar_t / alpha_bar_s; it should be 1 minus that (exercise 3)",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior_with(x0, xt, s, t, (1 - t / s).sqrt()),
            "beta has a root; it should be the variance 1 - alpha_bar_t / alpha_bar_s itself (exercise 3)",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior_with(x0, xt, s, t, 1 - (t / s).sqrt()),
            "beta is 1 minus the root of alpha_bar_t / alpha_bar_s; it should be 1 minus the quotient itself (exercise 3)",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior_with(x0, xt, s, t, 1 - s / t),
            "in beta, the quotient alpha_bar_s / alpha_bar_t is upside down (exercise 3)",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior(x0, xt, t, s),
            "alpha_bar_s and alpha_bar_t are swapped: t is the noisier of the two",
        ),
        Mistake(
            lambda x0, xt, s, t: (s.sqrt() * (1 - t / s) / (1 - t) * x0 + t.sqrt() * (1 - s) / (1 - t) * xt, _posterior(x0, xt, s, t)[1]),
            "the variance is right; the factor of xt has the root of alpha_bar_t; expected the root of alpha_bar_t / alpha_bar_s",
        ),
        Mistake(lambda x0, xt, s, t: (s.sqrt() * x0, 1 - s), "this is q(xs | x0), which ignores xt; the backward step uses both"),
        Mistake(lambda x0, xt, s, t: (t.sqrt() * x0, 1 - t), "this is q(xt | x0), the forward jump; the backward step goes from xt to xs"),
        Mistake(
            lambda x0, xt, s, t: ((t / s).sqrt() * xt, 1 - t / s),
            "this is a forward step from xt, as long as the one from s to t; the backward step goes from xt to xs",
        ),
        Mistake(
            lambda x0, xt, s, t: (xt / (t / s).sqrt(), _posterior(x0, xt, s, t)[1]),
            "the variance is right; the mean only undoes the shrinking of xt and ignores x0",
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior(x0, xt, s, t)[::-1], "the two values are right, but in the wrong order: return the mean first"
        ),
        Mistake(
            lambda x0, xt, s, t: _posterior(x0, xt, s, t)[0],
            "the mean is right, but the variance is missing: return mean, variance",
        ),
        Mistake(lambda x0, xt, s, t: _posterior(x0.clamp(-1, 1), xt, s, t), "x0 is clamped to [-1, 1]; (1.9) uses it unchanged"),
        Mistake(lambda x0, xt, s, t: _posterior(x0, xt.clamp(-1, 1), s, t), "xt is clamped to [-1, 1]; noise is unbounded"),
        Mistake(
            lambda x0, xt, s, t: (_posterior(x0, xt, s, t)[0].clamp(-1, 1), _posterior(x0, xt, s, t)[1]),
            "the variance is right; the mean is clamped to [-1, 1], and (1.9) has no clamp",
        ),
    ),
    praise="with alpha_bar_s = 1 this returns x0 and variance 0: the last step needs no special case",
    diagnose=_about_posterior,
)
