"""The noising scrubber: any images at every timestep, mixed in the page from x0 and eps."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import traitlets
from torch import Tensor

from diffusion_lib.checks import whole
from diffusion_lib.errors import unknown_name
from diffusion_lib.pictures import draw
from diffusion_lib.process import q_sample
from diffusion_lib.schedules import Schedule
from diffusion_lib.widgets.base import FOLDER, fingerprint, within
from diffusion_lib.widgets.mix import MixWidget, pictures, schedule_list, tables, with_noise
from diffusion_lib.widgets.stills import CURVES, GAP, WIDTH, beside, fit, pixels_of, plots, still, text, to_width

BINS = np.linspace(-3.5, 3.5, 71)  # of the histogram, as in source/noising.js
HIGHEST = 1.2  # density that is drawn
IN_STILL = 6  # timesteps


class NoisingWidget(MixWidget):
    """Made by `noising`. `widget.t` is the timestep, `widget.schedule` the name of the schedule; both can be set and observed."""

    _esm = FOLDER / "noising.js"
    schedule = traitlets.Unicode().tag(sync=True)

    @traitlets.validate("schedule")
    def _known(self, proposal):
        if self.names and proposal["value"] not in self.names:
            raise traitlets.TraitError(str(unknown_name("schedule", proposal["value"], self.names)))
        return proposal["value"]


def noising(
    x0: Any,
    schedules: Schedule | str | Iterable[Schedule | str],
    *,
    t: int = 0,
    eps: Any = None,
    columns: int = 8,
    title: str = "",
) -> NoisingWidget:
    """A slider over t = 0..T that shows xt = signal_t x0 + noise_t eps, computed in the page.

    Beside the images it shows the numbers in the formula at t and a histogram of the pixel values.

    x0: (B, C, H, W) in [-1, 1], C = 1 or 3. schedules: one, or several of the same T to choose from; a name, such as "cosine", stands
    for the schedule that `make_schedule` makes. t: where the slider starts. eps: the noise, drawn with seed 0 by default. columns:
    images in a row.
    """
    schedules = schedule_list(schedules)
    first, T = schedules[0], schedules[0].T
    t, columns = within("t", t, 0, T), whole("columns", columns)
    x0, eps = with_noise(x0, eps)
    widget = NoisingWidget(**tables(schedules), **pictures(x0, eps, columns), schedule=first.name, t=t, title=title)
    n, c, h, w = x0.shape
    names = ", ".join(widget.names)
    widget.summary = f"NoisingWidget({n} images {c}x{h}x{w}, t = 0..{T}, {names}, data {fingerprint(x0, eps, cells=4)})"
    widget.still = _still(schedules, x0, eps, title)
    return widget


def _still(schedules: Sequence[Schedule], x0: Tensor, eps: Tensor, title: str) -> bytes:
    """For each schedule the images at some timesteps and, below each picture, the histogram of all their pixels."""
    T = schedules[0].T
    ts = [round(i * T / (IN_STILL - 1)) for i in range(IN_STILL)]
    column = (WIDTH - GAP * (IN_STILL - 1)) // IN_STILL
    across = max(1, min(len(x0), column // (2 * (x0.shape[3] + 1))))  # images side by side, enlarged
    some = across**2 if len(x0) >= across**2 else across
    parts = [beside(*(to_width(text(f"t = {t}"), column) for t in ts))]
    for schedule in schedules:
        xts = [q_sample(schedule, x0, t, eps) for t in ts]
        strip = [to_width(fit(draw(xt[:some], across).numpy(), column), column) for xt in xts]
        parts += [text(f"xt, {schedule.name} schedule"), beside(*strip), _histograms(xts, column)]
    return still(title, *parts, text("pixel values of xt; line: N(0, 1)"))


def _histograms(xts: Sequence[Tensor], width: int) -> np.ndarray:
    """The density of the pixels' values of each xt and, as a line, that of the standard normal distribution."""
    figure, axes = plots([(width, 74)] * len(xts), [""] * len(xts), left=8, bottom=16)
    u = np.linspace(BINS[0], BINS[-1], 141)
    for ax, xt in zip(axes, xts, strict=True):
        values = np.clip(xt.detach().cpu().double().numpy(), BINS[0], BINS[-1])
        counts = np.histogram(values, BINS)[0] / values.size / (BINS[1] - BINS[0])
        ax.stairs(counts, BINS, fill=True, color="#bbbbbb")
        ax.plot(u, np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi), color=CURVES[1], linewidth=1.5)
        ax.set(xlim=(BINS[0], BINS[-1]), ylim=(0, HIGHEST), xticks=[-3, -1, 1, 3], yticks=[])
    return pixels_of(figure)
