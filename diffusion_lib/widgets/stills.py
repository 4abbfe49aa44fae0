"""Still pictures of the widgets, for pages that run no code: what a widget shows, in the same words, as one PNG on white."""

import io
import math
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from matplotlib import get_data_path, rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageColor, ImageDraw, ImageFont

from diffusion_lib.schedules import Schedule

WIDTH = 840  # pixels; GitHub scales wider pictures down, and their text with them
WIDEST = 1000  # where pictures side by side would otherwise lose pixels
GAP, MARGIN = 6, 8
LABEL = 140  # pixels, at most, of a name at the left of a row
DPI = 100
CURVES = ["#2f7fc1", "#d9730d", "#2e9e5b", "#c0497b", "#8a63d2", "#8c7a3d"]  # as in source/controls.js
MARK = (255, 90, 54)  # as in source/attention.js
ALARMED = "#b34700"
GREYS, COLOURS = 13, 64  # in the palette of grey and of colour stills: noise compresses badly, and fewer colours help
NO_DITHER = Image.Dither.NONE


def still(title: str, *parts: np.ndarray) -> bytes:
    """The title and, below it, the parts, uint8 (H, W, 3), as one PNG with a margin and a small palette."""
    parts = (text(title, size=15, bold=True), *parts) if title else parts
    page = below(*parts, gap=GAP)
    page = np.pad(page, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), constant_values=255)
    is_grey = (page.max(axis=2).astype(int) - page.min(axis=2) <= 8).mean() > 0.9
    image = _in_few_tones(page) if is_grey else Image.fromarray(page).quantize(COLOURS, Image.Quantize.MEDIANCUT, 1, dither=NO_DITHER)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _in_few_tones(page: np.ndarray) -> Image.Image:
    """The page in a few greys and in the colours of its curves, each with two lighter tones for its edges."""
    greys = np.linspace(0, 255, GREYS)[:, None].repeat(3, axis=1)
    known = np.array([*map(ImageColor.getrgb, [*CURVES, ALARMED]), MARK])
    used = [colour for colour in known if (page == colour).all(axis=2).any()]
    tones = np.array([*greys, *(255 - (255 - colour) * share for colour in used for share in (1, 0.6, 0.3))]).round()
    colours, places = np.unique(page.astype(int) @ (256**2, 256, 1), return_inverse=True)  # each colour of the page as one number
    distances = np.square((colours[:, None] // (256**2, 256, 1) % 256)[:, None] - tones).sum(axis=2)
    image = Image.fromarray(distances.argmin(axis=1).astype(np.uint8)[places].reshape(page.shape[:2]))
    image.putpalette(tones.astype(np.uint8).tobytes())
    return image


def below(*parts: np.ndarray, gap: int = GAP) -> np.ndarray:
    """Pictures one below the other, aligned at the left."""
    width = max(part.shape[1] for part in parts)
    padded = [np.pad(part, ((0, gap), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    padded[-1] = padded[-1][: len(parts[-1])]
    return np.concatenate(padded)


def beside(*parts: np.ndarray, gap: int = GAP, centred: bool = False) -> np.ndarray:
    """Pictures side by side, aligned at the top or centred."""
    height = max(len(part) for part in parts)
    padded = []
    for part in parts:
        top = (height - len(part)) // 2 if centred else 0
        padded.append(np.pad(part, ((top, height - len(part) - top), (0, gap), (0, 0)), constant_values=255))
    padded[-1] = padded[-1][:, : parts[-1].shape[1]]
    return np.concatenate(padded, axis=1)


def to_width(part: np.ndarray, width: int, centred: bool = False) -> np.ndarray:
    """The picture with white at its right, or on both sides, so that it is at least `width` wide."""
    free = max(0, width - part.shape[1])
    left = free // 2 if centred else 0
    return np.pad(part, ((0, 0), (left, free - left), (0, 0)), constant_values=255)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf", size)


def text(words: str, width: int = WIDTH, *, size: int = 13, bold: bool = False, colour: str = "black") -> np.ndarray:
    """Text on white, wrapped at `width` and at its line breaks."""
    font, lines = _font(size, bold), []
    for paragraph in words.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    height = math.ceil(size * 1.4)
    widest = math.ceil(max(font.getlength(line) for line in lines))
    page = Image.new("RGB", (max(1, widest), height * len(lines)), "white")
    for row, line in enumerate(lines):
        ImageDraw.Draw(page).text((0, row * height + 1), line, colour, font)
    return np.asarray(page)


def fit(picture: np.ndarray, width: int) -> np.ndarray:
    """The picture enlarged by the largest integer factor that fits; of a wider picture, every second, third … pixel."""
    if picture.shape[1] > width:
        every = math.ceil(picture.shape[1] / width)
        return picture[::every, ::every]
    factor = max(1, width // picture.shape[1])
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def evenly(count: int, chosen: int = 5) -> list[int]:
    """The indices of `chosen` of `count` items, evenly spaced, with the first and the last."""
    return sorted({round(i * (count - 1) / max(1, chosen - 1)) for i in range(chosen)})


def columns_of(count: int, width: int) -> list[int]:
    """The indices of the pictures that `filmstrip` shows of `count`, each `width` pixels wide: fewer if they are wide."""
    fitting = (WIDEST + GAP) // (width + GAP)
    return evenly(count, max(3, min(5, fitting)))


def filmstrip(
    rows: Mapping[str, Sequence[np.ndarray] | Mapping[int, np.ndarray]], captions: Sequence[str], chosen: Sequence[int]
) -> np.ndarray:
    """Rows of pictures uint8 (H, W, 3), each below its name: those with the indices `chosen`. Captions stand above the first row."""
    shown = [[row[i] for i in chosen] for row in rows.values()]
    available = WIDTH if shown[0][0].shape[1] * len(chosen) <= WIDTH else WIDEST
    column = min(WIDTH // 2, (available - GAP * (len(chosen) - 1)) // len(chosen))
    strips = [[to_width(fit(picture, column), column) for picture in row] for row in shown]
    parts = [beside(*(to_width(text(captions[i], column), column) for i in chosen))] if any(captions) else []
    for name, strip in zip(rows, strips, strict=True):
        parts += [text(name), beside(*strip)] if name else [beside(*strip)]
    return below(*parts)


def space_for_columns(rows: Sequence[str], columns: int) -> int:
    """How wide a picture may be in a `table` with these names of rows."""
    return (WIDTH - _widest(rows) - GAP * columns) // columns


def _widest(rows: Sequence[str]) -> int:
    return max(text(row, LABEL).shape[1] for row in rows)


def table(
    panels: Mapping[str, Sequence[Sequence[np.ndarray]]],
    rows: Sequence[str],
    columns: Sequence[str],
    captions: Sequence[Sequence[str]] | None = None,
) -> np.ndarray:
    """Panels of pictures in named rows and columns, with captions below the pictures."""
    labels, column = _widest(rows), space_for_columns(rows, len(columns))
    blank = np.full((1, labels, 3), 255, np.uint8)
    parts = [beside(blank, *(to_width(text(words, column), column) for words in columns))]
    for name, pictures in panels.items():
        fitted = [[fit(picture, column) for picture in row] for row in pictures]
        parts += [text(name, bold=True)] if name else []
        for i, row in enumerate(fitted):
            cells = row if captions is None else [below(cell, text(captions[i][j], column, size=11), gap=2) for j, cell in enumerate(row)]
            label = to_width(text(rows[i], LABEL), labels) if len(fitted) > 1 else blank
            parts.append(beside(label, *(to_width(cell, column) for cell in cells)))
    return below(*parts)


# --------------------------------------------------------------------------------------------------------------------------- curves


def plots(
    sizes: Sequence[tuple[int, int]], titles: Sequence[str], left: int = 46, bottom: int = 20, top: int = 18
) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side, each (width, height) in pixels including its labels. `pixels_of` draws it."""
    width, height = sum(w for w, _ in sizes) + GAP * (len(sizes) - 1), max(h for _, h in sizes)
    with rc_context({**rcParamsDefault, "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes, x = Figure(figsize=(width / DPI, height / DPI), dpi=DPI), [], 0
        for (w, h), title in zip(sizes, titles, strict=True):
            box = (
                (x + left) / width,
                (height - h + bottom) / height,
                (w - left - 8) / width,
                (h - bottom - (top if title else 4)) / height,
            )
            ax = figure.add_axes(box)
            ax.set_title(title, loc="left", fontsize=9, pad=4)
            ax.tick_params(labelsize=8, length=2, pad=2)
            axes.append(ax)
            x += w + GAP
    return figure, axes


def pixels_of(figure: Figure) -> np.ndarray:
    """A figure as a picture uint8 (H, W, 3)."""
    buffer = io.BytesIO()
    with rc_context(rcParamsDefault):
        figure.savefig(buffer, format="png", dpi=DPI)
    return np.asarray(Image.open(buffer).convert("RGB"))


def schedule_curves(schedules: Sequence[Schedule], at: Sequence[int], over_T: bool = False) -> np.ndarray:
    """beta, alpha_bar and log SNR of each schedule, with a marker at its timestep; over t, or over t / T."""
    width = (WIDTH - 2 * GAP) // 3
    figure, axes = plots([(width, 170)] * 3, ["β", "ᾱ", "log SNR = log(ᾱ / (1 − ᾱ))"], bottom=32)
    limits: list[tuple[float, float]] = [(1e-5, 1), (0, 1), (-12, 12)]
    ticks: list[list[float]] = [[1e-4, 1e-2, 1], [0, 0.5, 1], [-10, 0, 10]]
    for i, (schedule, t) in enumerate(zip(schedules, at, strict=True)):
        unit = schedule.T if over_T else 1
        x, here = np.arange(1, schedule.T + 1) / unit, t / unit
        for ax, values, (low, high) in zip(axes, (schedule.beta, schedule.alpha_bar, schedule.log_snr), limits, strict=True):
            shown = values.clamp(low, high).numpy()
            ax.plot(x, shown[1:], color=CURVES[i % len(CURVES)], linewidth=1.5)
            ax.plot(here, shown[t], "o", color=CURVES[i % len(CURVES)], markersize=5, clip_on=False)
            ax.axvline(here, color="black", linewidth=0.8, linestyle=(0, (2, 2)))
    ends = (0, 1) if over_T else (1, schedules[0].T)
    for ax, (low, high), places in zip(axes, limits, ticks, strict=True):
        ax.set_yscale("log" if high == 1 and low > 0 else "linear")
        ax.set(ylim=(low, high), yticks=places, yticklabels=[f"{place:g}" for place in places], xlim=ends, xticks=ends)
        ax.minorticks_off()
        ax.get_xticklabels()[-1].set_horizontalalignment("right")
        ax.set_xlabel("t / T" if over_T else "t", fontsize=8, labelpad=-4)
    return pixels_of(figure)


def number(value: float) -> str:
    """The value with three digits, as in source/controls.js."""
    if value == 0 or not math.isfinite(value):
        return fixed(value, 0)
    if not 0.001 <= value < 10000:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")
    digits = 2 - math.floor(math.log10(value))
    return f"{value:.{max(0, digits)}f}"


def fixed(value: float, digits: int) -> str:
    """The value with `digits` digits after the point, as in source/controls.js."""
    return f"{value:.{digits}f}".replace("inf", "∞").replace("nan", "NaN")
