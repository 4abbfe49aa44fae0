"""Examines a training loop: runs it on a known network and known images, and reads the network's inputs and gradients."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.diagnosis.averages import NAMES, about_returned
from diffusion_lib.exercises.diagnosis.learning import about_target, about_updates
from diffusion_lib.exercises.diagnosis.noising import about_noising
from diffusion_lib.exercises.diagnosis.report import Notes, Report
from diffusion_lib.exercises.diagnosis.running import Draws, attempt
from diffusion_lib.exercises.diagnosis.witness import Book, Lesson, Witness, images, means, spread
from diffusion_lib.schedules import Schedule

FEW = 14  # expected draws per timestep at which a missing one is no chance: exp(-14) = 8e-7


def examine_training(program: Callable[..., Any], schedule: Schedule, predicts: str) -> Report:
    """The report on a training loop; see `doctor`."""
    notes, draws = Notes(), Draws()
    book = Book(schedule.T, draws)
    with torch.random.fork_rng():  # layers draw their first weights
        network = Witness(book).train()
    outcome = attempt(program, network, images(), draws=draws, unpack=False)
    if outcome.error:
        notes.findings.append(outcome.error)
    lessons = [each for each in book.lessons if each.grad]
    subject = (
        f"training loop, {len(lessons)} call{'s' * (len(lessons) != 1)} of the network, schedule {schedule.name!r} of T = {schedule.T}"
    )
    if not book.lessons:
        if not outcome.error:
            notes.find(
                "The network is never called",
                "0 calls",
                "one for each step",
                "the loop should call the network that it is given as its first argument, not one from outside",
            )
        return notes.report(subject)
    _about_inputs(notes, lessons, draws, schedule, predicts)
    last = torch.cat([weight.detach().cpu().double().flatten() for weight in network.parameters()])
    about_updates(notes, lessons, last, list(NAMES))
    _about_modes(notes, lessons)
    if not outcome.stopped and not outcome.error:
        about_returned(notes, outcome.result, network, [each.weights for each in book.lessons] + [last])
    elif outcome.stopped:
        notes.remarks.append("the doctor stopped the loop; what it would return (an average, a checkpoint) was not examined")
    return notes.report(subject)


def _about_inputs(notes: Notes, lessons: list[Lesson], draws: Draws, schedule: Schedule, predicts: str) -> None:
    """Adds findings about the network's inputs and targets."""
    detailed = [each for each in lessons if each.xt is not None and len(each.t) == each.batch]
    if any(len(each.t) != each.batch for each in lessons):
        wrong = next(each for each in lessons if len(each.t) != each.batch)
        notes.find(
            "t does not fit the batch",
            f"{len(wrong.t)} timesteps for {wrong.batch} images",
            "one for each image, (B,)",
            "the line that draws t: (len(x0),)",
        )
        return
    if not detailed:
        return
    if any(not each.xt.isfinite().all() for each in detailed if each.xt is not None):
        notes.find(
            "xt is not finite", "NaN or infinite values", "numbers", "a root of a negative number, or a division by 0, in xt or the tables"
        )
        return
    xt = torch.cat([each.xt for each in detailed if each.xt is not None])
    t = torch.cat([each.t for each in lessons])
    fraction = bool(((t >= 0) & (t <= 1)).all() and (t != t.round()).any())
    scale = schedule.T if fraction else 1
    if fraction:
        notes.remarks.append(f"t is given as a fraction; it is taken for t / {schedule.T}. A sampler has to give the network the same")
    t, seen = ((each * scale).round().long() for each in (t, torch.cat([each.t for each in detailed])))
    if (t < 0).any() or (t > schedule.T).any():
        notes.find(
            "Timesteps lie outside 1..T",
            f"from {t.min()} to {t.max()}",
            f"1 to {schedule.T}",
            f"the line that draws t: torch.randint(1, T + 1, ({detailed[0].batch},))",
            9,
        )
        return
    fresh = _about_draws(notes, detailed)
    known, shift = about_noising(notes, xt, seen, schedule) if fresh else (None, 0)
    _about_timesteps(notes, lessons, t, shift, draws, schedule)
    taught = [each for each in detailed if each.gradient is not None]
    if known is not None and taught == detailed:
        about_target(notes, detailed, known, predicts)
    elif known is not None and taught and detailed[-1].gradient is None:  # the last call was the one that ended the loop
        count = sum(each.batch for each in detailed[: len(taught)])
        keep = known.rows < count
        if taught == detailed[: len(taught)]:
            about_target(notes, taught, type(known)(*(each[keep] for each in known)), predicts)


def _about_draws(notes: Notes, lessons: list[Lesson]) -> bool:
    """Checks whether each image has its own noise."""
    noises = [torch.nn.functional.normalize(each.xt - spread(means(each.xt)), dim=1) for each in lessons if each.xt is not None]
    shared = [float((noise[0] @ noise[1]).abs()) for noise in noises if len(noise) > 1]
    again = [float((a[0] @ b[0]).abs()) for a, b in pairwise(noises)]
    line = "the line that draws eps: torch.randn_like(x0), in every step"
    if shared and sum(each > 0.9 for each in shared) > len(shared) / 2:
        notes.find("All images of a batch get the same noise", f"correlation {max(shared):.2f}", "0: a draw for each image", line)
        return False
    if sum(each > 0.9 for each in again) > max(2, len(again) / 2):
        notes.find(
            "Every step has the same noise",
            f"correlation {max(again):.2f} between steps",
            "0: a fresh draw in every step",
            f"{line}; no seed inside the loop",
        )
        return False
    notes.passed.append("fresh noise for each step and image")
    return True


def _about_timesteps(notes: Notes, lessons: list[Lesson], t: Tensor, shift: int, draws: Draws, schedule: Schedule) -> None:
    """Checks the range and the distribution of t. shift: of the loop's own t above the network's."""
    T, own = schedule.T, t + shift
    low, high = int(own.min()), int(own.max())
    # what randint was asked for, where that is where these t come from
    bounds = [(a + shift, b - 1 + shift) for a, b in set(draws.bounds) if b - a > T / 2 and a + shift <= low and high <= b - 1 + shift]
    enough = len(own) >= FEW * T
    line = f"the line that draws t: torch.randint(1, {T} + 1, (len(x0),)); randint leaves its upper end out"
    lowest, highest = bounds[0] if bounds else (low, high) if enough else (min(low, 1), T)
    if len(set(own.tolist())) == 1 and len(own) > 20:
        notes.find("t is always the same", f"t = {low} in all {len(own)} draws", f"all of 1..{T}", line, 9)
        return
    ends = []
    if lowest < 1 or low < 1:
        ends.append("0, a clean image, is trained")
    if lowest > 1:
        ends.append(f"1{f'..{lowest - 1}' * (lowest > 2)} {'are' if lowest > 2 else 'is'} never trained")
    if highest < T:
        ends.append(f"{f'{highest + 1}..' * (highest < T - 1)}{T} {'are' if highest < T - 1 else 'is'} never trained")
    if ends:
        how = "by the bounds of randint" if bounds else f"in {len(own)} draws"
        notes.find("Timesteps do not cover 1..T", f"t from {lowest} to {highest}, {how}: {' and '.join(ends)}", f"1 to {T}", line, 9)
    elif bounds or enough:
        notes.passed.append(f"timesteps: 1 to {T}")
    if all(len(set(each.t.tolist())) == 1 for each in lessons) and max(each.batch for each in lessons) > 1:
        notes.remarks.append("all images of a batch have the same t: right on average, but the loss varies more from step to step")
    elif len(own) >= 2000 and T >= 10:
        tenths = torch.histc(own.double(), 10, 0.5, T + 0.5)
        levels = torch.histc(torch.arange(1, T + 1).double(), 10, 0.5, T + 0.5) / T * len(own)
        if ((tenths - levels).square() / levels).sum() > 60:  # chi-square with 9 degrees of freedom: by chance in 1 of 1e9
            shares = ", ".join(f"{each:.0%}" for each in (tenths / len(own)).tolist())
            notes.remarks.append(f"t is not uniform: each tenth of 1..{T} has {shares} of the draws. Ho et al. 2020 draw it uniformly")
        elif not ends:
            notes.passed.append("timesteps are uniform")


def _about_modes(notes: Notes, lessons: list[Lesson]) -> None:
    off = sum(not each.training for each in lessons)
    if lessons and off > len(lessons) / 2:
        notes.find(
            "The network is trained in eval mode",
            f"in {off} of {len(lessons)} calls; it was given in training mode",
            "training mode, in which dropout works",
            "network.eval(), perhaps before pictures are drawn: network.train() afterwards",
        )
