"""Logs of the training command: numbers of each step, and samples from the averaged weights.

    for step in recorded(train(…), folder, config): …

log.csv: one row per step. samples/step-000500.png: samples from the same noise at each stage of training. tensorboard/: both, for
TensorBoard. A resumed run continues these files; no step appears twice.
"""

import io
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from diffusion_lib.data import to_uint8
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.devices import is_sharded
from diffusion_lib.files import write_whole
from diffusion_lib.sampling import sample
from diffusion_lib.training.config import TrainConfig

if TYPE_CHECKING:
    from diffusion_lib.training.loop import TrainStep

WRITE_EVERY = 1.0  # seconds: reading a loss waits for the GPU
SAMPLES, COLUMNS, SAMPLING_STEPS = 36, 6, 25  # per picture


class Row(NamedTuple):
    """A line of log.csv."""

    step: int
    loss: float
    grad_norm: float
    lr: float
    seconds: float  # since the run began, not counting interruptions


class Log:
    """log.csv in a folder: a header and one row per step, in order."""

    def __init__(self, folder: Path):
        self.path = folder / "log.csv"
        self.seconds = 0.0  # in the last row
        self.file: Any = None

    def begin(self, done: int) -> None:
        """Resumes after update number `done`: removes the rows of later steps, which will be repeated.

        Raises `OSError` for a file of that name with other contents.
        """
        kept = [row for row in self._read() if row.step <= done]
        self.seconds = kept[-1].seconds if kept else 0.0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole({self.path: "".join(map(_line, [Row._fields, *kept])).encode()})
        self.file = self.path.open("a", encoding="utf-8", newline="")

    def add(self, rows: Iterable[Row]) -> None:
        """Appends the rows."""
        try:
            self.file.write("".join(map(_line, rows)))
            self.file.flush()
        except OSError as error:
            raise OSError(f"{self.path} could not be written ({error.strerror}); expected free space on the disk") from error

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _read(self) -> list[Row]:
        if not self.path.exists():
            return []
        first, *lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True) or [_line(Row._fields)]
        if first != _line(Row._fields):
            raise OSError(f"{self.path} begins with {first.strip()[:60]!r}; expected {_line(Row._fields).strip()!r}: move it away")
        rows = []
        for line in lines:
            fields = line.strip().split(",")
            if line.endswith("\n") and len(fields) == len(Row._fields):  # a killed process may leave half a line
                with suppress(ValueError):
                    rows.append(Row(int(fields[0]), *map(float, fields[1:])))
        return rows


class TensorBoard:
    """The same logs for TensorBoard, in a folder. Raises `ValueError` if the package tensorboard is not installed."""

    def __init__(self, folder: Path):
        self.folder = folder / "tensorboard"
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                f"--tensorboard needs the package tensorboard ({error}); install it: python -m pip install tensorboard"
            ) from error
        self.make: Any = SummaryWriter

    def begin(self, done: int) -> None:
        """Resumes after update number `done`: TensorBoard hides earlier records of later steps."""
        self.writer = self.make(str(self.folder), purge_step=done + 1)

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            for name in ("loss", "grad_norm", "lr"):
                self.writer.add_scalar(name, getattr(row, name), row.step)
        self.writer.flush()

    def add_picture(self, step: int, picture: Tensor) -> None:
        self.writer.add_image("samples", picture, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def recorded(
    steps: Iterable["TrainStep"],
    folder: Path,
    config: TrainConfig,
    *,
    sample_every: int = 0,
    captions: Sequence[str] = (),
    board: TensorBoard | None = None,
    writes: bool = True,
) -> Iterator["TrainStep"]:
    """Yields the steps, logging each one first.

    sample_every: steps between sample pictures, with one after the last step; 0 for none. captions: what to sample from a captioned
    denoiser, in turn. writes: True only in the first process;
    the others merely sample along where the weights are sharded.
    """
    logs: list[Any] = [Log(folder), *([] if board is None else [board])] if writes else []
    waiting: list[tuple[TrainStep, float]] = []
    start, write_at, begun = time.monotonic(), 0.0, False

    def write_down():
        if waiting and logs:
            numbers = torch.stack([torch.stack([step.loss.float(), step.grad_norm.float()]) for step, _ in waiting]).tolist()
            rows = [Row(step.step, loss, norm, step.lr, at) for (step, at), (loss, norm) in zip(waiting, numbers, strict=True)]
            for log in logs:
                log.add(rows)
        waiting.clear()

    try:
        for step in steps:
            if not begun:
                begun = True
                for log in logs:
                    log.begin(step.step - 1)
                start -= logs[0].seconds if logs else 0.0
            now = time.monotonic()
            waiting.append((step, now - start))
            last = step.step == config.steps
            # also around a checkpoint: a killed run then only loses rows of steps that will be repeated
            if last or now >= write_at or (step.step + 1) % config.checkpoint_every < 2:
                write_at = now + WRITE_EVERY
                write_down()
            if sample_every and (last or step.step % sample_every == 0):
                _draw(step, captions, folder, board if writes else None, writes)
            yield step
    finally:
        write_down()
        for log in logs:
            log.close()


def _draw(step: "TrainStep", captions: Sequence[str], folder: Path, board: TensorBoard | None, writes: bool) -> None:
    if not writes and not any(map(is_sharded, step.ema.parameters())):
        return
    picture = sheet(step.ema, captions)
    if writes:
        path = folder / "samples" / f"step-{step.step:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole({path: png(picture)})
    if board is not None:
        board.add_picture(step.step, picture)


def sheet(denoiser: Denoiser, captions: Sequence[str] = ()) -> Tensor:
    """A grid of samples, uint8 (C, H, W), always from the same noise; with classes or captions, of each one in turn."""
    from torchvision.utils import make_grid

    y: Any = None
    if denoiser.num_classes is not None:
        y = torch.arange(SAMPLES, device="cpu") % denoiser.num_classes
    elif captions and getattr(denoiser, "words", None):
        y = [captions[k % len(captions)] for k in range(SAMPLES)]
    images = sample(denoiser, SAMPLES, steps=min(SAMPLING_STEPS, denoiser.schedule.T), y=y)
    if images.shape[1] not in (1, 3, 4):  # no picture has so many channels: show each channel on its own
        images = images.flatten(0, 1)[:, None]
    return to_uint8(make_grid(images.clamp(-1, 1).cpu(), nrow=COLUMNS, pad_value=1.0))


def png(picture: Tensor) -> bytes:
    """uint8 (C, H, W), C = 3 or 4, as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(file, "png")
    return file.getvalue()


def _line(values: Iterable[object]) -> str:
    return ",".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values) + "\n"
