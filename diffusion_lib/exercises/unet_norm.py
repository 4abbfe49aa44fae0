"""Group norm, an exercise of notebook 02."""

import torch
import torch.nn.functional as F

from diffusion_lib.exercises.checking import Exercise
from diffusion_lib.exercises.variations import explained, first_of, nearly, one_wrong, two_wrong

_DELTA = 1e-5


def _groups_of(h, groups):
    return h.reshape(len(h), groups, -1)


def _strided(h, groups):
    return h.unflatten(1, (-1, groups)).transpose(1, 2).reshape(len(h), groups, -1)


def _back_from_strides(x, h, groups):
    return x.reshape(len(h), groups, -1, *h.shape[2:]).transpose(1, 2).reshape(h.shape)


def _reshaped(x, h, groups):
    return x.reshape(h.shape)


def _normed(which, numerator, variance, over):
    """(h - mu) / sqrt(sigma^2 + delta) with other choices for the groups, h - mu, sigma^2 and the denominator."""
    cut, dims, back = which

    def norm(h, groups):
        g = cut(h, groups)
        mean = g.mean(dims, keepdim=True)
        return back(over(numerator(g, mean), variance(g, mean, dims)), h, groups)

    return norm


def _as_it_is(h, groups):
    return h


def _by_root(delta, outside=0.0):
    return lambda x, variance: x / ((variance + delta).sqrt() + outside)


_OUTSIDE = "delta is added to the root; (2.6) adds it to sigma^2, under the root"
_TINY = "delta has next to no effect here: (2.6) adds 1e-5 to sigma^2, under the root"
_NO_DELTA = "delta is missing under the root: a group of equal numbers has sigma^2 = 0, and 0 / 0 is NaN"

_NORM = (
    [
        ((_groups_of, (2,), _reshaped), ""),
        ((_as_it_is, (2, 3), _reshaped), "each channel is normalised alone; a group takes C / groups channels together"),
        ((_as_it_is, (1, 2, 3), _reshaped), "all channels of an image are normalised together; there are several groups"),
        ((_as_it_is, (0, 2, 3), _reshaped), "the images of the batch are normalised together; each has its own mean and variance"),
        ((_as_it_is, (0, 1, 2, 3), _reshaped), "the whole batch has one mean and variance; each group of each image has its own"),
        ((_groups_of, (0, 2), _reshaped), "the groups are right, but the images of the batch are normalised together"),
        ((_as_it_is, (1,), _reshaped), "each position is normalised alone; the mean is taken over positions, too"),
        (
            (lambda h, groups: h.unflatten(1, (groups, -1)), (2,), _reshaped),
            "each position of a group is normalised alone; the mean is taken over the group's channels and all positions",
        ),
        (
            (lambda h, groups: h.reshape(len(h), h.shape[1] // groups, -1), (2,), _reshaped),
            "there are C / groups groups of `groups` channels; there should be `groups` groups of C / groups channels",
        ),
        (
            (_strided, (2,), _back_from_strides),
            "a group is neighbouring channels: with 8 channels and 4 groups, 0 and 1, then 2 and 3, …",
        ),
    ],
    [
        (lambda g, mean: g - mean, ""),
        (lambda g, mean: g, "the mean is not subtracted"),
        (lambda g, mean: g + mean, "the mean is added; it should be subtracted"),
    ],
    [
        (lambda g, mean, dims: g.var(dims, unbiased=False, keepdim=True), ""),
        (
            lambda g, mean, dims: g.var(dims, unbiased=True, keepdim=True),
            "close: torch's var and std divide by n - 1 unless told unbiased=False; sigma^2 is the mean of the squares, divided by n",
        ),
        (
            lambda g, mean, dims: g.square().mean(dims, keepdim=True),
            "sigma^2 is the mean of (h - mu)^2; here it is that of h^2",
        ),
        (
            lambda g, mean, dims: (g - mean).abs().mean(dims, keepdim=True).square(),
            "this divides by the mean of |h - mu|; sigma^2 is the mean of squares",
        ),
        (
            lambda g, mean, dims: (g - mean).square().sum(dims, keepdim=True),
            "sigma^2 is the mean of (h - mu)^2; here it is their sum",
        ),
    ],
    [
        (_by_root(_DELTA), ""),
        (_by_root(0.0), _NO_DELTA),
        (_by_root(0.0, outside=_DELTA), _OUTSIDE),
        (lambda x, variance: x / (variance + _DELTA), "this divides by the variance; (2.6) divides by its root"),
        (lambda x, variance: x / variance, "this divides by the variance; (2.6) divides by its root. And delta is missing"),
        (lambda x, variance: x, "the mean is 0, but the variance is not 1 yet: divide by its root"),
        (lambda x, variance: x * (variance + _DELTA).sqrt(), "this multiplies by the root; (2.6) divides by it"),
        (
            lambda x, variance: x / variance.clamp(min=_DELTA).sqrt(),
            "this takes the larger of sigma^2 and delta; (2.6) adds delta, always",
        ),
        (lambda x, variance: x / variance.sqrt().clamp(min=_DELTA), _TINY),
        (
            lambda x, variance: x / (variance.sqrt() + _DELTA).sqrt(),
            "the root is taken twice: std is a root already, and (2.6) has the root of sigma^2 + delta",
        ),
        (_by_root(1e-6), "delta is 1e-6; (2.6) has 1e-5"),
        (_by_root(1e-4), "delta is 1e-4; (2.6) has 1e-5"),
        (_by_root(1e-3), "delta is 1e-3; (2.6) has 1e-5"),
        (_by_root(1e-7), _TINY),
        (_by_root(1e-8), _TINY),
        (_by_root(1e-12), _TINY),
        (_by_root(0.0, outside=1e-6), _TINY),
        (_by_root(_DELTA, outside=_DELTA), "delta is added twice, to sigma^2 and to the root; (2.6) adds it to sigma^2 only"),
        (_by_root(_DELTA**2), _TINY),
        (_by_root(0.0, outside=_DELTA**0.5), "the roots of sigma^2 and delta are added; (2.6) has the root of their sum"),
    ],
)


def _features(random, batch, channels, height, width, groups):
    """Groups with scales from 0 to 100, and means of their own in proportion: float32 rounds the same in every way to write (2.6)."""
    scale = torch.tensor([1.0, 3e-3, 0.05, 100.0, 1e-3]).repeat(batch * groups)[: batch * groups]
    g = torch.randn(batch * groups, channels // groups, height, width, generator=random) + torch.randn(
        batch * groups, 1, 1, 1, generator=random
    )
    return (g * scale.view(-1, 1, 1, 1)).reshape(batch, channels, height, width)


def _norm_calls(random):
    sizes = ((2, 8, 3, 4, 4), (3, 6, 2, 5, 2), (1, 12, 4, 2, 3), (2, 3, 3, 5, 1), (1, 4, 2, 3, 4))
    calls = [(_features(random, *size), size[-1]) for size in sizes]
    flat = calls[1][0]
    flat[1, :3] = 0.5  # a group of equal numbers
    flat[2, 3:] = 0.0
    return calls


check_group_norm = Exercise(
    # (h - mu) / sqrt(sigma^2 + 1e-5), mu and sigma^2 over each image's group                Wu & He 2018, equations 1, 2, 6 and 7
    reference=lambda h, groups: F.group_norm(h.double(), groups, eps=_DELTA),
    inputs=_norm_calls,
    mistakes=one_wrong(_normed, *_NORM),
    praise="whatever the other images in the batch are",
    diagnose=first_of(nearly(two_wrong(_normed, *_NORM)), explained),
)
