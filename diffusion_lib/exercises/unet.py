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


def _embedded(omega, arranged=lambda angle: torch.cat([angle.cos(), angle.sin()], dim=1), time=lambda t: t):
    """The embedding with frequencies omega(i, dim / 2), in radians per timestep."""

    def embedding(t, dim):
        i = torch.arange(dim // 2, dtype=torch.float64)
        return arranged(time(t)[:, None].double() * omega(i, dim // 2))

    return embedding


def _alternating(first, second):
    return torch.stack([first, second], dim=2).flatten(1)


_EMBEDDING = (
    [
        (lambda i, n: 10_000 ** (-i / n), ""),
        (lambda i, n: 10_000 ** (-i / (2 * n)), "the frequencies fall too slowly: the exponent is -i / (d / 2), not -i / d"),
        (lambda i, n: 10_000 ** (-2 * i / n), "the frequencies fall too fast: the exponent is -i / (d / 2), not -2 i / (d / 2)"),
        (
            lambda i, n: 10_000 ** (-i / (n - 1)),
            "some programs divide by d / 2 - 1, but in (2.3) the exponent is -i / (d / 2), so the last frequency is slightly above "
            "1 / 10000",
        ),
        (lambda i, n: 10_000 ** (-(i + 1) / n), "i should count from 0: the first frequency is 1 radian per timestep"),
        (
            lambda i, n: 10_000 ** (i / n),
            "the frequencies rise to thousands of radians per timestep: the exponent should be negative",
        ),
        (lambda i, n: 10_000**-i / n, "-i / (d / 2) needs brackets: 10000 ** -i / (d / 2) divides the power"),
        (lambda i, n: (-math.log(10_000) * i // n).exp(), "the exponent is rounded down by //; a single / keeps the fraction"),
        (lambda i, n: 10_000 ** (-i), "the exponent is -i, or -i // (d / 2) in integers; expected -i / (d / 2), with one slash"),
        (lambda i, n: (-i / n).exp(), "the base is e; expected 10000"),
        (lambda i, n: 1000 ** (-i / n), "the base is 1000; expected 10000"),
        (lambda i, n: 100_000 ** (-i / n), "the base is 100000; expected 10000"),
        (lambda i, n: 2 ** (-i.double()), "each frequency is half the one before; expected omega = 10000^(-i / (d / 2))"),
        (
            lambda i, n: 2 * math.pi * 10_000 ** (-i / n),
            "the frequencies are 2 pi times too high: omega is already in radians per timestep",
        ),
        (
            lambda i, n: math.pi / 180 * 10_000 ** (-i / n),
            "the angles are converted from degrees: omega is already in radians per timestep",
        ),
        (
            lambda i, n: torch.linspace(1, 1e-4, n, dtype=torch.float64),
            "the frequencies fall linearly; omega falls by the same factor each time, 10000^(-i / (d / 2))",
        ),
        (lambda i, n: 10_000 ** (-i.flip(0) / n), "the frequencies are in reverse order: the first is the highest"),
        (lambda i, n: torch.ones_like(i), "all frequencies are 1 radian per timestep (// drops the fraction, / keeps it)"),
        (lambda i, n: 10_000 ** (-i // n), "-i // (d / 2) is an integer: / keeps the fraction"),
        (lambda i, n: 10_000 ** (-i / 24), "the exponent is -i / 24, whatever dim is; expected -i / (dim / 2)"),
        (lambda i, n: 10_000 ** (-i / 48), "the exponent is -i / 48, whatever dim is; expected -i / (dim / 2)"),
        (lambda i, n: i / n, "the frequencies are i / (d / 2); omega is a power of 10000"),
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
        (lambda angle: torch.cat([angle.cos(), -angle.sin()], dim=1), "the sines have the wrong sign"),
        (lambda angle: torch.cat([-angle.cos(), angle.sin()], dim=1), "the cosines have the wrong sign"),
        (lambda angle: torch.cat([angle.cos(), angle.cos()], dim=1), "both halves are cosines; the second half should be sines"),
        (lambda angle: torch.cat([angle.sin(), angle.sin()], dim=1), "both halves are sines; the first half should be cosines"),
        (lambda angle: angle.cos(), "the sines are missing: put them after the cosines, dim numbers in all"),
        (lambda angle: angle.sin(), "the cosines are missing: put them before the sines, dim numbers in all"),
        (
            lambda angle: torch.cat([angle.cos(), angle.sin()]),
            "cosines and sines are joined along the batch; join them in each row: torch.cat(…, dim=1)",
        ),
        (
            lambda angle: torch.stack([angle.cos(), angle.sin()]),
            "torch.stack adds a dimension; use torch.cat(…, dim=1) to join the two in each row",
        ),
        (
            lambda angle: torch.stack([angle.cos(), angle.sin()], dim=1),
            "torch.stack adds a dimension; use torch.cat(…, dim=1) to join the two in each row",
        ),
        (
            lambda angle: torch.stack([angle.cos(), angle.sin()], dim=2),
            "torch.stack adds a dimension; use torch.cat(…, dim=1) to join the two in each row",
        ),
        (lambda angle: angle, "these are the angles themselves; take their cosines and sines"),
    ],
    [
        (lambda t: t, ""),
        (lambda t: t - 1, "the angle is (t - 1) omega; expected t omega"),
        (lambda t: t / 1000, "t is divided by 1000; the angle is t omega, with t from 1 to 1000"),
        (lambda t: t.to(torch.uint8), "t is reduced to 8 bits, which end at 255; timesteps go to 1000: use .float()"),
        (lambda t: t.to(torch.int8), "t is reduced to 8 bits, which end at 127; timesteps go to 1000: use .float()"),
        (lambda t: t.to(torch.bfloat16), "t is rounded to bfloat16, which holds integers only up to 256: use .float()"),
        (lambda t: t.clamp(max=255), "t is clamped to 255; timesteps go to 1000"),
        (lambda t: t.clamp(max=999), "t is clamped to 999; timesteps go to 1000"),
    ],
)

check_timestep_embedding = Exercise(
    reference=_embedded(_EMBEDDING[0][0][0]),
    # angles above 100 are integers: float32 holds them exactly, and their sine is accurate
    inputs=lambda random: [
        (torch.tensor([1, 2, 3, 10, 7]), 8),
        (torch.tensor([1, 5, 12]), 32),
        (torch.tensor([256, 257, 500, 999, 1000, 128]), 4),
        (torch.tensor([1000]), 6),
        (torch.tensor([300]), 4),
        (torch.tensor([4, 9]), 48),
    ],
    mistakes=one_wrong(_embedded, *_EMBEDDING),
    diagnose=first_of(nearly((*one_wrong(_embedded, *_EMBEDDING), *two_wrong(_embedded, *_EMBEDDING)), atol=2e-3), explained),
)


# -------------------------------------------------------------------------------------------------------------------------------- patches


class _Calls(TorchFunctionMode):
    """Records which of torch's functions are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(getattr(func, "__name__", "").partition(".")[0])
        return func(*args, **(kwargs or {}))


class _ByHand(Exercise):
    """An exercise that a single function of torch would solve: using that function does not count."""

    ready_made = "pixel_shuffle", "fold", "col2im", "conv_transpose2d", "convolution", "conv2d"

    def _verdict(self, attempt: Callable) -> Verdict:
        with _Calls() as calls:
            verdict = super()._verdict(attempt)
        if verdict.passed and (used := next((name for name in self.ready_made if name in calls.names), None)):
            return Verdict(False, f"the image is right, but torch's {used} made it: use reshape and permute")
        return verdict


def _put_together(order, channels_first=True):
    """Puts the axes (B, C, i, j, m, n), or (B, i, j, C, m, n), in the given order and reshapes them to an image."""

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
    """(B, C, m, i, n, j)"""
    return h.unflatten(1, (-1, p, p)).permute(0, 1, 4, 2, 5, 3)


_RIGHT_ORDER = (0, 1, 4, 2, 5, 3)
_AXES = "BCijmn"
_ORDERS = {
    (0, 1, 2, 3, 4, 5): "the numbers stay in their order in memory: before the last reshape, move the two axes inside a "
    "patch next to m and n (permute)",
    (0, 1, 3, 5, 2, 4): "this is the permute of patches itself; you need the one that undoes it",
    (0, 1, 4, 3, 5, 2): "i and j are swapped: every patch is transposed",
    (0, 1, 5, 2, 4, 3): "m and n are swapped: the patches are right, but in the wrong places",
    (0, 1, 2, 4, 3, 5): "i and j vary too slowly: row number p m + i means that m comes first, then i",
    (0, 1, 5, 3, 4, 2): "rows and columns are swapped: m and i belong to the rows, n and j to the columns",
}


def _order_said(order):
    stand = f"your axes are in the order ({', '.join(_AXES[axis] for axis in order)}) before the last reshape; expected (B, C, m, i, n, j)"
    return _ORDERS.get(order, stand)


_CHANNELS_LAST = "the channels are split as (p, p, C); split them as (C, p, p): the p^2 channels of one colour are neighbours"

check_unpatch = _ByHand(
    # x_{c, pm+i, pn+j} = h_{c p^2 + i p + j, m, n}
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
            f"two mistakes: {_CHANNELS_LAST}. And i and j are swapped",
        ),
        Mistake(_taken_apart, "this is patches again: it splits the image further"),
        Mistake(
            lambda h, p: _in_their_places(h, p).flatten(2, 3).flatten(3, 4).transpose(2, 3),
            "height and width are swapped; expected (B, C, p H, p W)",
        ),
        Mistake(_in_their_places, "the axes are in the right order, but one reshape is missing, to (B, C, p H, p W)"),
        Mistake(
            lambda h, p: h.unflatten(1, (-1, p * p)).mean(2).repeat_interleave(p, 2).repeat_interleave(p, 3),
            "the channels of a patch are averaged; each position of a patch has its own channel",
        ),
        Mistake(
            lambda h, p: h[:, :: p * p].repeat_interleave(p, 2).repeat_interleave(p, 3),
            "all pixels of a patch are equal; each one has its own channel",
        ),
        Mistake(
            lambda h, p: h.repeat_interleave(p, 2).repeat_interleave(p, 3),
            "the number of channels is unchanged; p^2 of them make one channel of the image",
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
        Mistake(0.5, "variances of independent numbers add up, even in a difference: eps has variance 1"),
        Mistake(1.25, "0.5 is squared, but it is already the variance, not the standard deviation"),
        Mistake(1.0, "that is the loss of predicting 0; a random prediction adds its own error"),
        Mistake(1 + math.sqrt(0.5), "add the variances, not the standard deviations"),
        Mistake((1 + math.sqrt(0.5)) ** 2, "add the variances; standard deviations do not add up"),
        Mistake(2.5, "the mean of eps times eps_hat is 0, because the two are independent"),
        Mistake(2.0, "eps_hat has variance 0.5, not 1"),
        Mistake(0.0, "eps_hat is not a perfect prediction: it is independent of eps"),
        Mistake(0.25, "variances of independent numbers add up, and 0.5 is already the variance: do not square it"),
        Mistake(0.75, "the loss has no factor 1/2, and variances of independent numbers add up without squares"),
        Mistake(math.sqrt(1.5), "the loss is the mean squared error, without a root"),
        Mistake((1 - math.sqrt(0.5)) ** 2, "add the variances; standard deviations neither add up nor subtract"),
        Mistake(1 - math.sqrt(0.5), "add the variances, not the standard deviations"),
        Mistake(math.sqrt(0.5), "that is the standard deviation of eps_hat; the loss is E (eps - eps_hat)^2"),
        Mistake(2.25, "0.5 and 1 are already variances: do not square their sum"),
        Mistake(1.5 * 784, "the loss is the mean over an image's pixels, not the sum"),
        Mistake(3.0, "the loss is the mean of the squared difference, without a factor 2"),
        Mistake(-0.5, "a mean of squares is never negative"),
        Mistake(-1.0, "a mean of squares is never negative"),
        Mistake(-1.5, "a mean of squares is never negative"),
    ),
    praise="more than 1: predicting at random is worse than predicting 0",
)
