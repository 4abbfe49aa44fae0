"""The training view: the loss curve, and samples on the same noise at successive steps. Live while `train` runs, or afterwards."""

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

    `losses` and `steps` hold what has been shown so far: the loss of each training step, and the steps that have samples.
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
    stop = traitlets.Bool(False).tag(sync=True)  # set when the button's message arrives; looked at after each step

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
        """Shows samples, name -> images (B, C, H, W) in [-1, 1], as those of training step `step`, and the same names every time.

        Values that are not finite are grey (NaN), white or black (infinity), and a warning says so: a live run goes on.
        """
        step = whole("step", step, low=0)
        if not isinstance(samples, Mapping) or not samples:
            given = "empty" if isinstance(samples, Mapping) else f"a {type(samples).__name__}"
            raise ValueError(f'samples is {given}; expected images by name, as {{"samples": images}}')
        images = {str(name): as_frames(batch, f"samples {name!r}", 4) for name, batch in samples.items()}
        if self.panel_names and list(images) != self.panel_names:
            raise ValueError(f"samples are called {list(images)}; expected {self.panel_names}, as before")
        for name, batch in images.items():
            if batch.ndim != 4 or not batch.numel():
                raise ValueError(f"samples {name!r} has shape {tuple(batch.shape)}; expected (B, C, H, W), one image or more")
            check_channels(batch.shape[1], f"samples {name!r}")
            if not batch.isfinite().all():
                warn(f"samples {name!r} of step {step} are not finite (NaN or infinity): the model, or its average, has diverged")
                images[name] = batch.nan_to_num(nan=0.0, posinf=1.0, neginf=-1.0)
        shapes = {name: list(_panel_shape(tuple(batch.shape), self._columns, len(images))) for name, batch in images.items()}
        shape = next(iter(shapes.values()))
        for each in shapes.values():
            if each != (self.panel_shape or shape):
                expected = f"{self.panel_shape}, which the view was made for" if self.panel_shape else f"{shape}, as the first panel's"
                raise ValueError(f"samples make a picture of {each} pixels; expected {expected}")
        grids = {name: draw(batch, self._columns).numpy() for name, batch in images.items()}
        for name, grid in grids.items():
            self._films.setdefault(name, []).append(grid)
        grey = all(batch.shape[1] == 1 for batch in images.values())
        row = np.concatenate(list(grids.values()), axis=1)
        with self.hold_sync():  # one message: the page must not see a step without its picture
            self.panel_names, self.panel_shape = list(grids), shape
            self.steps = [*self.steps, step]
            self.pictures = [*self.pictures, image_png(row, grey)]

    def _show_last(self) -> None:
        self.frame = max(0, len(self.steps) - 1)
        if self.steps:
            self.step = self.steps[-1]  # which the frame's change sets only if there is one
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
        """Shows the view under an id, so that `watch` can replace its still picture, which notebooks store."""
        from IPython.display import display

        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True, display_id=self._shown_as)
        self._is_shown = True

    def _update_shown(self) -> None:
        """Replaces the still picture where the view was shown. Colab stores none, see `_repr_mimebundle_`."""
        if not self._is_shown or "google.colab" in sys.modules:
            return
        from IPython.display import update_display

        data, metadata = self._repr_mimebundle_()
        update_display(data, metadata=metadata, raw=True, display_id=self._shown_as)

    def watch(
        self, run: Iterable[TrainStep], samples: Callable[[TrainStep], Mapping[str, Tensor]], at: Collection[int]
    ) -> Iterator[TrainStep]:
        """Passes on the steps of `run`, showing their losses, and `samples(step)` after the steps in `at`.

        The Stop button ends it after the step that is being made, and so does interrupting the kernel (once; twice is
        Python's KeyboardInterrupt). Nothing is lost: watch the same `run` again, and it goes on.

        The button interrupts the kernel where its page can, as in JupyterLab and Notebook. Elsewhere, on Colab for one, its message
        waits until the cell has ended: there, interrupt.
        """
        if not isinstance(at, range):  # which is fast to look into, and may be long
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
    """A slider over training: the loss curve with a marker, and the samples after each of `steps`.

    samples: name -> images (F, B, C, H, W) in [-1, 1], from the same noise after each step. steps: F of them. losses: of every
    training step, from the first. columns: images in a row. Raises `ValueError` for samples that are not finite.
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
    """An empty training view, to be shown first and filled by its `watch` while a run of `total` steps goes on.

    panels: the names of what will be shown, and shape: (B, C, H, W) of each; so the view has its size from the start.

        view = live_training(config.steps, ["samples"], (16, 1, 28, 28))
        display(view)
        for step in view.watch(train(denoiser, dataset, config), lambda step: {"samples": sample(step.ema, 16)}, at=[100, 200]):
            ...
    """
    panels = [panels] if isinstance(panels, str) else [str(name) for name in panels]
    if not panels:
        raise ValueError("panels is empty; expected the name of one panel or more")
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
    """Height and width of a panel of images (B, C, H, W); `ValueError` if so many side by side make more than browsers draw."""
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
    """A list that is empty until the first interrupt (SIGINT) of the block; the second interrupts as usual."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
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
