"""Exercises of notebook 03."""

import math
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, Question
from diffusion_lib.exercises.training_loss import check_loss as check_loss
from diffusion_lib.exercises.training_rate import check_learning_rate as check_learning_rate
from diffusion_lib.exercises.training_velocity import check_v as check_v
from diffusion_lib.exercises.training_velocity import check_x0_from_v as check_x0_from_v
from diffusion_lib.exercises.variations import explained, first_of, mixture, randn

# ------------------------------------------------------------------------------------------------------------------ timesteps

MANY = 5000  # enough draws to test their distribution


def _random_timesteps(T, n):
    return torch.randint(1, T + 1, (n,))


def _draws(t: Tensor) -> tuple | str:
    """What distinguishes the rules of drawing: shape and dtype; for many draws also range, uneven frequencies and order."""
    if t.is_floating_point() or t.dtype in (torch.uint8, torch.bool):
        return "floats" if t.is_floating_point() else str(t.dtype)
    if t.ndim != 1 or len(t) < MANY:
        return tuple(t.shape)
    t = t.long()
    values = len(t.unique())
    if values == 1:
        return len(t), "one for all"
    return len(t), int(t.min()), int(t.max()), values, *_frequencies(t), _order(t)


def _too_many(counts: Tensor) -> Tensor:
    """Marks the counts that exceed the mean of all counts by more than 6 standard errors."""
    expected = counts.double().mean()
    return counts - expected > 6 * expected.sqrt()


def _frequencies(t: Tensor) -> tuple[list[int], int, bool]:
    """The values that are too frequent, their frequency in halves of the others', and whether the others are equally frequent.

    With few draws of each value nothing is known.
    """
    values, counts = t.unique(return_counts=True)
    often = _too_many(counts)
    if len(t) / len(values) < 1000 or not often.any():
        return [], 2, True
    others = counts[~often]
    return values[often].tolist(), round(2 * (counts[often].double().mean() / others.double().mean()).item()), not _too_many(others).any()


def _order(t: Tensor) -> str:
    """The order of the values: "none" if any may follow any other (with too many pairs to test, if half of the steps rise)."""
    steps = t[1:] - t[:-1]
    if (steps >= 0).all():
        return "rising"
    t = t - t.min()
    n = int(t.max()) + 1
    if (steps % n == 1).all():
        return "counting"
    if n**2 < len(t) / 20:
        return "none" if len((t[:-1] * n + t[1:]).unique()) == len(t.unique()) ** 2 else "some"
    return "none" if 0.4 < (steps > 0).double().mean().item() < 0.6 else "some"


def _drawn_otherwise(got: Any, expected: Any, T: int, n: int) -> str | None:
    if not isinstance(got, Tensor):
        return None
    if got.shape != (n,):
        return f"it returns shape {tuple(got.shape)}; expected ({n},), one number for each image"
    if got.is_complex() or got.dtype in (torch.uint8, torch.bool):
        return f"it returns {got.dtype}; a timestep is an integer up to T, of dtype torch.long"
    values, counts = got.unique(return_counts=True)
    if got.min() != 1 or got.max() != T or len(values) != T:
        return f"it draws {len(values)} different timesteps from {got.min().item():g} to {got.max().item():g}; expected all of 1 to {T}"
    if _too_many(counts).any():
        often, seldom = counts.argmax(), counts.argmin()
        return (
            f"not all are equally likely: {values[often]} comes {counts[often]} times and {values[seldom]} {counts[seldom]} times "
            f"in {n} draws; expected about {n / T:.0f} each"
        )
    return "the timesteps follow a pattern; draw each one independently"


_LIST = "this is a list; expected a LongTensor (convert it with torch.tensor)"
_BYTES = "uint8 ends at 255, and torch reads a uint8 index as a mask: keep the dtype torch.long"

check_random_timesteps = Exercise(
    reference=_random_timesteps,
    inputs=lambda random: [(5, 9500), (3, 6000), (300, 9000), (1000, 7), (2, 1)],
    look=_draws,
    draws=True,
    # museum.py shows the fourth
    mistakes=(
        Mistake(
            lambda T, n: torch.randint(1, T, (n,)), "T is never drawn: randint excludes its upper end, so the last level is not trained"
        ),
        Mistake(
            lambda T, n: torch.randint(0, T, (n,)),
            "this draws 0 to T - 1; timesteps are 1 to T: 0 is the clean image, and T is never trained",
        ),
        Mistake(lambda T, n: torch.randint(0, T + 1, (n,)), "0 is drawn too: the clean image has no noise to predict"),
        Mistake(
            lambda T, n: torch.randint(0, T - 1, (n,)), "this draws 0 to T - 2: randint excludes its upper end, and timesteps are 1 to T"
        ),
        Mistake(lambda T, n: torch.randint(1, T + 2, (n,)), "T + 1 is drawn too: randint excludes its upper end, so T + 1 is enough"),
        Mistake(lambda T, n: torch.randint(2, T + 1, (n,)), "1 is never drawn; timesteps are 1 to T"),
        Mistake(lambda T, n: torch.randint(2, T + 2, (n,)), "this draws 2 to T + 1; timesteps are 1 to T"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (1,)).expand(n), "every image gets the same timestep; draw one for each image"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (1,)), "this is a single timestep; draw one for each of the n images"),
        Mistake(lambda T, n: torch.randint(1, T + 1, ()), "this is a single timestep; draw one for each of the n images"),
        Mistake(
            lambda T, n: torch.randperm(T)[:n] + 1,
            "these are at most T timesteps: randperm never repeats one, and a batch may be larger than T",
        ),
        Mistake(lambda T, n: torch.randperm(n) + 1, "these are 1 to n in random order; expected timesteps from 1 to T"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (T,)), "these are T timesteps; expected n, each from 1 to T"),
        Mistake(lambda T, n: torch.rand(n) * T + 1, "these are not integers; a timestep is an index into a table (torch.randint)"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n,)).to(torch.uint8), _BYTES),
        Mistake(
            lambda T, n: (1 + torch.rand(n) * (T - 1)).round().long(), "not all are equally likely: rounding makes 1 and T half as frequent"
        ),
        Mistake(
            lambda T, n: torch.randint(0, T + 1, (n,)).clamp(min=1),
            "not all are equally likely: 0 is drawn and becomes 1, which is twice as frequent",
        ),
        Mistake(
            lambda T, n: torch.randint(0, T, (n,)).clamp(min=1),
            "not all are equally likely: 0 is drawn and becomes 1, which is twice as frequent; and T is never drawn",
        ),
        Mistake(
            lambda T, n: torch.randint(1, T + 2, (n,)).clamp(max=T),
            "not all are equally likely: T + 1 is drawn and becomes T, which is twice as frequent",
        ),
        Mistake(lambda T, n: torch.linspace(1, T, n).round().long(), "the timesteps rise from 1 to T; draw each one independently"),
        Mistake(lambda T, n: torch.linspace(1, T, n).long(), "the timesteps rise from 1 to T; draw each one independently"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n,)).sort().values, "the timesteps rise from 1 to T; draw each one independently"),
        Mistake(lambda T, n: torch.arange(n) % T + 1, "these count from 1 to T again and again; draw each one independently"),
        Mistake(lambda T, n: torch.arange(1, n + 1), "these are not random: they are 1 to n"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n, 1)), "the shape is wrong: expected (n,), one number for each image"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (1, n)), "the shape is wrong: expected (n,), one number for each image"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n, 1, 1, 1)), "the shape is wrong: expected (n,), one number for each image"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n,)).tolist(), _LIST),
        Mistake(lambda T, n: torch.randint(1, T + 1, n), "randint needs a tuple as its size: (n,)"),
        Mistake(lambda T, n: torch.randint(1, T + 1, size=n), "randint needs a tuple as its size: (n,)"),
    ),
    diagnose=_drawn_otherwise,
)


# ------------------------------------------------------------------------------------------------------------------- average


def _ema_update(average, weights, decay):
    # ema <- decay ema + (1 - decay) weights
    return decay * average + (1 - decay) * weights


check_ema_update = Exercise(
    reference=_ema_update,
    inputs=lambda random: [
        (*randn(random, size, size), decay)
        for size, decay in (((20,), 0.9), ((3, 5), 0.999), ((2, 1, 3, 3), 0.3), ((4, 2, 1), 0.0), ((1, 6), 1.0), ((7,), 0.99))
    ],
    # museum.py shows the fourth
    mistakes=(
        Mistake(
            lambda average, weights, d: (1 - d) * average + d * weights,
            "the two factors are swapped: with decay near 1 the average should hardly move",
        ),
        Mistake(
            lambda average, weights, d: d * average + weights,
            "the factors do not sum to 1: such an average would approach 1 / (1 - decay) times the weights",
        ),
        Mistake(lambda average, weights, d: (average + weights) / 2, "decay is not used: this is the plain mean of the two"),
        Mistake(lambda average, weights, d: average, "this returns the average unchanged: it learns nothing"),
        Mistake(lambda average, weights, d: weights, "this returns the weights themselves: it remembers nothing"),
        Mistake(
            lambda average, weights, d: average + (1 - d) * weights, "the average is not multiplied by decay: it would grow without limit"
        ),
        Mistake(
            lambda average, weights, d: average + weights, "both factors are missing: decay for the average, 1 - decay for the weights"
        ),
        Mistake(lambda average, weights, d: d * average - (1 - d) * weights, "the weights are subtracted; add them"),
        Mistake(lambda average, weights, d: d * average + d * weights, "both have the factor decay; that of the weights is 1 - decay"),
        Mistake(lambda average, weights, d: (1 - d) * (average + weights), "both have the factor 1 - decay; that of the average is decay"),
        Mistake(lambda average, weights, d: d * average, "the weights are missing: add 1 - decay times the weights"),
        Mistake(lambda average, weights, d: (1 - d) * weights, "the average is missing: keep decay times the average"),
        Mistake(
            lambda average, weights, d: average + (1 - d) * (average - weights),
            "the average moves away from the weights: the difference is weights - average",
        ),
        Mistake(
            lambda average, weights, d: average - d * (average - weights) * (1 - d),
            "the average moves by decay (1 - decay) times the difference; it should move by 1 - decay times it",
        ),
        Mistake(lambda average, weights, d: d * average + weights * 1 - d, "1 - decay needs brackets: weights * 1 - decay subtracts decay"),
        Mistake(lambda average, weights, d: d * average + (1 - d), "1 - decay is added; add 1 - decay times the weights"),
        Mistake(
            lambda average, weights, d: d**0.5 * average + (1 - d) ** 0.5 * weights,
            "the factors have roots; they are decay and 1 - decay",
        ),
        Mistake(lambda average, weights, d: d**2 * average + (1 - d**2) * weights, "decay is squared; the factor is decay itself"),
        Mistake(lambda average, weights, d: d * average + (1 - d) * weights**2, "the weights are squared; use them unchanged"),
        *(
            Mistake(
                lambda average, weights, d, fixed=fixed: _ema_update(average, weights, fixed), f"the decay is {fixed}, whatever `decay` is"
            )
            for fixed in (0.9, 0.99, 0.995, 0.999, 0.9999)
        ),
    ),
    diagnose=first_of(mixture(["average", "weights"]), explained),
)


# -------------------------------------------------------------------------------------------------- what is left of the beginning

_PERCENT = "that is in percent; expected the fraction, at most 1"
_UPDATE = "that has a factor 1 - decay, the fraction of an update's new weights; the first weights start with the fraction 1"

check_initial_weight_fraction = Question(
    answer=0.9**100,
    tolerance=6e-7,
    mistakes=(
        Mistake(0.0, "that is 0, or nearly 0: each update keeps the fraction 0.9, not 0.1"),
        Mistake(0.9**99, "that is 0.9^99, after 99 updates; or, if you rounded, too few digits: give at least two"),
        Mistake(0.9**101, "that is 0.9^101, after 101 updates"),
        Mistake(100 * 0.9**100, _PERCENT),
        Mistake(0.00266, _PERCENT),
        Mistake(0.0027, _PERCENT),
        Mistake(1 - 0.9**100, "that is the fraction of all later weights"),
        Mistake(0.1, "that is 1 - decay, the fraction of the newest weights"),
        Mistake(0.9, "that is after one update"),
        Mistake(0.1 * 0.9**100, _UPDATE),
        Mistake(0.1 * 0.9**99, _UPDATE),
        Mistake(math.exp(-10), "that is exp(-100 (1 - decay)), which is close to decay^100 only if decay is near 1"),
        Mistake(0.999**100, "that is for a decay of 0.999; here it is 0.9"),
        Mistake(0.99**100, "that is for a decay of 0.99; here it is 0.9"),
        Mistake(0.01, "that is 1 / 100, the fraction in a plain mean; each update multiplies the fraction by 0.9"),
        Mistake(1 / 101, "that is 1 / 101, the fraction in a plain mean; each update multiplies the fraction by 0.9"),
        Mistake(0.009, "that is 0.9 / 100; each update multiplies by 0.9 again"),
        Mistake(90.0, "that is 0.9 times 100; each update multiplies by 0.9 again: a power"),
        Mistake(10.0, "that is 1 / (1 - decay), the number of steps that the average remembers"),
        Mistake(1.0, "that is before the first update; each update multiplies the fraction by 0.9"),
        Mistake(100 * math.log(0.9), "that is the logarithm of the fraction"),
        Mistake(0.9**10, "that is after 10 updates"),
        Mistake(0.9**50, "that is after 50 updates"),
    ),
)
