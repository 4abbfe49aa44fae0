"""Attention, an exercise of notebook 02."""

import math

import torch
import torch.nn.functional as F

from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.variations import explained, first_of, nearly, one_wrong, randn, two_wrong


def _attended(scale, softmax, mixed=lambda weights, v: weights @ v, scores_of=lambda q, k, v: q @ k.transpose(-1, -2)):
    def attend(q, k, v):
        return mixed(softmax(scale(scores_of(q, k, v), q)), v)

    return attend


def _divided(by):
    return lambda scores, q: scores / by(q)


def _exp_alone(scores):
    return scores.exp() / scores.exp().sum(-1, keepdim=True)


def _exp_below_the_maximum(scores, maximum):
    e = (scores - maximum).exp()
    return e / e.sum(-1, keepdim=True)


def _over_queries(scores):
    e = (scores - scores.amax(-1, keepdim=True)).exp()
    return e / e.sum(-2, keepdim=True)


def _causal(scores):
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf).softmax(-1)


_NO_SOFTMAX = "the softmax is missing: weights are positive and sum to 1, scores do neither"
_AXIS = "the softmax runs over the queries; each query's weights should sum to 1 over the keys (dim=-1)"
_OVERFLOW = "exp of a large score is infinite, and inf / inf is NaN: subtract each row's maximum first, as softmax does"
_ATTENTION = (
    [
        (_divided(lambda q: math.sqrt(q.shape[-1])), ""),
        (
            _divided(lambda q: 1),
            "the scores are not divided by sqrt(d_k): they grow with d_k, and the softmax gives almost all weight to one position",
        ),
        (_divided(lambda q: q.shape[-1]), "the scores are divided by d_k; (2.8) divides by its root"),
        (_divided(lambda q: math.sqrt(32)), "d_k is 32, whatever q is; expected q.shape[-1]"),
        (_divided(lambda q: math.sqrt(16)), "d_k is 16, whatever q is; expected q.shape[-1]"),
        (_divided(lambda q: math.sqrt(64)), "d_k is 64, whatever q is; expected q.shape[-1]"),
        (
            _divided(lambda q: math.sqrt(q.shape[-2])),
            "the scores are divided by the root of the number of positions; d_k is the length of a query, q.shape[-1]",
        ),
        (
            _divided(lambda q: math.sqrt(q.shape[1])),
            "the scores are divided by the root of the number of heads; d_k is the length of a query, q.shape[-1]",
        ),
        (
            _divided(lambda q: math.sqrt(q.shape[1] * q.shape[-1])),
            "the scores are divided by the root of all channels; d_k is the length of a query in one head, q.shape[-1]",
        ),
        (lambda scores, q: scores * math.sqrt(q.shape[-1]), "the scores are multiplied by sqrt(d_k); (2.8) divides by it"),
        (_divided(lambda q: q.shape[-1] ** 0.25), "the scores are divided by d_k^(1/4); (2.8) has sqrt(d_k)"),
        (_divided(lambda q: q.shape[-1] ** 2), "the scores are divided by d_k^2; (2.8) has sqrt(d_k)"),
    ],
    [
        (lambda scores: scores.softmax(dim=-1), ""),
        (lambda scores: scores.softmax(dim=-2), _AXIS),
        (lambda scores: scores.softmax(dim=1), "the softmax runs over the heads; apply it to the last axis"),
        (lambda scores: scores.softmax(dim=0), "the softmax runs over the batch; apply it to the last axis"),
        (
            lambda scores: scores.flatten(2).softmax(dim=-1).reshape(scores.shape),
            "the softmax runs over the whole table of scores; each row should sum to 1",
        ),
        (lambda scores: scores, _NO_SOFTMAX),
        (lambda scores: scores / scores.sum(-1, keepdim=True), "the scores are divided by their sum; the softmax takes exp first"),
        (lambda scores: scores.relu(), "relu is not a softmax: weights should sum to 1"),
        (lambda scores: scores.sigmoid(), "sigmoid is not a softmax: weights should sum to 1"),
        (lambda scores: scores.exp(), "exp alone is not a softmax: divide by each row's sum"),
        (lambda scores: scores.log_softmax(-1), "log_softmax gives the logarithms of the weights; use softmax"),
        (lambda scores: (-scores).softmax(-1), "the scores have the wrong sign: a high score should give a high weight"),
        (_exp_alone, _OVERFLOW),
        (
            lambda scores: _exp_below_the_maximum(scores, scores.max()),
            "if a row's scores are far below the maximum of all rows, every exp is 0, and 0 / 0 is NaN: subtract each row's own maximum",
        ),
        (
            lambda scores: scores.clamp(max=80).softmax(-1),
            "the scores are clamped to 80; subtract each row's maximum instead, as softmax does",
        ),
        (
            lambda scores: _exp_below_the_maximum(scores, scores.amax(-2, keepdim=True)),
            "the maximum runs over the queries; subtract the same number from all scores of a row, the row's maximum",
        ),
        (
            lambda scores: (scores - scores.amax(-1, keepdim=True)).exp(),
            "the division is missing: after subtracting the maximum, divide by each row's sum of exp",
        ),
        (lambda scores: scores.exp() / scores.exp().sum(), "exp is divided by the sum over all rows; divide each row by its own sum"),
        (_over_queries, "the sum of exp runs over the queries; divide by each row's sum (dim=-1)"),
        (_causal, "each position attends only to itself and earlier ones; in an image it attends to all"),
    ],
    [
        (lambda weights, v: weights @ v, ""),
        (
            lambda weights, v: weights.transpose(-1, -2) @ v,
            "the weights are transposed: row i holds the weights of query i",
        ),
        (lambda weights, v: weights, "these are the weights; average the values with them"),
        (
            lambda weights, v: (weights @ v).transpose(1, 2).flatten(2),
            "the heads are joined, (B, N, heads d_k); expected (B, heads, N, d_k)",
        ),
        (lambda weights, v: (weights @ v).transpose(1, 2), "heads and positions are swapped; expected (B, heads, N, d_k)"),
        (lambda weights, v: (weights @ v).transpose(-1, -2), "positions and d_k are swapped; expected (B, heads, N, d_k)"),
        (lambda weights, v: (weights @ v).sum(1), "the heads are added up; expected (B, heads, N, d_k)"),
        (lambda weights, v: weights @ v + v, "the values are added again; (2.8) is the weighted mean alone"),
        (
            lambda weights, v: weights @ v / math.sqrt(v.shape[-1]),
            "the result is divided by sqrt(d_k) (again); divide only the scores, before the softmax",
        ),
    ],
    [
        (lambda q, k, v: q @ k.transpose(-1, -2), ""),
        (lambda q, k, v: k @ q.transpose(-1, -2), "keys and queries are swapped: row i should hold the scores of query i"),
        (lambda q, k, v: q @ q.transpose(-1, -2), "queries are compared with queries; compare them with keys"),
        (lambda q, k, v: k @ k.transpose(-1, -2), "keys are compared with keys; compare queries with keys"),
        (lambda q, k, v: q @ v.transpose(-1, -2), "queries are compared with values; compare them with keys"),
        (
            lambda q, k, v: F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2),
            "queries and keys are scaled to length 1; (2.8) uses them unchanged",
        ),
    ],
)


_attend = _attended(_ATTENTION[0][0][0], _ATTENTION[1][0][0])


def _large_scores(random):
    """Scores of some hundreds to a thousand, exact in float32; for every query, two keys have scores that differ by 1."""
    q, k = (torch.randint(-2, 3, (2, 2, 7, 16), generator=random).float() for _ in range(2))
    q[..., 0] = 1
    k[:, :, 1] = k[:, :, 0]
    k[:, :, 1, 0] += 1 / 64
    return 256 * q, k, torch.randn(2, 2, 7, 16, generator=random)


def _overflown(got, expected, q, k, v) -> str | None:
    if not isinstance(got, torch.Tensor) or got.shape != expected.shape or not got.isnan().any():
        return None
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if scores.abs().max() < 80:
        return None
    return (
        f"{int(got.isnan().sum())} of {got.numel()} numbers are NaN, with scores up to {scores.max():.4g}: exp overflows, or is 0 in "
        "all of a row; subtract each row's maximum first, as softmax does"
    )


check_attention = Exercise(
    # softmax(q k^T / sqrt(d_k)) v                                                                   Vaswani et al. 2017, equation 1
    reference=_attend,
    inputs=lambda random: [
        *(randn(random, size, size, size) for size in ((2, 3, 5, 12), (1, 2, 9, 8), (3, 1, 4, 32))),
        _large_scores(random),
    ],
    mistakes=(
        *one_wrong(_attended, *_ATTENTION),
        Mistake(
            _attended(_divided(lambda q: 1), lambda scores: scores.softmax(-1), lambda weights, v: weights @ v / math.sqrt(v.shape[-1])),
            "the result is divided by sqrt(d_k); divide the scores, before the softmax",
        ),
        Mistake(
            _attended(_divided(lambda q: 1), lambda scores: scores.softmax(-1), scores_of=_ATTENTION[3][5][0]),
            "the scores are cosines: queries and keys are scaled to length 1; (2.8) uses them unchanged and divides by sqrt(d_k)",
        ),
        Mistake(lambda q, k, v: _attend(q, k, k), "the keys are averaged; average the values"),
        Mistake(
            lambda q, k, v: _attend(q, v, k), "keys and values are swapped: the scores come from the keys, and the mean is over the values"
        ),
        Mistake(lambda q, k, v: _attend(v, k, q), "queries and values are swapped: the mean is over the values"),
        Mistake(lambda q, k, v: _attend(v, q, k), "q, k and v are all in the wrong places: expected softmax(q k^T / sqrt(d_k)) v"),
        Mistake(lambda q, k, v: _attend(k, v, q), "q, k and v are all in the wrong places: expected softmax(q k^T / sqrt(d_k)) v"),
        Mistake(
            lambda q, k, v: v @ (q.transpose(-1, -2) @ k / math.sqrt(q.shape[-1])).softmax(-1),
            "the scores compare the d_k numbers of a position with each other, (d_k, d_k); compare positions, (N, N)",
        ),
    ),
    diagnose=first_of(nearly(one_wrong(_attended, *_ATTENTION)), _overflown, nearly(two_wrong(_attended, *_ATTENTION)), explained),
)
