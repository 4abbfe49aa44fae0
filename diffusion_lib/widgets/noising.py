"""The noising scrubber: any images, every timestep, for the price of x0 and eps."""

from collections.abc import Sequence

import numpy as np
import torch
import traitlets
from torch import Tensor

from diffusion_lib.plots import image_grid
from diffusion_lib.process import q_sample, randn_like
from diffusion_lib.schedules import Schedule
from diffusion_lib.widgets.base import Widget, enlarge, front_end, png

EPS_SCALE = 1 / 31  # eps travels as int8 in steps of 1/31, up to +-4.1: a rounding of 0.016 where a grey level is 0.008


class NoisingWidget(Widget):
    """Made by `noising`. `widget.value` is t."""

    _esm = front_end("noising")
    x0 = traitlets.Bytes().tag(sync=True)
    eps = traitlets.Bytes().tag(sync=True)
    eps_scale = traitlets.Float(EPS_SCALE).tag(sync=True)
    shape = traitlets.List().tag(sync=True)
    schedules = traitlets.List().tag(sync=True)


def noising(
    x0: Tensor, schedules: Schedule | Sequence[Schedule], *, t: int = 0, eps: Tensor | None = None, columns: int = 8, title: str = ""
) -> NoisingWidget:
    """A slider over t = 0..T that shows xt = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps, computed in the page.

    x0: (B, C, H, W) in [-1, 1], C = 1 or 3. schedules: one, or several of the same T to choose from. t: where the slider
    starts. eps: the noise, drawn with seed 0 if left out. columns: images in a row.
    """
    schedules = [schedules] if isinstance(schedules, Schedule) else list(schedules)
    if len({schedule.T for schedule in schedules}) != 1:
        raise ValueError(f"schedules have T = {[s.T for s in schedules]}; expected one or more schedules of the same T")
    eps = randn_like(x0, torch.Generator().manual_seed(0)) if eps is None else eps
    film = [q_sample(schedules[0], x0[:columns], round(i * schedules[0].T / 5), eps[:columns]) for i in range(6)]  # also checks shapes
    picture = _tile(x0, columns)
    widget = NoisingWidget(
        x0=((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy().tobytes(),
        eps=(_tile(eps, columns) / EPS_SCALE).round().clamp(-127, 127).to(torch.int8).numpy().tobytes(),
        shape=list(picture.shape),
        schedules=[dict(name=s.name, alpha_bar=[float(f"{a:.7g}") for a in s.alpha_bar.tolist()]) for s in schedules],
        value=t,
        title=title,
    )
    n, c, h, w = x0.shape
    names = ", ".join(schedule.name for schedule in schedules)
    widget.summary = f"NoisingWidget({n} images {c}x{h}x{w}, t = 0..{schedules[0].T}, {names})"
    across = len(film[0]) if len(film[0]) > 1 else len(film)  # a row for each t; a single image makes one row of all six
    widget.still = png(enlarge(image_grid(torch.cat(film), columns=across).numpy().astype(np.uint8)))
    return widget


def _tile(images: Tensor, columns: int) -> Tensor:
    """(B, C, H, W) as one picture (H', W', C); places without an image are 0, mid-grey."""
    from torchvision.utils import make_grid

    grid = make_grid(images.float().cpu(), nrow=columns, padding=0)[: images.shape[1]]  # make_grid makes three channels of one
    return grid.permute(1, 2, 0).contiguous()
