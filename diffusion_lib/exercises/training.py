"""Exercises of notebook 03."""

import math
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, Question
from diffusion_lib.exercises.training_rate import check_learning_rate as check_learning_rate
from diffusion_lib.exercises.training_velocity import check_v as check_v
from diffusion_lib.exercises.training_velocity import check_x0_from_v as check_x0_from_v
from diffusion_lib.exercises.variations import explained, first_of, mixture, nearly, one_wrong, randn, two_wrong

# ------------------------------------------------------------------------------------------------------------------ timesteps

MANY = 5000  # draws tell how they are distributed


def _random_timesteps(T, n):
    return torch.randint(1, T + 1, (n,))


def _draws(t: Tensor) -> tuple | str:
    """What tells one rule of drawing from another: shape and kind; of many also range, uneven frequencies and order."""
    if t.is_floating_point() or t.dtype in (torch.uint8, torch.bool):
        return "floats" if t.is_floating_point() else "bytes"
    if t.ndim != 1 or len(t) < MANY:
        return tuple(t.shape)
    values = t.unique()
    if len(values) == 1:
        return "one for all"
    return int(t.min()), int(t.max()), len(values), _too_often(t), _in_no_order(t)


def _too_often(t: Tensor) -> list[int]:
    """The values that come more often than equally likely ones would, by 6 standard errors; of few values only."""
    values, counts = t.unique(return_counts=True)
    expected = len(t) / len(values)
    if expected < 1000:
        return []
    return values[counts - expected > 6 * math.sqrt(expected)].tolist()


def _in_no_order(t: Tensor) -> bool:
    """Whether any value may follow any other; where there are too many pairs to see all, whether half of the steps rise."""
    t = t.long() - t.min()
    n = int(t.max()) + 1
    if n**2 < len(t) / 20:
        return len((t[:-1] * n + t[1:]).unique()) == len(t.unique()) ** 2
    return 0.4 < (t[1:] > t[:-1]).double().mean().item() < 0.6


def _drawn_otherwise(got: Any, expected: Any, T: int, n: int) -> str | None:
    if not isinstance(got, Tensor):
        return None
    if got.shape != (n,):
        return f"it returns shape {tuple(got.shape)}; expected ({n},): one number for each image"
    if got.is_complex() or got.dtype in (torch.uint8, torch.bool):
        return f"it returns {got.dtype}; a timestep is a whole number up to T, of dtype torch.long"
    values, counts = got.unique(return_counts=True)
    if got.min() != 1 or got.max() != T or len(values) != T:
        return f"it draws {len(values)} different timesteps from {got.min().item():g} to {got.max().item():g}; expected are all of 1 to {T}"
    if _too_often(got):
        often, seldom = counts.argmax(), counts.argmin()
        return (
            f"not all are equally likely: {values[often]} comes {counts[often]} times and {values[seldom]} {counts[seldom]} times "
            f"in {n} draws; expected is about {n / T:.0f}"
        )
    return "the timesteps come in an order; each should be drawn on its own"


_LIST = "this is a list; asked for is a LongTensor (torch.tensor makes one of it)"
_BYTES = "a uint8 ends at 255, and as an index torch reads it as a mask: leave the dtype at torch.long"

check_random_timesteps = Exercise(
    reference=_random_timesteps,
    inputs=lambda random: [(5, 9500), (3, 6000), (300, 9000), (1000, 7), (2, 1)],
    look=_draws,
    draws=True,
    # museum.py shows the fourth
    mistakes=(
        Mistake(
            lambda T, n: torch.randint(1, T, (n,)), "T is never drawn: randint leaves its upper end out, so the last level is not trained"
        ),
        Mistake(
            lambda T, n: torch.randint(0, T, (n,)),
            "this draws 0 to T - 1, and timesteps are 1 to T: 0 is the clean image, and T is never trained",
        ),
        Mistake(lambda T, n: torch.randint(0, T + 1, (n,)), "0 is drawn, too: the clean image has no noise to predict"),
        Mistake(
            lambda T, n: torch.randint(0, T - 1, (n,)), "this draws 0 to T - 2: randint leaves its upper end out, and timesteps are 1 to T"
        ),
        Mistake(lambda T, n: torch.randint(1, T + 2, (n,)), "T + 1 is drawn, too: randint leaves its upper end out, so T + 1 is enough"),
        Mistake(lambda T, n: torch.randint(2, T + 1, (n,)), "1 is never drawn; timesteps are 1 to T"),
        Mistake(lambda T, n: torch.randint(2, T + 2, (n,)), "this draws 2 to T + 1, and timesteps are 1 to T"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (1,)).expand(n), "one timestep is drawn for the whole batch; each image gets its own"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (1,)), "this is a single timestep; each of the n images gets its own"),
        Mistake(lambda T, n: torch.randint(1, T + 1, ()), "this is a single timestep; each of the n images gets its own"),
        Mistake(
            lambda T, n: torch.randperm(T)[:n] + 1,
            "these are T timesteps at most: randperm never repeats one; a batch may be larger than T",
        ),
        Mistake(lambda T, n: torch.randperm(n) + 1, "these are 1 to n in random order; asked for are timesteps from 1 to T"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (T,)), "these are T timesteps; asked for are n, each of 1 to T"),
        Mistake(lambda T, n: torch.rand(n) * T + 1, "these are not whole numbers; a timestep is an index into a table (torch.randint)"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n,)).to(torch.uint8), _BYTES),
        Mistake(
            lambda T, n: (1 + torch.rand(n) * (T - 1)).round().long(), "not all are equally likely: rounding makes 1 and T half as frequent"
        ),
        Mistake(
            lambda T, n: torch.randint(0, T + 1, (n,)).clamp(min=1),
            "not all are equally likely: 0 is drawn and becomes 1, which is twice as frequent",
        ),
        Mistake(
            lambda T, n: torch.randint(1, T + 2, (n,)).clamp(max=T),
            "not all are equally likely: T + 1 is drawn and becomes T, which is twice as frequent",
        ),
        Mistake(lambda T, n: torch.linspace(1, T, n).round().long(), "these are not random: they rise from 1 to T"),
        Mistake(lambda T, n: torch.linspace(1, T, n).long(), "these are not random: they rise from 1 to T"),
        Mistake(lambda T, n: torch.arange(n) % T + 1, "these are not random: they count from 1 to T, again and again"),
        Mistake(lambda T, n: torch.arange(1, n + 1), "these are not random: they are 1 to n"),
        Mistake(lambda T, n: torch.full((n,), T), "these are not random: they are all the same"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n, 1)), "the shape should be (n,): one number for each image"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (1, n)), "the shape should be (n,): one number for each image"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n, 1, 1, 1)), "the shape should be (n,): one number for each image"),
        Mistake(lambda T, n: torch.randint(1, T + 1, (n,)).tolist(), _LIST),
    ),
    diagnose=_drawn_otherwise,
)


# ----------------------------------------------------------------------------------------------------------------------- loss

PIXELS = 1, 2, 3


def _reduced(error, reduced, after=lambda x: x):
    return lambda eps_hat, eps: after(reduced(error(eps_hat, eps)))


_SHAPE = "one number for each image, so the shape is (B,)"
_LOSS = (
    [
        (lambda a, b: (a - b).square(), ""),
        (lambda a, b: (a - b).abs(), "this is the mean absolute error; (3.6) squares"),
        (lambda a, b: a - b, "nothing is squared: errors of opposite sign cancel"),
        (lambda a, b: (a + b).square(), "the two are added; the error is their difference"),
        (lambda a, b: a.square() - b.square(), "this is the difference of squares; (3.6) has the square of the difference"),
        (lambda a, b: a * b, "this multiplies the two; (3.6) has the square of their difference"),
        (lambda a, b: torch.nn.functional.smooth_l1_loss(a, b, reduction="none"), "this is the smooth L1 (Huber) loss; (3.6) squares"),
        (lambda a, b: a.square(), "eps is not subtracted"),
        (lambda a, b: (a - b) ** 4, "the error is squared twice"),
        (lambda a, b: ((a - b) / b).square(), "the error is divided by eps; (3.6) takes it as it is"),
        (
            lambda a, b: (a - b - (a - b).mean(PIXELS, keepdim=True)).square(),
            "this is the variance of the error: its mean is subtracted first",
        ),
    ],
    [
        (lambda e: e.mean(dim=PIXELS), ""),
        (lambda e: e.mean(), "this is the mean of the whole batch; asked for is one number for each image"),
        (
            lambda e: e.sum(dim=PIXELS),
            "this is the sum over an image's values, as in (3.6); asked for is their mean, whose size does not depend on that of the image",
        ),
        (lambda e: e.sum(), "this is the sum over the whole batch; asked for is the mean for each image"),
        (lambda e: e.mean().expand(len(e)), "every image gets the mean of the whole batch; asked for is its own"),
        (lambda e: e.mean(dim=PIXELS, keepdim=True), _SHAPE),
        (lambda e: e.mean(dim=PIXELS)[:, None], _SHAPE),
        (lambda e: e.mean(dim=(2, 3)), "this is one number for each channel of each image: the mean runs over channels, too"),
        (lambda e: e.mean(dim=1), "this is one number for each pixel: the mean runs over height and width, too"),
        (lambda e: e.mean(dim=-1), "this is the mean over rows only: it should run over channels, height and width"),
        (lambda e: e.mean(dim=(1, 2)), "the mean should run over channels, height and width: dim=(1, 2, 3)"),
        (lambda e: e.mean(dim=0), "the mean runs over the batch; it should run over the values of each image"),
        (lambda e: e.mean(dim=(0, 2, 3)), "this is one number for each channel; asked for is one for each image"),
        (lambda e: e.mean(dim=(0, 1, 2)), "the mean runs over the batch; it should run over the values of each image"),
        (lambda e: e, "this is the error of each value; asked for is the mean for each image"),
        (lambda e: e.mean(dim=(2, 3)).sum(dim=1), "the channels are summed; asked for is the mean over them, too"),
        (lambda e: e.mean(dim=1).sum(dim=(1, 2)), "height and width are summed; asked for is the mean over them, too"),
        (lambda e: e.sum(dim=PIXELS) / len(e), "the sum is divided by the number of images; it should be by the number of values in one"),
        (lambda e: e.sum(dim=PIXELS) / (e[0].numel() - 1), "close: the sum is divided by n - 1; a mean divides by n"),
        (lambda e: e.amax(dim=PIXELS), "this is the largest error; asked for is the mean"),
        (lambda e: e.flatten(1).median(dim=1).values, "this is the median; asked for is the mean"),
        (lambda e: e.mean(dim=PIXELS).squeeze(), "for a batch of one image the shape is (1,): squeeze makes it ()"),
        (lambda e: e.squeeze().mean(dim=PIXELS), "squeeze drops the batch where it has one image, and the channel where there is one"),
    ],
    [
        (lambda x: x, ""),
        (lambda x: x.sqrt(), "this takes a root at the end; (3.6) has none"),
        (lambda x: x / 2, "this is half of the mean squared error"),
        (lambda x: x.square(), "square first, then average"),
        (lambda x: x.log(), "this is the logarithm of the error"),
        (lambda x: -x, "the sign is turned over"),
    ],
)

check_loss = Exercise(
    reference=lambda eps_hat, eps: (eps_hat - eps).square().mean(dim=PIXELS),
    inputs=lambda random: [randn(random, size, size) for size in ((6, 2, 4, 5), (1, 3, 5, 2), (4, 1, 3, 6), (1, 1, 2, 7))],
    mistakes=(
        *one_wrong(_reduced, *_LOSS),
        Mistake(lambda a, b: (a - b).mean(PIXELS).square(), "square first, then average: errors of opposite sign must not cancel"),
        Mistake(
            lambda a, b: (a - b).flatten(1).norm(dim=1),
            "this is the length of the difference, with a root; asked for is the mean of squares",
        ),
    ),
    diagnose=first_of(nearly(two_wrong(_reduced, *_LOSS)), explained),
)


# ------------------------------------------------------------------------------------------------------------------- average


def _ema_update(average, weights, decay):
    # ema <- d ema + (1 - d) weights
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
            "the two factors are swapped: with d near 1 the average should hardly move",
        ),
        Mistake(
            lambda average, weights, d: d * average + weights,
            "the factors do not sum to 1: such an average would become 1 / (1 - d) times the weights",
        ),
        Mistake(lambda average, weights, d: (average + weights) / 2, "this forgets d: it is the plain mean of the two"),
        Mistake(lambda average, weights, d: average, "this returns the average as it was: nothing is learnt"),
        Mistake(lambda average, weights, d: weights, "this returns the weights themselves: nothing is remembered"),
        Mistake(lambda average, weights, d: average + (1 - d) * weights, "the average is not multiplied by d: it would grow without end"),
        Mistake(lambda average, weights, d: average + weights, "both factors are missing: d of the average, 1 - d of the weights"),
        Mistake(lambda average, weights, d: d * average - (1 - d) * weights, "the weights are subtracted; they should be added"),
        Mistake(lambda average, weights, d: d * average + d * weights, "both have the factor d; that of the weights is 1 - d"),
        Mistake(lambda average, weights, d: (1 - d) * (average + weights), "both have the factor 1 - d; that of the average is d"),
        Mistake(lambda average, weights, d: d * average, "the weights are missing: 1 - d of them are added"),
        Mistake(lambda average, weights, d: (1 - d) * weights, "the average is missing: d of it is kept"),
        Mistake(
            lambda average, weights, d: average + (1 - d) * (average - weights),
            "the average moves away from the weights: the difference is weights - average",
        ),
        Mistake(
            lambda average, weights, d: average - d * (average - weights) * (1 - d),
            "the average moves by d (1 - d) of the difference; it should be by 1 - d",
        ),
        Mistake(lambda average, weights, d: d * average + (1 - d), "1 - d is added; it should be 1 - d times the weights"),
        Mistake(
            lambda average, weights, d: d**0.5 * average + (1 - d) ** 0.5 * weights,
            "the factors are d and 1 - d, without roots",
        ),
        Mistake(lambda average, weights, d: d**2 * average + (1 - d**2) * weights, "the factor is d; here it is squared"),
        Mistake(lambda average, weights, d: d * average + (1 - d) * weights**2, "the weights are squared"),
        *(
            Mistake(lambda average, weights, d, fixed=fixed: _ema_update(average, weights, fixed), f"d is {fixed}, whatever `decay` is")
            for fixed in (0.9, 0.99, 0.995, 0.999, 0.9999)
        ),
    ),
    diagnose=first_of(mixture(["average", "weights"]), explained),
)


# -------------------------------------------------------------------------------------------------- what is left of the beginning

_PERCENT = "that is in percent; asked for is the fraction, at most 1"
_UPDATE = "that has a factor 1 - d, the share with which an update's weights come in; the first weights start with a share of 1"

check_initial_weight_fraction = Question(
    answer=0.9**100,
    tolerance=6e-7,
    mistakes=(
        Mistake(0.0, "that is nothing, or nearly: each update keeps d = 0.9 of what was there, not a tenth"),
        Mistake(0.9**99, "that is 0.9^99, after 99 updates; or, if you rounded, too few digits: give two"),
        Mistake(0.9**101, "that is 0.9^101, after 101 updates"),
        Mistake(100 * 0.9**100, _PERCENT),
        Mistake(0.00266, _PERCENT),
        Mistake(0.0027, _PERCENT),
        Mistake(1 - 0.9**100, "that is the share of all the others"),
        Mistake(0.1, "that is 1 - d, the share of the newest weights"),
        Mistake(0.9, "that is after one update"),
        Mistake(0.1 * 0.9**100, _UPDATE),
        Mistake(0.1 * 0.9**99, _UPDATE),
        Mistake(math.exp(-10), "that is exp(-100 (1 - d)), which is close to d^100 only for d near 1"),
        Mistake(0.999**100, "that is with d = 0.999; here it is 0.9"),
        Mistake(0.99**100, "that is with d = 0.99; here it is 0.9"),
        Mistake(0.01, "that is 1 / 100, the share in a plain mean; each update keeps 0.9 of what was there"),
        Mistake(1 / 101, "that is 1 / 101, the share in a plain mean; each update keeps 0.9 of what was there"),
        Mistake(0.009, "that is 0.9 / 100; each update multiplies by 0.9 again"),
        Mistake(90.0, "that is 0.9 times 100; each update multiplies by 0.9 again: a power"),
        Mistake(10.0, "that is 1 / (1 - d), the number of steps that the average remembers"),
        Mistake(1.0, "that is before the first update: each of them keeps 0.9 of what was there"),
        Mistake(100 * math.log(0.9), "that is the logarithm of the fraction"),
        Mistake(0.9**10, "that is after 10 updates"),
        Mistake(0.9**50, "that is after 50 updates"),
    ),
)
