"""The learning rate, an exercise of notebook 03."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from diffusion_lib.exercises.checking import Exercise, Mistake
from diffusion_lib.exercises.variations import first_of, nearly, one_wrong, two_wrong


def _half_cosine(u):
    # (1 + cos(pi u)) / 2, from 1 at u = 0 to 0 at u = 1                                      Loshchilov & Hutter 2017, equation 5
    return 0.5 * (1 + math.cos(math.pi * u))


def _scheduled(last_of_rise: int) -> Callable[..., Callable]:
    """An answer made of a rise, up to step warmup + last_of_rise, and a fall."""

    def made(rise: Callable, fall: Callable, scaled: Callable) -> Callable:
        def rate(step, steps, warmup, lr):
            return scaled((rise if step <= warmup + last_of_rise else fall)(step, steps, warmup), lr)

        return rate

    return made


def _u(step, steps, warmup):
    return (step - warmup) / (steps - warmup)


_FROM_0 = "the cosine begins at step 0; it should begin at the end of the warm-up, at full height"
_RATE = (
    [
        (lambda step, steps, warmup: step / warmup, ""),
        (lambda step, steps, warmup: 1.0, "there is no warm-up: step 1 of a warm-up of 100 should have a hundredth of the rate"),
        (
            lambda step, steps, warmup: _half_cosine(_u(step, steps, warmup)),
            "there is no warm-up: up to step warmup the rate should rise linearly from 0",
        ),
        (
            lambda step, steps, warmup: _half_cosine(step / steps),
            "there is no warm-up: up to step warmup the rate should rise linearly from 0",
        ),
        (
            lambda step, steps, warmup: (step - 1) / (warmup - 1),
            "the line begins with 0 at step 1, so the first step would do nothing; the rate of step 1 is lr / warmup",
        ),
        (lambda step, steps, warmup: (step - 1) / warmup, "the warm-up is one step late: the rate of step 1 is lr / warmup, not 0"),
        (
            lambda step, steps, warmup: (step + 1) / warmup,
            "the warm-up is one step early: step counts from 1, so the rate of step 1 is lr / warmup",
        ),
        (lambda step, steps, warmup: step / (warmup + 1), "the warm-up ends one step late: at step warmup the rate is lr"),
        (lambda step, steps, warmup: step / steps, "the warm-up takes all the steps: divide by warmup, not by steps"),
        (
            lambda step, steps, warmup: step // warmup,
            "the rate is 0 until the warm-up ends; it should rise linearly (// drops the fraction, / keeps it)",
        ),
        (
            lambda step, steps, warmup: step / warmup * _half_cosine(step / steps),
            "in the warm-up the line is multiplied by the cosine; use the line alone",
        ),
        (
            lambda step, steps, warmup: step / warmup * _half_cosine((step - warmup) / (steps - warmup)),
            "the cosine already acts during the warm-up; there the rate is lr * step / warmup alone",
        ),
        (lambda step, steps, warmup: 1 - _half_cosine(step / warmup), "in the warm-up the rate rises on a cosine; expected a line"),
        (lambda step, steps, warmup: (step / warmup) ** 2, "in the warm-up the rate rises on a parabola; expected a line"),
        (lambda step, steps, warmup: 1 - step / warmup, "in the warm-up the rate falls; it should rise from 0"),
        (lambda step, steps, warmup: warmup / step, "step / warmup is upside down"),
        (lambda step, steps, warmup: step, "in the warm-up it returns lr times step: divide by warmup"),
        (lambda step, steps, warmup: 1 / warmup, "in the warm-up the rate stays at lr / warmup; multiply it by step"),
        (
            lambda step, steps, warmup: math.sin(0.5 * math.pi * step / warmup),
            "in the warm-up the rate rises on a sine; expected a line",
        ),
    ],
    [
        (lambda step, steps, warmup: _half_cosine(_u(step, steps, warmup)), ""),
        (lambda step, steps, warmup: _half_cosine(step / steps), _FROM_0),
        (
            lambda step, steps, warmup: 2 * _half_cosine(_u(step, steps, warmup)),
            "after the warm-up the rate is twice too high: cos runs from 1 to -1, so half of 1 + cos runs from 1 to 0",
        ),
        (
            lambda step, steps, warmup: math.cos(math.pi * _u(step, steps, warmup)),
            "the rate becomes negative, because cos runs from 1 to -1: half of 1 + cos runs from 1 to 0",
        ),
        (
            lambda step, steps, warmup: math.cos(0.5 * math.pi * _u(step, steps, warmup)),
            "this is a quarter of a cosine, steep at its end; expected half of one, flat at both ends",
        ),
        (
            lambda step, steps, warmup: _half_cosine(_u(step, steps, warmup) / 2),
            "the cosine goes only half the way and ends at lr / 2: use cos(pi * done), with done from 0 to 1",
        ),
        (
            lambda step, steps, warmup: _half_cosine(2 * _u(step, steps, warmup)),
            "the rate is 0 halfway and rises again: use cos(pi * done), with done from 0 to 1",
        ),
        (
            lambda step, steps, warmup: _half_cosine(_u(step, steps, warmup) / math.pi),
            "pi is missing in the cosine: cos(pi * done)",
        ),
        (
            lambda step, steps, warmup: _half_cosine(_u(step, steps, warmup) * 180 / math.pi),
            "math.cos takes radians, not degrees: cos(pi * done)",
        ),
        (
            lambda step, steps, warmup: 0.5 * (1 + math.sin(math.pi * _u(step, steps, warmup))),
            "this is a sine; expected a cosine",
        ),
        (
            lambda step, steps, warmup: 1 - _half_cosine(_u(step, steps, warmup)),
            "after the warm-up the rate rises from 0; it should fall to 0",
        ),
        (lambda step, steps, warmup: 1 - _u(step, steps, warmup), "the rate falls on a straight line; expected half a cosine"),
        (lambda step, steps, warmup: 1.0, "after the warm-up the rate stays at lr; it should fall to 0"),
        (lambda step, steps, warmup: 0.0, "after the warm-up the rate is 0; it should fall on half a cosine"),
        (lambda step, steps, warmup: math.exp(-_u(step, steps, warmup)), "the rate falls exponentially; expected half a cosine"),
        (lambda step, steps, warmup: step / warmup, "the rate keeps rising after the warm-up; it should fall on half a cosine"),
        (
            lambda step, steps, warmup: _half_cosine((step - warmup) / (steps + 1 - warmup)),
            "this is the library's rate, which is 0 one step after the last; expected 0 at the last step",
        ),
        (
            lambda step, steps, warmup: _half_cosine((step - warmup) / (steps - 1 - warmup)),
            "the rate is 0 one step before the last; expected 0 at the last step",
        ),
        (
            lambda step, steps, warmup: _half_cosine((step - 1 - warmup) / (steps - warmup)),
            "the fall is one step late: u is 0 at step warmup",
        ),
        (
            lambda step, steps, warmup: _half_cosine((step - 1 - warmup) / (steps - 1 - warmup)),
            "the fall begins one step late: u is 0 at step warmup",
        ),
        (
            lambda step, steps, warmup: _half_cosine((step - warmup) / steps),
            "the fall does not reach 0: it takes steps - warmup steps, so u = (step - warmup) / (steps - warmup)",
        ),
        (
            lambda step, steps, warmup: _half_cosine(step / (steps - warmup)),
            "u begins at warmup / (steps - warmup); expected (step - warmup) / (steps - warmup), from 0",
        ),
        (
            lambda step, steps, warmup: _half_cosine((step - warmup) / steps - warmup),
            "steps - warmup needs brackets: u = (step - warmup) / (steps - warmup)",
        ),
        (
            lambda step, steps, warmup: step / warmup * _half_cosine(_u(step, steps, warmup)),
            "after the warm-up the cosine is multiplied by the line; multiply it by lr alone",
        ),
        (
            lambda step, steps, warmup: _half_cosine((step - warmup) // (steps - warmup)),
            "// drops the fraction, so the rate does not fall until the last step: use /",
        ),
        (lambda step, steps, warmup: 0.1 + 0.9 * _half_cosine(_u(step, steps, warmup)), "the rate ends at lr / 10; expected 0"),
        (lambda step, steps, warmup: 0.01 + 0.99 * _half_cosine(_u(step, steps, warmup)), "the rate ends at lr / 100; expected 0"),
        (lambda step, steps, warmup: _half_cosine(_u(step, steps, warmup)) ** 2, "the half cosine is squared; leave out the square"),
        (
            lambda step, steps, warmup: 0.5 * math.cos(math.pi * _u(step, steps, warmup)),
            "the 1 is missing: half of 1 + cos runs from 1 to 0, half of cos from 1/2 to -1/2",
        ),
    ],
    [
        (lambda height, lr: height * lr, ""),
        (lambda height, lr: height, "lr is missing: it is the height of the curve"),
        (lambda height, lr: height * lr**2, "lr is multiplied in twice"),
        (lambda height, lr: height * lr / 2, "the whole curve has half its height; its maximum is lr"),
        (lambda height, lr: min(height * lr, 1.0), "the rate is clamped to 1; lr may be larger"),
        (lambda height, lr: float(int(height * lr)), "the rate is an integer: // or int drops the fraction"),
        (lambda height, lr: float(round(height * lr)), "the rate is rounded to an integer"),
        (lambda height, lr: height + lr, "lr is added; multiply by it: it is the height of the curve"),
    ],
)


def _rate_calls(random: torch.Generator) -> list[tuple]:
    """First the warm-ups, then the falls; at the end a rate as small as in practice."""
    rises: Sequence[tuple] = (
        (1000, 100, 3.0, (77, 1, 100)),
        (60, 25, 0.7, (7, 25)),
        (50, 10, 20.0, (3,)),
    )
    falls: Sequence[tuple] = (
        (1000, 100, 3.0, (330, 101, 550, 1000)),
        (60, 25, 0.7, (33, 60)),
        (50, 10, 20.0, (11, 45)),
    )
    small = [(400, 80, 3e-4, (61, 80, 210, 390, 400))]
    return [(step, *settings) for *settings, at in (*rises, *falls, *small) for step in at]


def _relative(mistakes: Sequence[Mistake[Callable]]) -> Callable[..., str | None]:
    """`nearly`, in units of lr."""

    def divided(answer: Callable) -> Callable:
        return lambda step, steps, warmup, lr: answer(step, steps, warmup, lr) / lr

    explain = nearly([Mistake(divided(mistake.answer), mistake.message) for mistake in mistakes], atol=1e-5)
    return lambda got, expected, *call: explain(got / call[-1], expected / call[-1], *call)


def _otherwise(rise: Callable | None = None, fall: Callable | None = None) -> Callable:
    """The right answer with another rise or fall, each including lr."""

    def rate(step, steps, warmup, lr):
        if step <= warmup:
            return rise(step, steps, warmup, lr) if rise else lr * step / warmup
        return fall(step, steps, warmup, lr) if fall else lr * _half_cosine(_u(step, steps, warmup))

    return rate


_IN_ALL = (
    Mistake(
        _otherwise(rise=lambda step, steps, warmup, lr: lr * step // warmup),
        "in the warm-up the rate is an integer: // drops the fraction, / keeps it",
    ),
    Mistake(
        _otherwise(fall=lambda step, steps, warmup, lr: 0.5 * lr + math.cos(math.pi * _u(step, steps, warmup))),
        "brackets are missing: 0.5 * lr multiplies all of (1 + cos(pi * done))",
    ),
    Mistake(
        _otherwise(fall=lambda step, steps, warmup, lr: 0.5 * lr + 1 + math.cos(math.pi * _u(step, steps, warmup))),
        "lr / 2 is added; multiply 1 + cos(pi * done) by it",
    ),
)


def _rate_off(got: Any, expected: float, step: int, steps: int, warmup: int, lr: float) -> str | None:
    if getattr(got, "ndim", 0) or not math.isfinite(got := float(got)):
        return None
    where = "in the warm-up" if step <= warmup else "the warm-up is right; after that" if step < steps else "the last rate should be 0:"
    digits = next((n for n in range(4, 9) if f"{got:.{n}g}" != f"{expected:.{n}g}"), 9)
    return f"{where} it returns {got:.{digits}g}; expected {expected:.{digits}g}"


check_learning_rate = Exercise(
    reference=_scheduled(0)(*(options[0][0] for options in _RATE)),
    inputs=_rate_calls,
    look=lambda rate: (rate + 0.0) * 1e4,  # an integer counts as a rate; scaled, a small rate is compared to as many digits
    mistakes=(
        *one_wrong(_scheduled(0), *_RATE),
        *one_wrong(_scheduled(-1), _RATE[0][:1], _RATE[1], _RATE[2][:1]),
        Mistake(lambda step, steps, warmup, lr: lr * min(1, step / warmup) * _half_cosine(step / steps), _FROM_0),
        Mistake(
            lambda step, steps, warmup, lr: lr * _half_cosine(step / steps),
            "there is no warm-up: the cosine begins at step 0; it should begin at the end of a line from 0 to lr",
        ),
        Mistake(lambda step, steps, warmup, lr: lr, "the rate is lr at every step; it should rise on a line, then fall on half a cosine"),
        *_IN_ALL,
    ),
    diagnose=first_of(
        _relative((*one_wrong(_scheduled(0), *_RATE), *two_wrong(_scheduled(0), _RATE[0], _RATE[1], _RATE[2][:2]))), _rate_off
    ),
)
