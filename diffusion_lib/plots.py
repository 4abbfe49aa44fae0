"""Static figures. Pixel values are never rescaled: -1 is black, and 1 is white."""

import math
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from torch import Tensor

from diffusion_lib.errors import unknown_name
from diffusion_lib.films import save_frames, save_gif, save_grid
from diffusion_lib.pictures import as_images, draw, image_grid, tile
from diffusion_lib.schedules import Schedule, make_schedule

__all__ = [
    "as_schedules",
    "image_grid",
    "plot_loss",
    "plot_schedules",
    "plot_time_to_quality",
    "save_frames",
    "save_gif",
    "save_grid",
    "show",
    "show_rows",
    "tile",
]

MAX_FIGURE = 2**16 - 1  # pixels a side, matplotlib's limit
TABLES = ("alpha", "alpha_bar", "beta", "log_snr", "noise", "signal", "snr")  # of a `Schedule`
MANY_PANELS, MAX_PANELS = 200, 1000  # of show_rows: matplotlib lays out some twenty a second


def show(images: Any, columns: int = 8, title: str = "", scale: float = 0.55, ax: Axes | None = None) -> Axes:
    """Shows a batch (B, C, H, W) in [-1, 1] as a grid. scale: inches per 28 pixels.

    images: also a single image, a list, an array or an `ImageDataset`. Raises `ValueError` for images that are not finite or have
    values 0..255, and for a figure larger than matplotlib draws.
    """
    picture = image_grid(images, columns)
    _check_ax(ax)
    if ax is None:
        _, ax = plt.subplots(figsize=_size(picture.shape[1] / 28 * _scale(scale), picture.shape[0] / 28 * scale), layout="constrained")
    ax.imshow(picture.numpy(), interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title, fontsize=10)
    return ax


def show_rows(
    rows: Sequence[Any], labels: Sequence[str], columns: Sequence[str] | None = None, title: str = "", scale: float = 0.7
) -> Figure:
    """Rows of images, each (B, C, H, W) in [-1, 1] with its label at the left, and a name above each column.

    rows: each in any form that `show` takes. Raises `ValueError` as it does, and if a row has no label or a column no name.
    """
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise ValueError(f"labels={labels!r}; expected a list with a label for each row")
    rows, labels = [as_images(row, f"row {i}") for i, row in enumerate(rows)], list(labels)
    if not rows or len(labels) != len(rows):
        raise ValueError(f"labels has {len(labels)} entries for {len(rows)} rows; expected one or more rows, and a label for each")
    n = max(len(row) for row in rows)
    if columns is not None and (isinstance(columns, str | int) or len(columns) < n):
        raise ValueError(f"columns={columns!r}; expected a name for each of the {n} columns, or None")
    panels = len(rows) * n
    if panels > MAX_PANELS:
        raise ValueError(f"{len(rows)} rows of {n} images; expected at most {MAX_PANELS} images in all: show fewer, or use show(images)")
    if panels > MANY_PANELS:
        warn(f"show_rows draws {panels} images as panels of their own, which takes about {panels // 20} seconds; show(images) is faster")
    height, width = rows[0].shape[2:]
    size = _size(n * _scale(scale) + 1.6, len(rows) * scale * height / width + (0.6 if title or columns else 0.1))
    figure, axes = plt.subplots(len(rows), n, figsize=size, squeeze=False, layout="constrained")
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        for j, ax in enumerate(axes[i]):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if j < len(row):
                ax.imshow(draw(row[j : j + 1], columns=1, padding=0).numpy(), interpolation="nearest")
            if i == 0 and columns is not None:
                ax.set_title(columns[j], fontsize=8)
        axes[i][0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def as_schedules(schedules: Schedule | str | Iterable[Schedule | str]) -> list[Schedule]:
    """One or more schedules, or their names, as a list. A name is made into a schedule with the T of the others, or T = 1000."""
    schedules = [schedules] if isinstance(schedules, Schedule | str) or not isinstance(schedules, Iterable) else list(schedules)
    T = next((schedule.T for schedule in schedules if hasattr(schedule, "T")), 1000)
    made = [make_schedule(schedule, T) if isinstance(schedule, str) else schedule for schedule in schedules]
    for schedule in made:
        if not all(hasattr(schedule, table) for table in ("T", "name", "alpha_bar")):
            remedy = ": it has one, .schedule" if hasattr(schedule, "schedule") else ""
            raise ValueError(f"schedules holds a {type(schedule).__name__}; expected a Schedule or the name of one, as 'cosine'{remedy}")
    return made


def plot_schedules(
    schedules: Schedule | str | Iterable[Schedule | str], quantities: Sequence[str] = ("beta", "alpha_bar", "log_snr")
) -> Figure:
    """One panel for each quantity (a table of `Schedule`), with a curve over t / T for each schedule, given as such or by name."""
    schedules = as_schedules(schedules)
    quantities = [quantities] if isinstance(quantities, str) else list(quantities)
    if not schedules or not quantities:
        raise ValueError(f"{len(schedules)} schedules and {len(quantities)} quantities; expected one or more of each")
    for quantity in quantities:
        if quantity not in TABLES:
            raise unknown_name("quantity", quantity, TABLES)
    figure, axes = plt.subplots(1, len(quantities), figsize=(3 * len(quantities), 2.7), squeeze=False, layout="constrained")
    for ax, quantity in zip(axes[0], quantities, strict=True):
        for schedule in schedules:
            u = torch.arange(1, schedule.T + 1, dtype=torch.float32, device="cpu") / schedule.T
            ax.plot(u, getattr(schedule, quantity)[1:], label=f"{schedule.name}, T={schedule.T}")
        ax.set(xlabel="t / T", title=quantity)
        if quantity == "alpha_bar":
            ax.set_ylim(0, 1.03)  # from 0, so that a schedule that ends above it is seen to
        if quantity in ("beta", "snr"):
            ax.set_yscale("log")
        ax.grid(alpha=0.3)
    axes[0][-1].legend(fontsize=8)
    return figure


def plot_loss(losses: Sequence[float] | Tensor, smooth: float = 0.98, ax: Axes | None = None, label: str = "") -> Axes:
    """The loss of each step, faint, and its running mean, on a logarithmic axis. The mean skips losses that are not finite.

    losses: (steps,), numbers or one-element tensors. smooth: 0..1, the fraction of the mean that each step keeps. Warns how many losses
    are not finite, and from which step on.
    """
    losses = as_losses(losses)
    if not losses:
        raise ValueError("losses is empty; expected the loss of one step or more")
    if isinstance(smooth, bool) or not isinstance(smooth, int | float | np.number) or not 0 <= smooth <= 1:
        raise ValueError(f"smooth={smooth!r}; expected 0 (no memory) to 1 (the mean of all steps)")
    bad = [step for step, loss in enumerate(losses, start=1) if not math.isfinite(loss)]
    if bad:
        warn(f"{len(bad)} of {len(losses)} losses are not finite (NaN or infinity), the first in step {bad[0]}: the curve has gaps there")
    _check_ax(ax)
    ax = plt.subplots(figsize=(6, 2.6), layout="constrained")[1] if ax is None else ax
    steps = range(1, len(losses) + 1)
    (line,) = ax.plot(steps, running_mean(losses, smooth), label=label, linewidth=2)
    ax.plot(steps, losses, color=line.get_color(), alpha=0.2, linewidth=0.7)
    ax.set(xlabel="training step", ylabel="loss", yscale="log")
    ax.grid(alpha=0.3)
    return ax


def running_mean(losses: Sequence[float], smooth: float) -> list[float]:
    """The mean so far, which keeps the fraction `smooth` of itself at each step; a loss that is not finite leaves it as it is."""
    average, seen, averages = math.nan, 0, []
    for loss in losses:
        if math.isfinite(loss):
            seen += 1
            average = loss if seen == 1 else average + (loss - average) * max(1 - smooth, 1 / seen)
        averages.append(average)
    return averages


def as_losses(losses: Sequence[float] | Tensor | np.ndarray) -> list[float]:
    """The losses as Python's numbers; `ValueError` for anything else."""
    try:
        if isinstance(losses, Tensor | np.ndarray):
            return [float(loss) for loss in losses.tolist()]
        return [float(loss) for loss in losses]
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"losses cannot be read as numbers ({error}); expected the loss of each step, as step.loss.item()") from error


def warn(message: str) -> None:
    """A warning attributed to the calling line outside this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("diffusion_lib."):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _size(width: float, height: float) -> tuple[float, float]:
    """The size of a figure in inches; `ValueError` if matplotlib cannot draw it."""
    pixels = max(width, height) * plt.rcParams["figure.dpi"]
    if pixels > MAX_FIGURE:
        raise ValueError(
            f"the figure would be {width:.0f}x{height:.0f} inches, {pixels:.0f} pixels; expected at most {MAX_FIGURE} a side: show fewer "
            "images, more columns, or a smaller scale"
        )
    return width, height


def _check_ax(ax: Any) -> None:
    """Raises unless it is a matplotlib `Axes`, or None."""
    if ax is None or isinstance(ax, Axes):
        return
    remedy = "such as plt.gca()"
    if isinstance(ax, np.ndarray):
        remedy = f"one of the {ax.size} in it, such as ax.flat[0]"
    elif isinstance(ax, FigureBase):
        remedy = "figure.gca()"
    elif isinstance(ax, list | tuple):
        remedy = "one of them, as in figure, ax = plt.subplots()"
    raise ValueError(f"ax is of type {type(ax).__name__}; expected one matplotlib Axes: {remedy}")


def _scale(scale: float) -> float:
    if isinstance(scale, bool) or not isinstance(scale, int | float | np.number) or not 0 < scale < math.inf:
        raise ValueError(f"scale={scale!r}; expected a number above 0, of inches")
    return scale


def plot_time_to_quality(results: dict, ax: Axes | None = None) -> Axes:
    """Fréchet distance against seconds of training, a curve for each network: `load_results("time_to_quality")`. Bars: 95% intervals."""
    _check_ax(ax)
    ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")[1] if ax is None else ax
    for name in dict.fromkeys(row["network"] for row in results["rows"]):
        rows = sorted((row for row in results["rows"] if row["network"] == name), key=lambda row: row["seconds"])
        value, low, high = np.array([list(row["frechet_distance"].values()) for row in rows], np.float32).T
        ax.errorbar([row["seconds"] for row in rows], value, [value - low, high - value], fmt="o-", markersize=4, capsize=3, label=name)
    ax.axhline(results["real"]["value"], color="0.4", linestyle="--", label="other real images")
    ax.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="Fréchet distance")
    budgets = sorted({row["budget"] for row in results["rows"]})
    ax.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    return ax
