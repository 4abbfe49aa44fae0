"""Time conditioning, an exercise of notebook 02."""

import torch
import torch.nn.functional as F

from diffusion_lib.exercises.checking import Exercise
from diffusion_lib.exercises.variations import explained, first_of, nearly, one_wrong, randn, two_wrong


def _conditioned(how, activate=F.silu, split=lambda x: x.chunk(2, dim=1), linear=F.linear):
    def condition(f, emb, weight, bias):
        return how(f, *split(linear(activate(emb), weight, bias)[:, :, None, None]))

    return condition


def _renormed(groups):
    return lambda f, scale, shift: (1 + scale) * F.group_norm(f, groups or f.shape[1]) + shift


_NORMED_AGAIN = "f is already normalised: leave out the group norm"
_NOT_SILU = "the activation should be SiLU(a) = a sigmoid(a); yours is "
_CONDITION = (
    [
        (lambda f, scale, shift: (1 + scale) * f + shift, ""),
        (
            lambda f, scale, shift: scale * f + shift,
            "the factor should be 1 + scale: with scale = 0 and shift = 0, f should stay unchanged",
        ),
        (lambda f, scale, shift: (1 + scale) * (f + shift), "f is shifted before it is scaled; expected (1 + scale) f + shift"),
        (lambda f, scale, shift: (1 + shift) * f + scale, "the halves are swapped: the first is the scale, the second the shift"),
        (lambda f, scale, shift: shift * f + scale, "the halves are swapped: the first is the scale; and the factor should be 1 + scale"),
        (lambda f, scale, shift: f + (1 + scale) * f + shift, "f is added again: its whole factor is 1 + scale"),
        (lambda f, scale, shift: 1 + scale * f + shift, "1 + scale needs brackets: 1 + scale * f adds 1 to the product"),
        (lambda f, scale, shift: (1 + scale) * f, "the shift is missing"),
        (lambda f, scale, shift: scale * f, "the shift is missing, and the factor of f should be 1 + scale"),
        (lambda f, scale, shift: f + shift, "the factor 1 + scale is missing"),
        (lambda f, scale, shift: f + scale + shift, "scale is added; expected (1 + scale) f + shift"),
        (lambda f, scale, shift: (1 + scale) * f - shift, "the shift is subtracted; add it"),
        (lambda f, scale, shift: (1 - scale) * f + shift, "the factor is 1 - scale; expected 1 + scale"),
        (lambda f, scale, shift: (1 + scale) * f + 1 + shift, "1 + shift is added; add shift alone"),
        (lambda f, scale, shift: (1 + scale) * f + scale * shift, "scale times shift is added; add shift alone"),
        (lambda f, scale, shift: (1 + scale) * f + scale, "the first half is used as scale and as shift; the shift is the second half"),
        (lambda f, scale, shift: (1 + shift) * f + shift, "the second half is used as scale and as shift; the scale is the first half"),
        (lambda f, scale, shift: f / (1 + scale) + shift, "f is divided by 1 + scale; multiply it"),
        (lambda f, scale, shift: scale.exp() * f + shift, "the factor is exp(scale); expected 1 + scale"),
        (lambda f, scale, shift: scale.sigmoid() * f + shift, "the factor is sigmoid(scale); expected 1 + scale"),
        (lambda f, scale, shift: F.silu((1 + scale) * f + shift), "there is an activation after the shift; leave it out"),
        (
            lambda f, scale, shift: (1 + F.silu(scale)) * f + F.silu(shift),
            "SiLU is applied to the output of the linear layer; apply it to emb only",
        ),
        (_renormed(1), _NORMED_AGAIN),
        (_renormed(None), _NORMED_AGAIN),
        (_renormed(4), _NORMED_AGAIN),
    ],
    [
        (F.silu, ""),
        (lambda emb: emb, "the linear layer gets emb; it should get SiLU(emb)"),
        (torch.relu, _NOT_SILU + "relu"),
        (torch.sigmoid, _NOT_SILU + "sigmoid(a)"),
        (torch.tanh, _NOT_SILU + "tanh"),
        (F.gelu, _NOT_SILU + "gelu"),
        (lambda emb: F.gelu(emb, approximate="tanh"), _NOT_SILU + "gelu"),
        (F.elu, _NOT_SILU + "elu"),
        (lambda emb: F.silu(F.silu(emb)), "SiLU is applied twice; apply it once"),
        (lambda emb: F.silu(-emb), "a has the wrong sign in SiLU(a) = a / (1 + exp(-a))"),
        (lambda emb: -F.silu(-emb), "the exponent is +a; SiLU(a) = a / (1 + exp(-a))"),
        (
            lambda emb: emb * emb.exp() / (1 + emb.exp()),
            "exp(a) overflows for large a, and inf / inf is NaN: write a / (1 + exp(-a)), or F.silu",
        ),
    ],
    [
        (lambda x: x.chunk(2, dim=1), ""),
        (lambda x: (x[:, ::2], x[:, 1::2]), "every other number is taken; the halves are the first C numbers and the last C"),
        (lambda x: (x[:, 1::2], x[:, ::2]), "every other number is taken; the halves are the first C numbers and the last C"),
        (
            lambda x: x.mean(0, keepdim=True).chunk(2, dim=1),
            "scale and shift are averaged over the batch; each image has its own emb",
        ),
        (lambda x: x[:1].chunk(2, dim=1), "all images get the scale and shift of the first; each image has its own emb"),
        (
            lambda x: [half.mean(1, keepdim=True) for half in x.chunk(2, dim=1)],
            "all channels get the same scale and shift; each channel has its own",
        ),
        (lambda x: [half[:, :1] for half in x.chunk(2, dim=1)], "all channels get the same scale and shift; each channel has its own"),
        (
            lambda x: [half[:, :, 0, 0] for half in x.chunk(2, dim=1)],
            "scale and shift are (B, C); [:, :, None, None] makes them broadcast with f (B, C, H, W)",
        ),
    ],
    [
        (F.linear, ""),
        (lambda x, weight, bias: F.linear(x, weight), "the layer's bias is missing"),
        (lambda x, weight, bias: F.linear(x, weight, 2 * bias), "the layer's bias is added twice; add it once"),
        (lambda x, weight, bias: F.linear(x, weight, -bias), "the layer's bias is subtracted; add it"),
        (
            lambda x, weight, bias: x @ weight + bias,
            "weight is used without its transpose; it is (2 C, E), and the layer is x @ weight.T + bias (F.linear)",
        ),
    ],
)
_SIZES = (((2, 4, 3, 5), 6), ((3, 1, 5, 2), 4), ((1, 3, 2, 6), 5), ((4, 8, 6, 7), 3))


def _condition_calls(random):
    calls = [randn(random, size, (size[0], e), (2 * size[1], e), (2 * size[1],)) for size, e in _SIZES]
    f, emb, weight, bias = calls[-1]
    return [*calls[:-1], (f, torch.where(emb > 0, 100.0, -100.0), weight, bias)]  # exp(100) overflows float32


check_time_conditioning = Exercise(
    # (1 + scale) f + shift; scale and shift are the halves of Linear(SiLU(emb))                Nichol & Dhariwal 2021, appendix A
    reference=_conditioned(_CONDITION[0][0][0]),
    inputs=_condition_calls,
    mistakes=one_wrong(_conditioned, *_CONDITION),
    diagnose=first_of(nearly(two_wrong(_conditioned, *_CONDITION)), explained),
)
