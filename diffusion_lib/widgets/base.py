"""What all widgets share: how a notebook stores them, their position among frames, and pictures as PNG."""

import hashlib
import io
import math
import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from PIL import Image
from torch import Tensor

from diffusion_lib.plots import warn

FOLDER = Path(__file__).parent
MAX_SHEET_SIDE = 4096  # what every browser draws
GREY_LEVELS = 16  # of grey images on the page
LARGE = 10_000_000  # bytes of a widget's pictures: a larger notebook opens slowly, and GitHub does not show it
SHOW_PROGRESS_AFTER = 30  # seconds of work, in a terminal only: stored outputs must not depend on the machine's speed


class Whole(traitlets.Int):
    """An integer of Python, numpy or torch."""

    def validate(self, obj, value):
        try:
            return super().validate(obj, value if isinstance(value, bool) else operator.index(value))
        except TypeError:
            return super().validate(obj, value)


class Widget(anywidget.AnyWidget):
    """A widget that also stores a fixed text and a still picture in the notebook, for pages that run no code.

    Subclasses set `summary` (the text), `still` (PNG bytes) and `_esm`, the file with their page code, built by tools/bundle_widgets.py.
    """

    _css = FOLDER / "widgets.css"
    _ipython_display_: Any = None  # on ipywidgets 7 this would bypass _repr_mimebundle_
    title = traitlets.Unicode("").tag(sync=True)

    summary = "Widget()"
    still = b""

    def __repr__(self) -> str:
        return self.summary

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs) or ({}, {})
        data["text/plain"] = self.summary  # anywidget's own contains a memory address, which differs in every run
        if self.still and "google.colab" not in sys.modules:  # Colab might prefer the still picture to the widget
            data["image/png"] = self.still
        return data, metadata


def in_range(*names: str, count: Callable[[Any, str], int], hint: Callable[[str], str] = lambda name: "") -> traitlets.EventHandler:
    """A validator for a widget's class: each named trait must be in 0..count(widget, name) - 1.

    A count of 0 means that the range is not known yet, and allows any value. hint(name): ends the error message.
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
    """A widget over frames, each at a position such as a timestep or a training step.

    Subclasses name the trait of the current position and the trait with the positions of all frames. `frame` and the position
    follow each other. A position between two frames is kept, because a linked widget may have a frame there.
    """

    frame = Whole(0).tag(sync=True)
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
    """Recorded frames as the page gets them: each of `sheets` is one picture with all frames of a panel, made by `Sheet`."""

    sheets = traitlets.List(traitlets.Bytes()).tag(sync=True)
    sheet_columns = traitlets.Int(1).tag(sync=True)


def nearest(places: Sequence[int], place: int) -> int:
    """The index of the one of `places` that is nearest to `place`."""
    return min(range(len(places)), key=lambda i: abs(places[i] - place))


def within(name: str, value: Any, low: int, high: int) -> int:
    """`value`, an integer of any type, as Python's int; `ValueError` unless it is an integer in low..high."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}={value!r}; expected an integer, {low}..{high}") from None
    if not low <= number <= high:
        raise ValueError(f"{name}={number}; expected {low}..{high}")
    return number


def fingerprint(*parts: Tensor, cells: int = 1) -> str:
    """Six letters that change with the data, for a widget's text, which nbval compares.

    They are a hash of the mean brightness, rounded to eighths, of the first, the middle and the last picture of each part
    (N, …, H, W), so that the rounding errors of other processors and releases do not change them. cells: how many means down and
    across each picture; more than one suits data that hardly depends on rounding.
    """
    pictures = [part[i].detach().cpu().double().flatten(0, -3).mean(0, keepdim=True) for part in parts for i in (0, len(part) // 2, -1)]
    means = torch.cat([torch.nn.functional.adaptive_avg_pool2d(picture, cells).flatten() for picture in pictures])
    return hashlib.sha256(str((means * 8).round().int().tolist()).encode()).hexdigest()[:6]


def png(pixels: np.ndarray, grey_levels: int | None = None) -> bytes:
    """uint8 (H, W) or (H, W, 3) as PNG. grey_levels: round to this many first, because noise compresses badly."""
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]  # grey: a third of the bytes
    if grey_levels is not None:
        step = 255 / (grey_levels - 1)
        pixels = (np.round(np.arange(256) / step) * step).round().astype(np.uint8)[pixels]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")  # without `optimize`: the same size, and a third of the time
    return buffer.getvalue()


def image_png(picture: np.ndarray, grey: bool) -> bytes:
    """A picture of images, uint8 (H, W, 3), as PNG for the page: grey images in few grey levels, colour images unchanged."""
    return png(picture[..., 0], GREY_LEVELS) if grey else png(picture)


class Sheet:
    """Frames of one shape (H, W), put one by one on a nearly square picture, row by row.

    Raises `ValueError` before drawing if the picture would exceed what browsers draw.
    """

    def __init__(self, count: int, height: int, width: int):
        self.columns = check_sheet(count, height, width)
        self._size = height, width
        self._pixels = np.zeros((math.ceil(count / self.columns) * height, self.columns * width, 3), np.uint8)

    def put(self, i: int, picture: np.ndarray) -> None:
        """picture: uint8 (H, W, 3), frame number i."""
        (height, width), (row, column) = self._size, divmod(i, self.columns)
        self._pixels[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture

    def get(self, i: int) -> np.ndarray:
        """Frame number i, uint8 (H, W, 3)."""
        (height, width), (row, column) = self._size, divmod(i, self.columns)
        return self._pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]

    def png(self, grey: bool) -> bytes:
        """For the page."""
        return image_png(self._pixels, grey)


def check_sheet(count: int, height: int, width: int) -> int:
    """How many of `count` pictures of height x width go into a row of a sheet; `ValueError` if the sheet exceeds what browsers draw."""
    columns = min(count, max(1, MAX_SHEET_SIDE // width), math.ceil(math.sqrt(count * height / width)))
    rows = math.ceil(count / columns)
    if max(rows * height, columns * width) > MAX_SHEET_SIDE:
        raise ValueError(
            f"{count} {'pictures' if count > 1 else 'picture'} of {height}x{width} pixels; expected as many as fit on "
            f"{MAX_SHEET_SIDE}x{MAX_SHEET_SIDE}: show fewer frames, or fewer or smaller images, or use another number of columns"
        )
    return columns


def grid_size(shape: Sequence[int], columns: int, padding: int = 1) -> tuple[int, int]:
    """Height and width of `image_grid`'s picture of images of a shape (B, C, H, W)."""
    images, _, height, width = shape
    columns = min(columns, images)
    return -(-images // columns) * (height + padding) + padding, columns * (width + padding) + padding


def warn_if_large(kind: str, pictures: Sequence[bytes], remedy: str = "fewer frames, or fewer or smaller images") -> None:
    """Warns if a widget's pictures are larger than a notebook should hold."""
    size = sum(map(len, pictures))
    if size > LARGE:
        warn(f"the pictures of this {kind} are {size / 1e6:.0f} MB, in the notebook and on its page; expected less than 10 MB: {remedy}")
