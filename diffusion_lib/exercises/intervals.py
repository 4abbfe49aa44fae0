"""95% intervals of a fraction k / n: recognises the usual ones, and says what is wrong with an answer that is none of them."""

import math
from functools import cache
from typing import Any

import torch

from diffusion_lib.exercises.exhibit import apart

Z = 1.96
OTHER_Z = {1.0: "68%", 1.645: "90%", 2.0: "95.4%", 2.576: "99%", 3.0: "99.7%"}
AT_THE_ENDS = 1.1, 3.2  # n times half the width if k is 0 or n: from Jeffreys's interval to the rule of three on both sides


def wald(k: float, n: float, z: float = Z) -> tuple[float, float]:
    """Centre and half the width."""
    p = k / n
    return p, z * math.sqrt(p * (1 - p) / n)


def wilson(k: float, n: float, z: float = Z) -> tuple[float, float]:
    """Centre and half the width."""
    # (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)                                        Wilson 1927
    p, whole = k / n, 1 + z**2 / n
    return (p + z**2 / (2 * n)) / whole, z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / whole


def is_interval(answer: Any, k: int, n: int) -> bool:
    """Whether (p or the interval's centre, half its width) belongs to a usual interval that is not empty."""
    first, half = map(float, answer)
    if k in (0, n):
        low, high = AT_THE_ENDS
        return low <= n * half <= high and abs(first - k / n) <= 1.001 * half
    return any(_near(half, usual) and (_near(first, k / n) or _near(first, centre)) for centre, usual in _usual(k, n))


def about_interval(answer: Any, k: int, n: int) -> str | None:
    """Says what is wrong with an answer that is none of the usual intervals; None if nothing is known."""
    try:
        first, half = map(float, answer)
    except (TypeError, ValueError):
        return None
    p = k / n
    if not (math.isfinite(first) and math.isfinite(half)):
        return f"{first:.4g} and {half:.4g} are no interval: expected finite numbers for {k} of {n} too"
    if half < 0:
        return f"half the width is {half:.4g}; expected a positive number"
    if k in (0, n):
        if half == 0:
            return f"the interval is empty for {k} of {n} read correctly; {n} images cannot prove that much"
        if abs(first - p) > 1.001 * half:
            return f"the interval {first:.4g} ± {half:.4g} does not contain the observed p = {p:g}"
        low, high = AT_THE_ENDS
        return f"half the width is {half:.4g} for {k} of {n}; expected {low / n:.2g} to {high / n:.2g} ({wilson(k, n)[1]:.2g} is Wilson's)"
    usual = [(p, width) for _, width in _usual(k, n)] + list(_usual(k, n))
    if any(_near(first, centre - width) and _near(half, centre + width) for centre, width in usual):
        return "these are the two ends of the interval; expected the fraction (or the centre) and half the width"
    if any(_near(first, width) and _near(half, centre) for centre, width in usual):
        return "these are the right two numbers in the other order: the fraction first"
    if any(_near(first / 100, centre) for centre, _ in usual):
        return "the first number is in percent; expected a fraction of 1"
    if any(_near(half, width) for _, width in usual):
        return f"half the width is right; the first number is {first:.4g}; expected {p:.4g} ({k} of {n}), or the interval's centre"
    if any(_near(half / 2, width) for _, width in usual):
        return "the second number is the whole width; expected half of it"
    for z, certainty in OTHER_Z.items():
        if any(_near(half, width) for rule in (wald, wilson) for _, width in [rule(k, n, z)]):
            errors = "one standard error" if z == 1 else f"{z:g} standard errors"
            return f"half the width covers {errors}, for {certainty}; expected 1.96, for 95%"
    slips = {  # mistakes in Wilson's formula
        "z in front of the root is missing": wilson(k, n)[1] / Z,
        "the root is missing": Z * (p * (1 - p) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n),
        "the division by 1 + z^2 / n is missing": wilson(k, n)[1] * (1 + Z**2 / n),
        "this is the standard deviation of single images, not half the width for their mean": math.sqrt(p * (1 - p)),
        "this is the standard deviation of single images (by n - 1), not half the width for their mean": math.sqrt(
            p * (1 - p) * n / (n - 1)
        ),
    }
    for said, width in slips.items():
        if _near(half, width):
            return f"half the width is {half:.4g} for {k} of {n}: {said}"
    ours, theirs = apart(half, wilson(k, n)[1])
    return f"half the width is {ours} for {k} of {n}; {theirs} is Wilson's"


def _near(ours: float, theirs: float) -> bool:
    return math.isclose(ours, theirs, rel_tol=5e-4)


@cache
def _usual(k: int, n: int) -> tuple[tuple[float, float], ...]:
    """Centre and half the width of each usual interval, for 0 < k < n."""
    intervals = [wilson(k, n), wald(k, n), _corrected_wilson(k, n)]
    for more in (2.0, Z**2 / 2):  # Agresti and Coull's: adds this many successes and failures
        intervals.append(wald(k + more, n + 2 * more))
    # Clopper and Pearson's, Jeffreys's, and that of a flat prior
    for (a, b), (c, d) in (((0.0, 1.0), (1.0, 0.0)), ((0.5, 0.5), (0.5, 0.5)), ((1.0, 1.0), (1.0, 1.0))):
        low, high = _beta_quantile(0.025, k + a, n - k + b), _beta_quantile(0.975, k + c, n - k + d)
        intervals.append(((low + high) / 2, (high - low) / 2))
    return tuple(intervals)


def _corrected_wilson(k: int, n: int) -> tuple[float, float]:
    """Wilson's interval with continuity correction, as in R's prop.test."""
    # (2 k + z^2 -+ (1 + z sqrt(z^2 - 1 / n + 4 k (1 - p) +- (4 p - 2)))) / (2 (n + z^2))                        Newcombe 1998, method 4
    p = k / n
    low, high = (2 * k + Z**2 - side * (1 + Z * math.sqrt(Z**2 - 1 / n + 4 * k * (1 - p) + side * (4 * p - 2))) for side in (1, -1))
    return (low + high) / (4 * (n + Z**2)), (high - low) / (4 * (n + Z**2))


def _beta_quantile(q: float, a: float, b: float) -> float:
    x = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    density = ((a - 1) * x.log() + (b - 1) * (-x).log1p()).softmax(0)
    return (torch.searchsorted(density.cumsum(0), q).item() + 0.5) / 20_000
