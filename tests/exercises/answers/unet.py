"""Answers to the exercises of notebook 02."""

import math

import numpy as np
import torch
import torch.nn.functional as F

import diffusion_lib as dl

# ---------------------------------------------------------------------------------------------------------- timestep embedding


def _embedding(omega, arranged=lambda a: torch.cat([a.cos(), a.sin()], dim=1), time=lambda t: t.float()):
    return lambda t, dim: arranged(time(t)[:, None] * omega(torch.arange(dim // 2), dim // 2))


def _omega(i, n):
    return 10_000 ** (-i / n)


def _embedding_of_the_ddpm_code(t, dim):
    half = dim // 2
    step = math.log(10000) / (half - 1)
    omega = torch.exp(torch.arange(half, dtype=torch.float32) * -step)
    angle = t.float()[:, None] * omega[None, :]
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)


def _embedding_in_loops(t, dim):
    rows = []
    for each in t.tolist():
        angles = [each * 10_000 ** (-i / (dim // 2)) for i in range(dim // 2)]
        rows.append([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    return torch.tensor(rows)


def _embedding_in_numpy(t, dim):
    angle = np.asarray(t)[:, None] / 10_000 ** (np.arange(dim // 2) / (dim // 2))
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def _embedding_filled(t, dim):
    e = torch.empty(len(t), dim, dtype=torch.float64)
    e[:, : dim // 2] = torch.cos(torch.outer(t.double(), _omega(torch.arange(dim // 2).double(), dim // 2)))
    e[:, dim // 2 :] = torch.sin(torch.outer(t.double(), _omega(torch.arange(dim // 2).double(), dim // 2)))
    return e


RIGHT_EMBEDDINGS = [
    _embedding(_omega),
    _embedding(lambda i, n: torch.exp(-math.log(10_000) * i / n)),
    _embedding(lambda i, n: 1 / 10_000 ** (i / n)),
    _embedding(lambda i, n: torch.pow(torch.tensor(10_000.0), -i / n)),
    _embedding(lambda i, n: torch.logspace(0, -4, n + 1)[:-1]),
    _embedding(lambda i, n: 10 ** (-4 * i / n)),
    _embedding(_omega, time=lambda t: t.double()),
    _embedding(_omega, time=lambda t: t),
    _embedding(_omega, lambda a: torch.hstack([a.cos(), a.sin()])),
    _embedding(_omega, lambda a: torch.stack([a.cos(), a.sin()], dim=1).flatten(1)),
    _embedding(_omega, lambda a: torch.cat([(a + math.pi / 2).sin(), a.sin()], dim=-1)),
    _embedding(_omega, lambda a: torch.view_as_real(torch.polar(torch.ones_like(a), a)).transpose(1, 2).flatten(1)),
    _embedding_in_loops,
    _embedding_in_numpy,
    _embedding_filled,
    dl.unet.sinusoidal_embedding,
]
WRONG_EMBEDDINGS = [
    (_embedding(lambda i, n: torch.exp(-math.log(10_000) * i // n)), "rounded down by //"),
    (_embedding(lambda i, n: math.pi / 180 * _omega(i, n)), "degrees"),
    (_embedding(lambda i, n: torch.linspace(1, 1e-4, n)), "fall linearly"),
    # the order
    (_embedding(_omega, lambda a: torch.cat([a.sin(), a.cos()], dim=1)), "the sines come first"),
    (_embedding(_omega, lambda a: torch.stack([a.cos(), a.sin()], dim=-1).flatten(1)), "cosines and sines alternate"),
    (_embedding(_omega, lambda a: torch.stack([a.sin(), a.cos()], dim=-1).flatten(1)), "sines and cosines alternate"),
    (_embedding(_omega, lambda a: torch.cat([a.cos(), a.sin()], dim=1).flip(1)), "the frequencies are in reverse order"),
    (_embedding(_omega, lambda a: torch.cat([a.cos(), a.sin()], dim=1).flip(0)), "in reverse order along dimension 0"),
    (_embedding(_omega, lambda a: torch.cat([a.cos(), a.cos()], dim=1)), "both halves are cosines"),
    (_embedding(_omega, lambda a: torch.cat([a.sin(), a.sin()], dim=1)), "both halves are sines"),
    (_embedding(_omega, lambda a: torch.cat([a.cos(), -a.sin()], dim=1)), "the sines have the wrong sign"),
    (_embedding(_omega, lambda a: -torch.cat([a.cos(), a.sin()], dim=1)), "every number has the wrong sign"),
    # the shape
    (_embedding(_omega, torch.cos), "the sines are missing"),
    (_embedding(_omega, torch.sin), "the cosines are missing"),
    (_embedding(_omega, lambda a: torch.cat([a.cos(), a.sin()])), "dim=1"),
    (_embedding(_omega, lambda a: torch.stack([a.cos(), a.sin()])), "torch.stack adds a dimension"),
    (_embedding(_omega, lambda a: torch.stack([a.cos(), a.sin()], dim=-1)), "torch.stack adds a dimension"),
    (_embedding(_omega, lambda a: torch.cat([a.cos(), a.sin()], dim=1).T), "dimensions are in another order"),
    (_embedding(_omega, lambda a: torch.cat([a.cos(), a.sin()], dim=1).squeeze()), "the shape is wrong"),
    (_embedding(_omega, lambda a: torch.cat([a.cos(), a.sin()], dim=1).flatten()), "the shape is wrong"),
    (lambda t, dim: _embedding(_omega)(t, 2 * dim), "expected (5, 8)"),
    (lambda t, dim: _embedding(_omega)(t, 32), "expected (5, 8)"),
    (_embedding(_omega, lambda a: a), "these are the angles"),
    # the frequencies
    (_embedding(lambda i, n: 10_000 ** (-i / (2 * n))), "fall too slowly: the exponent"),
    (_embedding(lambda i, n: 10_000 ** (-2 * i / n)), "fall too fast"),
    (_embedding(lambda i, n: 10_000 ** (-i / (n - 1))), "d / 2 - 1"),
    (_embedding(lambda i, n: torch.logspace(0, -4, n)), "d / 2 - 1"),
    (_embedding(lambda i, n: 10_000 ** (-(i + 1) / n)), "i should count from 0"),
    (_embedding(lambda i, n: 10_000 ** (i / n)), "the exponent should be negative"),
    (_embedding(lambda i, n: torch.exp(math.log(10_000) * i / n)), "the exponent should be negative"),
    (_embedding(lambda i, n: 10_000.0**-i / n), "brackets"),
    (_embedding(lambda i, n: 10_000.0**-i), "the exponent is -i, or -i // (d / 2) in integers"),
    (_embedding(lambda i, n: torch.exp(-i / n)), "the base is e;"),
    (_embedding(lambda i, n: 1000 ** (-i / n)), "the base is 1000;"),
    (_embedding(lambda i, n: 100_000 ** (-i / n)), "the base is 100000;"),
    (_embedding(lambda i, n: 2 * math.pi * _omega(i, n)), "2 pi times too high"),
    (_embedding(lambda i, n: _omega(i, n).flip(0)), "in reverse order"),
    (_embedding(lambda i, n: i / n), "a power of 10000"),
    (_embedding(lambda i, n: 10_000.0 ** (i // n)), "all frequencies are 1 radian"),
    (_embedding(lambda i, n: 10_000.0 ** (-i // n)), "/ keeps the fraction"),
    (_embedding(lambda i, n: _omega(i, 16)), "t: a tensor"),
    (_embedding(lambda i, n: _omega(i, 24)), "the exponent is -i / 24"),
    # the time
    (_embedding(_omega, time=lambda t: t - 1), "(t - 1) omega"),
    (_embedding(_omega, time=lambda t: t / 1000), "divided by 1000"),
    (_embedding(_omega, time=lambda t: t.to(torch.uint8)), "8 bits"),
    (_embedding(_omega, time=lambda t: t.to(torch.int8)), "8 bits"),
    (_embedding(_omega, time=lambda t: t.to(torch.bfloat16)), "bfloat16"),
    (_embedding(_omega, time=lambda t: t.to(torch.bfloat16).float()), "bfloat16"),
    (_embedding(_omega, time=lambda t: t.clamp(max=255)), "clamped to 255"),
    (_embedding(lambda i, n: _omega(i, n).to(torch.bfloat16)), "t: a tensor"),
    (_embedding(lambda i, n: _omega(i, n).half(), time=lambda t: t.half()), "keeps few digits"),
    (lambda t, dim: _embedding(_omega)(t, dim).to(torch.bfloat16), "keeps few digits"),
    (lambda t, dim: _embedding(_omega)(t[:1].expand(len(t)), dim), "t: a tensor"),
    # two at once
    (_embedding_of_the_ddpm_code, "d / 2 - 1"),
    (_embedding_of_the_ddpm_code, "the sines come first"),
    (_embedding(lambda i, n: 10_000 ** (-i / (2 * n)), lambda a: torch.stack([a.sin(), a.cos()], -1).flatten(1)), "alternate"),
    (_embedding(lambda i, n: 10_000 ** (-i / (2 * n)), lambda a: torch.cat([a.sin(), a.cos()], 1)), "fall too slowly"),
    # none of these
    (lambda t, dim: torch.zeros(len(t), dim), "off by up to 1"),
    (lambda t, dim: torch.randn(len(t), dim), "draw no random numbers"),
    (lambda t, dim: _embedding(_omega)(t, dim) * math.sqrt(2), "1.414 times"),
    (lambda t, dim: F.normalize(_embedding(_omega)(t, dim), dim=1), "times what it should be"),
    (lambda t, dim: torch.nn.Embedding(1001, dim)(t), "draw no random numbers"),
]

# ---------------------------------------------------------------------------------------------------------------------- patches


def _rearranged(*order, split=lambda c, p: (c, p, p)):
    def unpatch(h, p):
        B, C, H, W = h.shape
        c = C // p**2
        return h.reshape(B, *split(c, p), H, W).permute(*order).reshape(B, c, H * p, W * p)

    return unpatch


_unpatch = _rearranged(0, 1, 4, 2, 5, 3)


def _unpatched_by_slices(h, p):
    B, C, H, W = h.shape
    x = torch.empty(B, C // p**2, H * p, W * p)
    for i in range(p):
        for j in range(p):
            x[:, :, i::p, j::p] = h[:, i * p + j :: p * p]
    return x


def _unpatched_by_loops(h, p):
    B, C, H, W = h.shape
    x = np.zeros((B, C // p**2, H * p, W * p), dtype=np.float32)
    for c in range(C // p**2):
        for i in range(p):
            for j in range(p):
                x[:, c, i::p, j::p] = h[:, c * p * p + i * p + j].numpy()
    return x


def _unpatched_in_views(h, p):
    B, C, H, W = h.shape
    return h.view(B, C // p**2, p, p, H, W).permute(0, 1, 4, 2, 5, 3).contiguous().view(B, -1, H * p, W * p)


def _unpatched_by_einsum(h, p):
    return torch.einsum("bcijuv->bcuivj", h.unflatten(1, (-1, p, p))).flatten(4).flatten(2, 3)


def _unpatched_in_two_moves(h, p):
    B, _C, H, W = h.shape
    h = h.reshape(B, -1, p, p, H, W).movedim(4, 2)  # (B, C, m, i, j, n)
    return h.transpose(4, 5).reshape(B, -1, p * H, p * W)


def _unpatched_in_numpy(h, p):
    B, C, H, W = h.shape
    return np.asarray(h).reshape(B, C // p**2, p, p, H, W).transpose(0, 1, 4, 2, 5, 3).reshape(B, C // p**2, H * p, W * p)


def _unpatched_by_fold(h, p):
    _B, _C, H, W = h.shape
    return F.fold(h.flatten(2), (H * p, W * p), p, stride=p)


def _unpatched_by_convolution(h, p):
    c = h.shape[1] // p**2
    return F.conv_transpose2d(h, torch.eye(p * p).view(p * p, 1, p, p).repeat(c, 1, 1, 1), stride=p, groups=c)


def _patches(x, p):
    B, C, H, W = x.shape
    x = x.reshape(B, C, H // p, p, W // p, p)
    return x.permute(0, 1, 3, 5, 2, 4).reshape(B, C * p * p, H // p, W // p)


RIGHT_UNPATCH = [
    _unpatch,
    _unpatched_by_slices,
    _unpatched_by_loops,
    _unpatched_in_views,
    _unpatched_by_einsum,
    _unpatched_in_two_moves,
    _unpatched_in_numpy,
    lambda h, p: h.unflatten(1, (-1, p, p)).permute(0, 1, 4, 2, 5, 3).flatten(2, 3).flatten(3, 4),
    lambda h, p: torch.stack([_unpatch(image[None], p)[0] for image in h]),
    lambda h, p: _unpatch(h.double(), p),
]
WRONG_UNPATCH = [
    # ready-made functions
    (F.pixel_shuffle, "pixel_shuffle made it"),
    (torch.pixel_shuffle, "pixel_shuffle made it"),
    (lambda h, p: torch.nn.PixelShuffle(p)(h), "pixel_shuffle made it"),
    (torch.ops.aten.pixel_shuffle, "pixel_shuffle made it"),
    (_unpatched_by_fold, "fold made it"),
    (_unpatched_by_convolution, "conv_transpose2d made it"),
    # axes in other orders
    (lambda h, p: h.reshape(len(h), -1, h.shape[2] * p, h.shape[3] * p), "in their order in memory"),
    (_rearranged(0, 1, 3, 5, 2, 4), "the permute of patches itself"),
    (_rearranged(0, 1, 4, 3, 5, 2), "i and j are swapped"),
    (_rearranged(0, 1, 5, 2, 4, 3), "m and n are swapped"),
    (_rearranged(0, 1, 2, 4, 3, 5), "vary too slowly"),
    (_rearranged(0, 1, 5, 3, 4, 2), "rows and columns are swapped"),
    (_rearranged(0, 1, 4, 5, 2, 3), "(B, C, m, n, i, j)"),
    (_rearranged(0, 1, 3, 4, 2, 5), "(B, C, j, m, i, n)"),
    (_rearranged(0, 1, 2, 5, 3, 4), "(B, C, i, n, j, m)"),
    (_rearranged(0, 3, 4, 1, 5, 2, split=lambda c, p: (p, p, c)), "split them as (C, p, p)"),
    (_rearranged(0, 3, 4, 2, 5, 1, split=lambda c, p: (p, p, c)), "i and j are swapped"),
    (_rearranged(0, 2, 4, 1, 5, 3, split=lambda c, p: (p, c, p)), "in the wrong places"),
    # the wrong shape
    (_patches, "this is patches again"),
    (F.pixel_unshuffle, "this is patches again"),
    (lambda h, p: h.unflatten(1, (-1, p, p)).permute(0, 1, 4, 2, 5, 3), "one reshape is missing"),
    (lambda h, p: _unpatch(h, p).squeeze(), "the shape is wrong"),
    (lambda h, p: _unpatch(h, p).squeeze(1), "the shape is wrong"),
    (lambda h, p: _unpatch(h, p).squeeze(0), "the shape is wrong"),
    (lambda h, p: _unpatch(h, p).transpose(2, 3), "height and width are swapped"),
    (lambda h, p: _unpatch(h, p).permute(0, 2, 3, 1), "dimensions are in another order"),
    (lambda h, p: _unpatch(h, p)[0], "returns shape"),
    (lambda h, p: h, "returns shape"),
    # constants of one call
    (lambda h, p: _unpatch(h, 2), "p: 4"),
    (lambda h, p: _unpatch(h, p).reshape(-1, 1, 28, 28), "it raised RuntimeError"),
    (lambda h, p: h.reshape(2, 3, 2, 2, 4, 6).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 8, 12), "it raised RuntimeError"),
    (lambda h, p: _unpatch(h, p).reshape(len(h), 1, h.shape[2] * p, -1), "returns shape"),
    (lambda h, p: h.reshape(len(h), -1, p, p, h.shape[2], h.shape[2]), "it raised RuntimeError"),
    # other ways to enlarge
    (lambda h, p: h[:, :: p * p].repeat_interleave(p, 2).repeat_interleave(p, 3), "all pixels of a patch are equal"),
    (lambda h, p: F.interpolate(h[:, :: p * p], scale_factor=p), "all pixels of a patch are equal"),
    (lambda h, p: h.repeat_interleave(p, 2).repeat_interleave(p, 3), "p^2 of them make one channel"),
    (lambda h, p: F.interpolate(h.unflatten(1, (-1, p * p)).mean(2), scale_factor=p), "the channels of a patch are averaged"),
    (lambda h, p: _unpatch(h, p).flip(2), "in reverse order along dimension 2"),
    (lambda h, p: _unpatch(h, p).roll(1, 0) if len(h) > 1 else _unpatch(h, p), "dimension 0"),
    (lambda h, p: _unpatch(h, p).clamp(-1, 1), "are clamped"),
    (lambda h, p: _unpatch(h, p) / p, "times what it should be"),
    (lambda h, p: torch.zeros_like(_unpatch(h, p)), "off by up to"),
]

# ------------------------------------------------------------------------------------------------------------------- group norm


def _normed(denominator, dims=(-1,), variance=lambda g, dims: g.var(dims, unbiased=False, keepdim=True), cut=None, centred=True):
    def norm(h, groups):
        g = cut(h, groups) if cut else h.reshape(len(h), groups, -1)
        above = g - g.mean(dims, keepdim=True) if centred else g
        return (above / denominator(variance(g, dims))).reshape(h.shape)

    return norm


def _root(variance):
    return (variance + 1e-5).sqrt()


def _whole(h, groups):
    return h


def _n_minus_1(g, dims):
    return g.var(dims, keepdim=True)


_norm = _normed(_root)


def _normed_in_loops(h, groups):
    out = torch.empty_like(h)
    size = h.shape[1] // groups
    for b in range(len(h)):
        for g in range(groups):
            part = h[b, g * size : (g + 1) * size]
            mu = part.sum() / part.numel()
            out[b, g * size : (g + 1) * size] = (part - mu) / torch.sqrt(((part - mu) ** 2).sum() / part.numel() + 1e-5)
    return out


def _normed_in_numpy(h, groups):
    g = np.asarray(h).reshape(len(h), groups, -1)
    return ((g - g.mean(-1, keepdims=True)) / np.sqrt(g.var(-1, keepdims=True) + 1e-5)).reshape(h.shape)


def _normed_in_five_axes(h, groups):
    B, C, H, W = h.shape
    g = h.view(B, groups, C // groups, H, W)
    mean = g.mean(dim=(2, 3, 4), keepdim=True)
    return ((g - mean) * torch.rsqrt(g.var(dim=(2, 3, 4), correction=0, keepdim=True) + 1e-5)).view(B, C, H, W)


def _normed_by_strides(h, groups):
    g = h.unflatten(1, (-1, groups)).transpose(1, 2)
    return _norm(g.flatten(1, 2), groups).unflatten(1, (groups, -1)).transpose(1, 2).reshape(h.shape)


def _normed_by_moments(h, groups):
    g = h.reshape(len(h), groups, -1)
    mean, square = g.mean(-1, keepdim=True), (g**2).mean(-1, keepdim=True)
    return ((g - mean) / (square - mean**2 + 1e-5).sqrt()).reshape(h.shape)


def _normed_by_std(h, groups):
    g = h.reshape(len(h), groups, -1)
    return ((g - g.mean(-1, keepdim=True)) / (g.std(-1, unbiased=False, keepdim=True) + 1e-5)).reshape(h.shape)


RIGHT_NORM = [
    _norm,
    F.group_norm,
    lambda h, groups: F.group_norm(h, groups, eps=1e-5),
    lambda h, groups: torch.nn.GroupNorm(groups, h.shape[1])(h),
    lambda h, groups: F.layer_norm(g := h.reshape(len(h), groups, -1), g.shape[2:]).reshape(h.shape),
    lambda h, groups: F.instance_norm(h.reshape(len(h), groups, -1)).reshape(h.shape),
    lambda h, groups: F.group_norm(h.double(), groups),
    _normed_in_loops,
    _normed_in_numpy,
    _normed_in_five_axes,
    _normed_by_moments,
    lambda h, groups: torch.cat([_norm(part, 1) for part in h.chunk(groups, dim=1)], dim=1),
    lambda h, groups: torch.stack([_norm(image[None], groups)[0] for image in h]),
]


def _twice_rooted(h, groups):
    g = h.reshape(len(h), groups, -1)
    mean, std = g.mean(2, keepdim=True), g.std(2, keepdim=True, unbiased=False)
    return ((g - mean) / (std + 1e-5).sqrt()).reshape(h.shape)


def _bracketed(formula):
    """The right groups, mean and variance, with the brackets of `formula`."""

    def norm(h, groups):
        g = h.reshape(len(h), groups, -1)
        return formula(g, g.mean(-1, keepdim=True), g.var(-1, unbiased=False, keepdim=True)).reshape(h.shape)

    return norm


def _norm_with_the_mean_of_the_batch(h, groups):
    g = h.reshape(len(h), groups, -1)
    return ((g - g.mean()) / (g.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()).reshape(h.shape)


WRONG_NORM = [
    (_norm_with_the_mean_of_the_batch, "the mean is taken over all images and groups"),
    # brackets
    (_bracketed(lambda g, m, v: g - m / (v + 1e-5).sqrt()), "only the mean is divided by the root"),
    (_bracketed(lambda g, m, v: g - m / v.sqrt() + 1e-5), "only the mean is divided, and 1e-5 is added last"),
    (_bracketed(lambda g, m, v: g / (v + 1e-5).sqrt() - m), "only h is divided by the root"),
    (_bracketed(lambda g, m, v: (g - m) / v**0.5 + 1e-5), "1e-5 is missing under the root"),
    (_bracketed(lambda g, m, v: (g - m) / v + 1e-5), "divides by its root; and 1e-5 is missing"),
    (_bracketed(lambda g, m, v: (g - m) / v + 1e-5**0.5), "only 1e-5 has a root"),
    (_bracketed(lambda g, m, v: (g - m) / (v + 1e-5**0.5)), "the root covers only 1e-5"),
    (_bracketed(lambda g, m, v: ((g - m) / (v + 1e-5)).sqrt()), "the root covers the whole fraction"),
    (_twice_rooted, "the root is taken twice"),
    # the small number
    (_normed(lambda v: v.sqrt()), "1e-5 is missing"),
    (_normed(lambda v: v.sqrt() + 1e-5), "1e-5 is added to the root"),
    (_normed_by_std, "1e-5 is added to the root"),
    (_normed(lambda v: v.sqrt() + 1e-8), "the small number has almost no effect"),
    (_normed(lambda v: (v + 1e-8).sqrt()), "the small number has almost no effect"),
    (_normed(lambda v: (v + 1e-12).sqrt()), "the small number has almost no effect"),
    (_normed(lambda v: (v + 1e-6).sqrt()), "the small number is 1e-6"),
    (lambda h, groups: F.group_norm(h, groups, eps=1e-6), "the small number is 1e-6"),
    (_normed(lambda v: (v + 1e-4).sqrt()), "the small number is 1e-4"),
    (_normed(lambda v: (v + 1e-3).sqrt()), "the small number is 1e-3"),
    (_normed(lambda v: v.clamp(min=1e-5).sqrt()), "the larger of Var[h] and 1e-5"),
    (_normed(lambda v: v.sqrt().clamp(min=1e-5)), "the small number has almost no effect"),
    (_normed(lambda v: (v + 1e-5).sqrt() + 1e-5), "1e-5 is added twice"),
    (_normed(lambda v: v.sqrt() + 1e-5**0.5), "the root of their sum"),
    (_normed(lambda v: v.sqrt() + 1e-3), "h: a tensor"),
    (lambda h, groups: F.group_norm(h, groups, eps=0.0), "1e-5 is missing"),
    # variance and mean
    (_normed(_root, variance=_n_minus_1), "divide by n - 1"),
    (_normed(lambda v: v + 1e-5), "divides by the variance"),
    (_normed(lambda v: v), "and 1e-5 is missing"),
    (_normed(lambda v: 1), "the variance is not 1: divide"),
    (_normed(_root, centred=False), "the mean is not subtracted"),
    (_normed(_root, variance=lambda g, dims: g.square().mean(dims, keepdim=True)), "your variance is the mean of h^2"),
    (
        _normed(lambda d: d + 1e-5, variance=lambda g, dims: (g - g.mean(dims, keepdim=True)).abs().mean(dims, keepdim=True)),
        "mean of |h - E[h]|",
    ),
    (_normed(lambda v: 1 / _root(v)), "multiplies by the root"),
    # the statistics
    (_normed(_root, (2, 3), cut=_whole), "each channel is normalised alone"),
    (lambda h, groups: F.instance_norm(h), "each channel is normalised alone"),
    (_normed(_root, (1, 2, 3), cut=_whole), "all channels of an image"),
    (lambda h, groups: F.layer_norm(h, h.shape[1:]), "all channels of an image"),
    (lambda h, groups: F.group_norm(h, 1), "all channels of an image"),
    (_normed(_root, (0, 2, 3), cut=_whole), "the images of the batch are normalised together"),
    (lambda h, groups: F.batch_norm(h, None, None, training=True), "the images of the batch are normalised together"),
    (_normed(_root, (0, 1, 2, 3), cut=_whole), "the whole batch has one mean"),
    (_normed(_root, (0, -1)), "the groups are right"),
    (_normed(_root, (1,), cut=_whole), "each position is normalised alone"),
    (_normed(_root, (2,), cut=lambda h, groups: h.unflatten(1, (groups, -1))), "each position of a group"),
    (_normed(_root, cut=lambda h, groups: h.reshape(len(h), h.shape[1] // groups, -1)), "there are C / groups groups"),
    (_normed_by_strides, "every groups-th channel; it should take neighbours"),
    (lambda h, groups: F.group_norm(h, 4) if h.shape[1] % 4 == 0 else F.group_norm(h, 1), "groups: 2"),
    # two at once
    (_normed(lambda v: v.sqrt(), variance=_n_minus_1), "And: 1e-5 is missing"),
    (_normed(lambda v: v.sqrt() + 1e-5, variance=_n_minus_1), "And: 1e-5 is added to the root"),
    (lambda h, groups: (h - h.mean()) / h.std(), "the whole batch has one mean"),
    (_normed(_root, (2, 3), variance=_n_minus_1, cut=_whole), "And: this is close, but var and std divide by n - 1"),
    (_normed(_root, (1, 2, 3), variance=_n_minus_1, cut=_whole), "all channels of an image"),
    # the shape
    (lambda h, groups: _norm(h, groups).reshape(len(h), groups, -1), "the shape is wrong"),
    (lambda h, groups: _norm(h, groups).squeeze(), "the shape is wrong"),
    (lambda h, groups: _norm(h, groups).permute(0, 2, 3, 1), "dimensions are in another order"),
    (lambda h, groups: _norm(h, groups).reshape(-1, 8, 3, 4), "it raised RuntimeError"),
    (lambda h, groups: _norm(h, groups) * 2, "2 times what it should be"),
    (lambda h, groups: _norm(h, groups) + 1, "too large by 1"),
    (lambda h, groups: _norm(h, groups).clamp(-1, 1), "are clamped"),
    (lambda h, groups: h, "h: a tensor"),
    (lambda h, groups: h.sub_(h.mean()), "it changes the tensors"),
]


# -------------------------------------------------------------------------------------------------------------- time conditioning


def _conditioned(how, activate=F.silu, split=lambda x: x.chunk(2, dim=1), linear=F.linear):
    return lambda f, emb, weight, bias: how(f, *split(linear(activate(emb), weight, bias)[:, :, None, None]))


def _scaled(f, w, b):
    return (1 + w) * f + b


_condition = _conditioned(_scaled)


def _conditioned_by_loops(f, emb, weight, bias):
    out, C = torch.empty_like(f), f.shape[1]
    for n in range(len(f)):
        numbers = weight @ (emb[n] / (1 + torch.exp(-emb[n]))) + bias
        for c in range(C):
            out[n, c] = (1 + numbers[c]) * f[n, c] + numbers[C + c]
    return out


def _conditioned_by_einsum(f, emb, weight, bias):
    x = torch.einsum("be,ce->bc", emb * torch.sigmoid(emb), weight) + bias
    w, b = x.split(f.shape[1], dim=1)
    return f + torch.einsum("bc,bchw->bchw", w, f) + b.view(*b.shape, 1, 1)


def _conditioned_by_a_layer(f, emb, weight, bias):
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict(dict(weight=weight, bias=bias))
    w, b = layer(torch.nn.SiLU()(emb)).reshape(len(f), 2, -1, 1, 1).unbind(1)
    return torch.addcmul(b, 1 + w, f)


def _without_new_axes(f, emb, weight, bias):
    w, b = F.linear(F.silu(emb), weight, bias).chunk(2, dim=1)
    return (1 + w) * f + b


RIGHT_CONDITION = [
    _condition,
    _conditioned_by_loops,
    _conditioned_by_einsum,
    _conditioned_by_a_layer,
    _conditioned(_scaled, linear=lambda x, weight, bias: x @ weight.T + bias),
    _conditioned(_scaled, linear=lambda x, weight, bias: torch.addmm(bias, x, weight.t())),
    _conditioned(_scaled, activate=lambda emb: emb / (1 + (-emb).exp())),
    _conditioned(lambda f, w, b: f + w * f + b),
    _conditioned(lambda f, w, b: f * (w + 1.0) + b),
    _conditioned(_scaled, split=lambda x: (x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :])),
    lambda f, emb, weight, bias: _condition(f.double(), emb.double(), weight.double(), bias.double()),
]
WRONG_CONDITION = [
    # the formula
    (_conditioned(lambda f, w, b: w * f + b), "the factor should be 1 + scale"),
    (_conditioned(lambda f, w, b: (1 + w) * (f + b)), "f is shifted before it is scaled"),
    (_conditioned(lambda f, b, w: (1 + w) * f + b), "the halves are swapped"),
    (_conditioned(lambda f, b, w: w * f + b), "the halves are swapped"),
    (_conditioned(lambda f, w, b: f + (1 + w) * f + b), "f is added again"),
    (_conditioned(lambda f, w, b: 1 + w * f + b), "needs brackets"),
    (_conditioned(lambda f, w, b: (1 + w) * f), "the shift is missing"),
    (_conditioned(lambda f, w, b: f + b), "the factor 1 + scale is missing"),
    (_conditioned(lambda f, w, b: f + w + b), "scale is added"),
    (_conditioned(lambda f, w, b: (1 + w) * f - b), "the shift is subtracted"),
    (_conditioned(lambda f, w, b: (1 - w) * f + b), "the factor is 1 - scale"),
    (_conditioned(lambda f, w, b: (1 + w) * f + 1 + b), "1 + shift is added"),
    (_conditioned(lambda f, w, b: (1 + w) * f + w), "the first half is used as scale and as shift"),
    (_conditioned(lambda f, w, b: (1 + b) * f + b), "the second half is used as scale and as shift"),
    (_conditioned(lambda f, w, b: w.exp() * f + b), "exp(scale)"),
    (_conditioned(lambda f, w, b: f / (1 + w) + b), "f is divided"),
    (_conditioned(lambda f, w, b: f), "f: a tensor"),
    (_conditioned(lambda f, w, b: F.silu(_scaled(f, w, b))), "there is an activation after the shift"),
    (_conditioned(lambda f, w, b: _scaled(F.group_norm(f, 1), w, b)), "f is already normalised"),
    (_conditioned(lambda f, w, b: _scaled(F.group_norm(f, 4), w, b)), "f is already normalised"),
    (_conditioned(lambda f, w, b: _scaled(F.instance_norm(f), w, b)), "f is already normalised"),
    # SiLU
    (_conditioned(_scaled, activate=lambda emb: emb), "the linear layer gets emb; it should"),
    (_conditioned(_scaled, activate=F.relu), "yours is relu"),
    (_conditioned(_scaled, activate=torch.sigmoid), "yours is sigmoid"),
    (_conditioned(_scaled, activate=F.gelu), "yours is gelu"),
    (_conditioned(_scaled, activate=torch.tanh), "yours is tanh"),
    (_conditioned(_scaled, activate=lambda emb: F.silu(F.silu(emb))), "SiLU is applied twice; apply it once"),
    (_conditioned(_scaled, activate=lambda emb: emb * emb.exp() / (1 + emb.exp())), "inf / inf is NaN"),
    (_conditioned(_scaled, activate=lambda emb: emb / (1 + emb.exp())), "the exponent is +a"),
    (_conditioned(lambda f, w, b: (1 + F.silu(w)) * f + F.silu(b), activate=lambda emb: emb), "And: the linear layer gets emb"),
    (_conditioned(lambda f, w, b: (1 + F.silu(w)) * f + F.silu(b)), "SiLU is applied to the output of the linear layer"),
    # the halves and the layer
    (_conditioned(_scaled, split=lambda x: (x[:, ::2], x[:, 1::2])), "every other number is taken"),
    (lambda f, emb, weight, bias: _condition(f, emb, weight, 0 * bias), "the layer's bias is missing"),
    (_conditioned(_scaled, linear=lambda x, weight, bias: x @ weight.T - bias), "bias is subtracted"),
    (_conditioned(_scaled, linear=lambda x, weight, bias: x @ weight + bias), "x @ weight.T + bias"),
    (_conditioned(_scaled, split=lambda x: x.mean(0, keepdim=True).chunk(2, dim=1)), "averaged over the batch"),
    (_conditioned(_scaled, split=lambda x: x[:1].chunk(2, dim=1)), "the scale and shift of the first"),
    (
        _conditioned(_scaled, split=lambda x: [h.mean(1, keepdim=True) for h in x.chunk(2, dim=1)]),
        "all channels get the same scale and shift",
    ),
    (_without_new_axes, "[:, :, None, None]"),
    (_conditioned(_scaled, split=lambda x: x.chunk(2, dim=0)), "f: a tensor"),
    (_conditioned(_scaled, split=lambda x: (x[:, :4], x[:, 4:])), "f: a tensor"),
    # two at once
    (_conditioned(lambda f, w, b: w * f + b, activate=lambda emb: emb), "two mistakes"),
    (_conditioned(lambda f, b, w: _scaled(f, w, b), activate=lambda emb: emb), "two mistakes"),
    (_conditioned(lambda f, b, w: w * f + b, activate=F.relu), "two mistakes"),
    (_conditioned(lambda f, w, b: w * f + b, linear=lambda x, weight, bias: x @ weight.T), "two mistakes"),
    (_conditioned(_scaled, activate=lambda emb: emb, split=lambda x: (x[:, ::2], x[:, 1::2])), "two mistakes"),
    # the shape and the rest
    (lambda *a: _condition(*a).squeeze(), "the shape is wrong"),
    (lambda *a: _condition(*a).squeeze(1), "the shape is wrong"),
    (lambda *a: _condition(*a).permute(0, 2, 3, 1), "dimensions are in another order"),
    (lambda *a: _condition(*a).mean((2, 3)), "returns shape"),
    (lambda *a: _condition(*a).clamp(-1, 1), "are clamped"),
    (lambda *a: -_condition(*a), "every number has the wrong sign"),
    (lambda f, emb, weight, bias: _condition(f, F.dropout(emb), weight, bias), "draw no random numbers"),
    (lambda f, emb, weight, bias: f.add_(1), "it changes the tensors"),
]

# --------------------------------------------------------------------------------------------------------------------- attention


def _attended(scale=lambda s, q: s / math.sqrt(q.shape[-1]), softmax=lambda s: s.softmax(-1), mixed=lambda w, v: w @ v):
    return lambda q, k, v: mixed(softmax(scale(q @ k.transpose(-1, -2), q)), v)


_attend = _attended()


def _attended_in_loops(q, k, v):
    out = torch.empty_like(v)
    for b in range(q.shape[0]):
        for head in range(q.shape[1]):
            for i in range(q.shape[2]):
                scores = (k[b, head] @ q[b, head, i]) / math.sqrt(q.shape[-1])
                out[b, head, i] = (scores.softmax(0)[:, None] * v[b, head]).sum(0)
    return out


def _attended_stably(q, k, v):
    scores = q @ k.mT * q.shape[-1] ** -0.5
    e = torch.exp(scores - scores.amax(-1, keepdim=True))
    return e @ v / e.sum(-1, keepdim=True)


def _attended_in_numpy(q, k, v):
    q, k, v = (np.asarray(x, dtype=np.float64) for x in (q, k, v))
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    e = np.exp(scores - scores.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


def _attended_by_einsum(q, k, v):
    weights = torch.softmax(torch.einsum("bhid,bhjd->bhij", q, k) / q.size(-1) ** 0.5, dim=-1)
    return torch.einsum("bhij,bhjd->bhid", weights, v)


def _attended_by_exp(q, k, v):
    e = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).exp()
    return e @ v / e.sum(-1, keepdim=True)


def _attended_below_the_largest(q, k, v):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    e = (scores - scores.max()).exp()
    return e / e.sum(-1, keepdim=True) @ v


def _attended_with(scores, v):
    return scores.softmax(-1) @ v


RIGHT_ATTENTION = [
    _attend,
    F.scaled_dot_product_attention,
    _attended_in_loops,
    _attended_stably,
    lambda q, k, v: (s := q @ k.mT / math.sqrt(q.shape[-1])).sub(s.logsumexp(-1, keepdim=True)).exp() @ v,
    _attended_in_numpy,
    _attended_by_einsum,
    lambda q, k, v: _attended(lambda s, _: s)(q / math.sqrt(q.shape[-1]), k, v),
    lambda q, k, v: _attended(lambda s, _: s)(q / q.shape[-1] ** 0.25, k / q.shape[-1] ** 0.25, v),
    lambda q, k, v: _attended_with(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, v),
    _attended(softmax=lambda s: s.log_softmax(-1).exp()),
    lambda q, k, v: _attend(q.double(), k.double(), v.double()),
    lambda q, k, v: torch.bmm((q.flatten(0, 1) @ k.flatten(0, 1).mT / math.sqrt(q.shape[-1])).softmax(2), v.flatten(0, 1)).view_as(v),
    lambda q, k, v: (v.mT @ (k @ q.mT / math.sqrt(q.shape[-1])).softmax(-2)).mT,
]


def _attention_normalised_over_queries(q, k, v):
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    e = (scores - scores.amax(-1, keepdim=True)).exp()
    return e / e.sum(-2, keepdim=True) @ v


WRONG_ATTENTION = [
    (_attention_normalised_over_queries, "the sum of exp runs over the queries"),
    # the scale
    (_attended(lambda s, q: s), "not divided by sqrt(d_k)"),
    (_attended(lambda s, q: s / q.shape[-1]), "divided by d_k; (2.8)"),
    (_attended(lambda s, q: s / math.sqrt(32)), "d_k is 32, whatever q is"),
    (_attended(lambda s, q: s / math.sqrt(16)), "d_k is 16, whatever q is"),
    (_attended(lambda s, q: s / 4), "d_k is 16, whatever q is"),
    (_attended(lambda s, q: s / math.sqrt(s.shape[-1])), "the number of positions"),
    (_attended(lambda s, q: s / math.sqrt(q.shape[1])), "the number of heads"),
    (_attended(lambda s, q: s / math.sqrt(q.shape[1] * q.shape[3])), "the root of all channels"),
    (_attended(lambda s, q: s * math.sqrt(q.shape[-1])), "multiplied by sqrt(d_k)"),
    (_attended(lambda s, q: s / q.shape[-1] ** 0.25), "d_k^(1/4)"),
    (_attended(lambda s, q: s, mixed=lambda w, v: w @ v / math.sqrt(v.shape[-1])), "the result is divided by sqrt(d_k); divide the scores"),
    (_attended(mixed=lambda w, v: w @ v / math.sqrt(v.shape[-1])), "the result is divided by sqrt(d_k) (again)"),
    (_attended(lambda s, q: s / math.sqrt(8)), "q: a tensor"),
    # the softmax
    (_attended(softmax=lambda s: s.softmax(-2)), "the softmax runs over the queries"),
    (_attended(softmax=lambda s: s.softmax(1)), "over the heads"),
    (_attended(softmax=lambda s: s.softmax(0)), "over the batch"),
    (_attended(softmax=lambda s: s), "the softmax is missing"),
    (_attended(softmax=lambda s: s / s.sum(-1, keepdim=True)), "takes exp first"),
    (_attended(softmax=torch.relu), "relu is not a softmax"),
    (_attended(softmax=torch.sigmoid), "sigmoid is not a softmax"),
    (_attended(softmax=torch.exp), "exp alone is not a softmax"),
    (_attended(softmax=lambda s: s.log_softmax(-1)), "log_softmax"),
    (_attended(softmax=lambda s: (-s).softmax(-1)), "the scores have the wrong sign"),
    (_attended(softmax=lambda s: s.flatten(2).softmax(-1).view_as(s)), "the whole table"),
    (_attended(softmax=lambda s: s.exp() / s.exp().sum(-2, keepdim=True)), "the softmax runs over the queries"),
    (_attended(softmax=lambda s: (s - s.amax(-1, keepdim=True)).exp()), "the division is missing"),
    (_attended(softmax=lambda s: s.exp() / s.exp().sum()), "the sum over all rows"),
    (_attended(softmax=lambda s: s.exp() / s.exp().sum((-2, -1), keepdim=True)), "the whole table"),
    (_attended(softmax=lambda s: (e := (s - s.amax(-2, keepdim=True)).exp()) / e.sum(-1, keepdim=True)), "the maximum runs over"),
    (_attended(softmax=lambda s: (s.double().exp() / s.double().exp().sum(-1, keepdim=True)).float()), "exp overflows"),
    (lambda q, k, v: _attend(q, k, k), "the keys are averaged"),
    (_attended_by_exp, "exp of a large score is infinite"),
    (_attended_below_the_largest, "subtract each row's own maximum"),
    (_attended(softmax=lambda s: s.clamp(max=80).softmax(-1)), "clamped to 80"),
    (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), "only to itself and earlier ones"),
    (_attended(softmax=lambda s: F.one_hot(s.argmax(-1), s.shape[-1]).float()), "q: a tensor"),
    # queries, keys and values
    (lambda q, k, v: _attend(k, q, v), "keys and queries are swapped"),
    (lambda q, k, v: _attend(q, v, k), "keys and values are swapped"),
    (lambda q, k, v: _attend(v, k, q), "queries and values are swapped"),
    (lambda q, k, v: _attend(v, q, k), "q, k and v are all in the wrong places"),
    (lambda q, k, v: _attend(q, q, v), "queries are compared with queries"),
    (lambda q, k, v: _attend(k, k, v), "keys are compared with keys"),
    (lambda q, k, v: _attend(q, v, v), "queries are compared with values"),
    (_attended(mixed=lambda w, v: w.mT @ v), "the weights are transposed"),
    (_attended(mixed=lambda w, v: w), "these are the weights"),
    (_attended(mixed=lambda w, v: v), "q: a tensor"),
    (_attended(mixed=lambda w, v: w @ v + v), "the values are added again"),
    (lambda q, k, v: _attend(q, k, v) + q, "q: a tensor"),
    (lambda q, k, v: v @ (q.mT @ k / math.sqrt(q.shape[-1])).softmax(-1), "compare positions, (N, N)"),
    (lambda q, k, v: _attended_with(q @ k / math.sqrt(q.shape[-1]), v), "it raised RuntimeError"),
    (lambda q, k, v: _attended(lambda s, q: s)(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v), "the scores are cosines"),
    (lambda q, k, v: _attend(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v), "scaled to length 1"),
    # two at once
    (_attended(lambda s, q: s, lambda s: s.softmax(-2)), "two mistakes"),
    (_attended(lambda s, q: s, lambda s: s), "two mistakes"),
    (_attended(lambda s, q: s / q.shape[-1], lambda s: s.softmax(-2)), "two mistakes"),
    (lambda q, k, v: _attended(lambda s, q: s)(k, q, v), "two mistakes"),
    (lambda q, k, v: _attended(softmax=lambda s: s.softmax(-2))(k, q, v), "the weights are transposed"),
    (_attended(lambda s, q: s, lambda s: s.exp() / s.exp().sum(-1, keepdim=True)), "not divided by sqrt(d_k)"),
    # the shape
    (lambda q, k, v: _attend(q, k, v).transpose(1, 2), "heads and positions are swapped"),
    (lambda q, k, v: _attend(q, k, v).transpose(-1, -2), "positions and d_k are swapped"),
    (lambda q, k, v: _attend(q, k, v).transpose(1, 2).flatten(2), "the heads are joined"),
    (lambda q, k, v: _attend(q, k, v).flatten(0, 1), "the shape is wrong"),
    (lambda q, k, v: _attend(q, k, v).squeeze(), "the shape is wrong"),
    (lambda q, k, v: _attend(q, k, v).mean(1), "returns shape"),
    (lambda q, k, v: _attend(q, k, v).sum(1), "the heads are added up"),
    (lambda q, k, v: (_attend(q, k, v), 0), "it returns 2 values"),
    (lambda q, k, v: _attend(q.bfloat16(), k.bfloat16(), v.bfloat16()), "keeps few digits"),
    (lambda q, k, v: _attend(q.mul_(2), k, v), "it changes the tensors"),
    (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, dropout_p=0.1), "draw no random numbers"),
]

RIGHT = {
    "check_timestep_embedding": RIGHT_EMBEDDINGS,
    "check_unpatch": RIGHT_UNPATCH,
    "check_group_norm": RIGHT_NORM,
    "check_time_conditioning": RIGHT_CONDITION,
    "check_attention": RIGHT_ATTENTION,
    "check_loss_without_zero_init": [1.5, 1 + 0.5, 3 / 2, np.float64(1.5), torch.tensor(1.5), 1.495, 1.505],
}
WRONG = {
    "check_timestep_embedding": WRONG_EMBEDDINGS,
    "check_unpatch": WRONG_UNPATCH,
    "check_group_norm": WRONG_NORM,
    "check_time_conditioning": WRONG_CONDITION,
    "check_attention": WRONG_ATTENTION,
    "check_loss_without_zero_init": [
        (0.5, "variances of independent numbers add up"),
        (1.25, "0.5 is squared, but it is already the variance"),
        (1.0, "that is the loss of predicting 0"),
        (1, "that is the loss of predicting 0"),
        (1 + math.sqrt(0.5), "not the standard deviations"),
        (2.914, "standard deviations do not add up"),
        (2.5, "the mean of eps times eps_hat is 0"),
        (0, "independent of eps"),
        (2.0, "eps_hat has variance 0.5"),
        (0.75, "no factor 1/2"),
        (math.sqrt(1.5), "without a root"),
        ((1 - 0.5) ** 2, "variances of independent numbers add up"),
        ((1 - math.sqrt(0.5)) ** 2, "standard deviations neither add up nor subtract"),
        (1 - math.sqrt(0.5), "standard deviations"),
        ((1 + 0.5) ** 2, "0.5 and 1 are already variances"),
        (1.5 * 784, "not the sum"),
        (math.sqrt(0.5), "standard deviation of eps_hat"),
        (3.0, "without a factor 2"),
        (-0.5, "never negative"),
        (-1.5, "never negative"),
        (100, "100 is too large"),
        ("1.5", "expected a number"),
        (math.nan, "not a number"),
        (True, "expected a number"),
        (torch.tensor([1.5]), "expected a number"),
    ],
}
