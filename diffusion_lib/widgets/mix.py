"""Images that the page mixes with noise: x0 and eps are sent once, and every timestep of every schedule is drawn from them."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from diffusion_lib.checks import check_images
from diffusion_lib.pictures import as_images, tile
from diffusion_lib.plots import as_schedules
from diffusion_lib.process import randn_like
from diffusion_lib.schedules import Schedule
from diffusion_lib.widgets.base import MAX_SHEET_SIDE, Whole, Widget, grid_size, in_range, warn_if_large

EPS_SCALE = 1 / 31  # eps is sent as int8 in steps of 1/31, up to +-4.1: it is rounded by up to 0.016, and a grey level is 0.008


class NoisedImages(traitlets.HasTraits):
    """Images, if there are any, and their noise, as the page gets them."""

    x0 = traitlets.Bytes().tag(sync=True)  # uint8 (H, W, C)
    eps = traitlets.Bytes().tag(sync=True)  # int8 (H, W, C), in units of eps_scale
    eps_scale = traitlets.Float(EPS_SCALE).tag(sync=True)
    shape = traitlets.List(traitlets.Int()).tag(sync=True)  # H, W, C; empty without images
    vacant = traitlets.List(traitlets.Int()).tag(sync=True)  # height and width of the end of the last row, where there are no images


class MixWidget(Widget, NoisedImages):
    """A widget with a slider over t, for schedules of one T and, optionally, images mixed with noise."""

    t = Whole(0).tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    signal = traitlets.List(traitlets.Bytes()).tag(sync=True)  # float64 (T + 1,) of each schedule
    noise = traitlets.List(traitlets.Bytes()).tag(sync=True)  # the same

    _t_in_range = in_range("t", count=lambda widget, _: len(widget.signal[0]) // 8 if widget.signal else 0)


def schedule_list(schedules: Schedule | str | Iterable[Schedule | str]) -> list[Schedule]:
    """One or more schedules, or their names, as a list; `ValueError` unless they have the same T and different names."""
    schedules = as_schedules(schedules)
    if len({schedule.T for schedule in schedules}) != 1:
        raise ValueError(f"schedules have T = {[s.T for s in schedules]}; expected one or more schedules of the same T")
    names = [schedule.name for schedule in schedules]
    if len(set(names)) < len(names):
        raise ValueError(f"schedules are called {names}; expected a different name for each: Schedule(…, name=…)")
    return schedules


def tables(schedules: Sequence[Schedule]) -> dict:
    """The traits of the schedules."""
    return dict(
        names=[schedule.name for schedule in schedules],
        signal=[schedule.signal.numpy().tobytes() for schedule in schedules],
        noise=[schedule.noise.numpy().tobytes() for schedule in schedules],
    )


def with_noise(x0: Any, eps: Any) -> tuple[Tensor, Tensor]:
    """Images x0 in any form that `as_images` takes, and eps of the same shape and type, drawn with seed 0 if it is None."""
    x0 = as_images(x0, "x0")
    eps = randn_like(x0, torch.Generator().manual_seed(0)) if eps is None else as_images(eps, "eps").to(x0.dtype)
    check_images(x0=x0, eps=eps)
    return x0, eps


def pictures(x0: Tensor, eps: Tensor, columns: int) -> dict:
    """The traits of images x0 (B, C, H, W) and noise eps from `with_noise`, each laid out as one picture."""
    height, width = grid_size(x0.shape, columns, padding=0)
    if max(height, width) > MAX_SHEET_SIDE:
        raise ValueError(
            f"x0 has {len(x0)} images, which make a picture of {height}x{width} pixels; expected at most {MAX_SHEET_SIDE} a side, the "
            f"limit of browsers: show fewer or smaller images{', or more columns' if columns < len(x0) else ''}"
        )
    clean = _tile(x0.clamp(-1, 1), columns)
    noise = (_tile(eps, columns) / EPS_SCALE).round().clamp(-127, 127).to(torch.int8)
    vacant = [x0.shape[2], clean.shape[1] - (len(x0) - 1) % columns * x0.shape[3] - x0.shape[3]]
    x0_bytes = ((clean + 1) * 127.5).round().to(torch.uint8).numpy().tobytes()
    eps_bytes = noise.numpy().tobytes()
    warn_if_large("widget", [x0_bytes, eps_bytes], "fewer or smaller images")
    return dict(x0=x0_bytes, eps=eps_bytes, shape=list(clean.shape), vacant=vacant)


def _tile(images: Tensor, columns: int) -> Tensor:
    """(B, C, H, W) as one picture (H', W', C); cells without an image are 0, mid-grey."""
    return tile(images.float().cpu(), columns).permute(1, 2, 0).contiguous()
