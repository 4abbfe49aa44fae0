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


def _causal(scores):
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf).softmax(-1)


_NO_SOFTMAX = "there is no softmax: weights are positive and sum to 1, scores are neither"
_AXIS = "the softmax runs over the positions that ask; the weights of each of these should sum to 1 over the positions that are looked at"
_OVERFLOW = "exp of a large score is infinite, and inf / inf is NaN: subtract each row's maximum first, as softmax does"
_ATTENTION = (
    [
        (_divided(lambda q: math.sqrt(q.shape[-1])), ""),
        (
            _divided(lambda q: 1),
            "the scores are not divided by sqrt(d): they grow with d, and the softmax gives nearly everything to one position",
        ),
        (_divided(lambda q: q.shape[-1]), "the scores are divided by d; (2.8) divides by its root"),
        (_divided(lambda q: math.sqrt(32)), "d is q.shape[-1]; here it is 32, whatever q is"),
        (_divided(lambda q: math.sqrt(16)), "d is q.shape[-1]; here it is 16, whatever q is"),
        (_divided(lambda q: math.sqrt(64)), "d is q.shape[-1]; here it is 64, whatever q is"),
        (
            _divided(lambda q: math.sqrt(q.shape[-2])),
            "the scores are divided by the root of the number of positions; d is the length of a query, q.shape[-1]",
        ),
        (
            _divided(lambda q: math.sqrt(q.shape[1])),
            "the scores are divided by the root of the number of heads; d is the length of a query, q.shape[-1]",
        ),
        (
            _divided(lambda q: math.sqrt(q.shape[1] * q.shape[-1])),
            "the scores are divided by the root of all channels; d is the length of a query in one head, q.shape[-1]",
        ),
        (lambda scores, q: scores * math.sqrt(q.shape[-1]), "the scores are multiplied by sqrt(d); (2.8) divides by it"),
        (_divided(lambda q: q.shape[-1] ** 0.25), "the scores are divided by d^(1/4); (2.8) has sqrt(d)"),
        (_divided(lambda q: q.shape[-1] ** 2), "the scores are divided by d^2; (2.8) has sqrt(d)"),
    ],
    [
        (lambda scores: scores.softmax(dim=-1), ""),
        (lambda scores: scores.softmax(dim=-2), _AXIS),
        (lambda scores: scores.softmax(dim=1), "the softmax runs over the heads; it belongs on the last axis"),
        (lambda scores: scores.softmax(dim=0), "the softmax runs over the batch; it belongs on the last axis"),
        (
            lambda scores: scores.flatten(2).softmax(dim=-1).reshape(scores.shape),
            "the softmax runs over the whole table of scores; each row should sum to 1",
        ),
        (lambda scores: scores, _NO_SOFTMAX),
        (lambda scores: scores / scores.sum(-1, keepdim=True), "the scores are divided by their sum; the softmax takes exp first"),
        (lambda scores: scores.relu(), "relu is no softmax: weights should sum to 1"),
        (lambda scores: scores.sigmoid(), "sigmoid is no softmax: weights should sum to 1"),
        (lambda scores: scores.exp(), "exp alone is no softmax: divide by each row's sum"),
        (lambda scores: scores.log_softmax(-1), "log_softmax gives the logarithms of the weights; softmax gives the weights"),
        (lambda scores: (-scores).softmax(-1), "the sign of the scores is turned over: a high score should get a high weight"),
        (_exp_alone, _OVERFLOW),
        (
            lambda scores: _exp_below_the_maximum(scores, scores.max()),
            "where a row's scores are far below the table's maximum, every exp is 0, and 0 / 0 is NaN: subtract each row's own maximum",
        ),
        (
            lambda scores: scores.clamp(max=80).softmax(-1),
            "the scores are cut off at 80; subtract each row's maximum instead, as softmax does",
        ),
        (
            lambda scores: _exp_below_the_maximum(scores, scores.amax(-2, keepdim=True)),
            "the maximum runs over the positions that ask; within a row all scores are lowered by the same number, the row's maximum",
        ),
        (lambda scores: (scores - scores.amax(-1, keepdim=True)).exp(), "the maximum is subtracted; now divide by each row's sum of exp"),
        (lambda scores: scores.exp() / scores.exp().sum(), "exp is divided by the sum over all rows; each row is divided by its own"),
        (_causal, "each position looks only at itself and those before; in an image all positions are looked at"),
    ],
    [
        (lambda weights, v: weights @ v, ""),
        (
            lambda weights, v: weights.transpose(-1, -2) @ v,
            "the weights are transposed: row i holds the weights of the position that asks",
        ),
        (lambda weights, v: weights, "these are the weights; the values are still to be averaged with them"),
        (
            lambda weights, v: (weights @ v).transpose(1, 2).flatten(2),
            "the heads are joined, (B, N, heads d); expected is (B, heads, N, d)",
        ),
        (lambda weights, v: (weights @ v).transpose(1, 2), "expected is (B, heads, N, d); here heads and positions are swapped"),
        (lambda weights, v: (weights @ v).transpose(-1, -2), "expected is (B, heads, N, d); here positions and d are swapped"),
        (lambda weights, v: (weights @ v).sum(1), "the heads are added up; expected is (B, heads, N, d)"),
        (lambda weights, v: weights @ v + v, "the values are added once more; (2.8) is the weighted mean alone"),
        (
            lambda weights, v: weights @ v / math.sqrt(v.shape[-1]),
            "the result is divided by sqrt(d) (once more); only the scores are, before the softmax",
        ),
    ],
    [
        (lambda q, k, v: q @ k.transpose(-1, -2), ""),
        (lambda q, k, v: k @ q.transpose(-1, -2), "keys and queries are swapped: position i should ask with its query"),
        (lambda q, k, v: q @ q.transpose(-1, -2), "queries are compared with queries; they should be with keys"),
        (lambda q, k, v: k @ k.transpose(-1, -2), "keys are compared with keys; they should be with queries"),
        (lambda q, k, v: q @ v.transpose(-1, -2), "queries are compared with values; they should be with keys"),
        (
            lambda q, k, v: F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2),
            "queries and keys are scaled to length 1; (2.8) takes them as they are",
        ),
    ],
)


_attend = _attended(_ATTENTION[0][0][0], _ATTENTION[1][0][0])


def _large_scores(random):
    """Scores of some hundreds to a thousand, exact in float32, and two keys that differ by 1 in each position's score."""
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
    # softmax(q k^T / sqrt(d)) v                                                                     Vaswani et al. 2017, equation 1
    reference=_attend,
    inputs=lambda random: [
        *(randn(random, size, size, size) for size in ((2, 3, 5, 12), (1, 2, 9, 8), (3, 1, 4, 32))),
        _large_scores(random),
    ],
    mistakes=(
        *one_wrong(_attended, *_ATTENTION),
        Mistake(
            _attended(_divided(lambda q: 1), lambda scores: scores.softmax(-1), lambda weights, v: weights @ v / math.sqrt(v.shape[-1])),
            "the scores are divided by sqrt(d) before the softmax, not after",
        ),
        Mistake(
            _attended(_divided(lambda q: 1), lambda scores: scores.softmax(-1), scores_of=_ATTENTION[3][5][0]),
            "the scores are cosines: queries and keys are scaled to length 1; (2.8) takes them as they are, and divides by sqrt(d)",
        ),
        Mistake(lambda q, k, v: _attend(q, k, k), "the keys are averaged; the mean is of the values"),
        Mistake(lambda q, k, v: _attend(q, v, k), "keys and values are swapped: the scores come from the keys, the mean is of the values"),
        Mistake(lambda q, k, v: _attend(v, k, q), "queries and values are swapped: the mean is of the values"),
        Mistake(lambda q, k, v: _attend(v, q, k), "q, k and v are each in another's place: softmax(q k^T / sqrt(d)) v"),
        Mistake(lambda q, k, v: _attend(k, v, q), "q, k and v are each in another's place: softmax(q k^T / sqrt(d)) v"),
        Mistake(
            lambda q, k, v: v @ (q.transpose(-1, -2) @ k / math.sqrt(q.shape[-1])).softmax(-1),
            "the d numbers of a position are compared with each other, (d, d); scores are between positions, (N, N)",
        ),
    ),
    diagnose=first_of(nearly(one_wrong(_attended, *_ATTENTION)), _overflown, nearly(two_wrong(_attended, *_ATTENTION)), explained),
)
