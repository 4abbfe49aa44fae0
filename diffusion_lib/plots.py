"""Static figures. Pixels are shown as they are: -1 is black, 1 is white, nothing is stretched to fit."""

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from diffusion_lib.data import to_uint8
from diffusion_lib.schedules import Schedule


def image_grid(images: Tensor, columns: int = 8, padding: int = 1) -> Tensor:
    """A batch (B, C, H, W) in [-1, 1] as one picture uint8 (H', W', 3), row by row with grey lines between."""
    picture = tile(to_uint8(images.detach().cpu()).float(), columns, padding, fill=96)  # whole numbers below 2^24: floats are exact
    return picture.expand(3, -1, -1).permute(1, 2, 0).to(torch.uint8)


def tile(images: Tensor, columns: int, padding: int = 0, fill: float = 0.0) -> Tensor:
    """A batch (B, C, H, W) as one picture (C, H', W'), row by row; lines of `padding` pixels and places without an image are `fill`.

    (torchvision's make_grid does the same, but importing torchvision takes longer than all the rest of a first figure.)
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cells = F.pad(images, (0, padding, 0, padding), value=fill)  # each with the line below it and the one to its right
    cells = torch.cat([cells, torch.full_like(cells[:1], fill).expand(rows * columns - len(images), -1, -1, -1)])
    cell = cells.shape[2:]
    picture = F.fold(cells.flatten(1).T[None], (rows * cell[0], columns * cell[1]), kernel_size=cell, stride=cell)[0]
    return F.pad(picture, (padding, 0, padding, 0), value=fill)


def show(images: Tensor, columns: int = 8, title: str = "", scale: float = 0.55, ax: Axes | None = None) -> Axes:
    """Shows a batch (B, C, H, W) in [-1, 1] as a grid. scale: inches for each 28 pixels."""
    picture = image_grid(images, columns)
    if ax is None:
        height, width = (n / 28 * scale for n in picture.shape[:2])
        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.imshow(picture.numpy(), interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title, fontsize=10)
    return ax


def show_rows(
    rows: Sequence[Tensor], labels: Sequence[str], columns: Sequence[str] | None = None, title: str = "", scale: float = 0.7
) -> Figure:
    """Rows of images, each (B, C, H, W) in [-1, 1] with its label at the left, and a name above each column."""
    n = max(len(row) for row in rows)
    height, width = rows[0].shape[2:]
    size = (n * scale + 1.6, len(rows) * scale * height / width + (0.6 if title or columns else 0.1))
    figure, axes = plt.subplots(len(rows), n, figsize=size, squeeze=False, layout="constrained")
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        for j, ax in enumerate(axes[i]):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if j < len(row):
                ax.imshow(image_grid(row[j : j + 1], padding=0).numpy(), interpolation="nearest")
            if i == 0 and columns is not None:
                ax.set_title(columns[j], fontsize=8)
        axes[i][0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def plot_schedules(schedules: Sequence[Schedule], quantities: Sequence[str] = ("beta", "alpha_bar", "log_snr")) -> Figure:
    """One panel for each quantity (names of `Schedule`'s tables) with a curve for each schedule, over t / T."""
    figure, axes = plt.subplots(1, len(quantities), figsize=(3 * len(quantities), 2.7), squeeze=False, layout="constrained")
    for ax, quantity in zip(axes[0], quantities, strict=True):
        for schedule in schedules:
            u = torch.arange(1, schedule.T + 1) / schedule.T
            ax.plot(u, getattr(schedule, quantity)[1:], label=f"{schedule.name}, T={schedule.T}")
        ax.set(xlabel="t / T", title=quantity)
        if quantity == "alpha_bar":
            ax.set_ylim(0, 1.03)  # a schedule that does not end near 0 must not look as if it did
        if quantity in ("beta", "snr"):
            ax.set_yscale("log")
        ax.grid(alpha=0.3)
    axes[0][-1].legend(fontsize=8)
    return figure


def plot_loss(losses: Sequence[float], smooth: float = 0.98, ax: Axes | None = None, label: str = "") -> Axes:
    """The loss of each step, faint, and its running mean, on a logarithmic axis. Losses that are not finite change no mean."""
    losses = [float(loss) for loss in losses]
    ax = plt.subplots(figsize=(6, 2.6), layout="constrained")[1] if ax is None else ax
    average, seen, averages = math.nan, 0, []
    for loss in losses:
        if math.isfinite(loss):
            seen += 1
            average = loss if seen == 1 else average + (loss - average) * max(1 - smooth, 1 / seen)
        averages.append(average)
    steps = range(1, len(losses) + 1)
    (line,) = ax.plot(steps, averages, label=label, linewidth=2)
    ax.plot(steps, losses, color=line.get_color(), alpha=0.2, linewidth=0.7)
    ax.set(xlabel="training step", ylabel="loss", yscale="log")
    ax.grid(alpha=0.3)
    return ax


def plot_time_to_quality(results: dict, ax: Axes | None = None) -> Axes:
    """Fréchet distance against seconds of training, a curve for each network: `load_results("time_to_quality")`. Bars: 95% intervals."""
    ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")[1] if ax is None else ax
    for name in dict.fromkeys(row["network"] for row in results["rows"]):
        rows = sorted((row for row in results["rows"] if row["network"] == name), key=lambda row: row["seconds"])
        value, low, high = torch.tensor([list(row["frechet_distance"].values()) for row in rows]).T
        ax.errorbar([row["seconds"] for row in rows], value, [value - low, high - value], fmt="o-", markersize=4, capsize=3, label=name)
    ax.axhline(results["real"]["value"], color="0.4", linestyle="--", label="other real images")
    ax.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="Fréchet distance")
    budgets = sorted({row["budget"] for row in results["rows"]})
    ax.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    ax.minorticks_off()
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    return ax
