"""Checks of a chain's result: whether it is the exact model's image, and if not, what is left in it or was done to it."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffusion_lib.exercises.diagnosis.maps import map_of
from diffusion_lib.exercises.diagnosis.probe import level, one_image, other_image, strong_image
from diffusion_lib.exercises.diagnosis.report import Notes
from diffusion_lib.schedules import Schedule

if TYPE_CHECKING:
    from diffusion_lib.exercises.diagnosis.sampler import Run

GRAIN = 3e-3  # of the result's error, as standard deviation; a grey of a file is 8e-3


def about_end(notes: Notes, run: "Run", rerun: Callable[..., "Run"], schedule: Schedule, steps_fit: bool) -> None:
    """Adds findings about the result, from this run and from runs on images of another range and with labels.

    steps_fit: whether the steps before are right; if not, the end is their consequence.
    """
    result = _as_batch(notes, run.outcome.result, run.xT.shape)
    if result is None:
        return
    shown = _from_display(notes, result)
    if not _is_stretched(notes, result):
        _about_result(notes, run, shown[0], schedule, steps_fit)
    if result.dtype == torch.uint8 and not notes.findings:
        _about_bytes(notes, rerun(images=strong_image))
    if any(call.labelled for call in run.calls) and not all(call.labelled for call in run.calls):
        _about_guidance(notes, rerun(images=_faint, unlabelled=_faint_other), shown[1])


def _as_batch(notes: Notes, result: Any, shape: torch.Size) -> Tensor | None:
    """The result as (B, C, H, W); None, with a finding, if it is not one."""
    line = "the return statement of the sampler"
    if not isinstance(result, Tensor):
        kind = "None" if result is None else type(result).__name__
        notes.find("The sampler returns no images", f"{kind}", f"a tensor of shape {tuple(shape)}", line)
        return None
    result = result.detach().cpu()
    if result.shape[1:] == shape and result.ndim == len(shape) + 1:
        result = result[-1]
    B, C, H, W = shape
    if result.shape == (B, H, W, C):
        notes.remarks.append("the result has its channels last, (B, H, W, C), as for a plot")
        result = result.movedim(-1, 1)
    if result.shape == (B, H, W) and C == 1:
        notes.remarks.append("the result has no dimension of channels, (B, H, W), as for a plot")
        result = result[:, None]
    if result.shape != shape:
        notes.find("The result has another shape", f"{tuple(result.shape)}", f"{tuple(shape)}, as xT", line)
        return None
    if result.is_floating_point() and not result.isfinite().all():
        notes.find(
            "The result is not finite",
            f"{(~result.isfinite()).double().mean():.0%} of the values are NaN or infinite",
            "numbers in [-1, 1]",
            "a root of a negative number (rounding can make 1 - alpha_bar_s - sigma**2 a little less than 0: clamp(min=0)), or a division "
            "by 0: alpha_bar or 1 - alpha_bar at the first or last timestep",
        )
        return None
    return result


def _from_display(notes: Notes, result: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The result in [-1, 1], and the function that converts it if it is bytes or in [0, 1]."""
    image = one_image(tuple(result.shape[1:])).double().expand(result.shape)
    x = result.double()
    ranges: dict[str, Callable[[Tensor], Tensor]] = {
        "bytes, 0 to 255": lambda x: x / 127.5 - 1,
        "in [0, 1], as for a plot; the data are in [-1, 1]": lambda x: 2 * x - 1,
    }
    for name, back in ranges.items():
        rows = torch.stack([image.flatten(), torch.ones(image.numel()).double()])
        factor, offset = torch.linalg.lstsq(rows.T, back(x).flatten()[:, None]).solution.flatten().tolist()
        right = torch.linalg.lstsq(rows.T, x.flatten()[:, None]).solution.flatten().tolist()
        if abs(factor - 1) + abs(offset) < 0.05 and abs(right[0] - 1) + abs(right[1]) > 0.2:
            notes.remarks.append(f"the result is {name}")
            return back(x), back
    if result.dtype == torch.uint8:
        return x / 127.5 - 1, ranges["bytes, 0 to 255"]
    return x, lambda x: x


def _about_result(notes: Notes, run: "Run", result: Tensor, schedule: Schedule, steps_fit: bool) -> None:
    """Compares with the image that the model predicts."""
    last = run.calls[-1]
    image = one_image(tuple(result.shape[1:])).double()
    error = (result - image).square().mean().sqrt().item()
    rounding = 2e-6 / max(float(schedule.signal[min(max(int(last.t), 1), schedule.T)]), 1e-6) if last.t == last.t else 0.0
    quantised = 5e-3 if run.outcome.result.dtype == torch.uint8 else 0.0
    if error < GRAIN + rounding + quantised:
        notes.passed.append(f"the chain ends at the image that the model predicts (off by {error:.1g})")
        return
    m = map_of(last, result.float(), run.last_draws, schedule)
    if m is None:
        return
    if m.clipped > 0.5 and abs(m.a) < 0.3:
        notes.find(
            "x0_hat is clipped to [0, 1]",
            f"the darkest value of the result is {result.min():.3g}",
            f"{image.min():.3g}, that of the predicted image: images are in [-1, 1]",
            "clamp(0, 1), on x0_hat or at the end: clamp(-1, 1)",
            2,
        )
        return
    if m.noise > GRAIN and abs(m.offset) < 0.02 and abs(m.a + m.clipped - 1) < 0.5 and not m.unknown > 0.02:
        if abs(m.d) < 0.1 * m.c and abs(m.a + m.clipped - 1) < 0.02:
            notes.find(
                "Noise is added in the last step",
                f"fresh noise of standard deviation {m.c:.3g} is in the result",
                "none: the last step, to t = 0, gives its mean",
                "sigma * z without a condition: z = 0 in the last step (if t > 1, if s > 0)",
                4,
            )
            return
        if not steps_fit:
            return
        s = min(range(1, schedule.T + 1), key=lambda s: abs(float(schedule.noise[s]) - m.noise))
        signal, noise = level(schedule, s)
        off = max(abs(m.noise - noise), abs(m.a + m.clipped - signal))
        if off < 2e-3 + 0.02 * noise and m.noise > 0.75 * float(schedule.noise[1]):
            notes.find(
                "The last level is not 0",
                f"noise of standard deviation {m.noise:.3g} is left in the result: that of t = {s} ({noise:.3g}), where the chain ends",
                "no noise: the last step goes to t = 0, where alpha_bar = 1",
                "the list of timesteps needs T and 0, steps + 1 entries; or alpha_bar of the last step is not 1",
                1,
            )
            return
    if not steps_fit:
        return
    if m.noise < 0.02 and m.noise < 0.75 * float(schedule.noise[1]) and abs(m.a + m.clipped - 1) < 0.02 and abs(m.offset) < 0.02:
        notes.remarks.append(f"noise of standard deviation {m.noise:.2g} is left in the result, less than one grey of a file or two")
        return
    parts = f"{m.a + m.clipped:.3g} times the predicted image + {m.offset:.3g}, with noise of standard deviation {m.noise:.3g}"
    notes.find(
        "The chain does not end at the predicted image",
        f"it ends at {parts}",
        "the image itself: at t = 0 the image's factor is 1 and that of the noise 0",
        "the last step (alpha_bar = 1 there), and what is done to the result after the loop",
        14 if m.noise < 0.01 else 1,
    )


def _is_stretched(notes: Notes, result: Tensor) -> bool:
    """Adds a finding if the result fills a usual range to its ends, though the predicted image does not. Returns whether it does."""
    low, high = result.double().min().item(), result.double().max().item()
    wide = {(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)}
    image = one_image(tuple(result.shape[1:])).double().expand(result.shape)
    together = torch.corrcoef(torch.stack([image.flatten(), result.double().flatten()]))[0, 1].item()
    if not any(abs(low - a) + abs(high - b) < 1e-4 * (b - a) for a, b in wide) or together < 0.999:
        return False
    notes.find(
        "The result is stretched by its minimum and maximum",
        f"the predicted images have values in [{image.min():.2g}, {image.max():.2g}], of [-1, 1]; they come out in [{low:.4g}, {high:.4g}]",
        "the images unchanged: the data's range is [-1, 1], whatever the extremes of a batch",
        "x.min() and x.max() after the loop: (x.clamp(-1, 1) + 1) / 2",
        14,
    )
    return True


def _about_bytes(notes: Notes, run: "Run") -> None:
    """Checks the same chain with an image that goes beyond [-1, 1]."""
    batch = _as_batch(Notes(), run.outcome.result, run.xT.shape)
    if batch is None:
        return
    image = strong_image(tuple(batch.shape[1:])).double().expand(batch.shape)
    off = (batch.double() - (image.clamp(-1, 1) + 1) * 127.5).abs()[image.abs() > 1]
    if (off > 20).any():
        notes.find(
            "Bytes wrap around",
            f"{(off > 20).double().mean():.0%} of the values beyond [-1, 1] come out as another grey, up to {off.max():.0f} of 255 off",
            "values below -1 become 0, those above 1 become 255",
            "clamp(-1, 1) before .to(torch.uint8)",
            13,
        )
    else:
        notes.passed.append("bytes: values beyond [-1, 1] are clipped")


def _about_guidance(notes: Notes, run: "Run", back: Callable[[Tensor], Tensor]) -> None:
    """Checks guidance: with another image for the unconditional model, the result is on the line through both, at the guidance scale."""
    result = run.outcome.result
    if not isinstance(result, Tensor) or result.shape != run.xT.shape:
        return
    shape = tuple(result.shape[1:])
    rows = torch.stack([each.double().expand(result.shape).flatten() for each in (_faint(shape), _faint_other(shape))])
    scale, rest = torch.linalg.lstsq(rows.T, back(result.detach().cpu().double()).flatten()[:, None]).solution.flatten().tolist()
    if not math.isclose(scale + rest, 1, abs_tol=0.05):
        return
    if scale < -0.02:
        notes.find(
            "Guidance pushes away from the class",
            f"the result holds {scale:.3g} times the conditional prediction and {rest:.3g} times the unconditional one",
            "a positive factor of the conditional prediction, of 1 or more: unconditional + scale * (conditional - unconditional)",
            "the two predictions are swapped in the guidance line",
            5,
        )
    else:
        notes.passed.append(f"guidance has scale {scale:.3g}: the conditional prediction's factor")


def _faint(shape: tuple[int, ...]) -> Tensor:
    return 0.1 * one_image(shape)


def _faint_other(shape: tuple[int, ...]) -> Tensor:
    return 0.1 * other_image(shape)
