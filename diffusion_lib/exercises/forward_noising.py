"""Exercises of notebook 01; log_snr.py, transitions.py and posterior.py hold those about log SNR and about steps."""

import math
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.formulas import Formulas, near, noise, noised, said_of, said_of_constant, signs, weights
from diffusion_lib.exercises.log_snr import check_at_log_snr as check_at_log_snr
from diffusion_lib.exercises.log_snr import check_pooled_log_snr as check_pooled_log_snr
from diffusion_lib.exercises.posterior import check_posterior as check_posterior
from diffusion_lib.exercises.transitions import check_forward_transition as check_forward_transition

# ---------------------------------------------------------------------------------------------------------------------- alpha_bar


def _alpha_bar(beta):
    # alpha_bar_t = prod_{i=1}^t (1 - beta_i),  alpha_bar_0 = 1
    return torch.cumprod(1 - beta, dim=0)


def _betas(random: torch.Generator) -> list[tuple]:
    """Betas of short and long chains; the last ones are so large that alpha_bar falls below 1e-12."""
    drawn = [0.3 * torch.rand(T, generator=random) for T in (10, 3, 1)]
    steps = [*drawn, torch.linspace(1e-4, 0.06, 300, dtype=torch.float64), torch.linspace(0.05, 0.9998, 30)]
    return [(torch.cat([torch.zeros(1), beta]),) for beta in steps]


def _logarithms(table: Any) -> Any:
    """The logarithms of a table, which give small numbers the same weight as large ones; anything else unchanged."""
    if isinstance(table, list | tuple):
        table = torch.stack([torch.as_tensor(entry) for entry in table])
    table = torch.as_tensor(table) if isinstance(table, float) else table
    return table.double().log() if isinstance(table, Tensor) and table.is_floating_point() else table


def _about_alpha_bar(got: Any, expected: Tensor, beta: Tensor) -> str | None:
    got = torch.as_tensor(got)
    coarse = f" ({got.dtype} keeps few digits)" if got.dtype in (torch.float16, torch.bfloat16) else ""
    got, expected = got.double(), expected.double()

    def same(ours: Tensor, theirs: Tensor) -> bool:
        return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-4, atol=0)

    if got.ndim == 1 and same(got[1:], expected) and len(got) == len(expected) + 1:
        return "there is one entry too many: beta[0] = 0 already makes entry 0 equal to 1, so put none in front"
    if got.shape != expected.shape:
        return (
            f"it returns shape {tuple(got.shape)}; expected {tuple(expected.shape)}, one entry for each of beta"
            if got.numel() > 1
            else None
        )
    if not got.isfinite().all():
        return None
    if same(got, expected.flip(0)):
        return "the numbers are right, but in reverse order"
    if got.min() > 0 and (got == got.min()).sum() > 1 and same(got, expected.clamp(min=got.min().item())):
        return f"entries below {got.min().item():.3g} are clamped: alpha_bar has no lower limit"
    ratio = (got / expected).log().abs().nan_to_num(math.inf)  # nan below 0
    t = int((ratio > 1e-4).nonzero()[0]) if (ratio > 1e-4).any() else int(ratio.argmax())
    right = "1: at t = 0 the whole image is left" if t == 0 else f"{expected[t].item():.6g}"
    return f"entry {t} is {got[t].item():.6g}{coarse}; expected {right}"


check_alpha_bar = Exercise(
    reference=_alpha_bar,
    inputs=_betas,
    look=_logarithms,
    mistakes=(
        Mistake(
            torch.zeros_like,
            "every entry is 0: this is a product of the betas, or a product that starts from 0; entry 0 is 1, and the factors are 1 - beta",
        ),
        Mistake(
            torch.ones_like, "every entry is 1: this is 1 minus a product of the betas; alpha_bar is the product of the alphas, 1 - beta"
        ),
        Mistake(lambda beta: 1 - beta, "this is alpha, the fraction that one step leaves; alpha_bar is the product of all alphas up to t"),
        Mistake(lambda beta: beta, "this is beta, unchanged; alpha_bar is the product of the alphas, 1 - beta"),
        Mistake(lambda beta: (1 - beta).sqrt(), "this is the root of alpha; alpha_bar is the product of all alphas up to t"),
        Mistake(
            lambda beta: torch.prod(1 - beta), "this is one number, the product up to T; entry t is the product up to t (torch.cumprod)"
        ),
        Mistake(torch.prod, "this is one number, the product of the betas; expected products of alphas (torch.cumprod)"),
        Mistake(
            lambda beta: torch.prod(1 - beta).expand(len(beta)),
            "every entry is the product up to T; entry t is the product up to t (torch.cumprod)",
        ),
        Mistake(lambda beta: torch.cumsum(1 - beta, dim=0), "this adds up the alphas; alpha_bar is their product (torch.cumprod)"),
        Mistake(lambda beta: torch.cumsum(beta, dim=0), "this adds up the betas; alpha_bar is the product of the alphas, 1 - beta"),
        Mistake(
            lambda beta: 1 - torch.cumsum(beta, dim=0),
            "this subtracts the betas one after another; each step removes a fraction of what is left, so multiply the alphas",
        ),
        Mistake(lambda beta: torch.cumprod(1 + beta, dim=0), "these are products of 1 + beta; alpha is 1 - beta"),
        Mistake(
            lambda beta: torch.exp(-torch.cumsum(beta, dim=0)),
            "this is close only for small betas, where 1 - beta is nearly exp(-beta); alpha_bar is the product itself",
        ),
        Mistake(
            lambda beta: (1 - beta) ** torch.arange(len(beta)), "this is alpha_t to the power of t; earlier steps have their own alphas"
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta[1:], dim=0),
            "entry 0 is missing: the table is as long as beta and begins with the clean image, alpha_bar[0] = 1",
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0) * (torch.arange(len(beta)) > 0),
            "entry 0 should be 1, not 0: at t = 0 the whole image is left",
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0)[[0, *range(len(beta) - 1)]],
            "every entry comes one place too late: entry t includes alpha_t",
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0)[[*range(1, len(beta)), len(beta) - 1]],
            "every entry comes one place too early: entry 0 is 1, and entry t includes the alphas up to alpha_t",
        ),
        Mistake(
            lambda beta: torch.cumprod((1 - beta).flip(0), dim=0).flip(0),
            "these are products from t to T; alpha_bar_t is the product from 1 to t",
        ),
        Mistake(
            lambda beta: torch.cumprod((1 - beta).flip(0), dim=0),
            "these are products from the end of the table; alpha_bar_t is the product from 1 to t",
        ),
        Mistake(lambda beta: 1 - torch.cumprod(1 - beta, dim=0), "this is 1 - alpha_bar, the variance of the noise"),
        Mistake(
            lambda beta: (1 - torch.cumprod(1 - beta, dim=0)).sqrt(), "this is the root of 1 - alpha_bar, the factor of the noise in (1.3)"
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0).sqrt(),
            "this is the root of alpha_bar, the factor of the image; alpha_bar is its square",
        ),
        Mistake(lambda beta: torch.cumprod(1 - beta, dim=0).square(), "this is the square of alpha_bar; leave out the square"),
        Mistake(lambda beta: torch.cumprod(1 - beta.sqrt(), dim=0), "the root is wrong: beta is a variance, and alpha is 1 - beta"),
        Mistake(lambda beta: torch.cumprod(1 - beta**2, dim=0), "the square is wrong: beta is already a variance, and alpha is 1 - beta"),
        Mistake(lambda beta: torch.cumsum(torch.log1p(-beta), dim=0), "this is the logarithm of alpha_bar; take its exp"),
        Mistake(lambda beta: 1 / torch.cumprod(1 - beta, dim=0), "this is 1 / alpha_bar; alpha_bar falls from 1 towards 0"),
    ),
    diagnose=_about_alpha_bar,
)


# ------------------------------------------------------------------------------------------------------------------------- noised


def _images_and_noise(random: torch.Generator) -> list[tuple]:
    """Includes both ends: alpha_bar = 1, and one so small that only a large x0 shows in xt."""
    calls = [(signs(random), torch.tensor(0.7), noise(random))]
    others = [((2, 3, 4, 6), 0.9), ((1, 1, 5, 3), 0.3), ((3, 2, 2, 5), 0.01), ((1, 3, 6, 2), 1.0), ((2, 1, 3, 4), 2.4e-9)]
    for shape, alpha_bar_t in others:
        x0, eps = torch.randn(2, *shape, generator=random)
        calls.append(((30 if alpha_bar_t < 1e-3 else 2) * x0, torch.tensor(alpha_bar_t), 3 * eps))
    return calls


FACTORS_OF_X0: Formulas = {
    "alpha_bar_t without the root": lambda ab: ab,
    "so the image is not scaled: it has to shrink while noise is added": lambda ab: ab**0,
    "1 - alpha_bar_t, which belongs to eps": lambda ab: 1 - ab,
    "the root of 1 - alpha_bar_t, which belongs to eps": lambda ab: (1 - ab).sqrt(),
    "the square of alpha_bar_t, not its root": lambda ab: ab**2,
    "1 minus the root of 1 - alpha_bar_t": lambda ab: 1 - (1 - ab).sqrt(),
    "1 minus the root of alpha_bar_t": lambda ab: 1 - ab.sqrt(),
    "the fourth root of alpha_bar_t": lambda ab: ab**0.25,
    "1 / sqrt(alpha_bar_t): the image shrinks, so multiply instead of dividing": lambda ab: ab**-0.5,
    "so x0 is subtracted": lambda ab: -ab.sqrt(),
    "so x0 is missing": lambda ab: 0 * ab,
}
FACTORS_OF_EPS: Formulas = {
    "1 - alpha_bar_t, the variance of the noise; its factor is the root": lambda ab: 1 - ab,
    "so the noise is added in full; its variance should be 1 - alpha_bar_t": lambda ab: ab**0,
    "the root of alpha_bar_t, which belongs to x0": lambda ab: ab.sqrt(),
    "alpha_bar_t, which belongs to x0": lambda ab: ab,
    "1 minus the root of alpha_bar_t, not the root of 1 - alpha_bar_t": lambda ab: 1 - ab.sqrt(),
    "the root of 1 minus the square of alpha_bar_t: leave the square out": lambda ab: (1 - ab**2).sqrt(),
    "the square of 1 - alpha_bar_t, not its root": lambda ab: (1 - ab) ** 2,
    "the fourth root of 1 - alpha_bar_t": lambda ab: (1 - ab) ** 0.25,
    "so the noise is subtracted": lambda ab: -((1 - ab).sqrt()),
    "so the noise is missing": lambda ab: 0 * ab,
}


def _about_noised(got: Any, expected: Tensor, x0: Tensor, alpha_bar_t: Tensor, eps: Tensor) -> str | None:
    if not isinstance(got, Tensor) or got.shape != expected.shape or not got.isfinite().all() or not got.is_floating_point():
        return None
    if not (found := weights(got, x0, eps)):
        off = (got.double() - expected).abs().max().item()
        coarse = got.dtype in (torch.float16, torch.bfloat16)
        return None if coarse else f"it is off by up to {off:.3g}, and is not a sum of x0 and eps with one factor each"
    a, b = alpha_bar_t.double().sqrt().item(), (1 - alpha_bar_t.double()).sqrt().item()
    if near(found[0], a) and near(found[1], b) and not found[2]:
        return None
    of_x0 = said_of("the factor of x0", found[0], a, FACTORS_OF_X0, alpha_bar_t)
    of_eps = said_of("the factor of eps", found[1], b, FACTORS_OF_EPS, alpha_bar_t)
    return f"{said_of_constant(found[2])}{of_x0}; {of_eps}"


_VARIANCE = "your xt has variance {got_variance}; expected {expected_variance}"

check_noised = Exercise(
    reference=noised,
    inputs=_images_and_noise,
    mistakes=(
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * x0 + (1 - ab) * eps,
            f"{_VARIANCE}: 1 - alpha_bar_t is the variance of the noise; multiply eps by the standard deviation, its root",
        ),
        Mistake(lambda x0, ab, eps: ab * x0 + (1 - ab) * eps, f"{_VARIANCE}: both factors of (1.3) are roots"),
        Mistake(lambda x0, ab, eps: ab * x0 + (1 - ab).sqrt() * eps, f"{_VARIANCE}: the factor of x0 is a root too"),
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * x0 + (1 - ab.sqrt()) * eps,
            f"{_VARIANCE}: the factor of eps is the root of 1 - alpha_bar_t, not 1 minus the root",
        ),
        Mistake(lambda x0, ab, eps: x0 + (1 - ab).sqrt() * eps, f"{_VARIANCE}: the image has to shrink while noise is added"),
        Mistake(
            lambda x0, ab, eps: x0 + (1 - ab) * eps,
            f"{_VARIANCE}: the image has to shrink while noise is added, and the factor of eps is a root",
        ),
        Mistake(lambda x0, ab, eps: x0 + eps, f"{_VARIANCE}: both need a factor, the roots of alpha_bar_t and of 1 - alpha_bar_t"),
        Mistake(
            lambda x0, ab, eps: (1 - ab).sqrt() * x0 + ab.sqrt() * eps,
            "the two factors are swapped: with alpha_bar_t near 1, xt should be almost all image",
        ),
        Mistake(
            lambda x0, ab, eps: (1 - ab) * x0 + ab * eps,
            "the two factors are swapped and lack their roots: with alpha_bar_t near 1, xt should be almost all image",
        ),
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * eps + (1 - ab).sqrt() * x0,
            "the two factors are swapped: with alpha_bar_t near 1, xt should be almost all image",
        ),
        Mistake(
            lambda x0, ab, eps: (1 - ab).sqrt() * x0 + ab.sqrt() * eps,
            "the two factors are swapped: with alpha_bar_t near 1, xt should be almost all image",
        ),
        Mistake(
            lambda x0, ab, eps: (ab * x0 + (1 - ab) * eps).sqrt(),
            "this is the root of a sum; take the roots of the two factors, not of the whole",
        ),
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * (x0 + eps),
            "x0 and eps both have the factor sqrt(alpha_bar_t); the factor of eps is the root of 1 - alpha_bar_t",
        ),
        Mistake(lambda x0, ab, eps: noised(x0, ab, -eps), "the noise is subtracted; (1.3) adds it"),
        Mistake(
            lambda x0, ab, eps: noised(x0, ab, eps).clamp(-1, 1),
            "your xt is clamped to [-1, 1]: noise is unbounded, and (1.10) could not remove a clamped one",
        ),
        Mistake(lambda x0, ab, eps: noised(x0.clamp(-1, 1), ab, eps), "x0 is clamped to [-1, 1]; (1.3) uses it unchanged"),
        Mistake(lambda x0, ab, eps: noised(x0, ab, eps.clamp(-1, 1)), "eps is clamped to [-1, 1]; noise is unbounded"),
        Mistake(lambda x0, ab, eps: noised((x0 + 1) / 2, ab, eps), "x0 is rescaled to [0, 1]; (1.3) uses it unchanged, in [-1, 1]"),
        Mistake(
            lambda x0, ab, eps: noised(x0, ab, eps) / noised(x0, ab, eps).std(),
            "your xt is divided by its standard deviation; (1.3) does not normalise",
        ),
    ),
    praise="xt has variance 1 at every t, because x0 has variance 1 in this check",
    diagnose=_about_noised,
)
