"""Exercises of notebook 04."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, Question, close
from diffusion_lib.exercises.parts import factors, floats, wrong_factors
from diffusion_lib.exercises.steps import ALONG_SIGMA, DDIM, NO_ROOM, SIGMA, STEP, ddim, sigma, step, x0_hat

# steps, each with the shape of its images and alpha_bar at s and at t > s: three from the middle of a chain, two last steps, a first
CALLS = (
    ((5, 1, 4, 6), 0.7, 0.2),
    ((2, 3, 5, 3), 0.9, 0.05),
    ((3, 3, 3, 4), 0.6, 0.58),
    ((1, 1, 4, 5), 1.0, 0.8),
    ((2, 1, 3, 5), 1.0, 0.9999),
    ((2, 1, 6, 5), 1e-3, 2.5e-9),
)


def _images(random: torch.Generator, count: int, shape: Sequence[int], t: float) -> list[Tensor]:
    """`count` images of noise; the first two are xt and eps_hat."""
    images = list(torch.randn(count, *shape, generator=random))
    if t < 1e-6:  # x0_hat enlarges a difference of the two; with opposite signs it is exact in any order of operations
        images[0] = -images[0].abs() * images[1].sign()
    return [image.to(_dtype(t)) for image in images]


def _dtype(t: float) -> torch.dtype:
    """float64 if alpha_bar_t is tiny: an angle from acos has too few digits in float32."""
    return torch.float64 if t < 1e-6 else torch.float32


def _levels_of(s: float, t: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(s, dtype=_dtype(t)), torch.tensor(t, dtype=_dtype(t))


def _generic(s, t, eta=0.5) -> bool:
    """Whether no factor happens to be 0 or 1, so that equal answers mean the same mistake."""
    return t > 1e-6 and s < 1 and 0 < eta < 1


def _about_small(x: Tensor | None, expected: Tensor, t: Tensor) -> str | None:
    """Describes an answer for a tiny alpha_bar_t, where x0_hat, tens of thousands of times xt - eps_hat, drowns the rest."""
    if x is None:
        return None
    ratios = x / expected
    ratio = ratios.median()
    if (ratios / ratio - 1).abs().max() > 0.2:
        return None
    small = ": add nothing to it, and set no floor" if 0 < ratio < 0.99 else ": is something added to it?" if 0 < ratio < 1 else ""
    return f"it is {ratio.item():.4g} times what it should be where alpha_bar_t is {t.item():.2g}{small}"


# -------------------------------------------------------------------------------------------------------------------- levels


def _levels(T, steps):
    return [T * (steps - i) // steps for i in range(steps + 1)]


def _as_tensor(levels) -> Tensor:
    if not isinstance(levels, Tensor | Sequence):
        raise TypeError("not a list of numbers")
    return levels if isinstance(levels, Tensor) else torch.tensor(list(levels))


def _about_levels(got, expected, T, steps):
    levels, right = _as_tensor(got), torch.tensor(expected)
    if levels.ndim != 1 or levels.is_complex() or levels.dtype == torch.bool or len(levels) == 0:
        return None
    levels = levels if levels.is_floating_point() else levels.long()
    if len(levels) != len(right):
        ends = f"{len(levels)} levels, from {levels[0].item():g} to {levels[-1].item():g}"
        return f"it returns {ends}; expected steps + 1 = {steps + 1} levels, from {T} to 0"
    if levels.is_floating_point() and torch.equal(levels.double(), right.double()):
        return "the values are right, but they are floats; levels are integers: divide with // or convert with int()"
    if levels.is_floating_point() and torch.equal(levels.double().floor(), right.double()):
        return "levels are integers: round T (n - i) / n down, with // instead of /"
    size = int(levels[0] - levels[1])
    if torch.equal(levels.flip(0), right):
        return "the list ascends; a sampler goes from T down to 0"
    if T % steps and abs(size - T / steps) < 1 and (levels.diff() == -size).all():
        return f"every step is {size}: T / steps is rounded before it is multiplied, and the errors add up"
    exact = T * torch.arange(steps, -1, -1)  # n times what is rounded down
    wrong, whole = levels != right, exact % steps == 0
    if whole[wrong].all() and torch.equal(levels[wrong], right[wrong] - 1) and not wrong[1:-1].all():
        i = int(wrong.nonzero()[0])
        cause = "T (n - i) / n is an integer there, and floating point can fall just below it: divide integers, with //"
        return f"level i = {i} is {levels[i].item()}; expected {right[i].item()}: {cause}"
    if levels[0] != T or levels[-1] != 0:
        return f"the list goes from {levels[0].item():g} to {levels[-1].item():g}; expected from T = {T} to 0"
    if (2 * (steps * levels - exact).abs() <= steps).all():
        return "this is rounded to the nearest integer; expected T (n - i) / n rounded down"
    if torch.equal(levels, -(-exact // steps)):
        return "this is rounded up; expected T (n - i) / n rounded down"
    i = int(wrong.nonzero()[0])
    rounded = "" if whole[i] else f", which is {exact[i].item() / steps:.5g} rounded down"
    return f"level i = {i} is {levels[i].item():g}; expected {right[i].item()}{rounded}"


check_levels = Exercise(
    reference=_levels,
    inputs=lambda random: [
        *((1000, 10), (100, 7), (100, 3), (50, 50), (7, 1), (1, 1), (300, 22), (4000, 333)),
        # each of these falls below an integer in some floating-point formula
        *((1000, 12), (1000, 19), (1000, 38), (1000, 60), (100, 100), (1000, 120), (1000, 242), (1000, 999)),
    ],
    look=_as_tensor,
    mistakes=(
        Mistake(lambda T, steps: _levels(T, steps)[:-1], "0 is missing: the last step ends at the clean image"),
        Mistake(lambda T, steps: _levels(T, steps)[1:], "T is missing: the chain starts from noise, which is level T"),
        Mistake(lambda T, steps: _levels(T, steps)[1:-1], "T and 0 are missing: the chain starts from noise and ends at the clean image"),
        Mistake(lambda T, steps: _levels(T, steps)[-2::-1], "the list ascends, and 0 is missing; a sampler goes from T down to 0"),
        Mistake(lambda T, steps: _levels(T, steps)[:0:-1], "the list ascends, and T is missing; a sampler goes from T down to 0"),
        Mistake(
            lambda T, steps: [max(1, level) for level in _levels(T, steps)],
            "the list ends at 1: the noise of that level would remain in the image",
        ),
        Mistake(
            lambda T, steps: [T - 1 - i * (T // steps) for i in range(steps)],
            "the list starts at T - 1 and does not end at 0: levels go from T to 0",
        ),
        Mistake(lambda T, steps: [level - 1 for level in _levels(T, steps)], "every level is one too low: levels go from T to 0"),
    ),
    diagnose=_about_levels,
)


# ---------------------------------------------------------------------------------------------------------------------- ddim


def _clamped_and_recomputed(xt, eps, s, t):
    image = x0_hat(xt, eps, s, t).clamp(-1, 1)
    return s.sqrt() * image + (1 - s).sqrt() * (xt - t.sqrt() * image) / (1 - t).sqrt()


def _about_ddim(got, expected, xt, eps_hat, s, t):
    x = floats(got, expected)
    if x is None or t < 1e-6:
        return _about_small(x, expected, t)
    said = DDIM.named(1, x, xt, eps_hat, s, t) or DDIM.named(2, x, xt, eps_hat, s, t) if _generic(s, t) else None
    return said or wrong_factors(x, expected, dict(xt=xt, eps_hat=eps_hat))


check_ddim_step = Exercise(
    reference=ddim,
    inputs=lambda random: [(*_images(random, 2, shape, t), *_levels_of(s, t)) for shape, s, t in CALLS],
    mistakes=(
        Mistake(x0_hat, "this is x0_hat, the clean image; the step ends at level s"),
        Mistake(lambda xt, eps, s, t: xt, "this is xt, unchanged: compute x0_hat at level t, then xs at level s"),
        Mistake(lambda xt, eps, s, t: ddim(xt, eps, t, s), "s and t are swapped: this goes back into the noise"),
        Mistake(
            lambda xt, eps, s, t: (1 - s).sqrt() * x0_hat(xt, eps, s, t) + s.sqrt() * eps,
            "the two factors of level s are swapped: sqrt(alpha_bar_s) belongs to x0_hat, sqrt(1 - alpha_bar_s) to eps_hat",
        ),
        Mistake(
            lambda xt, eps, s, t: s.sqrt() * x0_hat(xt, eps, s, t) + (1 - s).sqrt() * xt,
            "xt is used instead of eps_hat at the end: at level s, mix x0_hat and eps_hat",
        ),
        Mistake(
            lambda xt, eps, s, t: s * x0_hat(xt, eps, s, t) + (1 - s) * eps,
            "the factors of x0_hat and eps_hat are sqrt(alpha_bar_s) and sqrt(1 - alpha_bar_s); the roots are missing",
        ),
        Mistake(lambda xt, eps, s, t: s * (xt - (1 - t) * eps) / t + (1 - s) * eps, "the roots are missing, at both levels"),
        Mistake(
            lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t.sqrt()) * eps) / t.sqrt() + (1 - s.sqrt()) * eps,
            "the root should cover 1 - alpha_bar: (1 - alpha_bar).sqrt(), not 1 - alpha_bar.sqrt()",
        ),
        Mistake(
            _clamped_and_recomputed,
            "x0_hat is clamped and eps_hat recomputed; leave both out: the step is (4.4) and nothing else",
        ),
        Mistake(
            lambda xt, eps, s, t: step(xt, eps, 0 * xt, s, t, 1.0),
            "this is the mean of DDPM's step (eta = 1); with eta = 0, eps_hat has the factor sqrt(1 - alpha_bar_s)",
        ),
        Mistake(
            lambda xt, eps, s, t: (t / s).sqrt() * ddim(xt, eps, s, t),
            "this is sqrt(alpha_bar_t / alpha_bar_s) times what it should be",
        ),
    ),
    praise="with alpha_bar_s = 1 this is x0_hat: the last step needs no special case",
    diagnose=_about_ddim,
)


# --------------------------------------------------------------------------------------------------------------------- sigma


def _real(sigma) -> Tensor:
    """A number in float64. A complex root of Python becomes nan, as in torch."""
    x = torch.as_tensor(sigma)
    return torch.full_like(x.real, torch.nan).double() if x.is_complex() else x.double()


def _about_sigma(got, expected, s, t, eta):
    if isinstance(got, list | tuple):
        return f"it returns {len(got)} value{'s' * (len(got) != 1)}; expected one number, sigma"
    x = _real(got)
    if x.shape != expected.shape:
        return None
    if x.isnan():
        return (
            "this is the root of a negative number: in (4.5), alpha_bar_t / alpha_bar_s is below 1, and each 1 - alpha_bar is in brackets"
        )
    said = SIGMA.named(1, x, s, t, eta) or SIGMA.named(2, x, s, t, eta) if _generic(s, t, eta) else None
    return said or f"it is {x.item():.4g}; expected {expected.item():.4g}"


check_sigma = Exercise(
    reference=sigma,
    inputs=lambda random: [
        (torch.tensor(s), torch.tensor(t), eta)
        for s, t, eta in (
            *((0.7, 0.2, 0.6), (0.9, 0.05, 0.25), (0.6, 0.58, 0.8), (0.64, 0.3, 1.0), (0.5, 0.1, 0.0)),
            *((1.0, 0.8, 0.4), (1e-3, 2.5e-9, 0.7), (0.999, 0.99, 0.9), (0.3, 0.01, 1)),
        )
    ],
    look=_real,
    mistakes=(
        Mistake(
            lambda s, t, eta: eta * (1 - s) / (1 - t) * (1 - t / s),
            "this is eta times the variance; sigma is a standard deviation: take the root",
        ),
        Mistake(lambda s, t, eta: sigma(s, t, 1.0) ** 2, "this is beta_tilde; sigma is eta times its root"),
        Mistake(lambda s, t, eta: sigma(s, t, eta) ** 2, "this is the variance, sigma^2; expected its root"),
        Mistake(lambda s, t, eta: eta, "this is eta itself; sigma is eta times the root of beta_tilde"),
        Mistake(
            lambda s, t, eta: eta * (1 - s).sqrt(),
            "this is eta sqrt(1 - alpha_bar_s); (4.5) multiplies two roots, the second of 1 - alpha_bar_t / alpha_bar_s",
        ),
        Mistake(
            lambda s, t, eta: eta * (((1 - s) / (1 - t)).sqrt() + (1 - t / s).sqrt()),
            "the two roots of (4.5) are added; multiply them",
        ),
        Mistake(
            lambda s, t, eta: eta * ((1 - s) / (1 - t) - t / s).sqrt(),
            "the second fraction is subtracted from the first; put 1 - alpha_bar_t / alpha_bar_s in brackets and multiply",
        ),
        Mistake(lambda s, t, eta: 0 * s, "this is 0 whatever eta is; only eta = 0 gives no noise"),
    ),
    diagnose=_about_sigma,
)


# ---------------------------------------------------------------------------------------------------------- the whole family


def _about_step(got, expected, xt, eps_hat, z, s, t, eta):
    if isinstance(got, Tensor) and got.shape == expected.shape and got.isnan().any():
        return (
            "it contains nan, probably the root of a negative number: is it the root of 1 - alpha_bar_s - sigma^2, with the sigma of (4.5)?"
        )
    x = floats(got, expected)
    if x is None or t < 1e-6:
        return _about_small(x, expected, t)
    generic = _generic(s, t, eta)
    said = STEP.named(1, x, xt, eps_hat, z, s, t, eta) if generic else None
    said = said or _other_eta(x, xt, eps_hat, z, s, t)
    said = said or (STEP.named(2, x, xt, eps_hat, z, s, t, eta) if generic else None)
    return said or wrong_factors(x, expected, dict(xt=xt, eps_hat=eps_hat, z=z))


def _kept(s, t, eta):
    return (1 - s - sigma(s, t, eta) ** 2).clamp(min=0).sqrt()


def _step_clamped_and_recomputed(xt, eps, z, s, t, eta):
    image = x0_hat(xt, eps, s, t).clamp(-1, 1)
    return s.sqrt() * image + _kept(s, t, eta) * (xt - t.sqrt() * image) / (1 - t).sqrt() + sigma(s, t, eta) * z


def _other_eta(x, xt, eps_hat, z, s, t):
    found = factors(x, xt, eps_hat, z)
    if found is None or s == 1:
        return None
    eta = (found[2] / sigma(s, t, 1.0)).item()  # this eta gives z its factor
    if not 0 <= round(eta, 4) <= 1 or not close(step(xt, eps_hat, z, s, t, eta), x):
        return None
    return f"this is the step of eta = {abs(round(eta, 3)):g}"


check_step = Exercise(
    reference=step,
    inputs=lambda random: [
        (*_images(random, 3, shape, t), *_levels_of(s, t), eta)
        for (shape, s, t), eta in zip((*CALLS, *CALLS[:2]), (0.4, 0.25, 0.8, 0.3, 1.0, 0.7, 1.0, 0.0), strict=True)
    ],
    mistakes=(
        Mistake(STEP.build(along=NO_ROOM.answer), NO_ROOM.message),
        Mistake(STEP.build(along=ALONG_SIGMA.answer), ALONG_SIGMA.message),
        Mistake(lambda xt, eps, z, s, t, eta: ddim(xt, eps, s, t), "this is the step of eta = 0, whatever eta is: z is not used"),
        Mistake(lambda xt, eps, z, s, t, eta: step(xt, eps, z, s, t, 1.0), "this is the step of eta = 1, whatever eta is"),
        Mistake(
            lambda xt, eps, z, s, t, eta: step(xt, z, eps, s, t, eta),
            "z and eps_hat are swapped: eps_hat is the noise in xt, z is the fresh noise",
        ),
        Mistake(
            lambda xt, eps, z, s, t, eta: s.sqrt() * x0_hat(xt, eps, s, t) + (1 - s).sqrt() * z,
            "all the noise is fresh, whatever eta is: your sigma is sqrt(1 - alpha_bar_s), the largest of the family; (4.5) gives less",
        ),
        Mistake(lambda xt, eps, z, s, t, eta: step(xt, eps, 0 * z, s, t, eta), "z is not used: the fresh noise is missing"),
        Mistake(
            lambda xt, eps, z, s, t, eta: s.sqrt() * x0_hat(xt, eps, s, t) + _kept(s, t, eta) * z + sigma(s, t, eta) * eps,
            "z and eps_hat are swapped after x0_hat: z, the fresh noise, has the factor sigma, and eps_hat has the root",
        ),
        Mistake(
            lambda xt, eps, z, s, t, eta: s.sqrt() * x0_hat(xt, eps, s, t) + _kept(s, t, 1.0) * eps + sigma(s, t, eta) * z,
            "the factor of eps_hat uses the sigma of eta = 1: eta is missing under the root",
        ),
        Mistake(
            _step_clamped_and_recomputed,
            "x0_hat is clamped and eps_hat recomputed; leave both out: the step is (4.4) and nothing else",
        ),
    ),
    praise="this is DDIM at eta = 0 and DDPM at eta = 1: you have written both",
    diagnose=_about_step,
)


# ------------------------------------------------------------------------------------------------------------------ guidance


def _guided(conditional, unconditional, scale):
    # eps = eps(xt) + scale (eps(xt, y) - eps(xt))                                     Ho & Salimans 2022, equation 6, w = scale - 1
    return unconditional + scale * (conditional - unconditional)


def _about_guided(got, expected, conditional, unconditional, scale):
    x = floats(got, expected)
    if x is None:
        return None
    found = factors(x, conditional, unconditional)
    if found and abs(sum(found) - 1) < 1e-3:
        return f"this is what scale = {found[0]:.3g} gives"
    return wrong_factors(x, expected, dict(conditional=conditional, unconditional=unconditional))


check_guided = Exercise(
    reference=_guided,
    inputs=lambda random: [
        (*torch.randn(2, *shape, generator=random), scale)
        for shape, scale in (
            *(((3, 1, 4, 6), 3.0), ((2, 3, 5, 3), 0.0), ((1, 1, 4, 5), 1.0), ((1, 3, 3, 4), 7.5)),
            *(((4, 1, 5, 2), 0.4), ((2, 2, 3, 5), 2.0), ((2, 1, 6, 5), 0.0)),
        )
    ],
    mistakes=(
        Mistake(lambda c, u, scale: _guided(u, c, scale), "the two predictions are swapped: this guides away from the class"),
        Mistake(
            lambda c, u, scale: c + scale * (c - u),
            "this starts from the conditional prediction, like the paper (its w is scale - 1); start from the unconditional one",
        ),
        Mistake(lambda c, u, scale: scale * (c - u), "the unconditional prediction is missing: scale = 0 should give exactly that"),
        Mistake(
            lambda c, u, scale: u + scale * c,
            "the whole conditional prediction is added; add only the difference that the class makes",
        ),
        Mistake(lambda c, u, scale: scale * c, "the unconditional prediction is not used: this multiplies the noise and guides nothing"),
        Mistake(lambda c, u, scale: scale * u, "the conditional prediction is not used: add the difference that the class makes"),
        Mistake(lambda c, u, scale: u - scale * (c - u), "the difference is subtracted: this guides away from the class"),
        Mistake(
            lambda c, u, scale: u + scale * (c + u),
            "the two predictions are added; subtract them to get the difference that the class makes",
        ),
        Mistake(
            lambda c, u, scale: scale * c - u,
            "brackets are missing: scale multiplies only one prediction; write scale (conditional - unconditional)",
        ),
        Mistake(
            lambda c, u, scale: scale * c - (1 - scale) * u, "the unconditional prediction is subtracted; the two factors should sum to 1"
        ),
        Mistake(lambda c, u, scale: scale * (c + u) / 2, "this is a multiple of the mean; expected a step along the difference"),
        Mistake(
            lambda c, u, scale: u + (scale - 1) * (c - u),
            "the difference has the factor scale - 1; scale = 1 should give the conditional prediction",
        ),
        Mistake(lambda c, u, scale: c, "this is the conditional prediction, whatever scale is"),
        Mistake(lambda c, u, scale: u, "this is the unconditional prediction, whatever scale is"),
        Mistake(
            lambda c, u, scale: c - u, "this is the difference that the class makes; scale and the unconditional prediction are missing"
        ),
        Mistake(
            lambda c, u, scale: _guided(c, u, scale).clamp(-1, 1),
            "the result is clamped; it is noise, which exceeds 1: leave the clamp out",
        ),
        Mistake(
            lambda c, u, scale: c if scale <= 1 else _guided(c, u, scale),
            "up to 1, scale is not used: scale = 0 should give the unconditional prediction",
        ),
    ),
    diagnose=_about_guided,
)


# --------------------------------------------------------------------------------------------------------------------- calls

check_calls = Question(
    answer=200,
    tolerance=1e-6,
    mistakes=(
        Mistake(50, "that is for one batch; 100 images at 25 a batch make four"),
        Mistake(51, "that counts the levels of one batch, not the steps; and 100 images at 25 a batch make four"),
        Mistake(5000, "that counts every image; one call takes a whole batch"),
        Mistake(400, "there is no guidance here: each step needs one call"),
        Mistake(10000, "that counts every image twice; one call takes a whole batch, and there is no guidance here"),
        Mistake(100, "each of the four batches needs one call per step, and there are 50 steps"),
        Mistake(204, "a chain of 50 steps has 51 levels, but the network is not called at the last one, 0"),
        Mistake(196, "all 50 steps call the network, including the last one"),
        Mistake(4, "that is the number of batches; each of them takes 50 steps"),
        Mistake(25, "that is the size of a batch; there are four batches with 50 steps each"),
        Mistake(2, "that is 100 images divided by 50 steps; each of the four batches needs one call per step"),
        Mistake(1250, "that is 25 times 50; multiply by the number of batches, not by their size"),
        Mistake(2500, "that is 25 times 100; there are four batches with 50 steps each"),
        Mistake(5100, "that counts every image, and levels instead of steps; one call takes a whole batch"),
        Mistake(125000, "that multiplies all three; divide the images by the size of a batch first"),
        Mistake(4000, "that is for a step at each of 1000 levels; here there are 50 steps"),
        Mistake(100000, "that is for every image and 1000 levels; here there are 50 steps, and one call takes a whole batch"),
        Mistake(54, "the batches and the steps are added; multiply them: each batch takes all the steps"),
    ),
    praise="four batches of 50 steps; DDPM would need the same number",
)
