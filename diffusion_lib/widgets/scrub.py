"""The frame scrubber: what a sampler, a training run or a sweep went through, side by side under one slider."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import traitlets
from torch import Tensor

from diffusion_lib.plots import image_grid
from diffusion_lib.sampling import Step
from diffusion_lib.widgets.base import Widget, enlarge, front_end, png

MAX_SHEET_SIDE = 4096  # what every browser draws


class Recording(NamedTuple):
    """The steps of a chain, kept: t, xt and x0_hat of each."""

    t: list[int]
    xt: Tensor  # (F, B, C, H, W)
    x0_hat: Tensor  # (F, B, C, H, W)


class ScrubWidget(Widget):
    """Made by `scrub`. `widget.value` is the number of the frame, 0..F-1."""

    _esm = front_end("scrub")
    sheets = traitlets.List(traitlets.Bytes()).tag(sync=True)
    panel_names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    captions = traitlets.List(traitlets.Unicode()).tag(sync=True)
    frame_shape = traitlets.List().tag(sync=True)
    sheet_columns = traitlets.Int(1).tag(sync=True)


def record(steps: Iterable[Step], frames: int = 26) -> Recording:
    """Walks a sampler's chain and keeps about `frames` of its steps, evenly spaced, with the last one always among them."""
    kept = list(steps)
    chosen = sorted({round(i * (len(kept) - 1) / max(1, frames - 1)) for i in range(frames)} | {len(kept) - 1})
    kept = [kept[i] for i in chosen]
    return Recording([s.t for s in kept], torch.stack([s.xt for s in kept]), torch.stack([s.x0_hat for s in kept]))


def scrub(
    panels: Mapping[str, Tensor], captions: Sequence[str], *, columns: int = 4, start: int | None = None, title: str = ""
) -> ScrubWidget:
    """A slider over frames with any number of panels side by side, and a play button.

    panels: name -> frames (F, B, C, H, W) in [-1, 1], all of one shape. captions: what to say beside the slider, F of them.
    columns: images in a row of a panel. start: the frame shown first; the last if left out.
    """
    shapes = {name: tuple(frames.shape) for name, frames in panels.items()}
    first = next(iter(shapes.values()), ())
    if len(first) != 5 or set(shapes.values()) != {first} or len(captions) != first[0]:
        raise ValueError(f"panels have shapes {shapes} with {len(captions)} captions; expected (F, B, C, H, W), all alike, and F captions")
    count = first[0]
    pictures = {name: [image_grid(frame, columns).numpy() for frame in frames] for name, frames in panels.items()}
    height, width = next(iter(pictures.values()))[0].shape[:2]
    # as square as can be
    sheet_columns = min(count, max(1, MAX_SHEET_SIDE // width), math.ceil(math.sqrt(count * height / width)))
    grey = first[2] == 1
    widget = ScrubWidget(
        sheets=[png(_sheet([f[..., 0] if grey else f for f in p], sheet_columns), 16 if grey else None) for p in pictures.values()],
        panel_names=list(panels),
        captions=list(captions),
        frame_shape=[height, width],
        sheet_columns=sheet_columns,
        value=count - 1 if start is None else start,
        title=title,
    )
    widget.summary = f"ScrubWidget({count} frames; panels: {', '.join(panels)})"
    film = sorted({round(i * (count - 1) / 4) for i in range(5)})
    gap = np.full((height, 4, 3), 255, np.uint8)
    rows = [np.concatenate([x for i in film for x in (p[i], gap)][:-1], axis=1) for p in pictures.values()]
    between = np.full((4, rows[0].shape[1], 3), 255, np.uint8)
    widget.still = png(enlarge(np.concatenate([x for row in rows for x in (row, between)][:-1], axis=0)))
    return widget


def _sheet(frames: list[np.ndarray], columns: int) -> np.ndarray:
    """Frames of one shape, row by row on one picture."""
    rows = math.ceil(len(frames) / columns)
    frames = frames + [np.zeros_like(frames[0])] * (rows * columns - len(frames))
    return np.concatenate([np.concatenate(frames[r * columns : (r + 1) * columns], axis=1) for r in range(rows)], axis=0)
