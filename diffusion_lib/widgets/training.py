"""The training view: the loss curve, and samples on the same noise at successive steps. Live while `train` runs, or afterwards."""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor

from diffusion_lib.plots import image_grid, plot_loss
from diffusion_lib.training.loop import TrainStep
from diffusion_lib.widgets.base import FOLDER, FrameWidget, figure_png, filmstrip, fingerprint, image_png, stack_vertically

UPDATE_EVERY = 0.5  # seconds between two updates of the loss curve


class TrainingWidget(FrameWidget):
    """Made by `training` or `live_training`. `widget.step` is the training step whose samples are shown; it can be set and observed.

    `losses` and `steps` hold what has been shown so far: the loss of each training step, and the steps that have samples.
    """

    _esm = FOLDER / "training.js"
    step = traitlets.Int(0).tag(sync=True)
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
        self.on_msg(self._on_message)

    def _on_message(self, _, content, buffers) -> None:
        if content.get("stop") and self.running:
            self.stop = True

    def add(self, step: int, samples: Mapping[str, Tensor]) -> None:
        """Shows samples, name -> images (B, C, H, W) in [-1, 1], as those of training step `step`, and the same names every time."""
        grids = {name: image_grid(images, self._columns).numpy() for name, images in samples.items()}
        if self.panel_names and list(grids) != self.panel_names:
            raise ValueError(f"samples are called {list(grids)}; expected {self.panel_names}, as before")
        shape = list(next(iter(grids.values())).shape[:2])
        if self.panel_shape and shape != self.panel_shape:
            raise ValueError(f"samples make a picture of {shape} pixels; expected {self.panel_shape}, which the view was made for")
        for name, grid in grids.items():
            self._films.setdefault(name, []).append(grid)
        grey = next(iter(samples.values())).shape[1] == 1
        row = np.concatenate(list(grids.values()), axis=1)
        with self.hold_sync():  # one message: the page must not see a step without its picture
            self.panel_names, self.panel_shape = list(grids), shape
            self.steps = [*self.steps, step]
            self.pictures = [*self.pictures, image_png(row, grey)]

    def _show_last(self) -> None:
        self.frame = max(0, len(self.steps) - 1)
        if self.steps:
            self.step = self.steps[-1]  # which the frame's change sets only if there is one
            self.still = filmstrip(self._films, [f"step {step}" for step in self.steps])
            if self.losses:
                figure = plot_loss(np.frombuffer(self.losses, np.float32).tolist(), 0.9).figure
                assert isinstance(figure, Figure)  # which it is where plot_loss makes it
                self.still = stack_vertically(figure_png(figure), self.still)

    async def watch(
        self, run: Iterable[TrainStep], samples: Callable[[TrainStep], Mapping[str, Tensor]], at: Collection[int]
    ) -> AsyncIterator[TrainStep]:
        """Passes on the steps of `run`, showing their losses, and `samples(step)` after the steps in `at`: `async for step in …`.

        The Stop button ends it after the step that is being made, and so does interrupting the kernel (once; twice is
        Python's KeyboardInterrupt). Nothing is lost: watch the same `run` again, and it goes on.

        It is asynchronous so that the kernel hears the button between two steps, as ipykernel 7.4 and newer do. Older ones,
        Colab's among them, hear it only when the cell has ended: there, interrupt.
        """
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
                    await asyncio.sleep(0.001)  # for messages to arrive in: a single turn of the event loop would be too few
                    if self.stop or interrupted:
                        break
        finally:
            if new:
                show_losses()
            self._show_last()
            self.running = False


def training(
    samples: Mapping[str, Tensor], steps: Sequence[int], losses: Sequence[float], *, columns: int = 4, title: str = ""
) -> TrainingWidget:
    """A slider over training: the loss curve with a marker, and the samples after each of `steps`.

    samples: name -> images (F, B, C, H, W) in [-1, 1], from the same noise after each step. steps: F of them. losses: of every
    training step, from the first. columns: images in a row.
    """
    shapes = {name: tuple(images.shape) for name, images in samples.items()}
    if not shapes or any(len(shape) != 5 or shape != next(iter(shapes.values())) or shape[0] != len(steps) for shape in shapes.values()):
        raise ValueError(f"samples have shapes {shapes} for {len(steps)} steps; expected (F, B, C, H, W), all alike, and F steps")
    widget = TrainingWidget(columns, title=title, total=max([len(losses), *steps]), losses=np.array(losses, np.float32).tobytes())
    for i, step in enumerate(steps):
        widget.add(step, {name: images[i] for name, images in samples.items()})
    widget._show_last()
    widget.summary = f"TrainingWidget({len(steps)} of {widget.total} steps; {', '.join(samples)}; data {fingerprint(*samples.values())})"
    return widget


def live_training(
    total: int, panels: Sequence[str], shape: tuple[int, int, int, int], *, columns: int = 4, title: str = ""
) -> TrainingWidget:
    """An empty training view, to be shown first and filled by its `watch` while a run of `total` steps goes on.

    panels: the names of what will be shown, and shape: (B, C, H, W) of each; so the view has its size from the start.

        view = live_training(config.steps, ["samples"], (16, 1, 28, 28))
        display(view)
        async for step in view.watch(train(denoiser, dataset, config), lambda step: {"samples": sample(step.ema, 16)}, at=[100, 200]):
            ...
    """
    empty = image_grid(torch.zeros(shape), columns)
    widget = TrainingWidget(columns, title=title, total=total, live=True, panel_names=list(panels), panel_shape=list(empty.shape[:2]))
    widget.summary = f"TrainingWidget(live, {total} steps; {', '.join(panels)})"
    widget.still = filmstrip({name: [empty.numpy()] for name in panels}, ["no samples yet"])
    return widget


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
