"""Exercises of notebook 04 about one step of a sampler."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, close
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
