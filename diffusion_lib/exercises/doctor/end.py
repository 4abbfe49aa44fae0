"""What a chain ends with: whether it is the image of the exact model, and if not, what is left or was done to it."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffusion_lib.exercises.doctor.maps import level, map_of
from diffusion_lib.exercises.doctor.probe import dim_and_strong, one_image, other_image
from diffusion_lib.exercises.doctor.report import Notes
from diffusion_lib.schedules import Schedule

if TYPE_CHECKING:
    from diffusion_lib.exercises.doctor.sampler import Run

GRAIN = 3e-3  # of the result's error, as standard deviation; a grey of a file is 8e-3
_STEP_EXHIBITS = 3, 6, 7  # findings about steps, of which a wrong end is a consequence


def about_end(notes: Notes, run: "Run", rerun: Callable[..., "Run"], schedule: Schedule, in_order: bool) -> None:
    """Adds what the result shows, from this run and from others on images of another range and with labels."""
    result = _as_batch(notes, run.outcome.result, run.xT.shape)
    if result is None:
        return
    known = len(notes.findings)
    shown = _from_display(notes, result)
    _about_result(notes, run, shown[0], schedule, consequences=known > 0 or not in_order)
    if len(notes.findings) == known == 0 or (result.dtype == torch.uint8 and not notes.findings):
        _about_range(notes, rerun(images=dim_and_strong), shown[1])
    if any(call.labelled for call in run.calls) and not all(call.labelled for call in run.calls):
        _about_guidance(notes, rerun(images=_faint, unlabelled=_faint_other), shown[1])


def _as_batch(notes: Notes, result: Any, shape: torch.Size) -> Tensor | None:
    """The result as (B, C, H, W); None, with a finding, where it is none."""
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
    """The result in [-1, 1], and the function that brought it there, where it is bytes or in [0, 1]."""
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


def _about_result(notes: Notes, run: "Run", result: Tensor, schedule: Schedule, consequences: bool) -> None:
    """Compares with the image that the model predicts. consequences: whether another finding may be what makes it differ."""
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
            "-1: images are in [-1, 1]",
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
        s = min(range(1, schedule.T + 1), key=lambda s: abs(float(schedule.noise[s]) - m.noise))
        signal, noise = level(schedule, s)
        if abs(m.noise - noise) < 2e-3 + 0.02 * noise and abs(m.a + m.clipped - signal) < 2e-3 + 0.02 * noise and m.noise > 0.75 * float(schedule.noise[1]):
            notes.find(
                "The last level is not 0",
                f"noise of standard deviation {m.noise:.3g} is left in the result: that of t = {s} ({noise:.3g}), where the chain ends",
                "no noise: the last step goes to t = 0, where alpha_bar = 1",
                "the list of timesteps needs T and 0, steps + 1 entries; or alpha_bar of the last step is not 1",
                1,
            )
            return
    if consequences:
        return
    if m.noise < 0.02 and m.noise < 0.75 * float(schedule.noise[1]) and abs(m.a + m.clipped - 1) < 0.02 and abs(m.offset) < 0.02:
        notes.remarks.append(f"noise of standard deviation {m.noise:.2g} is left in the result, less than one grey of a file or two")
        return
    parts = f"{m.a + m.clipped:.3g} times the image that the model predicts + {m.offset:.3g}, with noise of standard deviation {m.noise:.3g}"
    notes.find(
        "The chain does not end at the predicted image",
        f"it ends at {parts}",
        "the image itself: at t = 0 the image's factor is 1 and that of the noise 0",
        "the last step (alpha_bar = 1 there), and what is done to the result after the loop",
        14 if m.noise < 0.01 else 1,
    )


def _about_range(notes: Notes, run: "Run", back: Callable[[Tensor], Tensor]) -> None:
    """The same chain, ending at a dim image and at one that goes beyond [-1, 1]."""
    result = run.outcome.result
    if not isinstance(result, Tensor):
        return
    bytes_ = result.dtype == torch.uint8
    quiet = Notes()
    batch = _as_batch(quiet, result, run.xT.shape)
    if batch is None:
        return
    got = back(batch.double())
    dim, strong = (each.double().expand(got[::2].shape) for each in dim_and_strong(tuple(got.shape[1:])).split(1))
    clipped = strong.clamp(-1, 1)
    off_dim = (got[::2] - dim).abs().max().item()
    inside = strong.abs() <= 1
    wrapped = (got[1::2] - clipped).abs()[~inside]
    if bytes_ and (wrapped > 0.1).any():
        notes.find(
            "Bytes wrap around",
            f"{(wrapped > 0.1).double().mean():.0%} of the values beyond [-1, 1] come out as another grey, up to {127.5 * wrapped.max():.0f} of 255 off",
            "values below -1 become 0, those above 1 become 255",
            "clamp(-1, 1) before .to(torch.uint8)",
            13,
        )
    elif off_dim > 0.03:
        low, high = got[::2].min().item(), got[::2].max().item()
        notes.find(
            "The result is stretched by its minimum and maximum",
            f"images that end at values in [{dim.min():.2g}, {dim.max():.2g}] come out in [{low:.2g}, {high:.2g}]",
            "as they are: the data's range is [-1, 1], whatever a batch's extremes are",
            "x.min() and x.max() after the loop: (x.clamp(-1, 1) + 1) / 2",
            14,
        )
    else:
        notes.passed.append("dim images stay dim, and bright ones do not wrap around")


def _about_guidance(notes: Notes, run: "Run", back: Callable[[Tensor], Tensor]) -> None:
    """With another image for the model without labels: the result is on the line through both, at the scale of guidance."""
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
