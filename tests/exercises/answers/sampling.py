"""Answers to the exercises of notebook 04."""

import math
from collections import deque
from fractions import Fraction

import numpy as np
import torch

import diffusion_lib as dl

# -------------------------------------------------------------------------------------------------------------------- levels


def counted_down(T, steps):
    found = []
    for k in range(steps, -1, -1):
        found.append(k * T // steps)
    return found


def generated(T, steps):
    for i in range(steps + 1):
        yield T * (steps - i) // steps


def carried(T, steps):
    """Bresenham's line: integers only, without a division by steps."""
    found, rest = [], 0
    for _ in range(steps + 1):
        found.append(rest // steps)
        rest += T
    return found[::-1]


def reused_list(T, steps):
    found = [0]
    for i in range(1, steps + 1):
        found.insert(0, T * i // steps)
    return found


RIGHT_LEVELS = [
    counted_down,
    generated,
    carried,
    reused_list,
    dl.timestep_subset,
    lambda T, steps: [math.floor(Fraction(T * (steps - i), steps)) for i in range(steps + 1)],
    lambda T, steps: [int(T * (steps - i) / steps) for i in range(steps + 1)],
    lambda T, steps: [math.floor(T * (steps - i) / steps) for i in range(steps + 1)],
    lambda T, steps: [divmod(T * (steps - i), steps)[0] for i in range(steps + 1)],
    lambda T, steps: [T - -(-T * i // steps) for i in range(steps + 1)],
    lambda T, steps: [T + (-T * i) // steps for i in range(steps + 1)],
    lambda T, steps: tuple(T * k // steps for k in reversed(range(steps + 1))),
    lambda T, steps: deque(T * (steps - i) // steps for i in range(steps + 1)),
    lambda T, steps: map(Fraction.__floor__, [Fraction(T * k, steps) for k in range(steps, -1, -1)]),
    lambda T, steps: np.arange(steps, -1, -1) * T // steps,
    lambda T, steps: list(np.floor_divide(T * np.arange(steps + 1)[::-1], steps)),
    lambda T, steps: T * torch.arange(steps, -1, -1) // steps,
    lambda T, steps: torch.div(T * torch.arange(steps, -1, -1), steps, rounding_mode="floor").int(),
    lambda T, steps: list(T * torch.arange(steps, -1, -1) // steps),
    lambda T, steps: (T * torch.arange(steps, -1, -1, dtype=torch.float64) / steps).floor().long(),
    lambda T, steps: (T * torch.arange(steps + 1).flip(0)).div(steps).trunc().long().tolist(),
]

JUST_BELOW = "floating point can fall just below it: divide integers, with //"
NEAREST = "this is rounded to the nearest integer"
FLOATS = "they are floats"

WRONG_LEVELS = [
    # floating point
    (lambda T, steps: torch.linspace(T, 0, steps + 1).long(), JUST_BELOW),
    (lambda T, steps: torch.linspace(T, 0, steps + 1).int().tolist(), JUST_BELOW),
    (lambda T, steps: torch.linspace(T, 0, steps + 1, dtype=torch.float64).long(), JUST_BELOW),
    (lambda T, steps: torch.linspace(0, T, steps + 1).flip(0).long().tolist(), JUST_BELOW),
    (lambda T, steps: torch.linspace(0, T, steps + 1).double().flip(0).floor().long(), JUST_BELOW),
    (lambda T, steps: torch.linspace(T, 0, steps + 1, dtype=torch.long), JUST_BELOW),
    (lambda T, steps: np.linspace(T, 0, steps + 1).astype(int), JUST_BELOW),
    (lambda T, steps: np.linspace(T, 0, steps + 1, dtype=int), JUST_BELOW),
    (lambda T, steps: np.linspace(0, T, steps + 1).astype(int)[::-1].copy(), JUST_BELOW),
    (lambda T, steps: list(np.linspace(0, T, steps + 1, dtype=np.int64)[::-1]), JUST_BELOW),
    (lambda T, steps: [int(x) for x in np.linspace(T, 0, steps + 1)], JUST_BELOW),
    (lambda T, steps: [int(T * (1 - i / steps)) for i in range(steps + 1)], JUST_BELOW),
    (lambda T, steps: [int((steps - i) / steps * T) for i in range(steps + 1)], JUST_BELOW),
    (lambda T, steps: [int((steps - i) * (T / steps)) for i in range(steps + 1)], JUST_BELOW),
    (lambda T, steps: [int(T - i * (T / steps)) for i in range(steps + 1)], JUST_BELOW),
    (lambda T, steps: [math.floor(T - T / steps * i) for i in range(steps + 1)], JUST_BELOW),
    (lambda T, steps: (torch.arange(steps, -1, -1) * (T / steps)).long(), JUST_BELOW),
    (lambda T, steps: (T * (1 - torch.arange(steps + 1) / steps)).floor().long(), JUST_BELOW),
    (lambda T, steps: [int(x) for x in np.cumsum([T] + [-T / steps] * steps)], "level i = "),
    (lambda T, steps: [int(T * (steps - i) / steps + 1e-2) for i in range(steps + 1)], "level i = "),
    (lambda T, steps: (torch.linspace(T, 0, steps + 1) + 1e-3).long(), "level i = "),
    (lambda T, steps: torch.linspace(T, 0, steps + 1).half().long(), "level i = "),
    (lambda T, steps: torch.linspace(T, 0, steps + 1).bfloat16().long(), "level i = "),
    # rounded otherwise
    (lambda T, steps: [round(T * (steps - i) / steps) for i in range(steps + 1)], NEAREST),
    (lambda T, steps: torch.linspace(T, 0, steps + 1).round().long(), NEAREST),
    (lambda T, steps: np.rint(np.linspace(T, 0, steps + 1)).astype(int), NEAREST),
    (lambda T, steps: [int(T * (steps - i) / steps + 0.5) for i in range(steps + 1)], NEAREST),
    (lambda T, steps: [math.ceil(T * (steps - i) / steps) for i in range(steps + 1)], "this is rounded up"),
    (lambda T, steps: [T - T * i // steps for i in range(steps + 1)], "this is rounded up"),
    (lambda T, steps: [T - int(T * i / steps) for i in range(steps + 1)], "this is rounded up"),
    (lambda T, steps: [T - i * (T // steps) for i in range(steps + 1)], "every step is 14: T / steps is rounded before it is multiplied"),
    (lambda T, steps: list(range(T, -1, -(T // steps))), "every step is 14: T / steps is rounded before it is multiplied"),
    (lambda T, steps: [i * (T // steps) for i in range(steps, -1, -1)], "every step is 14: T / steps is rounded before it is multiplied"),
    (
        lambda T, steps: [T - i * round(T / steps) for i in range(steps + 1)],
        "every step is 14: T / steps is rounded before it is multiplied",
    ),
    (lambda T, steps: [*(T - i * (T // steps) for i in range(steps)), 0], "level i = 1 is 86; expected 85, which is 85.714 rounded down"),
    (
        lambda T, steps: [T, *(T * (steps - i) // steps - 1 for i in range(1, steps)), 0],
        "level i = 1 is 899; expected 900 (",
    ),
    # not integers
    (lambda T, steps: [T * (steps - i) / steps for i in range(steps + 1)], FLOATS),
    (lambda T, steps: torch.linspace(T, 0, steps + 1), FLOATS),
    (lambda T, steps: np.linspace(T, 0, steps + 1), FLOATS),
    (lambda T, steps: [float(T * (steps - i) // steps) for i in range(steps + 1)], FLOATS),
    (lambda T, steps: torch.linspace(T, 0, steps + 1).floor(), FLOATS),
    (lambda T, steps: np.floor(np.linspace(T, 0, steps + 1)), FLOATS),
    (lambda T, steps: [T * (steps - i) / steps // 1 for i in range(steps + 1)], FLOATS),
    (
        lambda T, steps: [T * (steps - i) / steps if T % steps else T * (steps - i) // steps for i in range(steps + 1)],
        "levels are integers",
    ),
    (
        lambda T, steps: [str(level) for level in counted_down(T, steps)],
        "it returns 11 values, the first of them '1000'; expected 11 values",
    ),
    # ends
    (lambda T, steps: counted_down(T, steps)[:-1], "0 is missing"),
    (lambda T, steps: [T * (steps - i) // steps for i in range(steps)], "0 is missing"),
    (lambda T, steps: counted_down(T, steps)[1:], "T is missing"),
    (lambda T, steps: counted_down(T, steps)[1:-1], "T and 0 are missing"),
    (lambda T, steps: counted_down(T, steps)[::-1], "the list ascends;"),
    (lambda T, steps: [T * i // steps for i in range(steps + 1)], "the list ascends;"),
    (lambda T, steps: torch.linspace(0, T, steps + 1).long(), "the list ascends;"),
    (lambda T, steps: [T * i // steps for i in range(1, steps + 1)], "the list ascends, and 0 is missing"),
    (lambda T, steps: [T * i // steps for i in range(steps)], "the list ascends, and T is missing"),
    (lambda T, steps: [max(level, 1) for level in counted_down(T, steps)], "the list ends at 1"),
    (lambda T, steps: [T - 1 - i * (T // steps) for i in range(steps)], "the list starts at T - 1"),
    (
        lambda T, steps: [(T - 1) * (steps - i) // steps for i in range(steps + 1)],
        "the list goes from 999 to 0; expected from T = 1000 to 0",
    ),
    (lambda T, steps: torch.linspace(T - 1, 0, steps + 1).long(), "the list goes from 999 to 0"),
    (lambda T, steps: [level - 1 for level in counted_down(T, steps)], "every level is one too low"),
    (lambda T, steps: [level + 1 for level in counted_down(T, steps)], "the list goes from 1001 to 1"),
    (lambda T, steps: [T * (steps - i) // (steps + 1) for i in range(steps + 1)], "the list goes from 909 to 0"),
    (lambda T, steps: [T * (steps + 1 - i) // (steps + 1) for i in range(steps + 1)], "the list goes from 1000 to 90"),
    (lambda T, steps: [T * (steps - i) // steps for i in range(steps + 2)], "it returns 12 levels, from 1000 to -100"),
    (lambda T, steps: np.linspace(T, 0, steps, dtype=int), "it returns 10 levels, from 1000 to 0; expected steps + 1 = 11"),
    (lambda T, steps: list(range(0, T, T // steps))[::-1], "it returns 10 levels, from 900 to 0"),
    (lambda T, steps: np.round(np.arange(T, 0, -T / steps)).astype(int) - 1, "it returns 10 levels, from 999 to 99"),
    (lambda T, steps: list(range(T, -1, -1)), "it returns 1001 levels"),
    (lambda T, steps: sorted(set(counted_down(T, steps)) | {1}, reverse=True), "it returns 12 levels"),
    (lambda T, steps: [], "it returns shape (0,); expected (11,)"),
    # shapes and kinds
    (lambda T, steps: torch.tensor(counted_down(T, steps))[:, None], "it returns shape (11, 1); expected (11,)"),
    (lambda T, steps: list(zip(counted_down(T, steps), counted_down(T, steps)[1:], strict=False)), "it returns shape (10, 2)"),
    (lambda T, steps: set(counted_down(T, steps)), "it returns a set; expected 11 values"),
    (lambda T, steps: dict.fromkeys(counted_down(T, steps)), "it returns a dict; expected 11 values"),
    (lambda T, steps: T - T // steps, "it returns 900; expected 11 values"),
    # constants of the examples
    (lambda T, steps: [1000 * (steps - i) // steps for i in range(steps + 1)], "the list goes from 1000 to 0; expected from T = 100 to 0"),
    (lambda T, steps: [T * (10 - i) // 10 for i in range(11)], "it returns 11 levels, from 100 to 0; expected steps + 1 = 8"),
    (lambda T, steps: torch.arange(steps, -1, -1, dtype=torch.int16) * T // steps, "the list goes from"),
    (lambda T, steps: torch.tensor([level % 256 for level in counted_down(T, steps)], dtype=torch.uint8), "the list goes from 232"),
]

# ---------------------------------------------------------------------------------------------------------------------- ddim


def image(xt, eps, t):
    return (xt - (1 - t).sqrt() * eps) / t.sqrt()


def ddim(xt, eps, s, t):
    return s.sqrt() * image(xt, eps, t) + (1 - s).sqrt() * eps


def in_numpy(xt, eps, s, t):
    xt, eps, s, t = (x.numpy().astype(np.float64) for x in (xt, eps, s, t))
    return np.sqrt(s) * (xt - np.sqrt(1 - t) * eps) / np.sqrt(t) + np.sqrt(1 - s) * eps


def one_by_one(xt, eps, s, t):
    out = torch.empty_like(xt)
    for i in range(len(xt)):
        out[i] = ddim(xt[i], eps[i], s, t)
    return out


def as_a_turn(xt, eps, s, t):
    signal, noise = t.sqrt(), (1 - t).sqrt()
    x0 = (xt - noise * eps) / signal
    out = x0.clone()
    out *= s.sqrt()
    out += (1 - s).sqrt() * eps
    return out


def rotation(xt, eps, s, t):  # (4.8)
    d = s.sqrt().acos() - t.sqrt().acos()
    return d.cos() * xt + d.sin() * (t.sqrt() * eps - (1 - t).sqrt() * image(xt, eps, t))


RIGHT_DDIM = [
    rotation,
    ddim,
    in_numpy,
    one_by_one,
    as_a_turn,
    lambda xt, eps, s, t: (s / t).sqrt() * xt + ((1 - s).sqrt() - (s * (1 - t) / t).sqrt()) * eps,
    lambda xt, eps, s, t: s**0.5 * (xt / t**0.5 - (1 / t - 1) ** 0.5 * eps) + (1 - s) ** 0.5 * eps,
    lambda xt, eps, s, t: s.sqrt() * (xt / t.sqrt() + ((1 / s - 1).sqrt() - (1 / t - 1).sqrt()) * eps),
    lambda xt, eps, s, t: math.sqrt(s) * (xt - math.sqrt(1 - t) * eps) / math.sqrt(t) + math.sqrt(1 - s) * eps,
    lambda xt, eps, s, t: torch.sqrt(s) * (xt - eps * torch.sqrt(1 - t)).div(t.sqrt()) + eps.mul((1 - s).sqrt()),
    lambda xt, eps, s, t: ddim(xt.double(), eps.double(), s.double(), t.double()),
    lambda xt, eps, s, t: torch.einsum("k,kbchw->bchw", torch.stack([s.sqrt(), (1 - s).sqrt()]), torch.stack([image(xt, eps, t), eps])),
    lambda xt, eps, s, t: torch.addcmul(s.sqrt() * image(xt, eps, t), (1 - s).sqrt(), eps),
    lambda xt, eps, s, t: ddim(xt, eps, s.view(1, 1, 1, 1), t.view(1, 1, 1, 1)),
    lambda xt, eps, s, t: ddim(xt, eps, s, t).tolist(),
    lambda xt, eps, s, t: ddim(xt.flatten(1), eps.flatten(1), s, t).reshape(xt.shape),
    lambda xt, eps, s, t: image(xt, eps, t) if s == 1 else ddim(xt, eps, s, t),
]


def stochastic(xt, eps, s, t):
    return s.sqrt() * image(xt, eps, t) + (1 - s).sqrt() * torch.randn_like(xt)


def in_place(xt, eps, s, t):
    xt -= (1 - t).sqrt() * eps
    return xt / t.sqrt() * s.sqrt() + (1 - s).sqrt() * eps


def posterior_mean(xt, eps, s, t):
    return s.sqrt() * (1 - t / s) / (1 - t) * image(xt, eps, t) + (t / s).sqrt() * (1 - s) / (1 - t) * xt


def ddpm_of_the_paper(xt, eps, s, t):
    alpha = t / s
    return (xt - (1 - alpha) / (1 - t).sqrt() * eps) / alpha.sqrt()


WRONG_DDIM = [
    (lambda xt, eps, s, t: torch.full_like(xt, 0.5), "it is off by up to"),
    # x0_hat
    (lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps) + (1 - s).sqrt() * eps, "x0_hat is not divided by sqrt(alpha_bar_t)"),
    (lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps) / t + (1 - s).sqrt() * eps, "x0_hat is divided by alpha_bar_t; "),
    (
        lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps) * t.sqrt() + (1 - s).sqrt() * eps,
        "x0_hat is multiplied by sqrt(alpha_bar_t)",
    ),
    (lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps / t.sqrt()) + (1 - s).sqrt() * eps, "only the noise is divided"),
    (lambda xt, eps, s, t: s.sqrt() * xt / t.sqrt() - s.sqrt() * (1 - t).sqrt() * eps + (1 - s).sqrt() * eps, "only xt is divided"),
    (lambda xt, eps, s, t: s.sqrt() * (xt + (1 - t).sqrt() * eps) / t.sqrt() + (1 - s).sqrt() * eps, "the noise is added again"),
    (lambda xt, eps, s, t: s.sqrt() * ((1 - t).sqrt() * eps - xt) / t.sqrt() + (1 - s).sqrt() * eps, "x0_hat has the wrong sign"),
    (lambda xt, eps, s, t: s.sqrt() * (xt - eps) / t.sqrt() + (1 - s).sqrt() * eps, "all of eps_hat is subtracted"),
    (lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t) * eps) / t.sqrt() + (1 - s).sqrt() * eps, "the noise has the factor 1 - alpha_bar_t;"),
    (lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t) * eps) / t + (1 - s).sqrt() * eps, "in x0_hat the roots of (4.1) are missing"),
    (lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t.sqrt()) * eps) / t.sqrt() + (1 - s).sqrt() * eps, "not 1 - alpha_bar_t.sqrt()"),
    (
        lambda xt, eps, s, t: s.sqrt() * (xt - t.sqrt() * eps) / (1 - t).sqrt() + (1 - s).sqrt() * eps,
        "the two factors of (4.1) are swapped",
    ),
    (lambda xt, eps, s, t: s.sqrt() * (xt - (1 - s).sqrt() * eps) / t.sqrt() + (1 - s).sqrt() * eps, "the noise has the factor of level s"),
    (
        lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps) / s.sqrt() + (1 - s).sqrt() * eps,
        "divide by sqrt(alpha_bar_t) of the level where",
    ),
    (lambda xt, eps, s, t: t.sqrt() * image(xt, eps, t) + (1 - s).sqrt() * eps, "divide by sqrt(alpha_bar_t) of the level where"),
    (lambda xt, eps, s, t: xt - (1 - t).sqrt() * eps + (1 - s).sqrt() * eps, "divide by sqrt(alpha_bar_t) of the level where"),
    (lambda xt, eps, s, t: s.sqrt() * xt + (1 - s).sqrt() * eps, "xt is used instead of x0_hat"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t).clamp(-1, 1) + (1 - s).sqrt() * eps, "x0_hat is clamped; leave the clamp out"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t).clamp(0, 1) + (1 - s).sqrt() * eps, "x0_hat is clamped; leave the clamp out"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t).clamp(-1, 1), "the result is clamped to -1 … 1"),
    # the combination at level s
    (lambda xt, eps, s, t: image(xt, eps, t), "this is x0_hat, the clean image"),
    (lambda xt, eps, s, t: xt, "this is xt, unchanged"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, s), "this is xt, unchanged"),
    (lambda xt, eps, s, t: ddim(xt, eps, t, t), "this is xt, unchanged"),
    (lambda xt, eps, s, t: ddim(xt, eps, t, s), "s and t are swapped"),
    (lambda xt, eps, s, t: image(xt, eps, t) + (1 - s).sqrt() * eps, "x0_hat is not scaled"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t), "no noise is added back"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t) + eps, "eps_hat is not scaled"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t) + (1 - t).sqrt() * eps, "the noise is added back at level t"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t) - (1 - s).sqrt() * eps, "the noise is subtracted at the end too"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t) + (1 - s) * eps, "eps_hat has the factor 1 - alpha_bar_s, the variance"),
    (lambda xt, eps, s, t: s * image(xt, eps, t) + (1 - s).sqrt() * eps, "x0_hat has the factor alpha_bar_s; at level s it is the root"),
    (lambda xt, eps, s, t: s * image(xt, eps, t) + (1 - s) * eps, "the roots are missing"),
    (lambda xt, eps, s, t: s * (xt - (1 - t) * eps) / t + (1 - s) * eps, "the roots are missing, at both levels"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t) + (1 - s.sqrt()) * eps, "not 1 - alpha_bar_s.sqrt()"),
    (lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t.sqrt()) * eps) / t.sqrt() + (1 - s.sqrt()) * eps, "not 1 - alpha_bar.sqrt()"),
    (lambda xt, eps, s, t: (1 - s).sqrt() * image(xt, eps, t) + s.sqrt() * eps, "the two factors of level s are swapped"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t) + (1 - s).sqrt() * xt, "xt is used instead of eps_hat"),
    (lambda xt, eps, s, t: s.sqrt() * (image(xt, eps, t) + (1 - s).sqrt() * eps), "eps_hat has the factor sqrt(alpha_bar_s) too"),
    (
        lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t) + (1 - t / s).sqrt() * eps,
        "eps_hat has the factor sqrt(1 - alpha_bar_t / alpha_bar_s)",
    ),
    (lambda xt, eps, s, t: image(xt, eps, t) / s.sqrt() + (1 - s).sqrt() * eps, "x0_hat is divided by sqrt(alpha_bar_s)"),
    (lambda xt, eps, s, t: (1 - s).sqrt() * eps, "x0_hat is missing"),
    (posterior_mean, "this is the mean of DDPM's step"),
    (ddpm_of_the_paper, "this is the mean of DDPM's step"),
    (stochastic, "draw no random numbers of your own"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t) + 0.1 * torch.randn_like(xt), "draw no random numbers of your own"),
    (
        lambda xt, eps, s, t: (
            s.sqrt() * image(xt, eps, t).clamp(-1, 1) + (1 - s).sqrt() * (xt - t.sqrt() * image(xt, eps, t).clamp(-1, 1)) / (1 - t).sqrt()
        ),
        "x0_hat is clamped and eps_hat recomputed",
    ),
    # two mistakes
    (
        lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps) + (1 - t).sqrt() * eps,
        "not divided by sqrt(alpha_bar_t): the image would fade at every step; and the noise is added back at level t",
    ),
    (
        lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps) / t + (1 - s) * eps,
        "x0_hat is divided by alpha_bar_t; in (4.1) the image has the factor sqrt(alpha_bar_t); and eps_hat has the factor 1 - alpha_bar_s",
    ),
    (
        lambda xt, eps, s, t: image(xt, eps, t) + eps,
        "x0_hat is not scaled: at level s the image has the factor sqrt(alpha_bar_s); and eps_hat is not scaled",
    ),
    (
        lambda xt, eps, s, t: (xt - eps) / t.sqrt() + (1 - s).sqrt() * eps,
        "all of eps_hat is subtracted; in (4.1) the noise has the factor sqrt(1 - alpha_bar_t); and x0_hat is not scaled",
    ),
    (
        lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t).clamp(-1, 1) + (1 - t).sqrt() * eps,
        "x0_hat is clamped; leave the clamp out: the step is (4.4) and nothing else; and the noise",
    ),
    # neither one mistake nor two: factors
    (lambda xt, eps, s, t: ddim(xt, eps, s, t) + 0.1 * eps, "eps_hat has the factor -1.0256; expected -1.1256"),
    (
        lambda xt, eps, s, t: 1.01 * xt - eps,
        "in your sum of xt, eps_hat, xt has the factor 1.01; expected 1.8708, and eps_hat has the factor -1; expected",
    ),
    (lambda xt, eps, s, t: xt - eps, "xt has the factor 1; expected 1.8708"),
    # floors, caps and small numbers
    (
        lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps) / (t.sqrt() + 1e-8) + (1 - s).sqrt() * eps,
        "is something added to it?",
    ),
    (
        lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps) / (t + 1e-8).sqrt() + (1 - s).sqrt() * eps,
        "add nothing to it, and set no floor",
    ),
    (
        lambda xt, eps, s, t: s.sqrt() * (xt - (1 - t).sqrt() * eps) / t.sqrt().clamp(min=1e-3) + (1 - s).sqrt() * eps,
        "times what it should be where alpha_bar_t is 2.5e-09",
    ),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t.clamp(min=1e-5)), "add nothing to it, and set no floor"),
    (lambda xt, eps, s, t: ddim(xt, eps, s.clamp(max=0.999), t), "eps_hat has the factor"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t) + (1 - s + 1e-5).sqrt() * eps, "eps_hat has the factor"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t) + (1 - s).sqrt().clamp(min=1e-3) * eps, "eps_hat has the factor"),
    (lambda xt, eps, s, t: s.sqrt() * image(xt, eps, t).clamp(-50, 50) + (1 - s).sqrt() * eps, "it is off by up to"),
    # shapes, constants, dtypes
    (lambda xt, eps, s, t: ddim(xt, eps, s, t).squeeze(), "it returns shape (5, 4, 6); expected (5, 1, 4, 6)"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t).squeeze(0), "it returns shape (1, 4, 5); expected (1, 1, 4, 5)"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t)[0], "it returns shape (1, 4, 6)"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t).mean(), "it returns shape ()"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t).transpose(2, 3), "it returns shape (5, 1, 6, 4)"),
    (lambda xt, eps, s, t: ddim(xt.view(-1, 1, 4, 6), eps.view(-1, 1, 4, 6), s, t), "it raised RuntimeError"),
    (lambda xt, eps, s, t: (ddim(xt, eps, s, t), image(xt, eps, t)), "it returns 2 values"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t).half(), "which keeps few digits"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t).round(), "it is off by up to"),
    (lambda xt, eps, s, t: ddim(xt, eps, torch.tensor(0.7), torch.tensor(0.2)), "has the factor"),
    (in_place, "it changes the tensors it is given"),
    (lambda xt, eps, s, t: ddim(xt, eps, (s - 1).sqrt(), t), "not finite"),
    (lambda xt, eps, s, t: ddim(xt, eps, s, t)[None], "it returns shape (1, 5, 1, 4, 6)"),
    (lambda xt, eps, t, s: ddim(xt, eps, s, t), "s and t are swapped"),
    (lambda eps, xt, s, t: ddim(xt, eps, s, t), "xt has the factor"),
    (lambda xt, eps, s: xt, "it raised TypeError"),
]

# --------------------------------------------------------------------------------------------------------------------- sigma


def sigma(s, t, eta):
    return eta * ((1 - s) / (1 - t)).sqrt() * (1 - t / s).sqrt()


RIGHT_SIGMA = [
    sigma,
    lambda s, t, eta: eta * ((1 - s) / (1 - t) * (1 - t / s)).sqrt(),
    lambda s, t, eta: eta * ((1 - s) / (1 - t) * (1 - t / s)) ** 0.5,
    lambda s, t, eta: (eta**2 * (1 - s) / (1 - t) * (1 - t / s)).sqrt(),
    lambda s, t, eta: eta * math.sqrt((1 - s) / (1 - t)) * math.sqrt(1 - t / s),
    lambda s, t, eta: eta * float(((1 - s) * (s - t) / ((1 - t) * s)).sqrt()),
    lambda s, t, eta: eta * np.sqrt((1 - s.numpy()) / (1 - t.numpy())) * np.sqrt(1 - t.numpy() / s.numpy()),
    lambda s, t, eta: sigma(s.double(), t.double(), eta),
    lambda s, t, eta: 0 if eta == 0 else sigma(s, t, eta),
    lambda s, t, eta: torch.zeros(()) if s == 1 else sigma(s, t, eta),
    lambda s, t, eta: eta * torch.sqrt(1 - s) * torch.rsqrt(1 - t) * torch.sqrt((s - t) / s),
    lambda s, t, eta: eta * (((1 - s) / (1 - t)).log() / 2 + (1 - t / s).log() / 2).exp(),
    lambda s, t, eta: torch.as_tensor(eta) * torch.hypot(sigma(s, t, 1.0), torch.tensor(0.0)),
    lambda s, t, eta: eta * ((1 - s) / (1 - t) * (1 - t / s)).clamp(min=1e-20).sqrt(),
]

NEGATIVE = "the root of a negative number: in (4.5)"

WRONG_SIGMA = [
    (lambda s, t, eta: ((1 - s) / (1 - t)).sqrt() * (1 - t / s).sqrt(), "eta is missing"),
    (lambda s, t, eta: (eta * (1 - s) / (1 - t) * (1 - t / s)).sqrt(), "eta is under the root"),
    (lambda s, t, eta: eta**2 * sigma(s, t, 1.0), "eta is squared"),
    (lambda s, t, eta: -sigma(s, t, eta), "sigma is negative"),
    (lambda s, t, eta: sigma(s, t, 1 - eta), "the factor is 1 - eta"),
    (lambda s, t, eta: eta * (1 - t / s).sqrt(), "the first root of (4.5) is missing"),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt(), "the second root of (4.5) is missing"),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t)) * (1 - t / s).sqrt(), "the first factor of (4.5) is a root too"),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt() * (1 - t / s), "the second factor of (4.5) is a root too"),
    (lambda s, t, eta: eta * (1 - s) / (1 - t) * (1 - t / s), "this is eta times the variance"),
    (lambda s, t, eta: sigma(s, t, eta) ** 2, "this is the variance, sigma^2"),
    (lambda s, t, eta: eta * ((1 - t) / (1 - s)).sqrt() * (1 - t / s).sqrt(), "the first fraction is upside down"),
    (lambda s, t, eta: eta * (1 - s).sqrt() * (1 - t / s).sqrt(), "the first fraction has no denominator"),
    (lambda s, t, eta: eta * (s / t).sqrt() * (1 - t / s).sqrt(), "not alpha_bar_s / alpha_bar_t"),
    (lambda s, t, eta: eta * (t / s).sqrt() * (1 - t / s).sqrt(), "not alpha_bar_t / alpha_bar_s"),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt() * (t / s).sqrt(), "the 1 - is missing"),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt() * (s - t).sqrt(), "not alpha_bar_s - alpha_bar_t"),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt() * (1 - (t / s).sqrt()), "including the 1"),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt() * (1 - t).sqrt(), "this is eta sqrt(1 - alpha_bar_s)"),
    (lambda s, t, eta: eta * (1 - s).sqrt(), "this is eta sqrt(1 - alpha_bar_s)"),
    (lambda s, t, eta: eta, "this is eta itself"),
    (lambda s, t, eta: eta * (((1 - s) / (1 - t)).sqrt() + (1 - t / s).sqrt()), "the two roots of (4.5) are added"),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t) - t / s).abs().sqrt(), "it is 0.1793; expected 0.3105"),
    (lambda s, t, eta: 0 * s, "this is 0 whatever eta is"),
    # nan
    (lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt() * (1 - s / t).sqrt(), NEGATIVE),
    (lambda s, t, eta: sigma(t, s, eta), NEGATIVE),
    (lambda s, t, eta: eta * (1 - s / 1 - t).sqrt() * (1 - t / s).sqrt(), "the first fraction lacks brackets"),
    (lambda s, t, eta: eta * float((1 - s) / (1 - t)) ** 0.5 * float(1 - s / t) ** 0.5, NEGATIVE),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t) * (t / s - 1)).sqrt(), NEGATIVE),
    (lambda s, t, eta: eta * math.sqrt((1 - s) / (1 - t)) * math.sqrt(1 - s / t), "it raised ValueError"),
    # two mistakes
    (lambda s, t, eta: (1 - t / s).sqrt(), "eta is missing: eta = 0 should give no noise; and the first root of (4.5) is missing"),
    (lambda s, t, eta: eta * ((1 - t) / (1 - s)) * (1 - t / s), "it is 1.143; expected 0.3105"),
    (
        lambda s, t, eta: eta * (1 - t / s),
        "the first root of (4.5) is missing: the rest is the root of beta, the large variance; and the second factor",
    ),
    (lambda s, t, eta: (1 - s) / (1 - t) * (1 - t / s), "this is beta_tilde; sigma is eta times its root"),
    (lambda s, t, eta: eta**0.5 * (1 - t / s).sqrt(), "eta is under the root; it belongs in front of it; and the first root"),
    (lambda s, t, eta: eta**2 * (1 - t / s).sqrt(), "eta is squared, as in the variance; in sigma it is not; and the first root"),
    # floors, constants, kinds
    (lambda s, t, eta: eta * ((1 - s) / (1 - t) * (1 - t / s)).clamp(min=1e-5).sqrt(), "it is 0.001265; expected 0"),
    (lambda s, t, eta: eta * ((1 - s) / (1 - t) * (1 - t / s) + 1e-6).sqrt(), "it is"),
    (lambda s, t, eta: sigma(s, t, max(eta, 0.1)), "it is 0.06667; expected 0"),
    (lambda s, t, eta: sigma(s, t, 0.7), "it is"),
    (lambda s, t, eta: sigma(s, t, min(eta, 0.6)), "it is"),
    (lambda s, t, eta: sigma(s, t, eta).item() * 1.01, "it is"),
    (lambda s, t, eta: sigma(s, t, eta).view(1), "it returns shape (1,); expected ()"),
    (lambda s, t, eta: [sigma(s, t, eta)], "it returns 1 value; expected one number"),
    (lambda s, t, eta: (sigma(s, t, eta), sigma(s, t, eta) ** 2), "it returns 2 values; expected one number"),
    (lambda s, t, eta: sigma(s, t, eta) * torch.randn(()), "draw no random numbers"),
    (lambda s, t, eta: str(sigma(s, t, eta)), "it returns 'tensor("),
    (lambda s, t, eta: round(float(sigma(s, t, eta)), 2), "it is 0.31; expected"),
]

# ---------------------------------------------------------------------------------------------------------- the whole family


def step(xt, eps, z, s, t, eta):
    size = sigma(s, t, eta)
    return s.sqrt() * image(xt, eps, t) + (1 - s - size**2).sqrt() * eps + size * z


def by_the_posterior(xt, eps, z, s, t, eta):
    """For eta = 1 (4.2), for every other eta (4.4)."""
    if eta == 1:
        return posterior_mean(xt, eps, s, t) + sigma(s, t, 1.0) * z
    return step(xt, eps, z, s, t, eta)


RIGHT_STEP = [
    step,
    by_the_posterior,
    lambda xt, eps, z, s, t, eta: (
        s.sqrt() * image(xt, eps, t) + (1 - s - sigma(s, t, eta) ** 2).clamp(min=0).sqrt() * eps + sigma(s, t, eta) * z
    ),
    lambda xt, eps, z, s, t, eta: ddim(xt, eps, s, t) if eta == 0 else step(xt, eps, z, s, t, eta),
    lambda xt, eps, z, s, t, eta: step(*(x.double() for x in (xt, eps, z, s, t)), eta),
    lambda xt, eps, z, s, t, eta: (
        ddim(xt, eps, s, t) + ((1 - s - sigma(s, t, eta) ** 2).sqrt() - (1 - s).sqrt()) * eps + sigma(s, t, eta) * z
    ),
    lambda xt, eps, z, s, t, eta: torch.stack([step(*each, s, t, eta) for each in zip(xt, eps, z, strict=True)]),
    lambda xt, eps, z, s, t, eta: (
        torch.sqrt(s) * image(xt, eps, t)
        + (1 - s).sqrt() * ((1 - (eta * (1 - t / s).sqrt()) ** 2 / (1 - t)).sqrt() * eps + eta * ((1 - t / s) / (1 - t)).sqrt() * z)
    ),
    lambda xt, eps, z, s, t, eta: (
        math.sqrt(s) * image(xt, eps, t) + math.sqrt(max(0, 1 - s - float(sigma(s, t, eta)) ** 2)) * eps + float(sigma(s, t, eta)) * z
    ),
    lambda xt, eps, z, s, t, eta: (
        torch.sqrt(s / t) * (xt - (1 - t).sqrt() * eps) + (1 - s - sigma(s, t, eta) ** 2).sqrt() * eps + sigma(s, t, eta) * z
    ),
]


def with_parts(xt, eps, z, s, t, eta, *, size=sigma, along=None, fresh=None, x0=image, signal=None):
    size = size(s, t, eta)
    along = (1 - s - size**2).sqrt() if along is None else along(s, t, size)
    fresh = size if fresh is None else fresh(size)
    return (s.sqrt() if signal is None else signal(s, t)) * x0(xt, eps, t) + along * eps + fresh * z


def wrong_step(**parts):
    return lambda *arguments: with_parts(*arguments, **parts)


def step_clamped_and_recomputed(xt, eps, z, s, t, eta):
    x0 = image(xt, eps, t).clamp(-1, 1)
    noise = (xt - t.sqrt() * x0) / (1 - t).sqrt()
    return s.sqrt() * x0 + (1 - s - sigma(s, t, eta) ** 2).sqrt() * noise + sigma(s, t, eta) * z


WRONG_STEP = [
    (
        lambda xt, eps, z, s, t, eta: with_parts(xt, eps, z, s, t, eta, along=lambda s, t, _: (1 - s - sigma(s, t, 1) ** 2).sqrt()),
        "uses the sigma of eta = 1: eta is missing under the root",
    ),
    (
        lambda xt, eps, z, s, t, eta: s.sqrt() * image(xt, eps, t) + (1 - s - sigma(s, t, eta) ** 2).sqrt() * z + sigma(s, t, eta) * eps,
        "z and eps_hat are swapped",
    ),
    (wrong_step(size=lambda s, t, eta: eta * sigma(s, t, 1.0) ** 2), "sigma is eta times the variance;"),
    (wrong_step(x0=lambda xt, eps, t: image(xt, eps, t).clamp(-1, 1)), "x0_hat is clamped"),
    (step_clamped_and_recomputed, "x0_hat is clamped and eps_hat recomputed"),
    (lambda xt, eps, z, s, t, eta: torch.zeros_like(xt), "has the factor 0; expected"),
    # the factor of eps_hat
    (wrong_step(along=lambda s, t, size: (1 - s).sqrt()), "and the fresh noise comes on top"),
    (lambda xt, eps, z, s, t, eta: ddim(xt, eps, s, t) + sigma(s, t, eta) * z, "and the fresh noise comes on top"),
    (wrong_step(along=lambda s, t, size: size), "eps_hat has the factor sigma; expected the rest of the noise"),
    (wrong_step(along=lambda s, t, size: (1 - s).sqrt() - size), "standard deviations are subtracted"),
    (wrong_step(along=lambda s, t, size: (1 - s - size).clamp(min=0).sqrt()), "sigma is not squared under the root"),
    (wrong_step(along=lambda s, t, size: 1 - s - size**2), "the root is missing"),
    (wrong_step(along=lambda s, t, size: (1 - s + size**2).sqrt()), "sigma^2 is added under the root"),
    (wrong_step(along=lambda s, t, size: (1 - t - size**2).sqrt()), "the noise is added back at level t"),
    (wrong_step(along=lambda s, t, size: (1 - t).sqrt()), "eps_hat has the factor of level t"),
    (wrong_step(along=lambda s, t, size: (1 - size**2).sqrt()), "alpha_bar_s is missing under the root"),
    (wrong_step(along=lambda s, t, size: (s - size**2).clamp(min=0).sqrt()), "the root has alpha_bar_s instead of 1 - alpha_bar_s"),
    (wrong_step(along=lambda s, t, size: 1), "eps_hat is not scaled"),
    (wrong_step(along=lambda s, t, size: 0), "eps_hat is missing"),
    (wrong_step(along=lambda s, t, size: -((1 - s - size**2).sqrt())), "the noise is subtracted at the end too"),
    (wrong_step(along=lambda s, t, size: (1 - s - size).sqrt()), "sigma is not squared under the root"),
    (wrong_step(along=lambda s, t, size: (s - 1 - size**2).sqrt()), "it contains nan, probably the root of a negative number"),
    # the factor of z
    (wrong_step(fresh=lambda size: size**2), "z is multiplied by the variance sigma^2"),
    (wrong_step(fresh=lambda size: size.sqrt()), "z is multiplied by the root of sigma"),
    (wrong_step(fresh=lambda size: 1), "z is not scaled"),
    (wrong_step(fresh=lambda size: 0), "z is not used: the fresh noise is missing"),
    (wrong_step(fresh=lambda size: -size), "z is subtracted"),
    (wrong_step(along=lambda s, t, size: 0, fresh=lambda size: 1), "z is not scaled"),
    (lambda xt, eps, z, s, t, eta: s.sqrt() * image(xt, eps, t) + (1 - s).sqrt() * z, "all the noise is fresh, whatever eta is"),
    (lambda xt, eps, z, s, t, eta: step(xt, eps, torch.randn_like(z), s, t, eta), "draw no random numbers of your own"),
    # sigma
    (wrong_step(size=lambda s, t, eta: torch.tensor(float(eta))), "eta is used instead of sigma"),
    (wrong_step(size=lambda s, t, eta: eta * (1 - s).sqrt()), "sigma is eta sqrt(1 - alpha_bar_s);"),
    (wrong_step(size=lambda s, t, eta: sigma(s, t, eta) ** 2), "sigma is squared once too often"),
    (wrong_step(size=lambda s, t, eta: eta**0.5 * sigma(s, t, 1.0)), "in sigma, eta is under the root; it belongs in front of it"),
    (wrong_step(size=lambda s, t, eta: eta**2 * sigma(s, t, 1.0)), "this is the step of eta = 0.16"),
    (wrong_step(size=lambda s, t, eta: sigma(s, t, 1.0)), "this is the step of eta = 1, whatever eta is"),
    (wrong_step(size=lambda s, t, eta: sigma(s, t, 0.7)), "this is the step of eta = 0.7"),
    (wrong_step(size=lambda s, t, eta: sigma(s, t, 1 - eta)), "this is the step of eta = 0.6"),
    (wrong_step(size=lambda s, t, eta: sigma(s, t, round(eta))), "this is the step of eta = 0"),
    (
        wrong_step(size=lambda s, t, eta: eta * ((1 - s) / (1 - t)).sqrt() * (1 - t / s)),
        "in sigma, the second factor of (4.5) is a root too",
    ),
    (wrong_step(size=lambda s, t, eta: eta * (1 - s) / (1 - t) * (1 - t / s).sqrt()), "in sigma, the first factor of (4.5) is a root too"),
    (
        lambda xt, eps, z, s, t, eta: (
            s.sqrt() * image(xt, eps, t) + (1 - s - eta**2 * (1 - t / s)).clamp(min=0).sqrt() * eps + eta * (1 - t / s).sqrt() * z
        ),
        "in sigma, the first root of (4.5) is missing",
    ),
    (lambda xt, eps, z, s, t, eta: ddim(xt, eps, s, t), "this is the step of eta = 0, whatever eta is"),
    (lambda xt, eps, z, s, t, eta: posterior_mean(xt, eps, s, t) + sigma(s, t, 1.0) * z, "this is the step of eta = 1, whatever eta is"),
    (lambda xt, eps, z, s, t, eta: step(xt, z, eps, s, t, eta), "z and eps_hat are swapped"),
    (lambda xt, eps, z, s, t, eta: step(xt, eps, z, t, s, eta), "it contains nan"),
    # x0_hat
    (wrong_step(x0=lambda xt, eps, t: xt - (1 - t).sqrt() * eps), "x0_hat is not divided by sqrt(alpha_bar_t)"),
    (wrong_step(x0=lambda xt, eps, t: (xt - (1 - t).sqrt() * eps) / t), "x0_hat is divided by alpha_bar_t; "),
    (wrong_step(x0=lambda xt, eps, t: (xt + (1 - t).sqrt() * eps) / t.sqrt()), "the noise is added again"),
    (wrong_step(x0=lambda xt, eps, t: image(xt, eps, t).clamp(-1, 1)), "x0_hat is clamped; leave the clamp out"),
    (wrong_step(x0=lambda xt, eps, t: (xt - eps) / t.sqrt()), "all of eps_hat is subtracted"),
    (wrong_step(x0=lambda xt, eps, t: xt), "xt is used instead of x0_hat"),
    (wrong_step(signal=lambda s, t: 1), "x0_hat is not scaled"),
    (wrong_step(signal=lambda s, t: s), "x0_hat has the factor alpha_bar_s"),
    (wrong_step(signal=lambda s, t: t.sqrt()), "divide by sqrt(alpha_bar_t) of the level where"),
    # two mistakes
    (
        wrong_step(along=lambda s, t, size: (1 - s).sqrt(), fresh=lambda size: size**2),
        "make room for sigma^2 under the root; and z is multiplied by the variance",
    ),
    (wrong_step(along=lambda s, t, size: size, fresh=lambda size: size**2), "; and z is multiplied by the variance sigma^2"),
    (
        wrong_step(x0=lambda xt, eps, t: image(xt, eps, t).clamp(-1, 1), along=lambda s, t, size: (1 - s).sqrt()),
        "nothing else; and eps_hat has the factor sqrt(1 - alpha_bar_s)",
    ),
    (
        wrong_step(signal=lambda s, t: 1, fresh=lambda size: -size),
        "x0_hat is not scaled: at level s the image has the factor sqrt(alpha_bar_s); and z is subtracted",
    ),
    # neither one nor two
    (lambda xt, eps, z, s, t, eta: step(xt, eps, z, s, t, eta) + 0.05 * z, "z has the factor 0.25702; expected 0.20702"),
    (lambda xt, eps, z, s, t, eta: xt - eps + z, "in your sum of xt, eps_hat, z, xt has the factor 1; expected 1.8708"),
    # floors, shapes, constants
    (
        lambda xt, eps, z, s, t, eta: (
            s.sqrt() * image(xt, eps, t) + (1 - s - sigma(s, t, eta) ** 2).clamp(min=1e-5).sqrt() * eps + sigma(s, t, eta) * z
        ),
        "eps_hat has the factor -0.49684; expected -0.5",
    ),
    (lambda xt, eps, z, s, t, eta: step(xt, eps, z, s, t.clamp(min=1e-6), eta), "add nothing to it, and set no floor"),
    (
        lambda xt, eps, z, s, t, eta: step(xt, eps, z, s, t, eta) if s < 1 else image(xt, eps, t).clamp(-1, 1),
        "the result is clamped to -1 … 1",
    ),
    (lambda xt, eps, z, s, t, eta: step(xt, eps, z, s, t, eta) if eta < 1 else ddim(xt, eps, s, t), "this is the step of eta = 0 ("),
    (lambda xt, eps, z, s, t, eta: step(xt, eps, z[0], s, t, eta), "it is off by up to"),
    (lambda xt, eps, z, s, t, eta: step(xt, eps, z, s, t, eta).squeeze(), "it returns shape (5, 4, 6); expected (5, 1, 4, 6)"),
    (lambda xt, eps, z, s, t, eta: (step(xt, eps, z, s, t, eta), sigma(s, t, eta)), "it returns 2 values"),
    (lambda xt, eps, z, s, t, eta: step(xt, eps, z, s, t, eta).bfloat16(), "which keeps few digits"),
    (lambda xt, eps, z, s, t, eta: step(xt, eps.mul_(1.0).add_(1e-3), z, s, t, eta), "it changes the tensors it is given"),
]

# ------------------------------------------------------------------------------------------------------------------ guidance

RIGHT_GUIDED = [
    lambda c, u, scale: torch.einsum("k,k...->...", torch.tensor([scale, 1 - scale]), torch.stack([c, u])),
    lambda c, u, scale: u + scale * (c - u),
    lambda c, u, scale: scale * c + (1 - scale) * u,
    lambda c, u, scale: c + (scale - 1) * (c - u),
    lambda c, u, scale: u - scale * (u - c),
    lambda c, u, scale: (1 + (scale - 1)) * c - (scale - 1) * u,
    lambda c, u, scale: torch.lerp(u, c, scale),
    lambda c, u, scale: torch.lerp(u.double(), c.double(), float(scale)),
    lambda c, u, scale: u.numpy() + scale * (c.numpy() - u.numpy()),
    lambda c, u, scale: torch.add(u, c - u, alpha=scale),
    lambda c, u, scale: u if scale == 0 else c if scale == 1 else u + scale * (c - u),
    lambda c, u, scale: torch.stack([b + scale * (a - b) for a, b in zip(c, u, strict=True)]),
    lambda c, u, scale: torch.einsum("k,kbchw->bchw", torch.tensor([scale, 1.0 - scale]), torch.stack([c, u])),
    lambda c, u, scale: torch.cat([c, u]).unflatten(0, (2, -1)).mul(torch.tensor([scale, 1.0 - scale]).view(2, 1, 1, 1, 1)).sum(dim=0),
    lambda c, u, scale: (u + scale * (c - u)).tolist(),
]

WRONG_GUIDED = [
    (lambda c, u, scale: torch.zeros_like(c), "conditional has the factor 0; expected 3"),
    (lambda c, u, scale: c + scale * (u - c), "the two predictions are swapped"),
    (lambda u, c, scale: u + scale * (c - u), "the two predictions are swapped"),
    (lambda c, u, scale: scale * u + (1 - scale) * c, "the two predictions are swapped"),
    (torch.lerp, "the two predictions are swapped"),
    (lambda c, u, scale: c + scale * (c - u), "this starts from the conditional prediction"),
    (lambda c, u, scale: (1 + scale) * c - scale * u, "this starts from the conditional prediction"),
    (lambda c, u, scale: u + (scale + 1) * (c - u), "this starts from the conditional prediction"),
    (lambda c, u, scale: scale * (c - u), "the unconditional prediction is missing"),
    (lambda c, u, scale: u + scale * c, "the whole conditional prediction is added"),
    (lambda c, u, scale: scale * c, "the unconditional prediction is not used"),
    (lambda c, u, scale: u + scale * c - u, "the unconditional prediction is not used"),
    (lambda c, u, scale: scale * u, "the conditional prediction is not used"),
    (lambda c, u, scale: u - scale * (c - u), "the difference is subtracted"),
    (lambda c, u, scale: u + scale * (u - c), "the difference is subtracted"),
    (lambda c, u, scale: u + scale * (c + u), "the two predictions are added"),
    (lambda c, u, scale: scale * c - u, "brackets are missing: scale multiplies only one prediction"),
    (lambda c, u, scale: scale * c - (1 - scale) * u, "the two factors should sum to 1"),
    (lambda c, u, scale: scale * (c + u) / 2, "a multiple of the mean"),
    (lambda c, u, scale: (c + u) / 2, "this is the result for scale = 0.5"),
    (lambda c, u, scale: u + (scale - 1) * (c - u), "the difference has the factor scale - 1"),
    (lambda c, u, scale: c, "the conditional prediction, whatever scale is"),
    (lambda c, u, scale: u, "the unconditional prediction, whatever scale is"),
    (lambda c, u, scale: c - u, "this is the difference that the class makes"),
    (lambda c, u, scale: u - c, "conditional has the factor -1; expected 3, and unconditional has the factor 1; expected -2"),
    (lambda c, u, scale: c + u, "conditional has the factor 1; expected 3, and unconditional has the factor 1; expected -2"),
    (lambda c, u, scale: c + scale * (c + u), "conditional has the factor 4; expected 3, and unconditional has the factor 3; expected -2"),
    (lambda c, u, scale: u + (c - u) / (scale + 1), "this is the result for scale = 0.25"),
    (lambda c, u, scale: u + 3.0 * (c - u), "this is the result for scale = 3 (conditional: a tensor of shape (2, 3, 5, 3)"),
    (lambda c, u, scale: u + scale**2 * (c - u), "this is the result for scale = 9"),
    (lambda c, u, scale: u + min(scale, 5) * (c - u), "this is the result for scale = 5"),
    (lambda c, u, scale: u + int(scale) * (c - u), "this is the result for scale = 7"),
    (lambda c, u, scale: u + max(scale, 1) * (c - u), "up to 1, scale is not used"),
    (lambda c, u, scale: c if scale <= 1 else u + scale * (c - u), "up to 1, scale is not used"),
    (lambda c, u, scale: c if not scale else u + scale * (c - u), "this is the result for scale = 1"),
    (lambda c, u, scale: (u + scale * (c - u)).clamp(-1, 1), "the result is clamped"),
    (lambda c, u, scale: (u + scale * (c - u)).clamp(-3, 3), "the result is clamped to -3 … 3"),
    (lambda c, u, scale: (g := u + scale * (c - u)) * c.std() / g.std(), "conditional has the factor"),
    (lambda c, u, scale: u + scale * (c - u).mean(), "it is off by up to"),
    (lambda c, u, scale: u + scale * (c - u).abs(), "it is off by up to"),
    (lambda c, u, scale: u + scale * (c - u)[0], "it is off by up to"),
    (lambda c, u, scale: (u + scale * (c - u)).squeeze(), "it returns shape (3, 4, 6); expected (3, 1, 4, 6)"),
    (lambda c, u, scale: (u + scale * (c - u)).squeeze(0), "it returns shape (1, 4, 5); expected (1, 1, 4, 5)"),
    (lambda c, u, scale: torch.cat([c, u + scale * (c - u)]), "it returns shape (6, 1, 4, 6)"),
    (lambda c, u, scale: (u + scale * (c - u), u), "it returns 2 values"),
    (lambda c, u, scale: c.sub_(u).mul_(scale).add_(u), "it changes the tensors it is given"),
    (lambda c, u, scale: u + scale * (c - u) + 1e-3 * torch.randn_like(u), "draw no random numbers"),
    (lambda c, u, scale: (u + scale * (c - u)).half(), "which keeps few digits"),
    (lambda c, u, scale: u + (c - u) / scale, "this is the result for scale = 0.333"),
    (lambda c, u, scale: u + scale * (c - u) / (c - u).norm(), "this is the result for scale = "),
    (lambda c, u, scale: u + scale * (c - u) / 0, "not finite"),
    (lambda c, u: u, "it raised TypeError"),
]

# --------------------------------------------------------------------------------------------------------------------- calls

RIGHT_CALLS = [200, 200.0, 100 // 25 * 50, 100 / 25 * 50, torch.tensor(200), np.int64(200), Fraction(200), torch.tensor(200.0)]

WRONG_CALLS = [
    (50, "that is for one batch"),
    (51, "that counts the levels of one batch, not the steps"),
    (5000, "that counts every image"),
    (400, "there is no guidance here"),
    (10000, "that counts every image twice"),
    (100, "one call per step, and there are 50 steps"),
    (204, "51 levels"),
    (196, "all 50 steps call the network"),
    (4, "the number of batches"),
    (25, "the size of a batch"),
    (2, "100 images divided by 50 steps"),
    (1250, "25 times 50"),
    (2500, "25 times 100"),
    (5100, "that counts every image, and levels"),
    (125000, "that multiplies all three"),
    (4000, "at each of 1000 levels"),
    (100000, "every image and 1000 levels"),
    (54, "the batches and the steps are added"),
    (0, "0 is too small"),
    (-200, "-200 is too small"),
    (200.4, "200.4 is too large"),
    (199.6, "199.6 is too small"),
    (201, "201 is too large"),
    (1000, "1000 is too large"),
    (math.inf, "inf is too large"),
    (math.nan, "this is not a number"),
    ("200", "this is a str; expected a number"),
    (True, "this is a bool; expected a number"),
    ([200], "this is a list; expected a number"),
    (torch.tensor([200]), "this is a Tensor; expected a number"),
    (lambda: 200, "this is a function; expected a number"),
]


RIGHT = {
    "check_levels": RIGHT_LEVELS,
    "check_ddim_step": RIGHT_DDIM,
    "check_sigma": RIGHT_SIGMA,
    "check_step": RIGHT_STEP,
    "check_guided": RIGHT_GUIDED,
    "check_calls": RIGHT_CALLS,
}
WRONG = {
    "check_levels": WRONG_LEVELS,
    "check_ddim_step": WRONG_DDIM,
    "check_sigma": WRONG_SIGMA,
    "check_step": WRONG_STEP,
    "check_guided": WRONG_GUIDED,
    "check_calls": WRONG_CALLS,
}
