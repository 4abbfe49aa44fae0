"""Answers to the exercises of notebook 05."""

import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F

# ------------------------------------------------------------------------------------------------------------------- nearest


def rows(a, b):
    return a.flatten(1), b.flatten(1)


def distances(a, b):
    return torch.cdist(*rows(a, b))


def by_loops(samples, images):
    found = []
    for sample in samples:
        best = 0
        for k in range(len(images)):
            if (sample - images[k]).square().sum() < (sample - images[best]).square().sum():
                best = k
        found.append(best)
    return found


def filled(samples, images):
    out = torch.zeros(len(samples), dtype=torch.long)
    for i, sample in enumerate(samples):
        out[i] = (sample[None] - images).pow(2).mean(dim=(1, 2, 3)).argmin()
    return out


def in_chunks(samples, images):
    return torch.cat([distances(chunk, images).argmin(dim=1) for chunk in samples.split(4)])


RIGHT_NEAREST = [
    by_loops,
    filled,
    in_chunks,
    lambda a, b: distances(a, b).argmin(dim=1),
    lambda a, b: distances(a, b).min(dim=1).indices,
    lambda a, b: distances(a, b).min(dim=1)[1],
    lambda a, b: distances(a, b).topk(1, largest=False).indices[:, 0],
    lambda a, b: distances(a, b).argsort(dim=1)[:, 0],
    lambda a, b: (distances(a, b) / a[0].numel() ** 0.5).argmin(1),
    lambda a, b: (distances(a, b) ** 2).argmin(dim=-1),
    lambda a, b: (-distances(a, b)).argmax(dim=1),
    lambda a, b: torch.cdist(*rows(a, b), compute_mode="use_mm_for_euclid_dist").argmin(dim=1),
    lambda a, b: torch.cdist(*rows(a.double(), b.double())).argmin(dim=1),
    lambda a, b: torch.cdist(*rows(b, a)).argmin(dim=0),
    lambda a, b: (a[:, None] - b[None]).square().sum(dim=(2, 3, 4)).argmin(dim=1),
    lambda a, b: (a[:, None] - b[None]).flatten(2).norm(dim=2).argmin(dim=1),
    lambda a, b: (b.flatten(1).square().sum(dim=1) - 2 * a.flatten(1) @ b.flatten(1).T).argmin(dim=1),
    lambda a, b: (a.flatten(1) @ b.flatten(1).T - b.flatten(1).square().sum(dim=1) / 2).argmax(dim=1),
    lambda a, b: torch.stack([F.mse_loss(b, x.expand_as(b), reduction="none").mean(dim=(1, 2, 3)).argmin() for x in a]),
    lambda a, b: np.argmin(((a.numpy()[:, None] - b.numpy()[None]) ** 2).sum(axis=(2, 3, 4)), axis=1),
    lambda a, b: distances(a, b).argmin(dim=1).int(),
    lambda a, b: distances(a, b).argmin(dim=1).tolist(),
    lambda a, b: [int(k) for k in distances(a, b).argmin(dim=1)],
    lambda a, b: tuple(distances(a, b).argmin(dim=1)),
    lambda a, b: (min(range(len(b)), key=lambda k: torch.dist(x, b[k])) for x in a),
]

WRONG_NEAREST = [
    # another distance
    (lambda a, b: distances(a, b).argmax(dim=1), "the most distant images"),
    (lambda a, b: (-distances(a, b)).argmin(dim=1), "the most distant images"),
    (lambda a, b: (a.flatten(1) @ b.flatten(1).T).argmax(dim=1), "the largest scalar product"),
    (lambda a, b: torch.einsum("achw,bchw->ab", a, b).argmax(dim=1), "the largest scalar product"),
    (lambda a, b: (a.flatten(1) @ b.flatten(1).T).argmin(dim=1), "the smallest scalar product"),
    (lambda a, b: F.cosine_similarity(a.flatten(1)[:, None], b.flatten(1)[None], dim=2).argmax(dim=1), "the smallest angle"),
    (lambda a, b: (F.normalize(a.flatten(1)) @ F.normalize(b.flatten(1)).T).argmax(dim=1), "the smallest angle"),
    (lambda a, b: torch.cdist(*rows(a, b), p=1).argmin(dim=1), "absolute differences"),
    (lambda a, b: (a[:, None] - b[None]).abs().mean(dim=(2, 3, 4)).argmin(dim=1), "absolute differences"),
    (lambda a, b: torch.cdist(*rows(a, b), p=math.inf).argmin(dim=1), "in a single pixel"),
    (lambda a, b: (a[:, None] - b[None]).abs().amax(dim=(2, 3, 4)).argmin(dim=1), "in a single pixel"),
    (lambda a, b: (a.mean(dim=(1, 2, 3))[:, None] - b.mean(dim=(1, 2, 3))).abs().argmin(dim=1), "only the mean brightness"),
    (lambda a, b: (a[:, None] - b[None]).sum(dim=(2, 3, 4)).abs().argmin(dim=1), "only the mean brightness"),
    (lambda a, b: (a[:, None] - b[None]).sum(dim=(2, 3, 4)).square().argmin(dim=1), "only the mean brightness"),
    (lambda a, b: (a[:, None] - b[None]).sum(dim=(2, 3, 4)).argmin(dim=1), "with their signs"),
    (lambda a, b: (a[:, None] - b[None]).flatten(2).mean(dim=2).argmin(dim=1), "with their signs"),
    (lambda a, b: torch.cdist(a[:, 0].flatten(1), b[:, 0].flatten(1)).argmin(dim=1), "only the first channel"),
    (lambda a, b: torch.cdist(a.mean(dim=1).flatten(1), b.mean(dim=1).flatten(1)).argmin(dim=1), "the mean of the channels"),
    (lambda a, b: torch.cdist(a[:, :, 0].flatten(1), b[:, :, 0].flatten(1)).argmin(dim=1), "are wrong: the nearest to sample"),
    (lambda a, b: torch.cdist(a.sign().flatten(1), b.sign().flatten(1)).argmin(dim=1), "are wrong: the nearest to sample"),
    (
        lambda a, b: torch.cdist(a.half().float().mul(4).round().flatten(1), b.mul(4).round().flatten(1)).argmin(dim=1),
        "are wrong: the nearest",
    ),
    (lambda a, b: torch.cdist(a.clamp(-1, 1).flatten(1), b.clamp(-1, 1).flatten(1)).argmin(dim=1), "are wrong: the nearest"),
    (lambda a, b: torch.cdist(*((x - x.mean(dim=1, keepdim=True)) for x in rows(a, b))).argmin(dim=1), "are wrong: the nearest"),
    # another result
    (lambda a, b: distances(a, b).argmin(dim=0), "one index for each training image"),
    (lambda a, b: torch.cdist(*rows(b, a)).argmin(dim=1), "one index for each training image"),
    (lambda a, b: distances(a, b).min(dim=1).values, "these are the distances"),
    (lambda a, b: distances(a, b).amin(dim=1), "these are the distances"),
    (distances, "these are all the distances"),
    (lambda a, b: distances(a, b).argsort(dim=1), "sorted by distance"),
    (lambda a, b: distances(a, b).argmin(), "the nearest pair of all"),
    (lambda a, b: distances(a, b).min(dim=1), "come with the distances"),
    (lambda a, b: (distances(a, b).argmin(dim=1), distances(a, b).amin(dim=1)), "come with the distances"),
    (lambda a, b: b[distances(a, b).argmin(dim=1)], "the nearest images themselves"),
    (lambda a, b: distances(a, b).argmin(dim=1) + 1, "one too high"),
    (lambda a, b: distances(a, b).argsort(dim=1)[:, min(1, len(b) - 1)], "the second nearest"),
    (lambda a, b: (d := distances(a, b)).masked_fill(d < 1e-3, math.inf).argmin(dim=1), "images at distance 0 are left out"),
    (lambda a, b: torch.arange(len(a)) + 100, "sample 0 gets the index 100; expected 0 to 8, for 9 training images"),
    (lambda a, b: -distances(a, b).argmin(dim=1) - 1, "; expected 0 to 8, for 9 training images"),
    (lambda a, b: torch.zeros(len(a), dtype=torch.long), "are wrong: the nearest to sample"),
    # shapes and kinds
    (lambda a, b: distances(a, b).argmin(dim=1, keepdim=True), "the indices are right, but have shape (29, 1); expected (29,)"),
    (lambda a, b: distances(a, b).topk(1, largest=False).indices, "the indices are right, but have shape (29, 1)"),
    (lambda a, b: distances(a, b).argmin(dim=1)[None], "the indices are right, but have shape (1, 29)"),
    (lambda a, b: distances(a, b).argmin(dim=1).squeeze(), "the indices are right, but have shape (); expected (1,)"),
    (lambda a, b: distances(a, b).argmin(dim=1).float(), "the values are right, but they are floats"),
    (lambda a, b: [float(k) for k in distances(a, b).argmin(dim=1)], "the values are right, but they are floats"),
    (lambda a, b: distances(a, b).argmin(dim=1).bool(), "it returns bool"),
    (lambda a, b: distances(a, b).argmin(dim=1).to(torch.uint8), "it returns uint8"),
    (lambda a, b: F.one_hot(distances(a, b).argmin(dim=1), len(b)), "it returns shape (29, 9)"),
    (lambda a, b: {i: int(k) for i, k in enumerate(distances(a, b).argmin(dim=1))}, "it returns a dict"),
    (lambda a, b: int(distances(a, b).argmin(dim=1)[0]), "it returns shape ()"),
    (lambda a, b: (a[:, None] - b[None]).square().sum(dim=2).argmin(dim=1), "it returns shape (29, 4, 6)"),
    (lambda a, b: torch.cdist(a, b).argmin(dim=1), "it raised RuntimeError"),
    (lambda a, b: (a - b).square().sum(dim=(1, 2, 3)).argmin(), "it raised RuntimeError"),
    (lambda a, b: torch.cdist(a.view(-1, 24), b.view(-1, 24)).argmin(dim=1), "it raised RuntimeError"),
    (lambda a, b: torch.cdist(a.view(len(a), 28 * 28), b.view(len(b), 28 * 28)).argmin(dim=1), "it raised RuntimeError"),
    (lambda a, b: distances(a.sub_(b.mean(dim=0)), b).argmin(dim=1), "it changes the tensors it is given"),
    (lambda a, b: torch.randint(len(b), (len(a),)), "draw no random numbers of your own"),
]

# ------------------------------------------------------------------------------------------------------------------- weights


def squared(xt, images, ab):
    return (xt.flatten(1)[:, None] - ab.sqrt() * images.flatten(1)[None]).square().sum(dim=2)


def exponents(xt, images, ab):
    return -squared(xt, images, ab) / (2 * (1 - ab))


def weights(xt, images, ab):
    return torch.softmax(exponents(xt, images, ab), dim=1)


def largest_first(xt, images, ab):
    e = exponents(xt, images, ab)
    e = (e - e.max(dim=1, keepdim=True).values).exp()
    return e / e.sum(dim=1, keepdim=True)


def row_by_row(xt, images, ab):
    out = torch.zeros(len(xt), len(images))
    for b in range(len(xt)):
        e = torch.stack([-(xt[b] - ab.sqrt() * image).square().sum() / (2 - 2 * ab) for image in images])
        out[b] = torch.softmax(e, dim=0)
    return out


def in_numpy(xt, images, ab):
    xt, images, ab = xt.numpy().astype(np.float64), images.numpy().astype(np.float64), float(ab)
    e = -((xt[:, None] - np.sqrt(ab) * images[None]) ** 2).sum(axis=(2, 3, 4)) / (2 * (1 - ab))
    w = np.exp(e - e.max(axis=1, keepdims=True))
    return w / w.sum(axis=1, keepdims=True)


def without_the_common_part(xt, images, ab):
    xt, images = xt.flatten(1), images.flatten(1)
    return torch.softmax((ab.sqrt() * xt @ images.T - ab / 2 * images.square().sum(dim=1)) / (1 - ab), dim=1)


def with_distributions(xt, images, ab):
    normal = torch.distributions.Normal(ab.sqrt() * images[None], (1 - ab).sqrt())
    return normal.log_prob(xt[:, None]).sum(dim=(2, 3, 4)).softmax(dim=1)


RIGHT_WEIGHTS = [
    weights,
    largest_first,
    row_by_row,
    in_numpy,
    without_the_common_part,
    with_distributions,
    lambda xt, images, ab: F.softmax(-(torch.cdist(xt.flatten(1), ab.sqrt() * images.flatten(1)) ** 2) / (2 - 2 * ab), dim=-1),
    lambda xt, images, ab: weights(xt.double(), images.double(), ab.double()),
    lambda xt, images, ab: (e := exponents(xt, images, ab)).sub(e.logsumexp(dim=1, keepdim=True)).exp(),
    lambda xt, images, ab: exponents(xt, images, ab).log_softmax(dim=1).exp(),
    lambda xt, images, ab: torch.softmax(exponents(xt, images, ab).T, dim=0).T,
    lambda xt, images, ab: 1 / (exponents(xt, images, ab)[:, None, :] - exponents(xt, images, ab)[:, :, None]).exp().sum(dim=2),
    lambda xt, images, ab: torch.softmax(-(xt[:, None] - ab**0.5 * images).pow(2).sum(dim=(-3, -2, -1)) / 2 / (1 - ab), dim=1),
    lambda xt, images, ab: torch.softmax(
        -0.5 * ((xt.flatten(1)[:, None] - ab.sqrt() * images.flatten(1)) / (1 - ab).sqrt()).norm(dim=2) ** 2, 1
    ),
    lambda xt, images, ab: torch.softmax(-(xt[:, None] / ab.sqrt() - images).square().flatten(2).sum(dim=2) * ab / (2 - 2 * ab), dim=1),
    lambda xt, images, ab: weights(xt, images, ab).tolist(),
]


def naive(scale=2.0, sign=-1, factor=torch.sqrt, dtype=torch.float32, small=0.0):
    def answer(xt, images, ab):
        xt, images, ab = xt.to(dtype), images.to(dtype), ab.to(dtype)
        e = (sign * (xt.flatten(1)[:, None] - factor(ab) * images.flatten(1)[None]).square().sum(dim=2) / (scale * (1 - ab))).exp()
        return e / (e.sum(dim=1, keepdim=True) + small)

    return answer


def soft(distance=lambda x: x.square().sum(dim=2), factor=torch.sqrt, scale=lambda ab: 2 * (1 - ab), dim=1, xt_factor=lambda ab: 1):
    def answer(xt, images, ab):
        differences = xt_factor(ab) * xt.flatten(1)[:, None] - factor(ab) * images.flatten(1)[None]
        return torch.softmax(-distance(differences) / scale(ab), dim=dim)

    return answer


UNDERFLOW = "or less, so exp gives 0, and 0 / 0 is nan: subtract the largest of each row first"
ZEROS = "or less, so exp gives 0, and every weight is 0 too"

WRONG_WEIGHTS = [
    (lambda xt, images, ab: torch.zeros(len(xt), len(images)), "every weight is 0; in each row the weights should sum to 1"),
    # exp of large numbers
    (naive(), UNDERFLOW),
    (naive(dtype=torch.float64), UNDERFLOW),
    (lambda xt, images, ab: (e := exponents(xt, images, ab).exp()) / e.sum(dim=1)[:, None], UNDERFLOW),
    (lambda xt, images, ab: F.normalize(exponents(xt, images, ab).exp(), p=1, dim=1), ZEROS),
    (
        lambda xt, images, ab: (e := (exponents(xt, images, ab) - exponents(xt, images, ab).max()).exp()) / e.sum(dim=1, keepdim=True),
        UNDERFLOW,
    ),
    (lambda xt, images, ab: torch.nan_to_num(naive()(xt, images, ab)), ZEROS),
    (naive(small=1e-8), "rows sum to"),
    (naive(small=1e-30), ZEROS),
    (naive(dtype=torch.float64, small=1e-300), ZEROS),
    (lambda xt, images, ab: torch.softmax(exponents(xt, images, ab).clamp(min=-50), dim=1), "it is off by up to"),
    (lambda xt, images, ab: torch.softmax(exponents(xt, images, ab).clamp(min=-1e3), dim=1), "it is off by up to"),
    (naive(sign=1), "the minus sign is missing"),
    # the images, and xt
    (soft(factor=lambda ab: 1), "the images are not scaled"),
    (soft(factor=lambda ab: ab), "the images have the factor alpha_bar_t"),
    (soft(factor=lambda ab: (1 - ab).sqrt()), "the images have the factor sqrt(1 - alpha_bar_t)"),
    (soft(factor=lambda ab: 1 / ab.sqrt()), "the images are divided by sqrt(alpha_bar_t)"),
    (soft(factor=lambda ab: -ab.sqrt()), "the images are added to xt"),
    (
        soft(factor=lambda ab: 1, xt_factor=lambda ab: ab.sqrt()),
        "the images are not scaled: in xt they have the factor sqrt(alpha_bar_t); and xt is multiplied",
    ),
    (soft(xt_factor=lambda ab: ab.sqrt()), "xt is multiplied by sqrt(alpha_bar_t)"),
    (soft(factor=lambda ab: 1, xt_factor=lambda ab: 1 / ab.sqrt()), "xt is divided by sqrt(alpha_bar_t), and so is its noise"),
    # the distance
    (soft(distance=lambda x: x.square().mean(dim=2)), "this is the mean of the squares"),
    (soft(distance=lambda x: x.norm(dim=2)), "the distance is not squared"),
    (lambda xt, images, ab: torch.softmax(-torch.cdist(xt.flatten(1), ab.sqrt() * images.flatten(1)) / (2 - 2 * ab), dim=1), "not squared"),
    (soft(distance=lambda x: x.abs().sum(dim=2)), "absolute differences"),
    (soft(distance=lambda x: x.sum(dim=2).square()), "square first, then sum"),
    # the denominator
    (soft(scale=lambda ab: 1 - ab), "the 2 of the normal density is missing"),
    (soft(scale=lambda ab: 2 * (1 - ab).sqrt()), "divided by a standard deviation"),
    (soft(scale=lambda ab: 2 * (1 - ab) ** 2), "divided by the variance squared"),
    (soft(scale=lambda ab: 2 * 1 - ab), "needs brackets"),
    (soft(scale=lambda ab: 2 / (1 - ab)), "the variance multiplies"),
    (lambda xt, images, ab: torch.softmax(-squared(xt, images, ab) / 2 * (1 - ab), dim=1), "the variance multiplies"),
    (soft(scale=lambda ab: 2 * ab), "divided by 2 alpha_bar_t"),
    (soft(scale=lambda ab: 2), "the variance 1 - alpha_bar_t is missing"),
    (soft(scale=lambda ab: 1), "the exponent is not divided by"),
    (soft(scale=lambda ab: -2 * (1 - ab)), "the minus sign is missing: the image that fits worst"),
    (soft(scale=lambda ab: ab - 1), "the minus sign is missing: the image that fits worst gets the most weight; and the 2"),
    (lambda xt, images, ab: F.softmin(-squared(xt, images, ab) / (2 - 2 * ab), dim=1), "the minus sign is missing"),
    (soft(scale=lambda ab: 2 * (1 - ab).clamp(max=0.6)), "it is off by up to"),
    # from exponents to weights
    (soft(dim=0), "the weights of one image sum to 1 over all xt"),
    (exponents, "these are the exponents"),
    (lambda xt, images, ab: exponents(xt, images, ab).log_softmax(dim=1), "these are the logarithms of the weights"),
    (lambda xt, images, ab: exponents(xt, images, ab).exp(), "the weights do not sum to 1"),
    (lambda xt, images, ab: (e := exponents(xt, images, ab).exp()) / e.sum(), "all weights together sum to 1"),
    (lambda xt, images, ab: exponents(xt, images, ab).flatten().softmax(dim=0).view(len(xt), -1), "all weights together sum to 1"),
    (lambda xt, images, ab: (e := exponents(xt, images, ab)) / e.sum(dim=1, keepdim=True), "the exponential is missing"),
    (lambda xt, images, ab: (e := 1 / squared(xt, images, ab)) / e.sum(dim=1, keepdim=True), "reciprocals of the distances"),
    (lambda xt, images, ab: F.one_hot(exponents(xt, images, ab).argmax(dim=1), len(images)).float(), "all the weight goes to the nearest"),
    (lambda xt, images, ab: torch.full((len(xt), len(images)), 1 / len(images)), "all weights are equal"),
    (lambda xt, images, ab: weights(xt, images, ab).T, "transposed"),
    (lambda xt, images, ab: (e := exponents(xt, images, ab).sigmoid()) / e.sum(dim=1, keepdim=True), "it is off by up to"),
    (lambda xt, images, ab: weights(xt, images, ab).cumsum(dim=1), "rows sum to"),
    (lambda xt, images, ab: weights(xt, images, ab) + 1e-2, "rows sum to 1.04 … 1.04"),
    (lambda xt, images, ab: weights(xt, images, ab).flip(1), "it is off by up to"),
    # two mistakes
    (soft(distance=lambda x: x.square().mean(dim=2), scale=lambda ab: 1 - ab), "the mean of the squares; |…|^2 is their sum; and the 2 of"),
    (
        soft(factor=lambda ab: 1, scale=lambda ab: 1 - ab),
        "the images are not scaled: in xt they have the factor sqrt(alpha_bar_t); and the 2 of",
    ),
    (soft(factor=lambda ab: 1, dim=0), "sqrt(alpha_bar_t); and the weights of one image sum to 1 over all xt"),
    (naive(factor=lambda ab: 1), "the images are not scaled"),
    (naive(scale=1.0), "the 2 of the normal density is missing"),
    (
        lambda xt, images, ab: (1 * squared(xt, images, ab) / (2 - 2 * ab)).exp(),
        "the minus sign is missing: the image that fits worst gets the most weight; and the weights do not sum",
    ),
    # other things, shapes and kinds
    (
        lambda xt, images, ab: (weights(xt, images, ab) @ images.flatten(1)).view(xt.shape),
        "this is the weighted mean of the images, x0_hat",
    ),
    (lambda xt, images, ab: weights(xt, images, ab).argmax(dim=1), "it returns shape (5,); expected (5, 4)"),
    (lambda xt, images, ab: weights(xt, images, ab).sum(dim=1), "it returns shape (5,)"),
    (lambda xt, images, ab: weights(xt, images, ab).squeeze(), "it returns shape (5,); expected (1, 5)"),
    (lambda xt, images, ab: weights(xt, images, ab)[..., None, None], "it returns shape (5, 4, 1, 1)"),
    (lambda xt, images, ab: weights(xt, images, ab).max(dim=1), "it returns 2 values"),
    (lambda xt, images, ab: weights(xt, images, ab).half(), "which keeps few digits"),
    (lambda xt, images, ab: (10 * weights(xt, images, ab)).round() / 10, "rows sum to 0.9 … 1.1; expected 1"),
    (
        lambda xt, images, ab: torch.softmax(-(xt - ab.sqrt() * images).square().flatten(1).sum(dim=1) / (2 - 2 * ab), dim=0),
        "it raised RuntimeError",
    ),
    (
        lambda xt, images, ab: torch.softmax(-(xt[:, None] - ab.sqrt() * images).square().sum(dim=(3, 4)) / (2 - 2 * ab), dim=1),
        "it returns shape (5, 4, 1)",
    ),
    (lambda xt, images, ab: weights(xt.view(-1, 1, 4, 6), images.view(-1, 1, 4, 6), ab), "it raised RuntimeError"),
    (lambda xt, images, ab: weights(xt, images, torch.tensor(0.1)), "it is off by up to"),
    (lambda xt, images, ab: weights(xt, images, ab.clamp(min=0.01)), "it is off by up to"),
    (lambda xt, images, ab: weights(xt, images.mul_(ab.sqrt()), torch.ones(())), "it changes the tensors it is given"),
    (lambda xt, images, ab: torch.rand(len(xt), len(images)), "draw no random numbers"),
]

# --------------------------------------------------------------------------------------------------------------------- count


def counted(w):
    return 1 / w.square().sum(dim=1)


RIGHT_COUNT = [
    counted,
    lambda w: 1 / (w**2).sum(dim=1),
    lambda w: 1 / w.pow(2).sum(-1),
    lambda w: (w * w).sum(dim=1).reciprocal(),
    lambda w: (w**2).sum(dim=1) ** -1,
    lambda w: w.norm(dim=1) ** -2,
    lambda w: 1 / torch.linalg.vector_norm(w, dim=1).square(),
    lambda w: 1 / torch.einsum("bn,bn->b", w, w),
    lambda w: 1 / (w @ w.T).diagonal(),
    lambda w: w.sum(dim=1).square() / w.square().sum(dim=1),
    lambda w: torch.stack([1 / (row * row).sum() for row in w]),
    lambda w: [1 / sum(float(x) ** 2 for x in row) for row in w],
    lambda w: 1 / (w.numpy() ** 2).sum(axis=1),
    lambda w: 1 / np.sum(np.square(w.numpy().astype(np.float64)), axis=1),
    lambda w: torch.exp(-torch.logsumexp(2 * w.log(), dim=1)),
    lambda w: 1 / (w.square().mean(dim=1) * w.shape[1]),
    lambda w: 1 / (w.shape[1] * w.var(dim=1, unbiased=False) + 1 / w.shape[1]),
    lambda w: (1 / w.square().sum(dim=1)).tolist(),
    lambda w: (1 / row.dot(row) for row in w),
    lambda w: 1 / w.square().sum(dim=1, keepdim=True).squeeze(1),
]

SHAPED = "the numbers are right, but have shape (B, 1)"
ROUNDED = "this is rounded; it need not be an integer"

WRONG_COUNT = [
    (lambda w: (1 / w.square().sum(1)).clamp(max=10), "it is off by up to"),
    (lambda w: (1 / w.square().sum(1)).clamp(max=20), "it is off by up to"),
    (lambda w: w.square().sum(dim=1), "this is the reciprocal"),
    (lambda w: 1 / w.sum(dim=1).square(), "square first, then sum"),
    (lambda w: 1 / w.sum(dim=1), "square first, then sum"),
    (lambda w: w.sum(dim=1), "square first, then sum"),
    (lambda w: torch.ones(len(w)), "square first, then sum"),
    (lambda w: (1 / w.square()).sum(dim=1), "sum first, then take the reciprocal"),
    (lambda w: (1 / w).sum(dim=1), "reciprocals of the weights"),
    (lambda w: 1 / w.square().sum(dim=1).sqrt(), "one root too many"),
    (lambda w: 1 / w.norm(dim=1), "one root too many"),
    (lambda w: w.norm(dim=1), "the root of the sum of squares"),
    (lambda w: 1 / w.square().mean(dim=1), "this is 1 / mean of w_i^2"),
    (lambda w: 1 / w.square().sum(dim=1).square(), "the sum is squared too"),
    (lambda w: 1 / (w**3).sum(dim=1), "the weights are cubed"),
    (lambda w: (w > 0).sum(dim=1), "this counts every image with a nonzero weight"),
    (lambda w: (w > 0).sum(dim=1).float(), "this counts every image with a nonzero weight"),
    (lambda w: torch.count_nonzero(w, dim=1), "this counts every image with a nonzero weight"),
    (lambda w: torch.full((len(w),), float(w.shape[1])), "this is N"),
    (lambda w: 1 / w.max(dim=1).values, "only the largest weight"),
    (lambda w: 1 / w.amax(dim=1), "only the largest weight"),
    (lambda w: 1 / w[:, 0] ** 2, "only the first weight"),
    (lambda w: torch.special.entr(w).sum(dim=1).exp(), "the exponential of the entropy"),
    (lambda w: torch.distributions.Categorical(w).perplexity(), "the exponential of the entropy"),
    (lambda w: torch.special.entr(w).sum(dim=1), "this is the entropy"),
    (lambda w: -(w * w.log()).sum(dim=1), "this is the entropy"),
    (lambda w: (-(w * w.log()).sum(dim=1)).exp(), "the exponential of the entropy"),
    (lambda w: counted(w).round(), ROUNDED),
    (lambda w: counted(w).round().long(), ROUNDED),
    (lambda w: counted(w).floor(), ROUNDED),
    (lambda w: counted(w).long(), ROUNDED),
    (lambda w: [int(x) for x in counted(w)], ROUNDED),
    (lambda w: [round(float(x)) for x in counted(w)], ROUNDED),
    (lambda w: counted(w).ceil(), ROUNDED),
    (lambda w: 1 / w.square().sum(), "one number for all"),
    (lambda w: 1 / w.flatten().dot(w.flatten()), "one number for all"),
    (lambda w: counted(w).mean(), "one number, the mean over the rows"),
    (lambda w: 1 / w.square().sum(dim=0), "one number for each column"),
    (lambda w: 1 / w.square(), "the sum is missing"),
    (lambda w: 1 / w**2, "the sum is missing"),
    (lambda w: 1 / w.square().sum(dim=1, keepdim=True), SHAPED),
    (lambda w: counted(w)[:, None], SHAPED),
    (lambda w: counted(w)[None], "it returns shape (1, 6)"),
    (lambda w: -counted(w), "the sign is wrong"),
    (lambda w: counted(w) / w.shape[1], "it is 0.2 times what it should be"),
    (lambda w: 2 * counted(w), "it is 2 times what it should be"),
    (lambda w: 1 - w.square().sum(dim=1), "it is off by up to"),
    (lambda w: counted(w) + 1, "it is off by up to"),
    (lambda w: counted(w).sqrt(), "one root too many"),
    (lambda w: counted(w).clamp(max=5), "it is off by up to"),
    (lambda w: counted(w.clamp(min=0.01)), "it is off by up to"),
    (lambda w: 1 / (w.square().sum(dim=1) + 0.01), "it is off by up to"),
    (lambda w: counted(w.softmax(dim=1)), "it is off by up to"),
    (lambda w: 1 / (w @ w.T).sum(dim=1), "it is off by up to"),
    (lambda w: 1 / w[:, :5].square().sum(dim=1), "it is off by up to"),
    (lambda w: counted(w)[0], "it returns shape (); expected (6,)"),
    (lambda w: (counted(w), w), "it returns 2 values"),
    (lambda w: counted(w).half(), "which keeps few digits"),
    (lambda w: 1 / w.square_().sum(dim=1), "it changes the tensors it is given"),
    (lambda w: counted(w) * torch.rand(()), "draw no random numbers"),
    (lambda w: counted(w).sum(), "it returns shape ()"),
]

# ------------------------------------------------------------------------------------------------------------------- halfway

RIGHT_HALF = [0.5, 1 / 2, torch.tensor(0.5), np.float32(0.5), Fraction(1, 2), torch.softmax(torch.tensor([-3.0, -3.0]), 0)[0]]

WRONG_HALF = [
    (1, "neither can have all the weight"),
    (1.0, "neither can have all the weight"),
    (0, "both images fit equally well, and one of them must have led to xt"),
    (2, "a weight is a probability, at most 1"),
    (50, "50% is 0.5"),
    (-0.5, "at least 0"),
    (0.25, "the two weights sum to 1"),
    (1 / 3, "there is no third"),
    (0.5**0.5, "the two weights sum to 1, not their squares"),
    (0.49, "0.49 is too small"),
    (0.51, "0.51 is too large"),
    (0.500002, "too large"),
    (100, "100 is too large"),
    (math.nan, "this is not a number"),
    ("0.5", "this is a str; expected a number"),
    ("half", "this is a str; expected a number"),
    (False, "this is a bool; expected a number"),
    ((0.5, 0.5), "this is a tuple; expected a number"),
    (torch.tensor([0.5, 0.5]), "this is a Tensor; expected a number"),
    (lambda a, b: 0.5, "this is a function; expected a number"),
]

RIGHT = {
    "check_nearest": RIGHT_NEAREST,
    "check_posterior_weights": RIGHT_WEIGHTS,
    "check_effective_sample_size": RIGHT_COUNT,
    "check_two_images": RIGHT_HALF,
}
WRONG = {
    "check_nearest": WRONG_NEAREST,
    "check_posterior_weights": WRONG_WEIGHTS,
    "check_effective_sample_size": WRONG_COUNT,
    "check_two_images": WRONG_HALF,
}
