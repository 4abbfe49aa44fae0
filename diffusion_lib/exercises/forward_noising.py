"""Exercises of notebook 01; those about log_snr and about steps between two noise levels are in modules of their own."""

import math
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.formulas import Formulas, near, noise, noised, said_of, said_of_constant, signs, weights
from diffusion_lib.exercises.log_snr import check_at_log_snr as check_at_log_snr
from diffusion_lib.exercises.log_snr import check_pooled_log_snr as check_pooled_log_snr
from diffusion_lib.exercises.transitions import check_forward_transition as check_forward_transition
from diffusion_lib.exercises.transitions import check_posterior as check_posterior

# ---------------------------------------------------------------------------------------------------------------------- alpha_bar


def _alpha_bar(beta):
    # alpha_bar_t = prod_{s=1}^t (1 - beta_s),  alpha_bar_0 = 1
    return torch.cumprod(1 - beta, dim=0)


def _betas(random: torch.Generator) -> list[tuple]:
    """Betas of a few steps and of many, the last so large that alpha_bar falls below 1e-12."""
    drawn = [0.3 * torch.rand(T, generator=random) for T in (10, 3, 1)]
    steps = [*drawn, torch.linspace(1e-4, 0.06, 300, dtype=torch.float64), torch.linspace(0.05, 0.9998, 30)]
    return [(torch.cat([torch.zeros(1), beta]),) for beta in steps]


def _logarithms(table: Any) -> Any:
    """Of a table of numbers, so that the small ones count as the large ones do; anything else as it is."""
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
        return "one entry too many: beta[0] = 0 makes the 1 at entry 0, so none has to be put in front"
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
        return f"entries below {got.min().item():.3g} are cut off there: alpha_bar has no lower limit"
    ratio = (got / expected).log().abs().nan_to_num(math.inf)  # nan below 0
    t = int((ratio > 1e-4).nonzero()[0]) if (ratio > 1e-4).any() else int(ratio.argmax())
    right = "1: at t = 0 all of the image is left" if t == 0 else f"{expected[t].item():.6g}"
    return f"entry {t} is {got[t].item():.6g}{coarse}; expected {right}"


check_alpha_bar = Exercise(
    reference=_alpha_bar,
    inputs=_betas,
    look=_logarithms,
    mistakes=(
        Mistake(
            torch.zeros_like,
            "every entry is 0, as a product of the betas is, or one that starts from 0; entry 0 is 1, and the factors are 1 - beta",
        ),
        Mistake(torch.ones_like, "every entry is 1, as 1 less a product of the betas is; alpha_bar is the product of the alphas, 1 - beta"),
        Mistake(lambda beta: 1 - beta, "this is alpha, what one step leaves; alpha_bar is the product of all alphas up to t"),
        Mistake(lambda beta: beta, "this is beta as it came; alpha_bar is the product of the alphas, 1 - beta"),
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
            "this subtracts the betas one after the other; each step takes a fraction of what is left, so the alphas are multiplied",
        ),
        Mistake(lambda beta: torch.cumprod(1 + beta, dim=0), "these are products of 1 + beta; alpha is 1 - beta"),
        Mistake(
            lambda beta: torch.exp(-torch.cumsum(beta, dim=0)),
            "nearly right for small betas, where 1 - beta is nearly exp(-beta); alpha_bar is the product itself",
        ),
        Mistake(
            lambda beta: (1 - beta) ** torch.arange(len(beta)), "this is alpha_t to the power of t; earlier steps have alphas of their own"
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta[1:], dim=0),
            "entry 0 is missing: the clean image, alpha_bar[0] = 1, belongs to the table, which is as long as beta",
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0) * (torch.arange(len(beta)) > 0),
            "entry 0 should be 1, not 0: at t = 0 all of the image is left",
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0)[[0, *range(len(beta) - 1)]],
            "every entry comes one place too late: entry t has alpha_t in it",
        ),
        Mistake(
            lambda beta: torch.cumprod(1 - beta, dim=0)[[*range(1, len(beta)), len(beta) - 1]],
            "every entry comes one place too early: entry 0 is 1, and entry t has the alphas up to alpha_t in it",
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
            lambda beta: torch.cumprod(1 - beta, dim=0).sqrt(), "this is its root, the factor of the image; alpha_bar is the square of that"
        ),
        Mistake(lambda beta: torch.cumprod(1 - beta, dim=0).square(), "this is its square; alpha_bar is the product without a square"),
        Mistake(lambda beta: torch.cumprod(1 - beta.sqrt(), dim=0), "beta is a variance, and alpha is 1 - beta without a root"),
        Mistake(lambda beta: torch.cumprod(1 - beta**2, dim=0), "beta is a variance already; alpha is 1 - beta without a square"),
        Mistake(lambda beta: torch.cumsum(torch.log1p(-beta), dim=0), "this is the logarithm of alpha_bar; take exp of it"),
        Mistake(lambda beta: 1 / torch.cumprod(1 - beta, dim=0), "this is 1 / alpha_bar; alpha_bar falls from 1 towards 0"),
    ),
    diagnose=_about_alpha_bar,
)


# ------------------------------------------------------------------------------------------------------------------------- noised


def _images_and_noise(random: torch.Generator) -> list[tuple]:
    """Also both ends: alpha_bar = 1, and one so small that only a large x0 shows in xt."""
    calls = [(signs(random), torch.tensor(0.7), noise(random))]
    others = [((2, 3, 4, 6), 0.9), ((1, 1, 5, 3), 0.3), ((3, 2, 2, 5), 0.01), ((1, 3, 6, 2), 1.0), ((2, 1, 3, 4), 2.4e-9)]
    for shape, alpha_bar_t in others:
        x0, eps = torch.randn(2, *shape, generator=random)
        calls.append(((30 if alpha_bar_t < 1e-3 else 2) * x0, torch.tensor(alpha_bar_t), 3 * eps))
    return calls


FACTORS_OF_X0: Formulas = {
    "alpha_bar_t without the root": lambda ab: ab,
    "which leaves the image as it is: it has to shrink while noise is added": lambda ab: ab**0,
    "1 - alpha_bar_t, which belongs to eps": lambda ab: 1 - ab,
    "the root of 1 - alpha_bar_t, which belongs to eps": lambda ab: (1 - ab).sqrt(),
    "the square of alpha_bar_t, not its root": lambda ab: ab**2,
    "1 less the root of 1 - alpha_bar_t": lambda ab: 1 - (1 - ab).sqrt(),
    "1 less the root of alpha_bar_t": lambda ab: 1 - ab.sqrt(),
    "the fourth root of alpha_bar_t": lambda ab: ab**0.25,
    "1 / sqrt(alpha_bar_t): the image shrinks, and is not divided": lambda ab: ab**-0.5,
    "so x0 is subtracted": lambda ab: -ab.sqrt(),
    "so x0 is missing": lambda ab: 0 * ab,
}
FACTORS_OF_EPS: Formulas = {
    "1 - alpha_bar_t, the variance of the noise; its factor is the root": lambda ab: 1 - ab,
    "so the noise is added in full; its variance should be 1 - alpha_bar_t": lambda ab: ab**0,
    "the root of alpha_bar_t, which belongs to x0": lambda ab: ab.sqrt(),
    "alpha_bar_t, which belongs to x0": lambda ab: ab,
    "1 less the root of alpha_bar_t, not the root of 1 - alpha_bar_t": lambda ab: 1 - ab.sqrt(),
    "the root of 1 less the square of alpha_bar_t: leave the square out": lambda ab: (1 - ab**2).sqrt(),
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
        return None if coarse else f"it is off by up to {off:.3g}, and is no sum of x0 and eps with a factor each"
    a, b = alpha_bar_t.double().sqrt().item(), (1 - alpha_bar_t.double()).sqrt().item()
    if near(found[0], a) and near(found[1], b) and not found[2]:
        return None
    of_x0 = said_of("the factor of x0", found[0], a, FACTORS_OF_X0, alpha_bar_t)
    of_eps = said_of("the factor of eps", found[1], b, FACTORS_OF_EPS, alpha_bar_t)
    return f"{said_of_constant(found[2])}{of_x0}; {of_eps}"


_VARIANCE = "your xt has variance {got_variance} where {expected_variance} was expected"

check_noised = Exercise(
    reference=noised,
    inputs=_images_and_noise,
    mistakes=(
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * x0 + (1 - ab) * eps,
            f"{_VARIANCE}: 1 - alpha_bar_t is the variance of the noise, and eps is multiplied by its standard deviation",
        ),
        Mistake(lambda x0, ab, eps: ab * x0 + (1 - ab) * eps, f"{_VARIANCE}: both factors of (1.3) are roots"),
        Mistake(lambda x0, ab, eps: ab * x0 + (1 - ab).sqrt() * eps, f"{_VARIANCE}: the factor of x0 is a root, too"),
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * x0 + (1 - ab.sqrt()) * eps,
            f"{_VARIANCE}: the factor of eps is the root of 1 - alpha_bar_t, not 1 less the root",
        ),
        Mistake(lambda x0, ab, eps: x0 + (1 - ab).sqrt() * eps, f"{_VARIANCE}: the image has to shrink while noise is added"),
        Mistake(
            lambda x0, ab, eps: x0 + (1 - ab) * eps,
            f"{_VARIANCE}: the image has to shrink while noise is added, and the factor of eps is a root",
        ),
        Mistake(lambda x0, ab, eps: x0 + eps, f"{_VARIANCE}: both need a factor, the roots of alpha_bar_t and of 1 - alpha_bar_t"),
        Mistake(
            lambda x0, ab, eps: (1 - ab).sqrt() * x0 + ab.sqrt() * eps,
            "the two factors are swapped: with alpha_bar_t near 1, nearly all of xt should be image",
        ),
        Mistake(
            lambda x0, ab, eps: (1 - ab) * x0 + ab * eps,
            "the two factors are swapped, and have no roots: with alpha_bar_t near 1, nearly all of xt should be image",
        ),
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * eps + (1 - ab).sqrt() * x0,
            "the two factors are swapped: with alpha_bar_t near 1, nearly all of xt should be image",
        ),
        Mistake(
            lambda x0, ab, eps: (1 - ab).sqrt() * x0 + ab.sqrt() * eps,
            "the two factors are swapped: with alpha_bar_t near 1, nearly all of xt should be image",
        ),
        Mistake(
            lambda x0, ab, eps: (ab * x0 + (1 - ab) * eps).sqrt(),
            "this is the root of a sum; the roots are of the two factors, not of the whole",
        ),
        Mistake(
            lambda x0, ab, eps: ab.sqrt() * (x0 + eps),
            "x0 and eps have the same factor, the root of alpha_bar_t; that of eps is the root of 1 - alpha_bar_t",
        ),
        Mistake(lambda x0, ab, eps: noised(x0, ab, -eps), "the noise is subtracted; (1.3) adds it, and eps is what is removed later"),
        Mistake(
            lambda x0, ab, eps: noised(x0, ab, eps).clamp(-1, 1),
            "your xt is cut off at -1 and 1: noise has no such bounds, and (1.10) could not remove it again",
        ),
        Mistake(lambda x0, ab, eps: noised(x0.clamp(-1, 1), ab, eps), "x0 is cut off at -1 and 1; (1.3) takes it as it is"),
        Mistake(lambda x0, ab, eps: noised(x0, ab, eps.clamp(-1, 1)), "eps is cut off at -1 and 1; noise has no such bounds"),
        Mistake(lambda x0, ab, eps: noised((x0 + 1) / 2, ab, eps), "x0 is moved to [0, 1]; (1.3) takes it as it is, in [-1, 1]"),
        Mistake(
            lambda x0, ab, eps: noised(x0, ab, eps) / noised(x0, ab, eps).std(),
            "your xt is divided by its standard deviation; (1.3) has none of that",
        ),
    ),
    praise="its variance is 1 at every t, as that of these images is",
    diagnose=_about_noised,
)
