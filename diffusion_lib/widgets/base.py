"""What the widgets share: how they are stored in a notebook, positions among frames, and pictures as PNG."""

import hashlib
import io
import math
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

FOLDER = Path(__file__).parent
MAX_SHEET_SIDE = 4096  # what every browser draws
GREY_LEVELS = 16  # of grey images on the page


class Widget(anywidget.AnyWidget):
    """A widget that also leaves a fixed text and a still picture in the notebook, for pages that run nothing.

    Subclasses set `summary` (the text), `still` (PNG bytes) and `_esm`, the file with their page code: tools/bundle_widgets.py builds it.
    """

    _css = FOLDER / "widgets.css"
    _ipython_display_ = None  # on ipywidgets 7 this would bypass _repr_mimebundle_
    title = traitlets.Unicode("").tag(sync=True)

    summary = "Widget()"
    still = b""

    def __repr__(self) -> str:
        return self.summary

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        data["text/plain"] = self.summary  # anywidget's own holds a memory address, which differs in every run
        if self.still and "google.colab" not in sys.modules:  # Colab might prefer the still picture to the widget
            data["image/png"] = self.still
        return data, metadata


def in_range(*names: str, count: Callable[[Any, str], int], hint: Callable[[str], str] = lambda name: "") -> traitlets.EventHandler:
    """A validator, to be set in a widget's class: each of the named traits is one of 0..count(widget, name) - 1.

    Where the count is 0, nothing is known yet and anything goes. hint(name): what else to say to whoever sets another value.
    """

    @traitlets.validate(*names)
    def check(widget, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        size = count(widget, name)
        if size and not 0 <= value < size:
            raise traitlets.TraitError(f"{name}={value}; expected 0..{size - 1}{hint(name)}")
        return value

    return check


class FrameWidget(Widget):
    """A widget over frames, each of which stands somewhere: at a timestep, after a training step.

    Subclasses name the trait of that position and the trait with the positions of all frames. `frame` and the position follow
    each other; a position between two frames is kept, since a widget that is linked with this one may stand there.
    """

    frame = traitlets.Int(0).tag(sync=True)
    position, positions = "", ""
    frames = ""  # the trait that has one entry for each frame

    def __init__(self, **traits):
        super().__init__(**traits)
        if self.position:
            self.observe(self._follow_position, self.position)
            self.observe(self._follow_frame, "frame")

    _frame_in_range = in_range("frame", count=lambda widget, _: len(getattr(widget, widget.frames or widget.positions)))

    def _follow_position(self, change):
        if getattr(self, self.positions):
            self.frame = self._nearest(change["new"])

    def _follow_frame(self, change):
        places = getattr(self, self.positions)
        if change["new"] < len(places) and self._nearest(getattr(self, self.position)) != change["new"]:
            setattr(self, self.position, places[change["new"]])

    def _nearest(self, position: int) -> int:
        return nearest(getattr(self, self.positions), position)


class Sheets(traitlets.HasTraits):
    """Recorded frames as the page gets them: each of `sheets` is one picture with all frames of a panel. `image_sheets` makes them."""

    sheets = traitlets.List(traitlets.Bytes()).tag(sync=True)
    sheet_columns = traitlets.Int(1).tag(sync=True)


def nearest(places: Sequence[int], place: int) -> int:
    """The index of the one of `places` that is nearest to `place`."""
    return min(range(len(places)), key=lambda i: abs(places[i] - place))


def within(name: str, value: int, low: int, high: int) -> int:
    """`value`, or a `ValueError` if it is not in low..high."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r}; expected {low}..{high}")
    return value


def fingerprint(*parts: Tensor, cells: int = 1) -> str:
    """Six letters that change with the data, for a widget's text, which nbval compares.

    Of the mean brightness, in eighths, of the first, the middle and the last picture of each part (N, …, H, W): other processors
    and releases round differently, and that must not show. cells: how many means down and across each picture; more than one
    for data that hardly depends on rounding.
    """
    pictures = [part[i].cpu().double().flatten(0, -3).mean(0, keepdim=True) for part in parts for i in (0, len(part) // 2, -1)]
    means = torch.cat([torch.nn.functional.adaptive_avg_pool2d(picture, cells).flatten() for picture in pictures])
    return hashlib.sha256(str((means * 8).round().int().tolist()).encode()).hexdigest()[:6]


def png(pixels: np.ndarray, grey_levels: int | None = None) -> bytes:
    """uint8 (H, W) or (H, W, 3) as PNG. grey_levels: round to so many first; noise does not compress, fewer levels do."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]  # grey: a third of the bytes
    if grey_levels is not None:
        step = 255 / (grey_levels - 1)
        pixels = (np.round(pixels / step) * step).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")  # without `optimize`: the same size, and a third of the time
    return buffer.getvalue()


def image_png(picture: np.ndarray, grey: bool) -> bytes:
    """A picture of images, uint8 (H, W, 3), as PNG for the page: grey images in a few levels of grey, colours as they are."""
    return png(picture[..., 0], GREY_LEVELS) if grey else png(picture)


def image_sheets(films: Sequence[Sequence[np.ndarray]], grey: bool) -> dict[str, Any]:
    """The traits of `Sheets`: for each film, all its pictures (of one shape (H, W, 3), as many in every film) on one sheet."""
    sheets = [sheet(film) for film in films]
    return dict(sheets=[image_png(picture, grey) for picture, _ in sheets], sheet_columns=sheets[0][1])


def figure_png(figure: Figure) -> bytes:
    """A matplotlib figure as PNG; it is closed, or the notebook would show it once more."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    plt.close(figure)
    return buffer.getvalue()


def stack_vertically(*pictures: bytes) -> bytes:
    """PNG pictures as one, as wide as the widest of them, on white, in 16 colours: enough for grey images and a curve."""
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    whole = Image.new("RGB", (max(picture.width for picture in opened), sum(picture.height for picture in opened)), "white")
    top = 0
    for picture in opened:
        whole.paste(picture, (0, top))
        top += picture.height
    buffer = io.BytesIO()
    whole.quantize(16, dither=Image.Dither.NONE).save(buffer, format="PNG")
    return buffer.getvalue()


def enlarge(pixels: np.ndarray, width: int = 640) -> np.ndarray:
    """Repeats pixels so that a still picture is about `width` wide where nothing else scales it."""
    factor = max(1, round(width / pixels.shape[1]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def filmstrip(rows: Mapping[str, Sequence[np.ndarray]], captions: Sequence[str], frames: int = 5) -> bytes:
    """A still picture as PNG: below each row's name, `frames` of its pictures uint8 (H, W, 3), evenly spaced.

    captions: what each picture of a row is; written below the last row.
    """
    count = len(captions)
    chosen = sorted({round(i * (count - 1) / (frames - 1)) for i in range(frames)})
    parts = []
    for name, row in rows.items():
        strip = enlarge(_with_gaps([row[i] for i in chosen]))
        parts += [_columns([name], strip.shape[1]), strip] if name else [strip]
    return png(np.concatenate([*parts, _columns([captions[i] for i in chosen], strip.shape[1])]), GREY_LEVELS)


def sheet(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, int]:
    """Frames of one shape (H, W, …), row by row on one picture that is as square as can be, and how many are in a row.

    Raises `ValueError` if they make more than browsers draw.
    """
    height, width = frames[0].shape[:2]
    columns = min(len(frames), max(1, MAX_SHEET_SIDE // width), math.ceil(math.sqrt(len(frames) * height / width)))
    rows = math.ceil(len(frames) / columns)
    if max(rows * height, columns * width) > MAX_SHEET_SIDE:
        raise ValueError(
            f"{len(frames)} pictures of {height}x{width} pixels; expected as many as fit on {MAX_SHEET_SIDE}x{MAX_SHEET_SIDE}: "
            "show fewer frames, or fewer or smaller images"
        )
    frames = [*frames, *[np.zeros_like(frames[0])] * (rows * columns - len(frames))]
    return np.concatenate([np.concatenate(frames[r * columns : (r + 1) * columns], axis=1) for r in range(rows)], axis=0), columns


def _with_gaps(pictures: list[np.ndarray], gap: int = 4) -> np.ndarray:
    white = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    return np.concatenate([x for picture in pictures for x in (picture, white)][:-1], axis=1)


def _columns(texts: Sequence[str], width: int, line_height: int = 18) -> np.ndarray:
    """Texts in as many columns, black on white, each wrapped at the end of its column: uint8 (height, width, 3)."""
    from matplotlib import get_data_path

    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", 13)
    wrapped = [textwrap.wrap(text, max(1, width // len(texts) // 8)) for text in texts]  # a letter is some 8 pixels wide
    page = Image.new("RGB", (width, line_height * max(map(len, wrapped))), "white")
    for column, lines in enumerate(wrapped):
        for row, line in enumerate(lines):
            ImageDraw.Draw(page).text((width * column // len(texts) + 2, row * line_height + 1), line, "black", font)
    return np.asarray(page)
