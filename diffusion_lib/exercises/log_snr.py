"""Exercises of notebook 01 about the signal-to-noise ratio."""

import math
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, Question

# --------------------------------------------------------------------------------------------------------------------- at log_snr


def _log_snr(alpha_bar):
    # log_snr_t = ln(alpha_bar_t / (1 - alpha_bar_t)), infinite at t = 0
    return alpha_bar.logit()


def _at_log_snr(alpha_bar, level):
    return int((_log_snr(alpha_bar) - level).abs().argmin())


def _curves(random: torch.Generator) -> list[tuple]:
    """Tables of several lengths; the nearest t lies above or below the level, and twice at an end of the table."""

    def curve(T: int, end: float) -> Tensor:
        return torch.cos(end * torch.linspace(0, 1, T + 1, dtype=torch.float64)) ** 2

    ends = {200: 1.5, 60: 1.56, 22: 1.38, 300: 1.57}
    levels = [
        (200, 3.0),
        (60, -1.0),
        (22, 0.03),
        (300, -4.06),
        (200, 1.5),
        (60, 20.0),
        (22, -30.0),
        (22, 4.3),
        (22, 4.75),
        (60, -7.5),
        (200, -2.0),
    ]
    return [(curve(T, ends[T]), level) for T, level in levels]


def _about_t(got: Any, expected: int, alpha_bar: Tensor, level: float) -> str | None:
    if isinstance(got, list | tuple):
        return f"it returns a {type(got).__name__} of {len(got)}; expected one integer"
    if not isinstance(got, Tensor | float | int):
        return None
    value = torch.as_tensor(got)
    if value.numel() == 1 and value.ndim and value.item() == expected:
        return f"t is right, but in a tensor of shape {tuple(value.shape)}; expected a number (int)"
    if value.numel() != 1:
        return None
    t = value.item()
    if value.dtype == torch.bool or t != t // 1:
        return f"it returns {t}; expected a t, an integer from 0 to {len(alpha_bar) - 1}"
    if t == expected:
        kind = str(got.dtype).removeprefix("torch.") if isinstance(got, Tensor) else type(got).__name__
        return f"t is right, but of type {kind}; expected an integer (int)"
    if not 0 <= t < len(alpha_bar):
        return f"it returns t = {t:g}; the table has entries from 0 to {len(alpha_bar) - 1}"
    if t == 0:
        return f"it returns t = 0, where log_snr is infinite; expected {expected}: is something added to alpha_bar, or clamped?"
    here, there = (_log_snr(alpha_bar)[int(each)].item() for each in (t, expected))
    return f"it returns t = {t:g}, where log_snr is {here:.4g}; expected {expected}, where it is {there:.4g}, nearer to {level:g}"


check_at_log_snr = Exercise(
    reference=_at_log_snr,
    inputs=_curves,
    mistakes=(
        Mistake(
            lambda ab, level: int((_log_snr(ab[1:]) - level).abs().argmin()),
            "it returns {got}; expected {expected}: if you leave out entry 0, all indices shift by one",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) - level).abs().argmin()) + 1,
            "it returns {got}; expected {expected}: the table begins with t = 0, so the index of an entry is its t",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) > level).nonzero()[-1]),
            "this is the last t above the level; the nearest may lie on either side: compare distances (abs)",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) < level).nonzero()[0]),
            "this is the first t below the level; the nearest may lie on either side: compare distances (abs)",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) < level).int().argmax()),
            "this is the first t below the level, if there is one; the nearest may lie on either side: compare distances (abs)",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) > level).sum()),
            "this counts the t above the level; the nearest may lie on either side: compare distances (abs)",
        ),
        Mistake(lambda ab, level: int((_log_snr(ab) - level).argmin()), "without abs, argmin finds the lowest log_snr, not the nearest"),
        Mistake(
            lambda ab, level: 0,
            "it always returns 0, where log_snr is infinite: is 1 - alpha_bar in brackets, and do you take argmin?",
        ),
        Mistake(
            lambda ab, level: (_log_snr(ab) - level).abs().min(),
            "this is the smallest distance; the exercise asks for its t (argmin)",
        ),
        Mistake(
            lambda ab, level: _log_snr(ab)[(_log_snr(ab) - level).abs().argmin()],
            "this is the nearest log_snr; the exercise asks for its t (argmin)",
        ),
        Mistake(
            lambda ab, level: ab[(_log_snr(ab) - level).abs().argmin()],
            "this is alpha_bar at the nearest t; the exercise asks for that t itself",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) - level).abs().argmin()) / (len(ab) - 1),
            "this is t / T; the exercise asks for t, an integer",
        ),
        Mistake(
            lambda ab, level: len(ab) - 1 - int((_log_snr(ab) - level).abs().argmin()),
            "this counts from the end, T - t; the exercise asks for t",
        ),
        Mistake(
            lambda ab, level: int((ab.log() - level).abs().argmin()),
            "this compares log(alpha_bar) with the level; the ratio is alpha_bar / (1 - alpha_bar)",
        ),
        Mistake(
            lambda ab, level: int(((1 - ab).log() - level).abs().argmin()),
            "this compares log(1 - alpha_bar) with the level; the ratio is alpha_bar / (1 - alpha_bar)",
        ),
        Mistake(
            lambda ab, level: int((torch.log10(ab / (1 - ab)) - level).abs().argmin()),
            "this takes the logarithm to base 10; log_snr is a natural logarithm (torch.log)",
        ),
        Mistake(
            lambda ab, level: int((10 * torch.log10(ab / (1 - ab)) - level).abs().argmin()),
            "this is in decibels; log_snr is a natural logarithm (torch.log)",
        ),
        Mistake(
            lambda ab, level: int((torch.log2(ab / (1 - ab)) - level).abs().argmin()),
            "this takes the logarithm to base 2; log_snr is a natural logarithm (torch.log)",
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab) / 2 - level).abs().argmin()),
            "this is the ratio of standard deviations; snr is the ratio of variances, alpha_bar / (1 - alpha_bar)",
        ),
        Mistake(
            lambda ab, level: int((2 * _log_snr(ab) - level).abs().argmin()),
            "this is the square of snr; snr is alpha_bar / (1 - alpha_bar)",
        ),
        Mistake(
            lambda ab, level: int((-_log_snr(ab) - level).abs().argmin()),
            "this is noise to signal; in signal to noise, alpha_bar is the numerator",
        ),
        Mistake(
            lambda ab, level: int((ab / (1 - ab) - level).abs().argmin()),
            "this compares snr itself with the level; take its logarithm first",
        ),
        Mistake(
            lambda ab, level: int((ab / (1 - ab) - math.exp(level)).abs().argmin()),
            "the nearest snr is not always the nearest log_snr: compare logarithms",
        ),
        Mistake(
            lambda ab, level: int((ab - 1 / (1 + math.exp(-level))).abs().argmin()),
            "the nearest alpha_bar is not always the nearest log_snr: compare logarithms",
        ),
        Mistake(
            lambda ab, level: int((ab - level).abs().argmin()), "this compares alpha_bar with the level; the exercise compares log_snr"
        ),
        Mistake(
            lambda ab, level: int((_log_snr(ab).nan_to_num(posinf=0) - level).abs().argmin()),
            "log_snr at t = 0 is infinite, not 0: leave it infinite, far from every level",
        ),
    ),
    diagnose=_about_t,
)


# ------------------------------------------------------------------------------------------------------------------------- pooled

check_pooled_log_snr = Question(
    # averaging n values divides the variance of independent noise by n; the image is constant in a block and keeps its variance
    answer=math.log(4),
    tolerance=0.015,
    mistakes=(
        Mistake(math.log(2), "that is half the answer: a block of 2x2 has four values, and their mean has a quarter of the variance"),
        Mistake(2.0, "the ratio of variances grows fourfold; 2 is the root of 4 and also its log2, but log_snr is a natural logarithm"),
        Mistake(4.0, "the signal-to-noise ratio grows fourfold; the exercise asks for its natural logarithm"),
        Mistake(0.25, "that is the factor of the noise's variance; the exercise asks for the change of log_snr"),
        Mistake(0.5, "that is the factor of the noise's standard deviation; the exercise asks for the change of log_snr"),
        Mistake(16.0, "the ratio of variances grows fourfold, not squared again; the exercise asks for its natural logarithm"),
        Mistake(math.log(16), "the standard deviation is halved, so the variance is a quarter, not a sixteenth"),
        Mistake(0.0, "the image keeps its variance, but the noise does not: independent noise partly cancels in a mean"),
        Mistake(-math.log(4), "the size is right, but averaging reduces the noise: does the ratio rise or fall?"),
        Mistake(-math.log(2), "averaging reduces the noise: does the ratio rise or fall? And a block of 2x2 has four values"),
        Mistake(-2.0, "averaging reduces the noise: does the ratio rise or fall? And log_snr is a natural logarithm"),
        Mistake(math.log10(4), "that is the logarithm to base 10; log_snr is a natural logarithm"),
        Mistake(
            math.log10(2), "that is half the answer, and to base 10; the variance falls to a quarter, and log_snr is a natural logarithm"
        ),
        Mistake(10 * math.log10(4), "that is in decibels; log_snr is a natural logarithm"),
    ),
    praise="at twice the size the same t looks cleaner: a schedule made for small images adds too little noise to large ones",
)
