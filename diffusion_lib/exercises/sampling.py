"""Exercises of notebook 04; sampling_steps.py holds those about one step of a sampler."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, Question
from diffusion_lib.exercises.parts import factors, floats, wrong_factors
from diffusion_lib.exercises.sampling_steps import check_ddim_step as check_ddim_step
from diffusion_lib.exercises.sampling_steps import check_sigma as check_sigma
from diffusion_lib.exercises.sampling_steps import check_step as check_step

# -------------------------------------------------------------------------------------------------------------------- levels


def _levels(T, steps):
    return [T * (steps - i) // steps for i in range(steps + 1)]


def _as_tensor(levels) -> Tensor:
    if not isinstance(levels, Tensor | Sequence):
        raise TypeError("not a list of numbers")
    return levels if isinstance(levels, Tensor) else torch.tensor(list(levels))


def _about_levels(got, expected, T, steps):
    levels, right = _as_tensor(got), torch.tensor(expected)
    if levels.ndim != 1 or levels.is_complex() or levels.dtype == torch.bool or len(levels) == 0:
        return None
    levels = levels if levels.is_floating_point() else levels.long()
    if len(levels) != len(right):
        ends = f"{len(levels)} levels, from {levels[0].item():g} to {levels[-1].item():g}"
        return f"it returns {ends}; expected steps + 1 = {steps + 1} levels, from {T} to 0"
    if levels.is_floating_point() and torch.equal(levels.double(), right.double()):
        return "the values are right, but they are floats; levels are integers: divide with // or convert with int()"
    if levels.is_floating_point() and torch.equal(levels.double().floor(), right.double()):
        return "levels are integers: round T (n - i) / n down, with // instead of /"
    size = int(levels[0] - levels[1])
    if torch.equal(levels.flip(0), right):
        return "the list ascends; a sampler goes from T down to 0"
    if T % steps and abs(size - T / steps) < 1 and (levels.diff() == -size).all():
        return f"every step is {size}: T / steps is rounded before it is multiplied, and the errors add up"
    exact = T * torch.arange(steps, -1, -1)  # n times what is rounded down
    wrong, whole = levels != right, exact % steps == 0
    if whole[wrong].all() and torch.equal(levels[wrong], right[wrong] - 1) and not wrong[1:-1].all():
        i = int(wrong.nonzero()[0])
        cause = "T (n - i) / n is an integer there, and floating point can fall just below it: divide integers, with //"
        return f"level i = {i} is {levels[i].item()}; expected {right[i].item()}: {cause}"
    if levels[0] != T or levels[-1] != 0:
        return f"the list goes from {levels[0].item():g} to {levels[-1].item():g}; expected from T = {T} to 0"
    if (2 * (steps * levels - exact).abs() <= steps).all():
        return "this is rounded to the nearest integer; expected T (n - i) / n rounded down"
    if torch.equal(levels, -(-exact // steps)):
        return "this is rounded up; expected T (n - i) / n rounded down"
    i = int(wrong.nonzero()[0])
    rounded = "" if whole[i] else f", which is {exact[i].item() / steps:.5g} rounded down"
    return f"level i = {i} is {levels[i].item():g}; expected {right[i].item()}{rounded}"


check_levels = Exercise(
    reference=_levels,
    inputs=lambda random: [
        *((1000, 10), (100, 7), (100, 3), (50, 50), (7, 1), (1, 1), (300, 22), (4000, 333)),
        # each of these falls below an integer in some floating-point formula
        *((1000, 12), (1000, 19), (1000, 38), (1000, 60), (100, 100), (1000, 120), (1000, 242), (1000, 999)),
    ],
    look=_as_tensor,
    mistakes=(
        Mistake(lambda T, steps: _levels(T, steps)[:-1], "0 is missing: the last step ends at the clean image"),
        Mistake(lambda T, steps: _levels(T, steps)[1:], "T is missing: the chain starts from noise, which is level T"),
        Mistake(lambda T, steps: _levels(T, steps)[1:-1], "T and 0 are missing: the chain starts from noise and ends at the clean image"),
        Mistake(lambda T, steps: _levels(T, steps)[-2::-1], "the list ascends, and 0 is missing; a sampler goes from T down to 0"),
        Mistake(lambda T, steps: _levels(T, steps)[:0:-1], "the list ascends, and T is missing; a sampler goes from T down to 0"),
        Mistake(
            lambda T, steps: [max(1, level) for level in _levels(T, steps)],
            "the list ends at 1: the noise of that level would remain in the image",
        ),
        Mistake(
            lambda T, steps: [T - 1 - i * (T // steps) for i in range(steps)],
            "the list starts at T - 1 and does not end at 0: levels go from T to 0",
        ),
        Mistake(lambda T, steps: [level - 1 for level in _levels(T, steps)], "every level is one too low: levels go from T to 0"),
    ),
    diagnose=_about_levels,
)


# ------------------------------------------------------------------------------------------------------------------ guidance


def _guided(conditional, unconditional, scale):
    # eps = eps(xt) + scale (eps(xt, y) - eps(xt))                                     Ho & Salimans 2022, equation 6, w = scale - 1
    return unconditional + scale * (conditional - unconditional)


def _about_guided(got, expected, conditional, unconditional, scale):
    x = floats(got, expected)
    if x is None:
        return None
    found = factors(x, conditional, unconditional)
    if found and abs(sum(found) - 1) < 1e-3:
        return f"this is the result for scale = {found[0]:.3g}"
    return wrong_factors(x, expected, dict(conditional=conditional, unconditional=unconditional))


check_guided = Exercise(
    reference=_guided,
    inputs=lambda random: [
        (*torch.randn(2, *shape, generator=random), scale)
        for shape, scale in (
            *(((3, 1, 4, 6), 3.0), ((2, 3, 5, 3), 0.0), ((1, 1, 4, 5), 1.0), ((1, 3, 3, 4), 7.5)),
            *(((4, 1, 5, 2), 0.4), ((2, 2, 3, 5), 2.0), ((2, 1, 6, 5), 0.0)),
        )
    ],
    mistakes=(
        Mistake(lambda c, u, scale: _guided(u, c, scale), "the two predictions are swapped: this guides away from the class"),
        Mistake(
            lambda c, u, scale: c + scale * (c - u),
            "this starts from the conditional prediction, like the paper (its w is scale - 1); start from the unconditional one",
        ),
        Mistake(lambda c, u, scale: scale * (c - u), "the unconditional prediction is missing: scale = 0 should give exactly that"),
        Mistake(
            lambda c, u, scale: u + scale * c,
            "the whole conditional prediction is added; add only the difference that the class makes",
        ),
        Mistake(lambda c, u, scale: scale * c, "the unconditional prediction is not used: this multiplies the noise and guides nothing"),
        Mistake(lambda c, u, scale: scale * u, "the conditional prediction is not used: add the difference that the class makes"),
        Mistake(lambda c, u, scale: u - scale * (c - u), "the difference is subtracted: this guides away from the class"),
        Mistake(
            lambda c, u, scale: u + scale * (c + u),
            "the two predictions are added; subtract them to get the difference that the class makes",
        ),
        Mistake(
            lambda c, u, scale: scale * c - u,
            "brackets are missing: scale multiplies only one prediction; write scale (conditional - unconditional)",
        ),
        Mistake(
            lambda c, u, scale: scale * c - (1 - scale) * u, "the unconditional prediction is subtracted; the two factors should sum to 1"
        ),
        Mistake(lambda c, u, scale: scale * (c + u) / 2, "this is a multiple of the mean; expected a step along the difference"),
        Mistake(
            lambda c, u, scale: u + (scale - 1) * (c - u),
            "the difference has the factor scale - 1; scale = 1 should give the conditional prediction",
        ),
        Mistake(lambda c, u, scale: c, "this is the conditional prediction, whatever scale is"),
        Mistake(lambda c, u, scale: u, "this is the unconditional prediction, whatever scale is"),
        Mistake(
            lambda c, u, scale: c - u, "this is the difference that the class makes; scale and the unconditional prediction are missing"
        ),
        Mistake(
            lambda c, u, scale: _guided(c, u, scale).clamp(-1, 1),
            "the result is clamped; it is noise, which exceeds 1: leave the clamp out",
        ),
        Mistake(
            lambda c, u, scale: c if scale <= 1 else _guided(c, u, scale),
            "up to 1, scale is not used: scale = 0 should give the unconditional prediction",
        ),
    ),
    diagnose=_about_guided,
)


# --------------------------------------------------------------------------------------------------------------------- calls

check_calls = Question(
    answer=200,
    tolerance=1e-6,
    mistakes=(
        Mistake(50, "that is for one batch; 100 images at 25 a batch make four"),
        Mistake(51, "that counts the levels of one batch, not the steps; and 100 images at 25 a batch make four"),
        Mistake(5000, "that counts every image; one call takes a whole batch"),
        Mistake(400, "there is no guidance here: each step needs one call"),
        Mistake(10000, "that counts every image twice; one call takes a whole batch, and there is no guidance here"),
        Mistake(100, "each of the four batches needs one call per step, and there are 50 steps"),
        Mistake(204, "a chain of 50 steps has 51 levels, but the network is not called at the last one, 0"),
        Mistake(196, "all 50 steps call the network, including the last one"),
        Mistake(4, "that is the number of batches; each of them takes 50 steps"),
        Mistake(25, "that is the size of a batch; there are four batches with 50 steps each"),
        Mistake(2, "that is 100 images divided by 50 steps; each of the four batches needs one call per step"),
        Mistake(1250, "that is 25 times 50; multiply by the number of batches, not by their size"),
        Mistake(2500, "that is 25 times 100; there are four batches with 50 steps each"),
        Mistake(5100, "that counts every image, and levels instead of steps; one call takes a whole batch"),
        Mistake(125000, "that multiplies all three; divide the images by the size of a batch first"),
        Mistake(4000, "that is for a step at each of 1000 levels; here there are 50 steps"),
        Mistake(100000, "that is for every image and 1000 levels; here there are 50 steps, and one call takes a whole batch"),
        Mistake(54, "the batches and the steps are added; multiply them: each batch takes all the steps"),
    ),
    praise="four batches of 50 steps; DDPM would need the same number",
)
