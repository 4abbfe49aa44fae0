"""Takes a wrong answer apart: finds the factors of a sum, and the formula behind a wrong number."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Formulas = Mapping[str, Callable[..., Tensor]]  # maps a description of a number to the formula that gives it


def near(ours: float, theirs: float, atol: float = 1e-5) -> bool:
    """Whether two numbers agree within the tolerance of the checks."""
    return abs(ours - theirs) <= atol + 1e-4 * abs(theirs)


def weights(got: Tensor, *parts: Tensor) -> list[float] | None:
    """The factors f and the constant c with got = f_1 parts_1 + f_2 parts_2 + … + c; None if there are none. All shapes are equal."""
    target = got.double().flatten()[:, None]
    if not target.isfinite().all():
        return None
    columns = torch.stack([part.double().flatten() for part in (*parts, torch.ones_like(got))], dim=1)
    for n in (len(parts), len(parts) + 1):
        found = torch.linalg.lstsq(columns[:, :n], target).solution
        if torch.allclose(columns[:, :n] @ found, target, rtol=1e-4, atol=1e-5):
            values = [0.0 if abs(w) < 1e-7 else w for w in found.flatten().tolist()]
            return [*values, 0.0][: len(parts) + 1]
    return None


def said_of_constant(c: float) -> str:
    return f"{c:.4g} is added to every value (are brackets missing?); " if c else ""


def said_of(what: str, got: float, right: float, formulas: Formulas, *arguments: Tensor, atol: float = 1e-5) -> str:
    """Says that `what` is right, or which formula gives it (if only one does), or which number was expected."""
    if near(got, right, atol):
        return f"{what} is right"
    values = {name: float(formula(*(each.double() for each in arguments))) for name, formula in formulas.items()}
    names = [name for name, value in values.items() if near(got, value, atol)]
    if len(names) == 1:
        return f"{what} is {got:.4g}, {names[0]}"
    digits = next((n for n in range(4, 17) if f"{got:.{n}g}" != f"{right:.{n}g}"), 4)  # enough to show the difference
    return f"{what} is {got:.{digits}g}; expected {right:.{digits}g}"


def number(value: Any) -> Any:
    """The number in a tensor of one element, whatever its shape; anything else unchanged."""
    return value.flatten()[0] if isinstance(value, Tensor) and value.numel() == 1 else value


def about_number(what: str, value: Any, right: Any, formulas: Formulas, *arguments: Tensor, atol: float = 1e-5) -> str:
    if value is None:
        return f"{what} is missing (None)"
    if not isinstance(value, Tensor | float | int) or torch.as_tensor(value).ndim:
        shape = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
        return f"{what} is a {type(value).__name__} {shape}".rstrip() + f"; expected a number, {float(right):.4g}"
    few = ""
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16) and not near(float(value), float(right), atol):
        few = f" (in {value.dtype}, which keeps few digits)"
    return said_of(what, float(value), float(right), formulas, *arguments, atol=atol) + few


# ------------------------------------------------------------------------------------------------------ inputs of several checks

# alpha_bar at s and at t > s: in the middle, near t = 0, at the end of a cosine schedule, and from the clean image
PAIRS = ((0.83, 0.34), (0.92, 0.11), (0.99, 0.97), (0.03, 2e-6), (5e-9, 2.4e-9), (1.0, 0.5), (1.0, 3e-5))


def signs(random: torch.Generator) -> Tensor:
    """(64, 1, 8, 8) of -1 and 1: the variance is 1, so the variance of xt should be 1 too."""
    return (torch.randint(0, 2, (32, 1, 8, 8), generator=random) * 2.0 - 1).repeat(2, 1, 1, 1)


def noise(random: torch.Generator) -> Tensor:
    """(64, 1, 8, 8) with exactly mean 0, variance 1 and no correlation with `signs`: variances add up exactly."""
    eps = torch.randn(32, 1, 8, 8, generator=random)
    return torch.cat([eps, -eps]) / eps.square().mean().sqrt()


def noised(x0, alpha_bar_t, eps):
    # xt = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps                                              Ho et al. 2020, equation 4
    return alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps
