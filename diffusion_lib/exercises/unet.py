"""Exercises of notebook 02."""

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from diffusion_lib.exercises.checking import Exercise, Mistake, Question, Verdict
from diffusion_lib.exercises.unet_attention import check_attention as check_attention
from diffusion_lib.exercises.unet_conditioning import check_time_conditioning as check_time_conditioning
from diffusion_lib.exercises.unet_norm import check_group_norm as check_group_norm
from diffusion_lib.exercises.variations import explained, first_of, nearly, one_wrong, two_wrong

# --------------------------------------------------------------------------------------------------------------------- timestep embedding


def _hands(omega, arranged=lambda angle: torch.cat([angle.cos(), angle.sin()], dim=1), time=lambda t: t):
    """The embedding whose hand i turns at omega(i, dim / 2) radians per timestep."""

    def embedding(t, dim):
        i = torch.arange(dim // 2, dtype=torch.float64)
        return arranged(time(t)[:, None].double() * omega(i, dim // 2))

    return embedding


def _alternating(first, second):
    return torch.stack([first, second], dim=2).flatten(1)


_HANDS = (
    [
        (lambda i, hands: 10_000 ** (-i / hands), ""),
        (lambda i, hands: 10_000 ** (-i / (2 * hands)), "the hands are too fast: the exponent of hand i is -i / (d / 2), not -i / d"),
        (lambda i, hands: 10_000 ** (-2 * i / hands), "the hands are too slow: the exponent of hand i is -i / (d / 2)"),
        (
            lambda i, hands: 10_000 ** (-i / (hands - 1)),
            "close: some programs divide by d / 2 - 1, but in (2.3) the exponent is -i / (d / 2), and the last hand is a little faster "
            "than 1 / 10000",
        ),
        (lambda i, hands: 10_000 ** (-(i + 1) / hands), "i counts from 0: the first hand turns at 1 radian per timestep"),
        (
            lambda i, hands: 10_000 ** (i / hands),
            "the hands get faster from one to the next, up to thousands of radians per timestep: the exponent is negative",
        ),
        (lambda i, hands: 10_000**-i / hands, "-i / (d / 2) needs brackets: 10000 ** -i / (d / 2) divides the power"),
        (lambda i, hands: 10_000 ** (-i), "the exponent of hand i is -i / (d / 2); here it is -i"),
        (lambda i, hands: (-i / hands).exp(), "the base is 10000; here it is e"),
        (lambda i, hands: 1000 ** (-i / hands), "the base is 10000; here it is 1000"),
        (lambda i, hands: 100_000 ** (-i / hands), "the base is 10000; here it is 100000"),
        (lambda i, hands: 2 ** (-i.double()), "omega is 10000^(-i / (d / 2)); here each hand has half the speed of the one before"),
        (
            lambda i, hands: 2 * math.pi * 10_000 ** (-i / hands),
            "the hands turn 2 pi times too fast: omega is in radians per timestep already",
        ),
        (
            lambda i, hands: math.pi / 180 * 10_000 ** (-i / hands),
            "the angles are taken for degrees: omega is in radians per timestep already",
        ),
        (
            lambda i, hands: torch.linspace(1, 1e-4, hands, dtype=torch.float64),
            "the speeds fall on a straight line; omega falls by the same factor from hand to hand, 10000^(-i / (d / 2))",
        ),
        (lambda i, hands: 10_000 ** (-i.flip(0) / hands), "the hands are in reverse order: hand 0 is the fastest"),
        (lambda i, hands: torch.ones_like(i), "all hands turn at 1 radian per timestep (// cuts the fraction off, / keeps it)"),
        (lambda i, hands: 10_000 ** (-i // hands), "-i // (d / 2) is a whole number: / keeps the fraction"),
        (lambda i, hands: 10_000 ** (-i / 24), "the exponent is -i / (dim / 2); here it is -i / 24, whatever dim is"),
        (lambda i, hands: 10_000 ** (-i / 48), "the exponent is -i / (dim / 2); here it is -i / 48, whatever dim is"),
        (lambda i, hands: i / hands, "omega is a power of 10000; here the speeds are i / (d / 2)"),
    ],
    [
        (lambda angle: torch.cat([angle.cos(), angle.sin()], dim=1), ""),
        (lambda angle: torch.cat([angle.sin(), angle.cos()], dim=1), "the sines come first; (2.3) has the cosines first"),
        (
            lambda angle: _alternating(angle.cos(), angle.sin()),
            "cosines and sines alternate; (2.3) has all cosines first, then all sines",
        ),
        (
            lambda angle: _alternating(angle.sin(), angle.cos()),
            "sines and cosines alternate, as in the paper; (2.3) has all cosines first, then all sines",
        ),
        (lambda angle: torch.cat([angle.cos(), -angle.sin()], dim=1), "the sign of the sines is turned over"),
        (lambda angle: torch.cat([-angle.cos(), angle.sin()], dim=1), "the sign of the cosines is turned over"),
        (lambda angle: torch.cat([angle.cos(), angle.cos()], dim=1), "both halves are cosines; the second half should be sines"),
        (lambda angle: torch.cat([angle.sin(), angle.sin()], dim=1), "both halves are sines; the first half should be cosines"),
        (lambda angle: angle.cos(), "only the cosines are there: the sines follow, dim numbers in all"),
        (lambda angle: angle.sin(), "only the sines are there: the cosines come first, dim numbers in all"),
        (
            lambda angle: torch.cat([angle.cos(), angle.sin()]),
            "cosines and sines are joined along the batch; they belong side by side in each row: torch.cat(…, dim=1)",
        ),
        (
            lambda angle: torch.stack([angle.cos(), angle.sin()]),
            "torch.stack makes a new dimension; torch.cat(…, dim=1) joins the two in each row",
        ),
        (
            lambda angle: torch.stack([angle.cos(), angle.sin()], dim=1),
            "torch.stack makes a new dimension; torch.cat(…, dim=1) joins the two in each row",
        ),
        (
            lambda angle: torch.stack([angle.cos(), angle.sin()], dim=2),
            "torch.stack makes a new dimension; torch.cat(…, dim=1) joins the two in each row",
        ),
        (lambda angle: angle, "these are the angles themselves; take their cosines and sines"),
    ],
    [
        (lambda t: t, ""),
        (lambda t: t - 1, "the angle is t omega; here it is (t - 1) omega"),
        (lambda t: t / 1000, "t is divided by 1000; the angle is t omega, with t from 1 to 1000"),
        (lambda t: t.to(torch.uint8), "t is cut to 8 bits, which end at 255; timesteps go to 1000 (.float() keeps them)"),
        (lambda t: t.to(torch.int8), "t is cut to 8 bits, which end at 127; timesteps go to 1000 (.float() keeps them)"),
        (lambda t: t.to(torch.bfloat16), "t is rounded to bfloat16, which holds whole numbers only up to 256 (.float() keeps them)"),
        (lambda t: t.clamp(max=255), "t is cut off at 255; timesteps go to 1000"),
        (lambda t: t.clamp(max=999), "t is cut off at 999; timesteps go to 1000"),
    ],
)

check_timestep_embedding = Exercise(
    reference=_hands(_HANDS[0][0][0]),
    # angles stay below 100, where float32 still knows their sine
    inputs=lambda random: [
        (torch.tensor([1, 2, 3, 10, 7]), 8),
        (torch.tensor([1, 5, 12]), 32),
        (torch.tensor([256, 257, 500, 999, 1000, 128]), 4),
        (torch.tensor([1000]), 6),
        (torch.tensor([300]), 4),
        (torch.tensor([4, 9]), 48),
    ],
    mistakes=one_wrong(_hands, *_HANDS),
    diagnose=first_of(nearly((*one_wrong(_hands, *_HANDS), *two_wrong(_hands, *_HANDS)), atol=2e-3), explained),
)


# -------------------------------------------------------------------------------------------------------------------------------- patches


class _Calls(TorchFunctionMode):
    """Notes which of torch's functions are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(getattr(func, "__name__", "").partition(".")[0])
        return func(*args, **(kwargs or {}))


class _ByHand(Exercise):
    """An exercise that one function of torch would solve: that function is not accepted."""

    ready_made = "pixel_shuffle", "fold", "col2im", "conv_transpose2d", "convolution", "conv2d"

    def _verdict(self, attempt: Callable) -> Verdict:
        with _Calls() as calls:
            verdict = super()._verdict(attempt)
        if verdict.passed and (used := next((name for name in self.ready_made if name in calls.names), None)):
            return Verdict(False, f"the image is right, but torch's {used} put it together: do it with reshape and permute")
        return verdict


def _put_together(order, channels_first=True):
    """Axes (B, C, i, j, u, v), or (B, i, j, C, u, v), in the order given, read as an image."""

    def unpatch(h, p):
        batch, channels, height, width = h.shape
        split = (channels // p**2, p, p) if channels_first else (p, p, channels // p**2)
        return h.reshape(batch, *split, height, width).permute(order).reshape(batch, channels // p**2, height * p, width * p)

    return unpatch


def _taken_apart(x, p):
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height // p, p, width // p, p).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(batch, channels * p * p, height // p, width // p)


def _in_their_places(h, p):
    """(B, C, u, i, v, j)"""
    return h.unflatten(1, (-1, p, p)).permute(0, 1, 4, 2, 5, 3)


_RIGHT_ORDER = (0, 1, 4, 2, 5, 3)
_AXES = "BCijuv"
_ORDERS = {
    (0, 1, 2, 3, 4, 5): "the numbers are in the order of memory, not where they belong: before the last reshape, the two axes inside a "
    "patch have to be moved (permute) next to u and v",
    (0, 1, 3, 5, 2, 4): "that is patches' own permute; you need the one that undoes it",
    (0, 1, 4, 3, 5, 2): "i and j are swapped: every patch is turned over along its diagonal",
    (0, 1, 5, 2, 4, 3): "u and v are swapped: the patches are right, and stand at each other's places",
    (0, 1, 2, 4, 3, 5): "i and j vary too slowly: row number p u + i means that u comes first, then i",
    (0, 1, 5, 3, 4, 2): "rows and columns are swapped: u and i belong to the rows, v and j to the columns",
}


def _order_said(order):
    stand = f"your axes stand as ({', '.join(_AXES[axis] for axis in order)}) before the last reshape; expected (B, C, u, i, v, j)"
    return _ORDERS.get(order, stand)


_CHANNELS_LAST = "the p^2 channels that belong to one colour are neighbours: split them as (C, p, p), not as (p, p, C)"

check_unpatch = _ByHand(
    # x_{c, pu+i, pv+j} = h_{c p^2 + i p + j, u, v}
    reference=_put_together(_RIGHT_ORDER),
    inputs=lambda random: [
        (torch.randn(batch, c * p * p, height, width, generator=random), p)
        for batch, c, height, width, p in (
            (2, 3, 4, 6, 2),
            (1, 1, 2, 8, 2),
            (3, 2, 4, 8, 4),
            (1, 3, 3, 6, 3),
            (2, 1, 6, 3, 3),
            (1, 2, 5, 7, 1),
        )
    ],
    mistakes=(
        *(
            Mistake(_put_together(order), _order_said(order))
            for rest in permutations(range(2, 6))
            if (order := (0, 1, *rest)) != _RIGHT_ORDER
        ),
        Mistake(_put_together((0, 3, 4, 1, 5, 2), channels_first=False), _CHANNELS_LAST),
        Mistake(
            _put_together((0, 3, 4, 2, 5, 1), channels_first=False),
            f"two things: {_CHANNELS_LAST}. And: i and j are swapped",
        ),
        Mistake(_taken_apart, "that is patches once more: it takes the image further apart"),
        Mistake(
            lambda h, p: _in_their_places(h, p).flatten(2, 3).flatten(3, 4).transpose(2, 3),
            "height and width are swapped: the result is (B, C, p H, p W)",
        ),
        Mistake(_in_their_places, "the axes are in the right order; one more reshape, to (B, C, p H, p W)"),
        Mistake(
            lambda h, p: h.unflatten(1, (-1, p * p)).mean(2).repeat_interleave(p, 2).repeat_interleave(p, 3),
            "each position of a patch has a channel of its own: nothing has to be averaged",
        ),
        Mistake(
            lambda h, p: h[:, :: p * p].repeat_interleave(p, 2).repeat_interleave(p, 3),
            "each pixel of a patch is the same: every one has a channel of its own",
        ),
        Mistake(
            lambda h, p: h.repeat_interleave(p, 2).repeat_interleave(p, 3),
            "the channels are as many as before: p^2 of them make one channel of the image",
        ),
    ),
    diagnose=explained,
)


# ----------------------------------------------------------------------------------------------------------------------------- first loss

check_loss_without_zero_init = Question(
    # E (eps - eps_hat)^2 = E eps^2 + E eps_hat^2 for independent eps and eps_hat of mean 0
    answer=1.5,
    tolerance=0.01,
    mistakes=(
        Mistake(0.5, "variances of independent numbers add up, even where one is subtracted from the other: eps has variance 1"),
        Mistake(1.25, "0.5 is the variance already, not the standard deviation: it is not squared once more"),
        Mistake(1.0, "that is the loss of answering 0; a random answer adds an error of its own"),
        Mistake(1 + math.sqrt(0.5), "add the variances, not the standard deviations"),
        Mistake((1 + math.sqrt(0.5)) ** 2, "add the variances; standard deviations do not add up"),
        Mistake(2.5, "the mean of eps times eps_hat is 0, since the two are independent"),
        Mistake(2.0, "eps_hat has variance 0.5, not 1"),
        Mistake(0.0, "eps_hat is no perfect answer: it is independent of eps"),
        Mistake(0.25, "variances of independent numbers add up, and 0.5 is the variance already: it is not squared"),
        Mistake(0.75, "the loss has no factor 1/2; and variances of independent numbers add up, without squares"),
        Mistake(math.sqrt(1.5), "the loss is the mean squared error: no root"),
        Mistake((1 - math.sqrt(0.5)) ** 2, "add the variances; standard deviations do not add up, nor does one take from the other"),
        Mistake(1 - math.sqrt(0.5), "add the variances, not the standard deviations"),
        Mistake(math.sqrt(0.5), "that is the standard deviation of eps_hat; the loss is E (eps - eps_hat)^2"),
        Mistake(2.25, "0.5 is a variance already, and so is 1: their sum is not squared"),
        Mistake(1.5 * 784, "the loss is the mean, not the sum over an image's pixels"),
        Mistake(3.0, "the loss is not doubled: it is the mean of the squared difference"),
        Mistake(-0.5, "a mean of squares is never negative"),
        Mistake(-1.0, "a mean of squares is never negative"),
        Mistake(-1.5, "a mean of squares is never negative"),
    ),
    praise="more than 1: to guess at random is worse than to say nothing",
)
