"""The schedule explorer: curves of beta, alpha_bar and log-SNR of several schedules, and images at the marked t."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import ImageColor
from torch import Tensor

from diffusion_lib.pictures import draw
from diffusion_lib.process import q_sample
from diffusion_lib.schedules import Schedule
from diffusion_lib.widgets.base import FOLDER, fingerprint, within
from diffusion_lib.widgets.mix import MixWidget, pictures, schedule_list, tables, with_noise
from diffusion_lib.widgets.stills import CURVES, GAP, WIDTH, below, beside, fit, fixed, number, schedule_curves, still, text, to_width

LABEL = 160  # pixels, of the label beside a row of images in the still picture
MOST = 140  # pixels, the height of such a row


class ScheduleWidget(MixWidget):
    """Made by `explore_schedules`. `widget.t` is the timestep; it can be set, observed and linked."""

    _esm = FOLDER / "schedules.js"


def explore_schedules(
    schedules: Schedule | str | Iterable[Schedule | str], x0: Any = None, *, t: int | None = None, eps: Any = None, title: str = ""
) -> ScheduleWidget:
    """Curves of schedules of one T, given as schedules or names. A slider, or a pointer on the curves, moves a marker at t = 1..T.

    x0: images (B, C, H, W) in [-1, 1] to show at t, in one row for each schedule; optional. t: where the marker starts, T / 2 by
    default. eps: the noise, drawn with seed 0 by default.
    """
    schedules = schedule_list(schedules)
    T = schedules[0].T
    t = within("t", max(1, T // 2) if t is None else t, 1, T)
    traits: dict = {}
    data = [torch.stack([s.alpha_bar for s in schedules])[:, None, None]]
    if x0 is not None:
        x0, eps = with_noise(x0, eps)
        traits = pictures(x0, eps, columns=len(x0))
        data += [x0, eps]
    elif eps is not None:
        raise ValueError("eps was given without x0; expected both or neither: eps is the noise added to the images x0")
    widget = ScheduleWidget(**tables(schedules), **traits, t=t, title=title)
    widget.summary = f"ScheduleWidget({', '.join(widget.names)}; t = 1..{T}, data {fingerprint(*data, cells=4)})"
    widget.still = _still(schedules, x0, t, eps, title)
    return widget


def _still(schedules: list[Schedule], x0: Tensor | None, t: int, eps: Tensor | None, title: str) -> bytes:
    """The curves with their marker at t and, for each schedule, its colour, its numbers, and the beginning of its images."""
    blocks = []
    for i, schedule in enumerate(schedules):
        beta, alpha_bar, log_snr = (table[t].item() for table in (schedule.beta, schedule.alpha_bar, schedule.log_snr))
        key = np.full((18, 14, 3), 255, np.uint8)
        key[8:11] = ImageColor.getrgb(CURVES[i % len(CURVES)])
        numbers = f"β {number(beta)}  ᾱ {number(alpha_bar)}\nlog SNR {fixed(log_snr, 1)}"
        label = to_width(below(beside(key, text(schedule.name)), text(numbers), gap=0), LABEL)
        if x0 is None or eps is None:
            blocks.append(label)
            continue
        some = x0[: max(1, (WIDTH - LABEL) // (x0.shape[3] + 1))]
        xt = draw(q_sample(schedule, some, t, eps[: len(some)]), len(some)).numpy()
        blocks.append(beside(label, fit(xt, min(WIDTH - LABEL, MOST * xt.shape[1] // len(xt)))))
    fitting = max(1, (WIDTH + 2 * GAP) // (max(block.shape[1] for block in blocks) + 2 * GAP))  # blocks side by side, where they are narrow
    rows = [beside(*blocks[i : i + fitting], gap=2 * GAP) for i in range(0, len(blocks), fitting)]
    return still(title, schedule_curves(schedules, [t] * len(schedules)), text(f"t = {t}"), *rows)
