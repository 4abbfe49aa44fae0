"""What the widgets share: how they are stored in a notebook, the common controls, and pictures as PNG."""

import io
import sys
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

FOLDER = Path(__file__).parent


def front_end(name: str) -> str:
    """The ES module of a widget: the shared controls, then its own file."""
    return (FOLDER / "controls.js").read_text(encoding="utf-8") + (FOLDER / f"{name}.js").read_text(encoding="utf-8")


class Widget(anywidget.AnyWidget):
    """A widget that also leaves a fixed text and a still picture in the notebook, for pages that run nothing.

    Subclasses set `summary` (the text) and `still` (PNG bytes). `value` is the slider's position, synchronised with the page.
    """

    _css = FOLDER / "widgets.css"
    _ipython_display_ = None  # on ipywidgets 7 this would bypass _repr_mimebundle_
    value = traitlets.Int(0).tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)

    summary = "Widget()"
    still = b""

    def __repr__(self) -> str:
        return self.summary

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data["text/plain"] = self.summary  # anywidget's own holds a memory address, which differs in every run
        if "google.colab" not in sys.modules:  # Colab might prefer the still picture to the widget
            data["image/png"] = self.still
        return data, metadata


def png(pixels: np.ndarray, grey_levels: int | None = None) -> bytes:
    """uint8 (H, W) or (H, W, 3) as PNG. grey_levels: round to so many first; noise does not compress, fewer levels do."""
    if grey_levels is not None:
        top = grey_levels - 1
        pixels = (np.round(pixels / 255 * top) * (255 / top)).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def enlarge(pixels: np.ndarray, width: int = 640) -> np.ndarray:
    """Repeats pixels so that a still picture is about `width` wide where nothing else scales it."""
    factor = max(1, round(width / pixels.shape[1]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
