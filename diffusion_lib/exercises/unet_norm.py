"""Group norm, an exercise of notebook 02."""

import torch
import torch.nn.functional as F

from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.variations import explained, first_of, nearly, one_wrong, two_wrong

_EPS = 1e-5


def _groups_of(h, groups):
    return h.reshape(len(h), groups, -1)


def _strided(h, groups):
    return h.unflatten(1, (-1, groups)).transpose(1, 2).reshape(len(h), groups, -1)


def _back_from_strides(x, h, groups):
    return x.reshape(len(h), groups, -1, *h.shape[2:]).transpose(1, 2).reshape(h.shape)


def _reshaped(x, h, groups):
    return x.reshape(h.shape)


def _normed(which, numerator, variance, over):
    """(h - E[h]) / sqrt(Var[h] + 1e-5) with other choices for the groups, h - E[h], Var[h] and the denominator."""
    cut, dims, back = which

    def norm(h, groups):
        g = cut(h, groups)
        mean = g.mean(dims, keepdim=True)
        return back(over(numerator(g, mean), variance(g, mean, dims)), h, groups)

    return norm


def _as_it_is(h, groups):
    return h


def _by_root(eps, outside=0.0):
    return lambda x, variance: x / ((variance + eps).sqrt() + outside)


_OUTSIDE = "1e-5 is added to the root; (2.6) adds it to Var[h], under the root"
_TINY = "the small number has almost no effect; (2.6) adds 1e-5 to Var[h], under the root"
_NO_EPS = "1e-5 is missing under the root: a group of equal numbers has Var[h] = 0, and 0 / 0 is NaN"

_NORM = (
    [
        ((_groups_of, (2,), _reshaped), ""),
        ((_as_it_is, (2, 3), _reshaped), "each channel is normalised alone; normalise the C / groups channels of a group together"),
        ((_as_it_is, (1, 2, 3), _reshaped), "all channels of an image form one group; normalise each group separately"),
        ((_as_it_is, (0, 2, 3), _reshaped), "the images of the batch are normalised together; each has its own mean and variance"),
        ((_as_it_is, (0, 1, 2, 3), _reshaped), "the whole batch has one mean and variance; each group of each image has its own"),
        ((_groups_of, (0, 2), _reshaped), "the groups are right, but the images of the batch are normalised together"),
        ((_as_it_is, (1,), _reshaped), "each position is normalised alone; average over the positions too"),
        (
            (lambda h, groups: h.unflatten(1, (groups, -1)), (2,), _reshaped),
            "each position of a group is normalised alone; average over the group's channels and all positions",
        ),
        (
            (lambda h, groups: h.reshape(len(h), h.shape[1] // groups, -1), (2,), _reshaped),
            "there are C / groups groups of `groups` channels; expected `groups` groups of C / groups channels",
        ),
        (
            (_strided, (2,), _back_from_strides),
            "a group takes every groups-th channel; it should take neighbours: of 8 channels in 4 groups, 0 and 1, then 2 and 3, …",
        ),
    ],
    [
        (lambda g, mean: g - mean, ""),
        (lambda g, mean: g, "the mean is not subtracted"),
        (lambda g, mean: g + mean, "the mean is added; subtract it"),
    ],
    [
        (lambda g, mean, dims: g.var(dims, unbiased=False, keepdim=True), ""),
        (
            lambda g, mean, dims: g.var(dims, unbiased=True, keepdim=True),
            "this is close, but var and std divide by n - 1 by default; pass unbiased=False to divide by n",
        ),
        (
            lambda g, mean, dims: g.square().mean(dims, keepdim=True),
            "your variance is the mean of h^2; Var[h] is the mean of (h - E[h])^2",
        ),
        (
            lambda g, mean, dims: (g - mean).abs().mean(dims, keepdim=True).square(),
            "this divides by the mean of |h - E[h]|; divide by the root of the mean of squares",
        ),
        (
            lambda g, mean, dims: (g - mean).square().sum(dims, keepdim=True),
            "your variance is the sum of (h - E[h])^2; Var[h] is their mean",
        ),
    ],
    [
        (_by_root(_EPS), ""),
        (_by_root(0.0), _NO_EPS),
        (_by_root(0.0, outside=_EPS), _OUTSIDE),
        (lambda x, variance: x / (variance + _EPS), "this divides by the variance; (2.6) divides by its root"),
        (lambda x, variance: x / variance, "this divides by the variance; (2.6) divides by its root; and 1e-5 is missing"),
        (lambda x, variance: x, "the mean is 0, but the variance is not 1: divide by the root of the variance"),
        (lambda x, variance: x * (variance + _EPS).sqrt(), "this multiplies by the root; (2.6) divides by it"),
        (
            lambda x, variance: x / variance.clamp(min=_EPS).sqrt(),
            "this takes the larger of Var[h] and 1e-5; (2.6) always adds 1e-5",
        ),
        (lambda x, variance: x / variance.sqrt().clamp(min=_EPS), _TINY),
        (
            lambda x, variance: x / (variance.sqrt() + _EPS).sqrt(),
            "the root is taken twice: std is already a root, and (2.6) has the root of Var[h] + 1e-5",
        ),
        (_by_root(1e-6), "the small number is 1e-6; (2.6) has 1e-5"),
        (_by_root(1e-4), "the small number is 1e-4; (2.6) has 1e-5"),
        (_by_root(1e-3), "the small number is 1e-3; (2.6) has 1e-5"),
        (_by_root(1e-7), _TINY),
        (_by_root(1e-8), _TINY),
        (_by_root(1e-12), _TINY),
        (_by_root(0.0, outside=1e-6), _TINY),
        (_by_root(_EPS, outside=_EPS), "1e-5 is added twice, to Var[h] and to the root; (2.6) adds it to Var[h] only"),
        (_by_root(_EPS**2), _TINY),
        (_by_root(0.0, outside=_EPS**0.5), "the roots of Var[h] and 1e-5 are added; (2.6) has the root of their sum"),
    ],
)


def _by_formula(formula):
    """The right groups, mean and variance, put together by formula(group, mean, variance)."""

    def norm(h, groups):
        g = _groups_of(h, groups)
        return formula(g, g.mean(2, keepdim=True), g.var(2, unbiased=False, keepdim=True)).reshape(h.shape)

    return norm


_BRACKETS = tuple(
    Mistake(_by_formula(formula), said)
    for formula, said in (
        (
            lambda g, mean, v: (g - g.mean()) / (v + _EPS).sqrt(),
            "the mean is taken over all images and groups; take it over each group of each image",
        ),
        (lambda g, mean, v: g - mean / (v + _EPS).sqrt(), "only the mean is divided by the root; add brackets: (h - E[h]) / …"),
        (
            lambda g, mean, v: g - mean / v.sqrt() + _EPS,
            "only the mean is divided, and 1e-5 is added last; (h - E[h]) and Var[h] + 1e-5 need brackets",
        ),
        (lambda g, mean, v: g / (v + _EPS).sqrt() - mean, "only h is divided by the root; subtract the mean first: (h - E[h]) / …"),
        (
            lambda g, mean, v: (g - mean) / v + _EPS**0.5,
            "only Var[h] divides, and only 1e-5 has a root; divide by the root of their sum (brackets)",
        ),
        (lambda g, mean, v: (g - mean) / (v + _EPS**0.5), "the root covers only 1e-5; it should cover Var[h] + 1e-5 (brackets)"),
        (
            lambda g, mean, v: ((g - mean) / (v + _EPS)).sqrt(),
            "the root covers the whole fraction, and is NaN where h is below its mean; take only the root of Var[h] + 1e-5",
        ),
    )
)


def _features(random, batch, channels, height, width, groups):
    """Groups with scales from 0.001 to 100 and means in proportion, so that rounding is harmless in every way to write (2.6)."""
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
    # (h - E[h]) / sqrt(Var[h] + 1e-5), over each group of each image                 Wu & He 2018, equations 1, 2, 6 and 7
    reference=lambda h, groups: F.group_norm(h.double(), groups, eps=_EPS),
    inputs=_norm_calls,
    mistakes=(*one_wrong(_normed, *_NORM), *_BRACKETS),
    praise="the result does not depend on the other images in the batch",
    diagnose=first_of(nearly((*_BRACKETS, *two_wrong(_normed, *_NORM))), explained),
)
