"""Exercises of notebook 02."""

import math

import torch
import torch.nn.functional as F

from diffusion_lib.exercises.checking import Exercise, Mistake, Question
from diffusion_lib.unet import sinusoidal_embedding

# ---------------------------------------------------------------------------------------------------------- timestep embedding


def _hands(exponent, scale=1.0):
    """The embedding whose hand i turns at scale * 10000^exponent(i, dim / 2) radians per timestep."""

    def embedding(t, dim):
        i = torch.arange(dim // 2, dtype=torch.float64)
        angle = t[:, None].double() * scale * 10_000 ** exponent(i, dim // 2)
        return torch.cat([angle.cos(), angle.sin()], dim=1)

    return embedding


check_timestep_embedding = Exercise(
    reference=sinusoidal_embedding,
    inputs=lambda random: [(torch.tensor([1, 2, 3, 10]), dim) for dim in (32, 8)],
    mistakes=(
        Mistake(
            lambda t, dim: sinusoidal_embedding(t, dim).roll(dim // 2, dims=1),
            "the sines come first; nothing is lost by that, but (2.3) and the trained weights have the cosines first",
        ),
        Mistake(
            lambda t, dim: sinusoidal_embedding(t, dim).unflatten(1, (2, -1)).transpose(1, 2).flatten(1),
            "cosines and sines alternate; (2.3) has all cosines first, then all sines",
        ),
        Mistake(
            lambda t, dim: sinusoidal_embedding(t, dim).unflatten(1, (2, -1)).flip(1).transpose(1, 2).flatten(1),
            "sines and cosines alternate, as in the paper; (2.3) has all cosines first, then all sines",
        ),
        Mistake(_hands(lambda i, hands: -i / (2 * hands)), "the hands are too fast: the exponent of hand i is -i / (d / 2)"),
        Mistake(_hands(lambda i, hands: -2 * i / hands), "the hands are too slow: the exponent of hand i is -i / (d / 2)"),
        Mistake(
            _hands(lambda i, hands: -i / (hands - 1)),
            "close: others do it so, but here the exponent is -i / (d / 2), and the last hand does not quite reach 1 / 10000",
        ),
        Mistake(_hands(lambda i, hands: -(i + 1) / hands), "i counts from 0: the first hand turns at 1 radian per timestep"),
        Mistake(
            _hands(lambda i, hands: i / hands),
            "the hands get faster from one to the next, to thousands of radians a step; the exponent is negative",
        ),
        Mistake(
            _hands(lambda i, hands: -i / hands, 2 * math.pi),
            "the hands turn 2 pi times too fast; omega is in radians per timestep as it stands",
        ),
    ),
)


# ---------------------------------------------------------------------------------------------------------------------- patches


def _put_together(order, channels_inside=True):
    """Axes (B, C, i, j, u, v), or (B, i, j, C, u, v), in the order given, read as an image."""

    def unpatch(h, p):
        batch, channels, height, width = h.shape
        split = (channels // p**2, p, p) if channels_inside else (p, p, channels // p**2)
        return h.reshape(batch, *split, height, width).permute(order).reshape(batch, channels // p**2, height * p, width * p)

    return unpatch


check_unpatch = Exercise(
    # x_{c, pu+i, pv+j} = h_{c p^2 + i p + j, u, v}
    reference=_put_together((0, 1, 4, 2, 5, 3)),
    inputs=lambda random: [(torch.randn(2, c * p * p, 3, 5, generator=random), p) for c, p in ((3, 2), (1, 2), (2, 4))],
    mistakes=(
        Mistake(
            lambda h, p: h.reshape(len(h), h.shape[1] // p**2, h.shape[2] * p, h.shape[3] * p),
            "the numbers are in the order of memory, not where they belong: before the last reshape, the two axes inside a patch have "
            "to be moved (permute) next to u and v",
        ),
        Mistake(_put_together((0, 1, 3, 5, 2, 4)), "that is patches' own permute; you need the one that undoes it"),
        Mistake(_put_together((0, 1, 4, 3, 5, 2)), "i and j are swapped: every patch is turned over along its diagonal"),
        Mistake(_put_together((0, 1, 5, 2, 4, 3)), "u and v are swapped: the patches are right, and stand at each other's places"),
        Mistake(_put_together((0, 1, 2, 4, 3, 5)), "i and j vary too slowly: row number p u + i means that u comes first, then i"),
        Mistake(
            _put_together((0, 3, 4, 1, 5, 2), channels_inside=False),
            "the p^2 channels that belong to one colour are neighbours: split them as (C, p, p), not as (p, p, C)",
        ),
    ),
)


# ------------------------------------------------------------------------------------------------------------------- group norm


def _group_norm(h, groups):
    # (h - mu) / sqrt(sigma^2 + 1e-5), mu and sigma^2 over each image's group                Wu & He 2018, equations 1, 2, 6 and 7
    return F.group_norm(h, groups, eps=1e-5)


def _features(random):
    """(4, 8, 2, 2), each channel of each image with a scale of its own, some of them small."""
    return 3 + 2 * torch.randn(4, 8, 2, 2, generator=random) * torch.rand(4, 8, 1, 1, generator=random)


def _normed(h, dims, how=lambda centred, variance: centred / (variance + 1e-5).sqrt(), unbiased=False):
    return how(h - h.mean(dims, keepdim=True), h.var(dims, unbiased=unbiased, keepdim=True))


def _grouped(h, groups, *how, **options):
    return _normed(h.reshape(len(h), groups, -1), (2,), *how, **options).reshape(h.shape)


def _strided(h, groups):
    return (
        _grouped(h.unflatten(1, (-1, groups)).transpose(1, 2).flatten(1, 2), groups)
        .unflatten(1, (groups, -1))
        .transpose(1, 2)
        .flatten(1, 2)
    )


_N_MINUS_1 = "close: torch's var and std divide by n - 1 unless told unbiased=False; sigma^2 is the mean of the squares, divided by n"

check_group_norm = Exercise(
    reference=_group_norm,
    inputs=lambda random: [(_features(random), groups) for groups in (4, 2)],
    mistakes=(
        Mistake(lambda h, groups: _grouped(h, groups, unbiased=True), _N_MINUS_1),
        Mistake(
            lambda h, groups: _grouped(h, groups, lambda x, variance: x / variance.sqrt(), unbiased=True),
            _N_MINUS_1 + ". And delta is missing",
        ),
        Mistake(
            lambda h, groups: _grouped(h, groups, lambda x, variance: x / (variance + 1e-5)),
            "this divides by the variance; (2.6) divides by its root",
        ),
        Mistake(
            lambda h, groups: _grouped(h, groups, lambda x, variance: x), "the mean is 0, but the variance is not 1 yet: divide by its root"
        ),
        Mistake(
            lambda h, groups: _normed(h, (2, 3)),
            "each channel is normalised alone; a group takes C / groups channels together",
        ),
        Mistake(lambda h, groups: _normed(h, (1, 2, 3)), "all channels of an image are normalised together; there are several groups"),
        Mistake(
            lambda h, groups: _normed(h, (0, 2, 3)), "the images of the batch are normalised together; each has its own mean and variance"
        ),
        Mistake(_strided, "a group is neighbouring channels: with 8 channels and 4 groups, 0 and 1, then 2 and 3, …"),
    ),
    praise="whatever the other images in the batch are",
)


# -------------------------------------------------------------------------------------------------------------- time conditioning


def _conditioned(how, activate=F.silu, split=lambda x: x.chunk(2, dim=1)):
    def condition(f, emb, weight, bias):
        return how(f, *split(F.linear(activate(emb), weight, bias)[:, :, None, None]))

    return condition


def _scaled_and_shifted(f, w, b):
    return (1 + w) * f + b


check_time_conditioning = Exercise(
    # (1 + w) f + b, with w and b the two halves of a linear layer of SiLU(emb)                Nichol & Dhariwal 2021, appendix A
    reference=_conditioned(_scaled_and_shifted),
    inputs=lambda random: [tuple(torch.randn(size, generator=random) for size in ((2, 4, 3, 3), (2, 6), (8, 6), (8,))) for _ in range(2)],
    mistakes=(
        Mistake(
            _conditioned(lambda f, w, b: w * f + b), "the factor is 1 + w: a layer that says nothing (w = 0, b = 0) should leave f as it is"
        ),
        Mistake(_conditioned(lambda f, w, b: (1 + w) * (f + b)), "the shift comes after the factor: (1 + w) f + b"),
        Mistake(_conditioned(lambda f, b, w: (1 + w) * f + b), "the halves are swapped: the first is the scale, the second the shift"),
        Mistake(_conditioned(lambda f, w, b: f + (1 + w) * f + b), "f is added once more: 1 + w is all of its factor"),
        Mistake(_conditioned(_scaled_and_shifted, activate=lambda emb: emb), "the linear layer gets SiLU(emb), and yours gets emb itself"),
        Mistake(
            _conditioned(lambda f, w, b: w * f + b, activate=lambda emb: emb),
            "two things: the linear layer gets SiLU(emb), and the factor of f is 1 + w",
        ),
        Mistake(
            _conditioned(lambda f, w, b: (1 + F.silu(w)) * f + F.silu(b), activate=lambda emb: emb),
            "SiLU comes before the linear layer: it acts on emb",
        ),
        Mistake(
            _conditioned(_scaled_and_shifted, split=lambda x: (x[:, ::2], x[:, 1::2])),
            "the halves are the first C numbers and the last C, not every other one",
        ),
        Mistake(
            lambda f, emb, weight, bias: _conditioned(_scaled_and_shifted)(f, emb, weight, torch.zeros_like(bias)),
            "the layer's bias is left out",
        ),
    ),
)


# --------------------------------------------------------------------------------------------------------------------- attention


def _attended(weights_of):
    def attend(q, k, v):
        return weights_of(q @ k.transpose(-1, -2), q.shape[-1]) @ v

    return attend


# softmax(q k^T / sqrt(d)) v                                                                         Vaswani et al. 2017, equation 1
_attention = _attended(lambda scores, d: (scores / math.sqrt(d)).softmax(dim=-1))
_NO_SOFTMAX = "there is no softmax: weights are positive and sum to 1, scores are neither"
_AXIS = "the softmax runs over the positions that ask; the weights of each of these sum to 1 over the positions that are looked at"

check_attention = Exercise(
    reference=_attention,
    inputs=lambda random: [tuple(torch.randn(2, 3, n, 16, generator=random) for _ in range(3)) for n in (5, 9)],
    mistakes=(
        Mistake(
            _attended(lambda scores, d: scores.softmax(dim=-1)),
            "the scores are not divided by sqrt(d): they grow with d, and the softmax gives nearly everything to one position",
        ),
        Mistake(_attended(lambda scores, d: (scores / d).softmax(dim=-1)), "the scores are divided by d; (2.8) has its root"),
        Mistake(_attended(lambda scores, d: (scores / math.sqrt(32)).softmax(dim=-1)), "d is q.shape[-1], and here that is not 32"),
        Mistake(
            _attended(lambda scores, d: (scores / math.sqrt(scores.shape[-1])).softmax(dim=-1)),
            "the scores are divided by the root of the number of positions; d is the length of a query, q.shape[-1]",
        ),
        Mistake(
            _attended(lambda scores, d: scores.softmax(dim=-1) / math.sqrt(d)),
            "the scores are divided by sqrt(d) before the softmax, not after",
        ),
        Mistake(_attended(lambda scores, d: (scores / math.sqrt(d)).softmax(dim=-2)), _AXIS),
        Mistake(_attended(lambda scores, d: scores.softmax(dim=-2)), _AXIS + ". And the scores are not divided by sqrt(d)"),
        Mistake(
            _attended(lambda scores, d: (scores / math.sqrt(d)).softmax(dim=1)),
            "the softmax runs over the heads; it belongs on the last axis",
        ),
        Mistake(lambda q, k, v: _attention(k, q, v), "keys and queries are swapped: position i should ask with its query"),
        Mistake(_attended(lambda scores, d: scores / math.sqrt(d)), _NO_SOFTMAX),
        Mistake(_attended(lambda scores, d: scores), _NO_SOFTMAX + ". And the scores are not divided by sqrt(d)"),
    ),
)


# -------------------------------------------------------------------------------------------------------------------- first loss

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
    ),
    praise="more than 1: to guess at random is worse than to say nothing",
)
