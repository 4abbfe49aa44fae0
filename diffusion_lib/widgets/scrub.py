"""Recorded frames under a slider or two: a sampler's chains side by side, or frames of anything."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
import traitlets
from torch import Tensor

from diffusion_lib.plots import image_grid
from diffusion_lib.sampling import Step
from diffusion_lib.widgets.base import FOLDER, FrameWidget, Sheets, Widget, filmstrip, fingerprint, image_sheets, in_range, nearest, within


class Recording(NamedTuple):
    """Some of the steps of a chain: F of them."""

    t: list[int]  # where xt stands
    xt: Tensor  # (F, B, C, H, W)
    x0_hat: Tensor  # (F, B, C, H, W)
    step: list[int]  # which steps these are, counted from 1
    steps: int  # how many the chain took


class Panels(Sheets):
    """Panels of recorded frames as the page gets them, each on a sheet of its own."""

    panel_names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    captions = traitlets.List(traitlets.Unicode()).tag(sync=True)
    frame_shape = traitlets.List(traitlets.Int()).tag(sync=True)


class ScrubWidget(FrameWidget, Panels):
    """Made by `scrub`. `widget.frame` is the number of the frame, 0..F-1; it can be set, observed and linked."""

    _esm = FOLDER / "scrub.js"
    frames = "captions"


class ChainWidget(ScrubWidget):
    """Made by `chains`. `widget.t` is the timestep that is shown; set it, and the nearest recorded one is."""

    ts = traitlets.List(traitlets.Int()).tag(sync=True)
    t = traitlets.Int(0).tag(sync=True)
    position, positions = "t", "ts"


class GridWidget(Widget, Panels):
    """Made by `scrub_grid`. `widget.first` and `widget.second` number the places on the two axes; they can be set, observed and linked."""

    _esm = FOLDER / "grid.js"
    axis_names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    axis_values = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    first = traitlets.Int(0).tag(sync=True)
    second = traitlets.Int(0).tag(sync=True)

    _place_in_range = in_range("first", "second", count=lambda widget, name: len(widget.axis_values[["first", "second"].index(name)]))


def record(steps: Iterable[Step], frames: int = 26) -> Recording:
    """Walks a sampler's chain and keeps about `frames` of its steps, evenly spaced, with the last one always among them."""
    walked = [(step.t, step.xt, step.x0_hat) for step in steps]  # not whole steps, which hold more
    last = len(walked) - 1
    chosen = sorted({round(i * last / max(1, frames - 1)) for i in range(frames)} | {last})
    kept = [walked[i] for i in chosen]
    return Recording(
        t=[t for t, _, _ in kept],
        xt=torch.stack([xt for _, xt, _ in kept]),
        x0_hat=torch.stack([x0_hat for _, _, x0_hat in kept]),
        step=[i + 1 for i in chosen],
        steps=len(walked),
    )


def chains(
    chains: Mapping[str, Iterable[Step] | Recording], *, frames: int = 26, columns: int = 4, t: int | None = None, title: str = ""
) -> ChainWidget:
    """Samplers' chains side by side under one slider: for each, xt beside the x0_hat of that step.

    chains: name -> what a sampler yields, or a `Recording` of it. Chains of different numbers of steps are shown at the
    timesteps of the first, each by its nearest. frames: how many steps to record. t: the timestep shown first; 0 if left out.
    """
    films = {name: chain if isinstance(chain, Recording) else record(chain, frames) for name, chain in chains.items()}
    first = next(iter(films.values()), None)
    if first is None:
        raise ValueError("chains is empty; expected a name and a sampler's steps for each")
    panels: dict[str, Tensor] = {}
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


def scrub_grid(
    panels: Mapping[str, Tensor],
    first: tuple[str, Sequence],
    second: tuple[str, Sequence],
    captions: Sequence[Sequence[str]] | None = None,
    *,
    columns: int = 4,
    start: tuple[int, int] = (0, 0),
    title: str = "",
    fingerprinted: bool = True,
) -> GridWidget:
    """Two sliders over frames on a grid, with any number of panels side by side.

    panels: name -> frames (F, G, B, C, H, W) in [-1, 1], all of one shape. first, second: what each slider is called, and the values
    at its F or G places. captions: F lists of G texts, shown below the pictures. start: the numbers of the places shown first.
    fingerprinted: whether the widget's text, which nbval compares, changes with the pictures; not for those of a network that the
    notebook itself has trained, which differ a little with every processor.
    """
    (first_name, first_values), (second_name, second_values) = first, second
    grid = len(first_values), len(second_values)
    captions = [[""] * grid[1]] * grid[0] if captions is None else captions
    shapes = {name: tuple(frames.shape) for name, frames in panels.items()}
    lengths = {len(row) for row in captions}
    alike = len(set(shapes.values())) == 1 and all(len(shape) == 6 and shape[:2] == grid for shape in shapes.values())
    if not alike or (len(captions), lengths) != (grid[0], {grid[1]}):
        raise ValueError(
            f"panels have shapes {shapes} with {len(captions)} rows of {sorted(lengths)} captions; expected {grid} + (B, C, H, W), "
            f"for the {grid[0]} values of {first_name!r} and the {grid[1]} of {second_name!r}, and a caption for each"
        )
    traits, pictures = _drawn({name: frames.flatten(0, 1) for name, frames in panels.items()}, columns)
    widget = GridWidget(
        **traits,
        captions=[caption for row in captions for caption in row],
        axis_names=[first_name, second_name],
        axis_values=[[str(value) for value in values] for values in (first_values, second_values)],
        title=title,
    )
    widget.first, widget.second = start
    data = f"; data {fingerprint(*panels.values())}" if fingerprinted else ""
    widget.summary = f"GridWidget({grid[0]} x {grid[1]} frames; panels: {', '.join(panels)}{data})"
    shown = f", {second_name} {second_values[start[1]]}"
    films = {f"{name}{shown}".lstrip(", "): rows[start[1] :: grid[1]] for name, rows in pictures.items()}
    widget.still = filmstrip(films, [f"{first_name if i == 0 else ''} {value}".lstrip() for i, value in enumerate(first_values)])
    return widget


def _make(
    kind: type[ScrubWidget], panels: Mapping[str, Tensor], captions: Sequence[str], columns: int, start: int | None, **traits
) -> ScrubWidget:
    shapes = {name: tuple(frames.shape) for name, frames in panels.items()}
    first = next(iter(shapes.values()), ())
    if len(first) != 5 or set(shapes.values()) != {first} or len(captions) != first[0]:
        raise ValueError(f"panels have shapes {shapes} with {len(captions)} captions; expected (F, B, C, H, W), all alike, and F captions")
    start = within("start", first[0] - 1 if start is None else start, 0, first[0] - 1)
    drawn, pictures = _drawn(panels, columns)
    widget = kind(captions=list(captions), frame=start, **drawn, **traits)
    data = fingerprint(*panels.values())
    widget.summary = f"{kind.__name__}({len(captions)} frames; panels: {', '.join(panels)}; data {data})"
    widget.still = filmstrip(pictures, captions)
    return widget


def _drawn(panels: Mapping[str, Tensor], columns: int) -> tuple[dict, dict[str, list]]:
    """The traits of `Panels` for frames of frames (F, B, C, H, W), and each panel's frames as pictures."""
    pictures = {name: [image_grid(frame, columns).numpy() for frame in frames] for name, frames in panels.items()}
    grey = all(frames.shape[2] == 1 for frames in panels.values())
    frame_shape = list(next(iter(pictures.values()))[0].shape[:2])
    return image_sheets(list(pictures.values()), grey) | dict(panel_names=list(panels), frame_shape=frame_shape), pictures
