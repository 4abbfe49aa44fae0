"""The schedule explorer: beta, alpha_bar and log-SNR of several schedules as curves, and images at the t that is marked on them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.plots import plot_schedules, show_rows
from diffusion_lib.process import q_sample
from diffusion_lib.schedules import Schedule
from diffusion_lib.widgets.base import FOLDER, figure_png, fingerprint, within
from diffusion_lib.widgets.mix import MOST_IN_STILL, MixWidget, pictures, schedule_list, tables, with_noise


class ScheduleWidget(MixWidget):
    """Made by `explore_schedules`. `widget.t` is the timestep; it can be set, observed and linked."""

    _esm = FOLDER / "schedules.js"


def explore_schedules(
    schedules: Schedule | str | Iterable[Schedule | str], x0: Any = None, *, t: int | None = None, eps: Any = None, title: str = ""
) -> ScheduleWidget:
    """Curves of schedules of one T, or of their names, with a marker at t = 1..T, which a slider or a pointer on the curves moves.

    x0: images (B, C, H, W) in [-1, 1] to show at t under each schedule, in one row; none if left out. t: where it starts;
    T / 2 if left out. eps: the noise, drawn with seed 0 if left out.
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
        raise ValueError("eps was given without x0; expected x0, the images that it is added to, or neither")
    widget = ScheduleWidget(**tables(schedules), **traits, t=t, title=title)
    widget.summary = f"ScheduleWidget({', '.join(widget.names)}; t = 1..{T}, data {fingerprint(*data, cells=4)})"
    widget.still = _picture(schedules, x0, t, eps)
    return widget


def _picture(schedules: list[Schedule], x0: Tensor | None, t: int, eps: Tensor | None) -> bytes:
    if x0 is None or eps is None:
        return figure_png(plot_schedules(schedules))
    x0, eps = x0[:MOST_IN_STILL], eps[:MOST_IN_STILL]
    return figure_png(show_rows([q_sample(s, x0, t, eps) for s in schedules], [s.name for s in schedules], title=f"t = {t}"))
