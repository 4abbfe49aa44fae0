"""Conditioning on the time, an exercise of notebook 02."""

import torch
import torch.nn.functional as F

from diffusion_lib.exercises.checking import Exercise
from diffusion_lib.exercises.variations import explained, first_of, nearly, one_wrong, randn, two_wrong


def _conditioned(how, activate=F.silu, split=lambda x: x.chunk(2, dim=1), linear=F.linear):
    def condition(f, emb, weight, bias):
        return how(f, *split(linear(activate(emb), weight, bias)[:, :, None, None]))

    return condition


def _renormed(groups):
    return lambda f, w, b: (1 + w) * F.group_norm(f, groups or f.shape[1]) + b


_NORMED_AGAIN = "f is normalised already: leave out the group norm"
_NOT_SILU = "the activation is SiLU(a) = a sigmoid(a); here it is "
_CONDITION = (
    [
        (lambda f, w, b: (1 + w) * f + b, ""),
        (lambda f, w, b: w * f + b, "the factor is 1 + w: where the layer gives w = 0 and b = 0, f should stay as it is"),
        (lambda f, w, b: (1 + w) * (f + b), "the shift comes after the factor: (1 + w) f + b"),
        (lambda f, w, b: (1 + b) * f + w, "the halves are swapped: the first is the scale, the second the shift"),
        (lambda f, w, b: b * f + w, "the halves are swapped, the first is the scale w; and its factor is 1 + w"),
        (lambda f, w, b: f + (1 + w) * f + b, "f is added once more: 1 + w is all of its factor"),
        (lambda f, w, b: 1 + w * f + b, "1 + w needs brackets: 1 + w * f adds 1 to the product"),
        (lambda f, w, b: (1 + w) * f, "the shift b is missing"),
        (lambda f, w, b: w * f, "the shift b is missing, and the factor of f is 1 + w"),
        (lambda f, w, b: f + b, "the factor 1 + w is missing"),
        (lambda f, w, b: f + w + b, "w is added; it is a factor: (1 + w) f + b"),
        (lambda f, w, b: (1 + w) * f - b, "the shift is subtracted; it should be added"),
        (lambda f, w, b: (1 - w) * f + b, "the factor is 1 + w; here it is 1 - w"),
        (lambda f, w, b: (1 + w) * f + 1 + b, "the shift is b; here it is 1 + b"),
        (lambda f, w, b: (1 + w) * f + w * b, "the shift is b; here it is w b"),
        (lambda f, w, b: (1 + w) * f + w, "the first half is both scale and shift; the shift is the second half"),
        (lambda f, w, b: (1 + b) * f + b, "the second half is both scale and shift; the scale is the first half"),
        (lambda f, w, b: f / (1 + w) + b, "f is divided by 1 + w; it should be multiplied"),
        (lambda f, w, b: w.exp() * f + b, "the factor is 1 + w; here it is exp(w)"),
        (lambda f, w, b: w.sigmoid() * f + b, "the factor is 1 + w; here it is sigmoid(w)"),
        (lambda f, w, b: F.silu((1 + w) * f + b), "no activation comes after the shift here"),
        (lambda f, w, b: (1 + F.silu(w)) * f + F.silu(b), "SiLU acts on emb only, not on what the linear layer gives"),
        (_renormed(1), _NORMED_AGAIN),
        (_renormed(None), _NORMED_AGAIN),
        (_renormed(4), _NORMED_AGAIN),
    ],
    [
        (F.silu, ""),
        (lambda emb: emb, "the linear layer gets SiLU(emb); here it gets emb itself"),
        (torch.relu, _NOT_SILU + "relu"),
        (torch.sigmoid, _NOT_SILU + "sigmoid(a)"),
        (torch.tanh, _NOT_SILU + "tanh"),
        (F.gelu, _NOT_SILU + "gelu"),
        (lambda emb: F.gelu(emb, approximate="tanh"), _NOT_SILU + "gelu"),
        (F.elu, _NOT_SILU + "elu"),
        (lambda emb: F.silu(F.silu(emb)), "SiLU is applied twice"),
        (lambda emb: F.silu(-emb), "SiLU(a) = a / (1 + exp(-a)); here the sign of a is turned over"),
        (lambda emb: -F.silu(-emb), "SiLU(a) = a / (1 + exp(-a)); here the exponent is +a"),
        (
            lambda emb: emb * emb.exp() / (1 + emb.exp()),
            "exp(a) overflows for large a, and inf / inf is NaN: write a / (1 + exp(-a)), or F.silu",
        ),
    ],
    [
        (lambda x: x.chunk(2, dim=1), ""),
        (lambda x: (x[:, ::2], x[:, 1::2]), "the halves are the first C numbers and the last C, not every other one"),
        (lambda x: (x[:, 1::2], x[:, ::2]), "the halves are the first C numbers and the last C, not every other one"),
        (
            lambda x: x.mean(0, keepdim=True).chunk(2, dim=1),
            "each image has an emb of its own; here they are averaged over the batch",
        ),
        (lambda x: x[:1].chunk(2, dim=1), "each image has an emb of its own; here all get that of the first"),
        (lambda x: [half.mean(1, keepdim=True) for half in x.chunk(2, dim=1)], "each channel has a scale and a shift of its own"),
        (lambda x: [half[:, :1] for half in x.chunk(2, dim=1)], "each channel has a scale and a shift of its own"),
        (
            lambda x: [half[:, :, 0, 0] for half in x.chunk(2, dim=1)],
            "w and b are (B, C); [:, :, None, None] makes them fit f (B, C, H, W)",
        ),
    ],
    [
        (F.linear, ""),
        (lambda x, weight, bias: F.linear(x, weight), "the layer's bias is left out"),
        (lambda x, weight, bias: F.linear(x, weight, 2 * bias), "the layer's bias is added twice"),
        (lambda x, weight, bias: F.linear(x, weight, -bias), "the layer's bias is subtracted; it should be added"),
        (lambda x, weight, bias: x @ weight + bias, "weight is (2 C, E), and the layer gives x @ weight.T + bias (F.linear)"),
    ],
)
_SIZES = (((2, 4, 3, 5), 6), ((3, 1, 5, 2), 4), ((1, 3, 2, 6), 5), ((4, 8, 6, 7), 3))


def _condition_calls(random):
    calls = [randn(random, size, (size[0], e), (2 * size[1], e), (2 * size[1],)) for size, e in _SIZES]
    f, emb, weight, bias = calls[-1]
    return [*calls[:-1], (f, torch.where(emb > 0, 100.0, -100.0), weight, bias)]  # exp(100) is more than float32 can hold


check_time_conditioning = Exercise(
    # (1 + w) f + b, with w and b the two halves of a linear layer of SiLU(emb)                Nichol & Dhariwal 2021, appendix A
    reference=_conditioned(_CONDITION[0][0][0]),
    inputs=_condition_calls,
    mistakes=one_wrong(_conditioned, *_CONDITION),
    diagnose=first_of(nearly(two_wrong(_conditioned, *_CONDITION)), explained),
)
