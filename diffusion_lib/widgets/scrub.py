"""Recorded frames under a slider or two: a sampler's chains side by side, or frames of anything."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from torch import Tensor

from diffusion_lib.checks import whole
from diffusion_lib.pictures import as_frames, check_channels, check_frames, draw
from diffusion_lib.recording import Recording, record, record_named
from diffusion_lib.sampling import Step
from diffusion_lib.widgets.base import (
    FOLDER,
    FrameWidget,
    Sheet,
    Sheets,
    Whole,
    Widget,
    check_sheet,
    fingerprint,
    grid_size,
    in_range,
    nearest,
    warn_if_large,
    within,
)
from diffusion_lib.widgets.stills import columns_of, evenly, filmstrip, space_for_columns, still, table, text

__all__ = ["ChainWidget", "GridWidget", "Recording", "ScrubWidget", "chains", "record", "scrub", "scrub_grid"]

MOST_ROWS, MOST_COLUMNS = 6, 7  # of the table in the still picture of a grid
MOST_PIXELS = 150_000  # of the images in it


class Panels(Sheets):
    """Panels of recorded frames as the page gets them, each on its own sheet."""

    panel_names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    captions = traitlets.List(traitlets.Unicode()).tag(sync=True)
    frame_shape = traitlets.List(traitlets.Int()).tag(sync=True)


class ScrubWidget(FrameWidget, Panels):
    """Made by `scrub`. `widget.frame` is the number of the frame, 0..F-1; it can be set, observed and linked."""

    _esm = FOLDER / "scrub.js"
    frames = "captions"


class ChainWidget(ScrubWidget):
    """Made by `chains`. `widget.t` is the timestep; when it is set, the widget shows the nearest recorded frame."""

    ts = traitlets.List(traitlets.Int()).tag(sync=True)
    t = Whole(0).tag(sync=True)
    position, positions = "t", "ts"


class GridWidget(Widget, Panels):
    """Made by `scrub_grid`. `widget.first` and `widget.second` are indices on the two axes; they can be set, observed and linked."""

    _esm = FOLDER / "grid.js"
    axis_names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    axis_values = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    first = Whole(0).tag(sync=True)
    second = Whole(0).tag(sync=True)

    _place_in_range = in_range("first", "second", count=lambda widget, name: len(widget.axis_values[["first", "second"].index(name)]))


def chains(
    chains: Mapping[str, Iterable[Step] | Recording] | Iterable[Step] | Recording,
    *,
    frames: int = 26,
    columns: int = 4,
    t: int | None = None,
    title: str = "",
) -> ChainWidget:
    """Samplers' chains side by side under one slider: for each, xt beside the x0_hat of that step.

    chains: name -> a sampler's steps, or a `Recording` of them; or one of these without a name. If chains have different numbers of
    steps, each is shown at its timesteps nearest to those of the first. frames: how many steps to record. t: the timestep shown first, 0
    by default.

    Raises `ValueError` as `record` does; if one generator has two names; and, as early as possible, if the frames exceed what browsers
    draw.
    """
    frames, columns = whole("frames", frames), whole("columns", columns)
    films = _films(chains, frames, columns)
    first = next(iter(films.values()))
    panels: dict[str, Tensor] = {}
    for name, film in films.items():
        at = [nearest(film.t, place) for place in first.t]
        prefix = f"{name}: " if name else ""
        for what, images in (("xt", film.xt), ("x0_hat", film.x0_hat)):
            panels[f"{prefix}{what}"] = images if at == list(range(len(images))) else images[at]
    steps = {film.steps for film in films.values()}
    suffix = [f", step {n} of {first.steps}" if len(steps) == 1 else "" for n in first.step]
    captions = [f"t = {t}{end}" for t, end in zip(first.t, suffix, strict=True)]
    widget = _make(ChainWidget, panels, captions, columns, None, ts=first.t, t=first.t[-1], title=title)
    if t is not None:
        widget.t = within("t", t, min(first.t), max(first.t))
    return widget


def scrub(
    panels: Mapping[str, Any] | Tensor, captions: Sequence[str], *, columns: int = 4, start: int | None = None, title: str = ""
) -> ScrubWidget:
    """A slider over frames with any number of panels side by side.

    panels: name -> frames (F, B, C, H, W) in [-1, 1], all of one shape; or one panel's frames. Arrays and lists of F batches also work.
    captions: F texts, shown beside the slider. columns: images in a row of a panel. start: the frame shown first, by default the last.

    Raises `ValueError` for frames that are not finite, or that exceed what browsers draw.
    """
    return _make(ScrubWidget, panels, _texts("captions", captions), whole("columns", columns), start, title=title)


def scrub_grid(
    panels: Mapping[str, Any] | Tensor,
    first: tuple[str, Sequence],
    second: tuple[str, Sequence],
    captions: Sequence[Sequence[str]] | None = None,
    *,
    columns: int = 4,
    start: tuple[int, int] = (0, 0),
    title: str = "",
    fingerprinted: bool = True,
) -> GridWidget:
    """Two sliders over a grid of frames, with any number of panels side by side.

    panels: name -> frames (F, G, B, C, H, W) in [-1, 1], all of one shape; or one panel's frames; lists also work. first, second: the
    name of each slider and its F or G values. captions: F lists of G texts, shown below the pictures. start: the indices shown first.
    fingerprinted: whether the widget's text, which nbval compares, changes with the pictures. Turn it off for the images of a network
    trained in the notebook itself, which differ slightly between processors.
    """
    (first_name, first_values), (second_name, second_values) = _axis("first", first), _axis("second", second)
    grid = len(first_values), len(second_values)
    captions = [[""] * grid[1]] * grid[0] if captions is None else [_texts("captions", row) for row in captions]
    frames = _as_panels(panels, 6)
    shapes = {name: tuple(each.shape) for name, each in frames.items()}
    lengths = {len(row) for row in captions}
    alike = len(set(shapes.values())) == 1 and all(len(shape) == 6 and shape[:2] == grid for shape in shapes.values())
    if not alike or (len(captions), lengths) != (grid[0], {grid[1]}):
        raise ValueError(
            f"panels have shapes {shapes} with {len(captions)} rows of {sorted(lengths)} captions; expected {grid} + (B, C, H, W), "
            f"for the {grid[0]} values of {first_name!r} and the {grid[1]} of {second_name!r}, and one caption for each pair"
        )
    if not isinstance(start, Sequence) or len(start) != 2:
        raise ValueError(f"start={start!r}; expected two indices, one on each axis, as (0, 0)")
    start = within("start[0]", start[0], 0, grid[0] - 1), within("start[1]", start[1], 0, grid[1] - 1)
    places = [f"{first_name} {a}, {second_name} {b}" for a in first_values for b in second_values]
    flat = {name: each.flatten(0, 1) for name, each in frames.items()}
    traits, _ = _drawn("GridWidget", flat, whole("columns", columns), [], places)
    widget = GridWidget(
        **traits,
        captions=[caption for row in captions for caption in row],
        axis_names=[first_name, second_name],
        axis_values=[[str(value) for value in values] for values in (first_values, second_values)],
        title=title,
    )
    widget.first, widget.second = start
    data = f"; data {fingerprint(*frames.values())}" if fingerprinted else ""
    widget.summary = f"GridWidget({grid[0]} x {grid[1]} frames; panels: {', '.join(frames)}{data})"
    widget.still = _grid_still(widget, frames, captions)
    return widget


def _grid_still(widget: GridWidget, panels: Mapping[str, Tensor], captions: Sequence[Sequence[str]]) -> bytes:
    """A table of frames (F, G, B, C, H, W): the first axis goes down, the second across; the frame shown first is among them.

    Each cell holds the first images of a frame. A panel whose rows are all equal has one row.
    """
    (first_name, second_name), (first_values, second_values) = widget.axis_names, widget.axis_values
    size = next(iter(panels.values())).shape
    rows = _with(widget.first, evenly(size[0], MOST_ROWS))
    columns = _with(widget.second, evenly(size[1], MOST_COLUMNS))
    row_names = [f"{first_name} {first_values[i]}" for i in rows]
    width = space_for_columns(row_names, len(columns))
    alike = {name for name, frames in panels.items() if len(panels) > 1 and bool((frames == frames[:1]).all())}
    drawn = {name: rows[:1] if name in alike else rows for name in panels}
    cells = len(columns) * sum(map(len, drawn.values()))
    some = max(1, min(size[2], width // (size[5] + 1), MOST_PIXELS // (cells * size[4] * size[5])))
    pictures = {name: [[draw(panels[name][i, j, :some], some).numpy() for j in columns] for i in places] for name, places in drawn.items()}
    said = [[captions[i][j] for j in columns] for i in rows]
    below_each = said if len(panels) == 1 and any(map(any, said)) else None
    parts = [table(pictures, row_names, [f"{second_name} {second_values[j]}" for j in columns], below_each)]
    if (caption := captions[widget.first][widget.second]) and not below_each:
        parts.append(text(f"{first_name} {first_values[widget.first]}, {second_name} {second_values[widget.second]}: {caption}"))
    return still(widget.title, *parts)


def _with(place: int, places: Sequence[int]) -> list[int]:
    """The places, with the nearest one replaced by `place`."""
    return sorted({*places} - {places[nearest(places, place)]} | {place})


def _films(chains: Any, frames: int, columns: int) -> dict[str, Recording]:
    """Each chain's recording, by name."""
    if not isinstance(chains, Mapping):
        one = isinstance(chains, Recording) or not isinstance(chains, list | tuple) or not chains or isinstance(chains[0], Step)
        if not one:
            raise ValueError(f'chains is a list of {len(chains)}; expected a name for each chain: {{"DDPM": …, "DDIM": …}}')
        chains = {"": chains}
    if not chains:
        raise ValueError("chains is empty; expected a name and a sampler's steps for each")
    named = {str(name): f"chain {str(name)!r}" if str(name) else "the chain" for name in chains}
    seen: dict[int, str] = {}
    for name, chain in chains.items():
        if isinstance(chain, Iterator) and seen.setdefault(id(chain), str(name)) != str(name):
            raise ValueError(
                f"chains {seen[id(chain)]!r} and {str(name)!r} are the same generator; expected one for each: it is walked only once, "
                "so make a new one"
            )
    films: dict[str, Recording] = {}

    def look(step: Step, n: int) -> None:
        shape = tuple(step.xt.shape)
        if films:
            before, first = next(iter(films.items()))
            n = min(n, len(first.t))
            if (other := tuple(first.xt.shape[1:])) != shape:
                raise ValueError(f"{named[name]} has images {shape} and {named[before]} {other}; expected the same of each chain")
        check_channels(shape[1], named[name])
        check_sheet(n, *grid_size(shape, columns))

    for name, chain in chains.items():
        name = str(name)
        films[name] = chain if isinstance(chain, Recording) else record_named(chain, frames, named[name], look)
    return films


def _make(kind: type[ScrubWidget], panels: Any, captions: list[str], columns: int, start: int | None, **traits) -> ScrubWidget:
    frames = _as_panels(panels, 5)
    shapes = {name: tuple(each.shape) for name, each in frames.items()}
    first = next(iter(shapes.values()), ())
    if len(first) != 5 or not first[0] or set(shapes.values()) != {first} or len(captions) != first[0]:
        raise ValueError(f"panels have shapes {shapes} with {len(captions)} captions; expected (F, B, C, H, W), all alike, and F captions")
    start = within("start", first[0] - 1 if start is None else start, 0, first[0] - 1)
    chosen = columns_of(len(captions), grid_size(first[1:], columns)[1]) if first[1] else []
    drawn, pictures = _drawn(kind.__name__, frames, columns, chosen, captions)
    widget = kind(captions=captions, frame=start, **drawn, **traits)
    data = fingerprint(*frames.values())
    widget.summary = f"{kind.__name__}({len(captions)} frames; panels: {', '.join(frames)}; data {data})"
    widget.still = still(widget.title, filmstrip(pictures, captions, chosen))
    return widget


def _as_panels(panels: Any, dimensions: int) -> dict[str, Tensor]:
    """Each panel's frames by name; a single panel has the empty name."""
    panels = panels if isinstance(panels, Mapping) else {"": panels}
    return {str(name): as_frames(frames, f"panel {str(name)!r}" if name else "frames", dimensions) for name, frames in panels.items()}


def _drawn(
    kind: str, panels: Mapping[str, Tensor], columns: int, shown: Sequence[int], places: Sequence[str]
) -> tuple[dict, dict[str, dict[int, np.ndarray]]]:
    """The traits of `Panels` for frames (F, B, C, H, W), and the pictures of each panel whose indices are in `shown`.

    places: the position of each frame, for errors. Frames are drawn one at a time, so that only the sheets grow with their number.
    """
    count, *shape = next(iter(panels.values())).shape
    for name, frames in panels.items():
        check_frames(frames, f"panel {name!r}" if name else "frames", lambda i: f"frame {i} ({places[i]})" if places[i] else f"frame {i}")
    frame_shape = grid_size(shape, columns)
    check_sheet(count, *frame_shape)
    grey = all(frames.shape[2] == 1 for frames in panels.values())
    sheets, pictures = [], {}
    for name, frames in panels.items():
        sheet, pictures[name] = _sheet(frames, columns, frame_shape, shown)
        sheets.append(sheet.png(grey))
        sheet_columns = sheet.columns
        del sheet
    warn_if_large(kind, sheets)
    return dict(sheets=sheets, sheet_columns=sheet_columns, panel_names=list(panels), frame_shape=list(frame_shape)), pictures


def _sheet(frames: Tensor, columns: int, frame_shape: tuple[int, int], shown: Sequence[int]) -> tuple[Sheet, dict[int, np.ndarray]]:
    sheet, pictures = Sheet(len(frames), *frame_shape), {}
    for i, frame in enumerate(frames):
        picture = draw(frame, columns).numpy()
        sheet.put(i, picture)
        if i in shown:
            pictures[i] = picture
    return sheet, pictures


def _axis(name: str, axis: Any) -> tuple[str, list]:
    if isinstance(axis, str) or not isinstance(axis, Sequence) or len(axis) != 2 or not isinstance(axis[1], Iterable):
        raise ValueError(f'{name}={axis!r}; expected the name of the slider and its values, as ("steps", [10, 20, 50])')
    values = axis[1].tolist() if isinstance(axis[1], Tensor | np.ndarray) else list(axis[1])
    if not values:
        raise ValueError(f"{name}={axis!r}; expected one value or more")
    return str(axis[0]), values


def _texts(name: str, texts: Any) -> list[str]:
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise ValueError(f"{name}={texts!r}; expected a list of texts, one for each frame")
    return [str(text) for text in texts]
