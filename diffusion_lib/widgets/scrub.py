"""Recorded frames under a slider: a sampler's chains side by side, or frames of anything."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
import traitlets
from torch import Tensor

from diffusion_lib.plots import image_grid
from diffusion_lib.sampling import Step
from diffusion_lib.widgets.base import FrameWidget, filmstrip, fingerprint, front_end, nearest, png, sheet, within


class Recording(NamedTuple):
    """Some of the steps of a chain: F of them."""

    t: list[int]  # where xt stands
    xt: Tensor  # (F, B, C, H, W)
    x0_hat: Tensor  # (F, B, C, H, W)
    step: list[int]  # which steps these are, counted from 1
    steps: int  # how many the chain took


class ScrubWidget(FrameWidget):
    """Made by `scrub`. `widget.frame` is the number of the frame, 0..F-1; it can be set, observed and linked."""

    _esm = front_end("scrub")
    sheets = traitlets.List(traitlets.Bytes()).tag(sync=True)
    panel_names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    captions = traitlets.List(traitlets.Unicode()).tag(sync=True)
    frame_shape = traitlets.List().tag(sync=True)
    sheet_columns = traitlets.Int(1).tag(sync=True)
    frames = "captions"


class ChainWidget(ScrubWidget):
    """Made by `chains`. `widget.t` is the timestep that is shown; set it, and the nearest recorded one is."""

    ts = traitlets.List(traitlets.Int()).tag(sync=True)
    t = traitlets.Int(0).tag(sync=True)
    position, positions = "t", "ts"


def record(steps: Iterable[Step], frames: int = 26) -> Recording:
    """Walks a sampler's chain and keeps about `frames` of its steps, evenly spaced, with the last one always among them."""
    walked = list(steps)
    last = len(walked) - 1
    chosen = sorted({round(i * last / max(1, frames - 1)) for i in range(frames)} | {last})
    kept = [walked[i] for i in chosen]
    return Recording(
        t=[s.t for s in kept],
        xt=torch.stack([s.xt for s in kept]),
        x0_hat=torch.stack([s.x0_hat for s in kept]),
        step=[i + 1 for i in chosen],
        steps=len(walked),
    )


def chains(
    chains: Mapping[str, Iterable[Step] | Recording], *, frames: int = 26, columns: int = 4, t: int | None = None, title: str = ""
) -> ChainWidget:
    """Samplers' chains side by side under one slider: for each, xt beside the x0_hat that was believed in.

    chains: name -> what a sampler yields, or a `Recording` of it. Chains of different numbers of steps are shown at the
    timesteps of the first, each by its nearest. frames: how many steps to record. t: the timestep shown first; 0 if left out.
    """
    films = {name: chain if isinstance(chain, Recording) else record(chain, frames) for name, chain in chains.items()}
    first = next(iter(films.values()), None)
    if first is None:
        raise ValueError("chains is empty; expected a name and a sampler's steps for each")
    panels = {}
    for name, film in films.items():
        at = [nearest(film.t, place) for place in first.t]
        prefix = f"{name}: " if name else ""
        panels |= {f"{prefix}xt": film.xt[at], f"{prefix}x0_hat": film.x0_hat[at]}
    steps = {film.steps for film in films.values()}
    suffix = [f", step {n} of {first.steps}" if len(steps) == 1 else "" for n in first.step]
    captions = [f"t = {t}{end}" for t, end in zip(first.t, suffix, strict=True)]
    widget = _make(ChainWidget, panels, captions, columns, None, ts=first.t, t=first.t[-1], title=title)
    if t is not None:
        widget.t = within("t", t, min(first.t), max(first.t))
    return widget


def scrub(
    panels: Mapping[str, Tensor], captions: Sequence[str], *, columns: int = 4, start: int | None = None, title: str = ""
) -> ScrubWidget:
    """A slider over frames with any number of panels side by side.

    panels: name -> frames (F, B, C, H, W) in [-1, 1], all of one shape. captions: what to say beside the slider, F of them.
    columns: images in a row of a panel. start: the frame shown first; the last if left out.
    """
    return _make(ScrubWidget, panels, captions, columns, start, title=title)


def _make(
    kind: type[ScrubWidget], panels: Mapping[str, Tensor], captions: Sequence[str], columns: int, start: int | None, **traits
) -> ScrubWidget:
    shapes = {name: tuple(frames.shape) for name, frames in panels.items()}
    first = next(iter(shapes.values()), ())
    if len(first) != 5 or set(shapes.values()) != {first} or len(captions) != first[0]:
        raise ValueError(f"panels have shapes {shapes} with {len(captions)} captions; expected (F, B, C, H, W), all alike, and F captions")
    start = within("start", first[0] - 1 if start is None else start, 0, first[0] - 1)
    grey = first[2] == 1
    pictures = {name: [image_grid(frame, columns).numpy() for frame in frames] for name, frames in panels.items()}
    sheets = [sheet([f[..., 0] if grey else f for f in frames]) for frames in pictures.values()]
    widget = kind(
        sheets=[png(pixels, 16 if grey else None) for pixels, _ in sheets],
        sheet_columns=sheets[0][1],
        panel_names=list(panels),
        captions=list(captions),
        frame_shape=list(next(iter(pictures.values()))[0].shape[:2]),
        frame=start,
        **traits,
    )
    data = fingerprint(*panels.values())
    widget.summary = f"{kind.__name__}({len(captions)} frames; panels: {', '.join(panels)}; data {data})"
    widget.still = filmstrip(list(pictures.values()))
    return widget
