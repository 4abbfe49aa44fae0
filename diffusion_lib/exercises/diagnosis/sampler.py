"""Examines a sampler: runs it on an exact model of one known image, and compares its steps, read from the calls, with known mistakes."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.diagnosis.end import about_end
from diffusion_lib.exercises.diagnosis.maps import Map, maps_of
from diffusion_lib.exercises.diagnosis.probe import BATCH, SHAPE, Call, Probe, Recorder, level, one_image
from diffusion_lib.exercises.diagnosis.report import Notes, Report
from diffusion_lib.exercises.diagnosis.running import Draws, Outcome, attempt
from diffusion_lib.exercises.diagnosis.steps import about_steps
from diffusion_lib.schedules import Schedule

ENOUGH_LEFT, SOME_LEFT = 0.1, 0.02  # of sqrt(alpha_bar_T): a mistake above the first, worth a remark above the second
START_TOLERANCE = 0.05  # of the factors of image and noise in the first xt


class Run:
    """One run of a sampler on a model of known images."""

    def __init__(
        self,
        program: Callable,
        schedule: Schedule,
        predicts: str | None,
        images: Callable[[tuple[int, ...]], Tensor] = one_image,
        unlabelled: Callable[[tuple[int, ...]], Tensor] | None = None,
        seed: int = 0,
        limit: int | None = None,
    ):
        draws = Draws()
        self.recorder = Recorder(draws, limit or 10 * schedule.T + 1000)
        self.model = Probe(schedule, predicts, images, self.recorder, unlabelled).eval()
        z = torch.randn(BATCH, *SHAPE, generator=torch.Generator().manual_seed(5))
        # xT = signal_T x0 + noise_T z: the noise that a chain starts from, exactly as it is at t = T
        self.xT = (schedule.signal[-1] * images(SHAPE).double() + schedule.noise[-1] * z.double()).float()
        self.outcome: Outcome = attempt(
            program, self.model, self.xT.clone(), draws=draws, seed=seed, hint=lambda error: _hint(error, predicts)
        )
        self.last_draws = draws.take()
        self.calls = [call._replace(xt=call.xt[:BATCH]) for call in self.recorder.calls]


def examine_sampler(program: Callable[..., Any], schedule: Schedule, predicts: str | None) -> Report:
    """The report on a sampler; see `doctor`."""
    notes = Notes()
    _about_schedule(notes, schedule)
    run = Run(program, schedule, predicts)
    calls = run.calls
    if run.outcome.error:
        notes.findings.insert(0, run.outcome.error)
    elif run.outcome.stopped:
        notes.find(
            "The sampler does not end",
            f"more than {run.recorder.limit} calls of the model",
            f"an end after about one call per step, at most T = {schedule.T} or a few times that",
            "the condition of the loop over timesteps",
        )
    if not calls and not run.outcome.error:
        notes.find(
            "The model is never called",
            "0 calls",
            "one or more for each step",
            "the sampler should call the model that it is given as its first argument, not one from outside",
        )
    if calls:
        _examine_calls(notes, run, schedule, lambda **options: Run(program, schedule, predicts, **options))
    times = f"{len(calls)} call{'s' * (len(calls) != 1)} of the model"
    return notes.report(f"sampler, {times}, schedule {schedule.name!r} of T = {schedule.T}")


def _examine_calls(notes: Notes, run: Run, schedule: Schedule, rerun: Callable[..., Run]) -> None:
    """Adds findings about the calls of the model and the result."""
    in_order = _about_timesteps(notes, run.calls, schedule)
    _about_modes(notes, run)
    maps = maps_of(run.calls, schedule) if in_order else []
    normal = _about_noise(notes, run, maps)
    shift, fit = about_steps(notes, run.calls, maps, schedule, known=not normal) if in_order else (0.0, False)
    own_start = _about_start(notes, run, schedule, shift) if in_order else False
    if in_order and not run.outcome.error and not run.outcome.stopped:
        about_end(notes, run, rerun, schedule, fit)
        _about_seeds(notes, run, maps, own_start, lambda: rerun(seed=1, limit=4))


def _hint(error: Exception, predicts: str | None) -> str:
    text = str(error)
    if predicts is None and ("Prediction" in text or "tuple" in text or "NamedTuple" in text):
        return (
            ". The model answers with a Prediction, with .x0 and .eps. If your network answers with a tensor, say which: "
            "doctor(..., predicts='eps')"
        )
    if predicts is not None and ("has no attribute 'x0'" in text or "has no attribute 'eps'" in text):
        return ". The model answers with a tensor, because predicts is given. For a Prediction with .x0 and .eps leave predicts out"
    return ""


def _about_schedule(notes: Notes, schedule: Schedule) -> None:
    left = float(schedule.signal[-1])
    said = f"sqrt(alpha_bar_T) = {left:.3g} of the image is left at t = T = {schedule.T}"
    if left > ENOUGH_LEFT:
        notes.find(
            "The schedule leaves too much of the image",
            said,
            f"near 0, below {ENOUGH_LEFT}: a sampler starts from pure noise, which the network takes for an image with some noise on it",
            "where the betas are made: 0.0001 to 0.02 belong to T = 1000; for another T multiply them by 1000 / T",
            8,
        )
    elif left > SOME_LEFT:
        notes.remarks.append(f"{said}: some more than 0, so samples tend to a medium brightness")
    else:
        notes.passed.append(f"the schedule leaves no image at t = T (sqrt(alpha_bar_T) = {left:.2g})")


def _about_timesteps(notes: Notes, calls: list[Call], schedule: Schedule) -> bool:
    """Checks the timesteps, and returns whether steps can be read from them."""
    t = [call.t for call in calls]
    known = [each for each in t if not math.isnan(each)]
    if not known:
        notes.remarks.append("images of one batch are at different timesteps; the steps between them were not examined")
        return False
    if any(call.is_fraction for call in calls):
        first = next(call.t for call in calls if call.is_fraction) / schedule.T
        notes.find(
            "t is given as a fraction",
            f"t = {first:.4g}",
            f"t in 1..{schedule.T}, as integers: the network was trained with these",
            "the call of the model: a division by T",
        )
    if outside := [each for each in known if each < 0 or each > schedule.T]:
        notes.find(
            "The model is asked outside 1..T",
            f"t = {outside[0]:g}",
            f"t in 1..{schedule.T}",
            "the list of timesteps, or a + 1 or - 1 in the call of the model",
            9,
        )
        return False
    if len(known) > 1 and known[-1] > known[0]:
        notes.find(
            "The timesteps ascend",
            f"the model is asked at t = {', '.join(f'{each:g}' for each in known[:3])} ... {known[-1]:g}",
            f"from T = {schedule.T} downwards: sampling starts from noise",
            "the loop over timesteps: reversed(...) is missing, or applied twice",
        )
        return False
    shown = f"{known[0]:g}" if len(known) == 1 else f"{known[0]:g} down to {known[-1]:g}"
    notes.passed.append(f"order of timesteps: t = {shown}")
    return True


def _about_modes(notes: Notes, run: Run) -> None:
    calls, result = run.calls, run.outcome.result
    grown = sum(call.graph for call in calls[1:])
    if grown or (isinstance(result, Tensor) and result.requires_grad):
        notes.find(
            "Gradients are left on",
            f"the graph of {grown + 1} of {len(calls)} calls is kept: memory grows with every step",
            "no graph: sampling needs no gradients",
            "torch.no_grad() around the loop or @torch.no_grad() above the function",
        )
    elif any(call.grad for call in calls):
        notes.remarks.append("torch records gradients during the calls, and the sampler detaches them; torch.no_grad() saves the memory")
    else:
        notes.passed.append("gradients are off")
    if any(call.training for call in calls) or run.model.training:
        notes.find(
            "The network is put into training mode",
            f"in {sum(call.training for call in calls)} of {len(calls)} calls; it was given in eval mode",
            "eval mode: dropout would add noise of its own",
            "model.train(), which belongs in the training loop; call model.eval() before sampling",
        )


def _about_start(notes: Notes, run: Run, schedule: Schedule, shift: float) -> bool:
    """Checks whether the chain starts from its own noise instead of xT."""
    first = run.calls[0]
    T = schedule.T
    if first.xt.shape != run.xT.shape:
        notes.find(
            "The chain starts with images of another shape",
            f"{tuple(first.xt.shape)} in the first call of the model",
            f"{tuple(run.xT.shape)}, as xT",
            "the line that draws noise: its shape is fixed. xT is the sampler's second argument",
        )
        return True
    image = one_image(SHAPE).double().expand(run.xT.shape).flatten()
    rows = torch.stack([run.xT.double().flatten(), image, torch.ones_like(image)])
    factors = torch.linalg.lstsq(rows.T, first.xt.double().flatten()[:, None]).solution.flatten()
    rest = (first.xt.double().flatten() - factors @ rows).square().mean().sqrt().item()
    from_xT, offset = factors[0].item(), factors[2].item()
    size = math.hypot(from_xT, rest)
    own = abs(from_xT) < 0.1
    if abs(size - 1) > (0.1 if rest > 0.01 else 0.02) or abs(offset) > 0.1:
        what = "noise of the sampler's own" if own else f"{from_xT:.3g} xT" + (f" + {offset:.3g}" if abs(offset) > 0.1 else "")
        notes.find(
            "The chain does not start from standard normal noise",
            f"the first xt is {what}, of standard deviation {size:.3g}",
            "xT itself, of standard deviation 1",
            "what is done to xT before the loop: a factor, a clip, torch.rand instead of torch.randn",
        )
        return own
    if own:
        notes.remarks.append("the chain starts from noise of its own and does not use xT; noise that is given makes runs comparable")
    elif rest > 0.02:
        notes.remarks.append(f"the chain starts from xT with other noise mixed in (standard deviation {rest:.2g})")
    start = min(first.t + shift, T)
    left = level(schedule, start)[0] - float(schedule.signal[-1])
    if left > START_TOLERANCE:
        notes.find(
            "The chain starts below T",
            f"the first call is at t = {first.t:g}, where sqrt(alpha_bar_t) = {level(schedule, start)[0]:.3g} of the image should be left",
            f"t = T = {T}: xT holds no image",
            "the list of timesteps: its first entry should be T",
            1,
        )
    elif start < T:
        notes.remarks.append(f"the first call is at t = {first.t:g}, not at T = {T}; what is left of the image there differs by {left:.2g}")
    else:
        notes.passed.append(f"the chain starts from {'standard normal noise' if own else 'xT'} at t = {first.t:g}")
    return own


def _about_noise(notes: Notes, run: Run, maps: list[Map | None]) -> bool:
    """Checks the fresh noise, if there is any."""
    known = len(notes.findings)
    kinds = [m.kind for m in maps if m is not None and m.c > 1e-4]
    line = "the line that draws z: torch.randn_like(xt), in every step"
    if "shared" in kinds:
        notes.find("All images of a batch get the same noise", "one z of shape (C, H, W) a step", "a z of xt's shape (B, C, H, W)", line)
    if "constant" in kinds:
        notes.find("All pixels of an image get the same noise", "one number for each image", "a z of xt's shape (B, C, H, W)", line)
    if "uniform" in kinds:
        notes.find(
            "The noise is uniform", "values in [0, 1), of mean 0.5", "normal, of mean 0 and standard deviation 1", line + ", not rand"
        )
    drawn = [call.draws[-1].values for call in run.calls if call.draws]
    same = sum(a.shape == b.shape and torch.equal(a, b) for a, b in pairwise(drawn))
    if kinds and (same > 1 or "old" in kinds):
        notes.find(
            "Every step adds the same noise",
            f"the same z in {max(same, kinds.count('old')) + 1} steps or more",
            "fresh noise in every step",
            f"{line}; no manual_seed inside the loop, and no z from before it",
        )
    if kinds and set(kinds) <= {"normal"}:
        notes.passed.append("fresh normal noise for each step, image and pixel")
    return len(notes.findings) == known


def _about_seeds(notes: Notes, run: Run, maps: list[Map | None], own_start: bool, again: Callable[[], Run]) -> None:
    """Checks whether the sampler sets its own seed. If it also makes its own start, every call gives the same images."""
    noisy = [i for i, m in enumerate(maps) if m is not None and m.c > 1e-4 and m.kind == "normal"]
    if not own_start and not (noisy and noisy[0] < 3):
        return
    other = again().calls
    look = 0 if own_start else noisy[0] + 1
    if look >= len(other) or not torch.equal(other[look].xt, run.calls[look].xt):
        return
    line = "a manual_seed or a seeded generator inside the sampler: let the caller pass it"
    if own_start:
        notes.find("Every call gives the same images", "two calls start from the same noise", "xT, or fresh noise at each call", line)
    else:
        notes.remarks.append(f"every call draws the same noise: {line}")
