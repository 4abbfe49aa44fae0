"""Compares a sampler's steps with known samplers and known mistakes."""

import math

import torch

from diffusion_lib.exercises.diagnosis.catalogue import RIGHT, WRONG, Steps
from diffusion_lib.exercises.diagnosis.maps import Map
from diffusion_lib.exercises.diagnosis.probe import Call, level
from diffusion_lib.exercises.diagnosis.report import Notes
from diffusion_lib.process import TARGETS
from diffusion_lib.schedules import MAX_BETA, SCHEDULES, Schedule

LEVEL_TOLERANCE = 0.03  # for unknown samplers: how far image and noise may be from those of t
READS = ("x0", "eps", "both", *(name for name in TARGETS if name not in ("x0", "eps")))


def about_steps(notes: Notes, calls: list[Call], maps: list[Map | None], schedule: Schedule, known: bool) -> tuple[float, bool]:
    """Adds findings about the steps. known: whether a finding about noise explains them already.

    Returns how far the sampler's own timesteps are above those that the model is given, 0, 1 or -1, and whether all steps are right.
    """
    t = [call.t for call in calls]
    every = Steps(maps, t, schedule)
    before = len(notes.findings)
    _about_x0(notes, Steps(maps, t, schedule, linear=True, sure=False))
    if not len(every) or any(every.fits(formula, schedule) for formula in RIGHT.values()):
        if len(every) and min(t) >= 1:
            _passed(notes, every, next(name for name, formula in RIGHT.items() if every.fits(formula, schedule)))
        _at_zero(notes, t, schedule)
        return 0.0, len(notes.findings) == before
    if known or _is_thrown_away(notes, every):
        return 0.0, False
    linear = Steps(maps, t, schedule, linear=True)
    steps = linear if len(linear) >= max(3, len(every) / 4) else every
    if any(steps.fits(formula, schedule, one_down=True) for formula in RIGHT.values()):
        _one_down(notes, steps)
        return 0.0, False
    if any(every.nearly(formula) for formula in RIGHT.values()):
        return 0.0, _about_levels(notes, calls, maps, every, schedule)
    for shift in (1, -1):
        if _is_shifted(steps, shift, schedule):
            _shifted(notes, steps, t, shift, schedule)
            return float(shift), False
    if other := _other_schedule(steps, schedule):
        name, shift = other
        k = _worst(steps)
        notes.find(
            "The sampler has another schedule than the model",
            f"every step is one of the schedule {name!r}{', with timesteps counted from 0' if shift else ''}: {_said(steps, k)}",
            f"the model's own schedule, {schedule.name!r}: {_wanted(steps, k)}",
            "where the sampler makes betas or alpha_bar: take them from the model's schedule",
            7,
        )
        return float(shift), False
    if _wrong_formula(notes, steps, schedule, 0):
        _at_zero(notes, t, schedule)
        return 0.0, False
    if _wrong_formula(notes, steps, schedule, 1):
        _shifted(notes, steps, t, 1, schedule)
        return 1.0, False
    return 0.0, _about_levels(notes, calls, maps, every, schedule)


def _is_thrown_away(notes: Notes, steps: Steps) -> bool:
    """Checks whether a step leaves no noise where much should be left. Later steps are then not informative."""
    gone = [k for k in range(len(steps)) if steps.maps[k].noise < 1e-3 and level(steps.schedule, steps.s[k])[1] > 0.05]
    if not gone:
        return False
    notes.find(
        "The noise is thrown away",
        _said(steps, gone[0]),
        _wanted(steps, gone[0]),
        "the factor of eps_hat in the DDIM step: sqrt(1 - alpha_bar_s - sigma**2). With sigma in its place it is 0 at eta = 0",
        3,
    )
    return True


def _one_down(notes: Notes, steps: Steps) -> None:
    k = max(range(len(steps)), key=lambda i: steps.t[i] - steps.s[i])
    notes.find(
        "Timesteps are skipped, but each step goes down by one",
        f"from t = {steps.t[k]:g} the step leads to t = {steps.t[k] - 1:g}; the next call is at t = {steps.s[k]:g}",
        f"a step to the next timestep of the list, {steps.s[k]:g}",
        "alpha_bar[t - 1], alphas[t] or betas[t] in the step; alpha_bar[s] of the next timestep s belongs there, and "
        "1 - alpha_bar[t] / alpha_bar[s] instead of beta",
        8,
    )


def _passed(notes: Notes, steps: Steps, name: str) -> None:
    if name == "DDIM" and max(m.c for m in steps.maps) < 1e-3:  # no fresh noise
        name = "DDIM with eta = 0"
    notes.passed.append(f"every step: image and noise have the sizes of the next t ({name}, {len(steps)} steps compared)")


def _at_zero(notes: Notes, t: list[float], schedule: Schedule) -> None:
    """Checks whether the model is called at t = 0."""
    if any(each < 1 for each in t):
        notes.find(
            "The model is asked at t = 0",
            f"t = {min(t):g} in {sum(each < 1 for each in t)} of {len(t)} calls",
            f"t in 1..{schedule.T}: at t = 0 there is no noise to identify",
            "the end of the list of timesteps: 0 is where the last step goes, not where the model is asked",
            9,
        )


def _is_shifted(steps: Steps, shift: int, schedule: Schedule) -> bool:
    """Whether timesteps that are off by one explain the steps, exactly, and not only as well as others do that are nearly right."""
    unshifted = min(steps.off(formula, schedule)[steps.strong].mean().item() for formula in RIGHT.values())
    return any(
        steps.fits(formula, schedule, shift, reads)
        and steps.off(formula, schedule, shift, reads)[steps.strong].mean().item() < unshifted / 10
        for formula in RIGHT.values()
        for reads in READS
    )


def _shifted(notes: Notes, steps: Steps, t: list[float], shift: int, schedule: Schedule) -> None:
    k = _worst(steps)
    own = steps.t[k] + shift
    if shift == 1 and min(t) == 0:
        notes.find(
            "Timesteps are counted from 0",
            f"the model is asked at t = {t[0]:g} ... {min(t):g}, while the noise in xt is that of t = {t[0] + 1:g} ... 1",
            f"t in 1..{schedule.T}, as the network was trained",
            "the call of the model: t + 1. (For a network that was trained with 0..T-1 it is right; then give the doctor "
            "lambda model, xT: my_sampler(lambda x, t: model(x, t + 1), xT))",
            9,
        )
        return
    noise = level(schedule, own)[1]
    notes.find(
        "The model is asked one timestep off",
        f"it is given t = {steps.t[k]:g}, while the step computes with the levels of t = {own:g} (noise {noise:.4g}); so in every step",
        f"one t for both: at t = {steps.t[k]:g} the noise is {level(schedule, steps.t[k])[1]:.4g}",
        "t + 1 or t - 1 in the call of the model, or alpha_bar[t] of a table that begins at t = 1 and not at t = 0",
        9,
    )


def other_schedules(schedule: Schedule) -> list[Schedule]:
    """Other schedules with the same T: the library's, and the linear one with the betas of T = 1000."""
    T = schedule.T
    some = [make(T) for make in SCHEDULES.values()]
    some += [Schedule.from_beta(torch.linspace(1e-4, 0.02, T).double(), "linear, betas 0.0001 to 0.02")] if T != 1000 else []
    some.append(Schedule.from_beta(torch.linspace(0.00085**0.5, 0.012**0.5, T).double() ** 2, "scaled linear"))
    some.append(Schedule.from_beta(torch.linspace(1e-4, min(MAX_BETA, 20 / T), T).double(), "linear, betas from 0.0001"))
    return [each for each in some if (each.signal - schedule.signal).abs().max() > 1e-4]


def _other_schedule(steps: Steps, schedule: Schedule) -> tuple[str, int] | None:
    for shift in (0, 1):
        for other in other_schedules(schedule):
            if any(steps.fits(formula, other, shift, reads) for formula in RIGHT.values() for reads in READS):
                return other.name, shift
    return None


def _wrong_formula(notes: Notes, steps: Steps, schedule: Schedule, shift: int) -> bool:
    """Adds a finding for the known mistake that explains all of these steps; if several mistakes do, it names each."""
    found = [wrong for wrong in WRONG if any(steps.fits(wrong.formula, schedule, shift, reads) for reads in (READS if shift else ("x0",)))]
    if not found:
        return False
    k = _worst(steps)
    names = list(dict.fromkeys(wrong.name for wrong in found))
    also = f". These steps would also fit: {'; '.join(names[1:])}" if names[1:] else ""
    notes.find(found[0].name, _said(steps, k) + also, _wanted(steps, k), found[0].line, found[0].exhibit)
    return True


def _off(steps: Steps, k: int) -> float:
    signal, noise = level(steps.schedule, steps.s[k])
    m = steps.maps[k]
    return max(abs(m.a + m.clipped - signal), abs(m.noise - noise))


def _worst(steps: Steps) -> int:
    return max(range(len(steps)), key=lambda k: _off(steps, k))


def _said(steps: Steps, k: int) -> str:
    m = steps.maps[k]
    parts = f"{m.a + m.clipped:.3g} x0 and noise of standard deviation {m.noise:.3g} ({abs(m.d):.3g} along eps_hat, {m.c:.3g} fresh)"
    return f"the step from t = {steps.t[k]:g} to {steps.s[k]:g} gives {parts}"


def _wanted(steps: Steps, k: int) -> str:
    signal, noise = level(steps.schedule, steps.s[k])
    return f"at t = {steps.s[k]:g}, {signal:.3g} x0 and noise of standard deviation {noise:.3g}"


def _about_x0(notes: Notes, steps: Steps) -> None:
    """Checks what is done to x0_hat: a clip to [0, 1], a shift."""
    shares = [(m.clipped / (m.a + m.clipped), k) for k, m in enumerate(steps.maps) if abs(m.a + m.clipped) > 0.1]
    if sum(share > 0.5 for share, _ in shares) > len(shares) / 2:
        share, k = max(shares)
        notes.find(
            "x0_hat is clipped to [0, 1]",
            f"at t = {steps.t[k]:g}, what is darker than mid-grey in x0_hat has {1 - share:.0%} of its factor in xs",
            "all of it: images are in [-1, 1]",
            "clamp(0, 1) on x0_hat: clamp(-1, 1)",
            2,
        )
        return
    offsets = [(abs(m.offset), k) for k, m in enumerate(steps.maps) if m.kind != "uniform"]
    if sum(offset > 0.02 for offset, _ in offsets) > len(offsets) / 3:
        k = max(offsets)[1]
        notes.find(
            "A constant is added in the steps",
            f"{steps.maps[k].offset:.3g} to every pixel at t = {steps.t[k]:g}",
            "0: images stay in [-1, 1] until the chain has ended",
            "(x + 1) / 2, or another change of range, inside the loop",
            2,
        )


def _about_levels(notes: Notes, calls: list[Call], maps: list[Map | None], steps: Steps, schedule: Schedule) -> bool:
    """For steps of no known kind: whether the image and the noise in every xt are nearly those of its t."""
    if any(finding.exhibit == 2 for finding in notes.findings):
        return False
    signal, noise = float(schedule.signal[-1]), float(schedule.noise[-1])
    worst = (0.0, 0, signal, noise)
    for k, m in enumerate(maps):
        if m is None:
            break
        at, of = level(schedule, max(calls[k].t, 1))
        # xt = signal x0 + noise e  and  xs = a x0 + d (xt - at x0) / of + c z
        signal, noise = m.a + m.clipped + m.d * (signal - at) / of, math.hypot(m.d * noise / of, m.c)
        want = level(schedule, calls[k + 1].t)
        off = max(abs(signal - want[0]), abs(noise - want[1]))
        worst = max(worst, (off, k + 1, signal, noise))
    off, k, signal, noise = worst
    if off < LEVEL_TOLERANCE:
        notes.passed.append("every xt: image and noise have the sizes of its t")
        notes.remarks.append(f"the steps are not exactly those of DDPM or DDIM; image and noise are off by {off:.2g} at most")
        return True
    if _is_clipped(calls[k]):
        notes.find(
            "xt itself is clipped",
            f"at t = {calls[k].t:g} no value is beyond {calls[k].xt.abs().max():.3g}",
            "noise that reaches beyond the images' range; only x0_hat may be clipped",
            "clamp(-1, 1) on xt inside the loop",
            2,
        )
        return False
    want = level(schedule, calls[k].t)
    notes.find(
        "The noise in xt is not that of t",
        f"at t = {calls[k].t:g}, xt holds {signal:.3g} x0 and noise of standard deviation {noise:.3g}; "
        f"{_said(steps, _worst(steps)) if len(steps) else 'the steps keep no noise'}",
        f"{want[0]:.3g} x0 and noise of standard deviation {want[1]:.3g}",
        "the step's formula. None of the known mistakes gives these numbers alone: candidates are the factors of x0_hat, eps_hat and z, "
        "the t of each alpha_bar, and the schedule; print them for one step",
        3,
    )
    return False


def _is_clipped(call: Call) -> bool:
    """Whether many values equal the maximum exactly."""
    size = call.xt.abs()
    return bool((size == size.max()).double().mean() > 0.02)
