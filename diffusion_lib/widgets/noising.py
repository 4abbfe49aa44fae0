"""The noising scrubber: any images, every timestep, for the price of x0 and eps."""

from collections.abc import Iterable
from typing import Any

import traitlets

from diffusion_lib.checks import whole
from diffusion_lib.errors import unknown_name
from diffusion_lib.pictures import draw
from diffusion_lib.process import q_sample
from diffusion_lib.schedules import Schedule
from diffusion_lib.widgets.base import FOLDER, filmstrip, fingerprint, within
from diffusion_lib.widgets.mix import MOST_IN_STILL, MixWidget, pictures, schedule_list, tables, with_noise


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

    Beside the images: the formula's numbers at t, and how the values of the pixels are distributed.

    x0: (B, C, H, W) in [-1, 1], C = 1 or 3. schedules: one, or several of the same T to choose from; a name, such as "cosine", is that
    of `make_schedule`. t: where the slider starts. eps: the noise, drawn with seed 0 if left out. columns: images in a row.
    """
    schedules = schedule_list(schedules)
    first, T = schedules[0], schedules[0].T
    t, columns = within("t", t, 0, T), whole("columns", columns)
    x0, eps = with_noise(x0, eps)
    widget = NoisingWidget(**tables(schedules), **pictures(x0, eps, columns), schedule=first.name, t=t, title=title)
    n, c, h, w = x0.shape
    names = ", ".join(widget.names)
    widget.summary = f"NoisingWidget({n} images {c}x{h}x{w}, t = 0..{T}, {names}, data {fingerprint(x0, eps, cells=4)})"
    some, some_t = min(columns, MOST_IN_STILL), [round(i * T / 5) for i in range(6)]
    film = [draw(q_sample(first, x0[:some], t, eps[:some]), some).numpy() for t in some_t]
    widget.still = filmstrip({f"xt, {first.name} schedule": film}, [f"t = {t}" for t in some_t], len(film))
    return widget
