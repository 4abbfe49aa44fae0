"""The training view: the loss curve, and samples from the same noise at successive steps. It works during a run or after it."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import traitlets
from torch import Tensor

from diffusion_lib.checks import whole
from diffusion_lib.pictures import as_frames, check_channels, check_frames, draw
from diffusion_lib.plots import as_losses, running_mean, warn
from diffusion_lib.training.loop import TrainStep
from diffusion_lib.widgets.base import (
    FOLDER,
    FrameWidget,
    Whole,
    check_sheet,
    fingerprint,
    grid_size,
    image_png,
    warn_if_large,
)
from diffusion_lib.widgets.stills import CURVES, WIDTH, columns_of, filmstrip, pixels_of, plots, still, text

SMOOTH = 0.95  # of the running mean of the loss, as in source/training.js
UPDATE_EVERY = 0.5  # seconds between two updates of the loss curve


class TrainingWidget(FrameWidget):
    """Made by `training` or `live_training`. `widget.step` is the training step whose samples are shown; it can be set and observed.

    `losses` holds the loss of each training step so far, and `steps` the steps that have samples.
    """

    _esm = FOLDER / "training.js"
    step = Whole(0).tag(sync=True)
    position, positions = "step", "steps"
    total = traitlets.Int(1).tag(sync=True)
    steps = traitlets.List(traitlets.Int()).tag(sync=True)
    pictures = traitlets.List(traitlets.Bytes()).tag(sync=True)  # a PNG for each of `steps`, its panels side by side
    panel_names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    panel_shape = traitlets.List(traitlets.Int()).tag(sync=True)
    losses = traitlets.Bytes().tag(sync=True)  # float32 (steps so far,)
    live = traitlets.Bool(False).tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    stop = traitlets.Bool(False).tag(sync=True)  # set when the button's message arrives; checked after each step

    def __init__(self, columns: int = 4, **traits):
        super().__init__(**traits)
        self._columns = columns
        self._films: dict[str, list[np.ndarray]] = {}
        self._shown_as, self._is_shown = uuid4().hex, False
        self.on_msg(self._on_message)

    def _on_message(self, _, content, buffers) -> None:
        if content.get("stop") and self.running:
            self.stop = True

    def add(self, step: int, samples: Mapping[str, Any]) -> None:
        """Adds the samples of training step `step`: name -> images (B, C, H, W) in [-1, 1], with the same names each time.

        NaN is drawn grey, and infinity white or black, with a warning: a live run goes on.
        """
        step = whole("step", step, low=0)
        if not isinstance(samples, Mapping) or not samples:
            given = "empty" if isinstance(samples, Mapping) else f"a {type(samples).__name__}"
            raise ValueError(f'samples is {given}; expected images by name, as {{"samples": images}}')
        images = {str(name): as_frames(batch, f"samples {name!r}", 4) for name, batch in samples.items()}
        if self.panel_names and list(images) != self.panel_names:
            raise ValueError(f"samples have the names {list(images)}; expected {self.panel_names}, as before")
        for name, batch in images.items():
            if batch.ndim != 4 or not batch.numel():
                raise ValueError(f"samples {name!r} has shape {tuple(batch.shape)}; expected (B, C, H, W), one image or more")
            check_channels(batch.shape[1], f"samples {name!r}")
            if not batch.isfinite().all():
                warn(f"samples {name!r} of step {step} are not finite (NaN or infinity): the model or its moving average has diverged")
                images[name] = batch.nan_to_num(nan=0.0, posinf=1.0, neginf=-1.0)
        shapes = {name: list(_panel_shape(tuple(batch.shape), self._columns, len(images))) for name, batch in images.items()}
        shape = next(iter(shapes.values()))
        for each in shapes.values():
            if each != (self.panel_shape or shape):
                expected = f"{self.panel_shape}, the size of the view" if self.panel_shape else f"{shape}, as the first panel's"
                raise ValueError(f"samples make a picture of {each} pixels; expected {expected}")
        grids = {name: draw(batch, self._columns).numpy() for name, batch in images.items()}
        for name, grid in grids.items():
            self._films.setdefault(name, []).append(grid)
        grey = all(batch.shape[1] == 1 for batch in images.values())
        row = np.concatenate(list(grids.values()), axis=1)
        with self.hold_sync():  # one message, so that the page never sees a step without its picture
            self.panel_names, self.panel_shape = list(grids), shape
            self.steps = [*self.steps, step]
            self.pictures = [*self.pictures, image_png(row, grey)]

    def _show_last(self) -> None:
        self.frame = max(0, len(self.steps) - 1)
        if self.steps:
            self.step = self.steps[-1]  # setting the frame does so only if it changes
        self.still = self._still()

    def _still(self) -> bytes:
        """The loss of each step, its running mean, some of the samples, and how the run ended."""
        losses, parts = np.frombuffer(self.losses, np.float32), []
        if (np.isfinite(losses) & (losses > 0)).any():
            parts.append(_loss_curve(losses, self.total))
        elif len(losses) and not np.isfinite(losses).any():
            warn("none of the losses is finite (NaN or infinity): no curve is drawn")
        if self.steps:
            chosen = columns_of(len(self.steps), self.panel_shape[1])
            parts.append(filmstrip(self._films, [f"after {step} of {self.total} steps" for step in self.steps], chosen))
        if self.live and not self.running:
            parts.append(text("finished" if len(losses) >= self.total else f"stopped after {len(losses)} steps; nothing is lost"))
        return still(self.title, *parts)

    def _ipython_display_(self, **kwargs: Any) -> None:
        """Displays the view under an id, so that `watch` can later replace the still picture stored with it."""
        from IPython.display import display

        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True, display_id=self._shown_as)
        self._is_shown = True

    def _update_shown(self) -> None:
        """Replaces the stored still picture wherever the view was displayed. Colab stores none, see `_repr_mimebundle_`."""
        if not self._is_shown or "google.colab" in sys.modules:
            return
        from IPython.display import update_display

        data, metadata = self._repr_mimebundle_()
        update_display(data, metadata=metadata, raw=True, display_id=self._shown_as)

    def watch(
        self, run: Iterable[TrainStep], samples: Callable[[TrainStep], Mapping[str, Tensor]], at: Collection[int]
    ) -> Iterator[TrainStep]:
        """Yields the steps of `run` and shows their losses, and `samples(step)` after each step in `at`.

        The Stop button ends the loop after the current step. So does interrupting the kernel once; a second interrupt raises
        KeyboardInterrupt as usual. Nothing is lost: to resume, watch the same `run` again. At the end, the still picture
        stored with the view becomes that of its last state.

        In JupyterLab and Notebook the button interrupts the kernel. Elsewhere, for example on Colab, its message waits until the cell
        has ended: interrupt the kernel there.
        """
        if not isinstance(at, range):  # membership is fast, and it may be long
            at = frozenset(_steps("at", at))
        self.stop, self.running = False, True
        losses = np.frombuffer(self.losses, np.float32).tolist()
        new: list[Tensor] = []
        shown = time.monotonic()

        def show_losses():
            losses.extend(torch.stack(new).tolist())
            new.clear()
            self.losses = np.array(losses, np.float32).tobytes()

        try:
            with _interrupt() as interrupted:
                for step in run:
                    new.append(step.loss)
                    if step.step in at:
                        show_losses()
                        self.add(step.step, samples(step))
                    elif time.monotonic() - shown > UPDATE_EVERY:
                        show_losses()
                        shown = time.monotonic()
                    yield step
                    if self.stop or interrupted:
                        break
        finally:
            if new:
                show_losses()
            self.running = False
            self._show_last()
            self._update_shown()


def training(
    samples: Mapping[str, Any], steps: Sequence[int], losses: Sequence[float], *, columns: int = 4, title: str = ""
) -> TrainingWidget:
    """A slider over a training run: the loss curve with a marker, and the samples after each of `steps`.

    samples: name -> images (F, B, C, H, W) in [-1, 1], from the same noise after each step. steps: the F training steps. losses: one for
    every training step. columns: images in a row. Raises `ValueError` for samples that are not finite.
    """
    if not isinstance(samples, Mapping):
        raise ValueError(f'samples is a {type(samples).__name__}; expected frames by name, as {{"samples": frames}}')
    frames = {str(name): as_frames(each, f"samples {name!r}") for name, each in samples.items()}
    shapes = {name: tuple(images.shape) for name, images in frames.items()}
    steps, losses, columns = _steps("steps", steps), as_losses(losses), whole("columns", columns)
    if not shapes or any(len(shape) != 5 or shape != next(iter(shapes.values())) or shape[0] != len(steps) for shape in shapes.values()):
        raise ValueError(f"samples have shapes {shapes} for {len(steps)} steps; expected (F, B, C, H, W), all alike, and F steps")
    for name, images in frames.items():
        check_frames(images, f"samples {name!r}", lambda i: f"step {steps[i]}")
    widget = TrainingWidget(columns, title=title, total=max([len(losses), *steps]), losses=np.array(losses, np.float32).tobytes())
    for i, step in enumerate(steps):
        widget.add(step, {name: images[i] for name, images in frames.items()})
    widget._show_last()
    warn_if_large("TrainingWidget", widget.pictures, "fewer steps, or fewer or smaller images")
    widget.summary = f"TrainingWidget({len(steps)} of {widget.total} steps; {', '.join(frames)}; data {fingerprint(*frames.values())})"
    return widget


def live_training(
    total: int, panels: Sequence[str], shape: tuple[int, int, int, int], *, columns: int = 4, title: str = ""
) -> TrainingWidget:
    """An empty training view. Display it, then fill it with its `watch` while a run of `total` steps goes on.

    panels: the names of the samples. shape: (B, C, H, W) of each, which fixes the size of the view from the start.

        view = live_training(config.steps, ["samples"], (16, 1, 28, 28))
        display(view)
        for step in view.watch(train(denoiser, dataset, config), lambda step: {"samples": sample(step.ema, 16)}, at=[100, 200]):
            ...
    """
    panels = [panels] if isinstance(panels, str) else [str(name) for name in panels]
    if not panels:
        raise ValueError("panels is empty; expected one name or more")
    if not isinstance(shape, Sequence) or len(shape) != 4:
        raise ValueError(f"shape={shape!r}; expected (B, C, H, W) of each panel's images")
    images, channels, height, width = (whole(f"shape[{i}]", n) for i, n in enumerate(shape))
    check_channels(channels, "a panel")
    total, columns = whole("total", total), whole("columns", columns)
    panel_shape = _panel_shape((images, channels, height, width), columns, len(panels))
    empty = draw(torch.zeros(images, channels, height, width, dtype=torch.float32, device="cpu"), columns)
    widget = TrainingWidget(columns, title=title, total=total, live=True, panel_names=panels, panel_shape=list(panel_shape))
    widget.summary = f"TrainingWidget(live, {total} steps; {', '.join(panels)})"
    widget.still = still(title, filmstrip({name: [empty.numpy()] for name in panels}, ["no samples yet"], [0]))
    return widget


def _loss_curve(losses: np.ndarray, total: int) -> np.ndarray:
    """The loss of each step and its running mean, on a logarithmic axis up to the last step of the run."""
    figure, (ax,) = plots([(WIDTH - 40, 170)], ["loss of each step, and its running mean"])
    steps = np.arange(1, len(losses) + 1)
    ax.plot(steps, losses, color=CURVES[0], alpha=0.3, linewidth=0.7)
    ax.plot(steps, running_mean(losses.tolist(), SMOOTH), color=CURVES[0], linewidth=1.5)
    shown = losses[np.isfinite(losses) & (losses > 0)]
    low, high = float(shown.min()), float(shown.max())
    low, high = (low, high) if low < high else (low / 2, high * 2)
    ax.set(xlim=(0, total), xticks=[0, total], yscale="log", ylim=(low * 0.999, high * 1.001))  # with room for the ticks at its ends
    ax.set(yticks=[low, high], yticklabels=[f"{low:.2g}", f"{high:.2g}"])
    ax.minorticks_off()
    ax.get_xticklabels()[-1].set_horizontalalignment("right")
    return pixels_of(figure)


def _panel_shape(shape: tuple[int, ...], columns: int, panels: int) -> tuple[int, int]:
    """Height and width of a panel of images (B, C, H, W); `ValueError` if `panels` of them exceed what browsers draw."""
    height, width = grid_size(shape, columns)
    check_sheet(1, height, width * panels)
    return height, width


def _steps(name: str, steps: Any) -> list[int]:
    """Training steps as Python's ints."""
    if isinstance(steps, str) or not isinstance(steps, Iterable) or (isinstance(steps, Tensor) and steps.ndim != 1):
        raise ValueError(f"{name}={steps!r}; expected a list of training steps")
    return [whole(f"{name}[{i}]", step, low=0) for i, step in enumerate(steps)]


@contextmanager
def _interrupt() -> Iterator[list]:
    """Yields a list that is empty until the first interrupt (SIGINT) in the block; a second one interrupts as usual."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield seen
        return

    def note(number, frame):
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
