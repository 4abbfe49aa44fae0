"""The engine of a training run: precision, gradient accumulation, processes, skipped steps, checkpoints.

`loop` calls it once for each of these; read `loop` to learn what training does.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from diffusion_lib.checks import NO_LABEL
from diffusion_lib.data import LabelledImages, check_images_and_labels, class_names_of, image_shape_of
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.devices import PRECISIONS, choose_device, choose_precision, is_sharded, to_device, torchs_defaults
from diffusion_lib.networks import unwrapped
from diffusion_lib.seeds import derived_seed
from diffusion_lib.training import checkpoints, processes
from diffusion_lib.training.arguments import check_arguments, trainable
from diffusion_lib.training.batches import Batch, draw_batch, parts_of_batch, seeded_dropout
from diffusion_lib.training.config import TrainConfig, check_warmup
from diffusion_lib.training.memory import keep_freed_memory
from diffusion_lib.training.sharding import gather, reshard, shard, shards
from diffusion_lib.words import as_words

if TYPE_CHECKING:
    from accelerate import Accelerator


DROPOUT = 1  # separates dropout's seeds from those of samples


class Run:
    """A training run, with the arguments of `train`.

    accelerator: each process creates a run with the same arguments and gets the same steps. Device, precision and gradient accumulation
    are then the accelerator's. All processes must see `checkpoint_dir`. With FSDP (version 2), weights, averages and the optimizer's
    moments stay sharded over the processes: all processes must call a step's denoisers, with the same images. A sharded denoiser cannot
    be copied, but a checkpoint stores the full tensors. (Running statistics, such as batch norm's, then stay local to each process;
    `UNet` has none.)

    Raises at construction, before any change: `ValueError` if images, labels or checkpoint do not fit the denoiser and the config, and
    `OSError` or `MemoryError` if a possibly intact checkpoint cannot be read. Raises later: `OSError` if a checkpoint cannot be written
    or another run writes to the same folder, and `FloatingPointError` after `config.skip_limit` steps in a row (or all steps) with a
    loss or gradient that is not finite. On a GPU, where reading a number waits for the device, this is checked every `skip_limit` steps
    and before each checkpoint; no checkpoint is written within such a row, except after the last step.
    """

    loss: Tensor  # () of the current step
    grad_norm: Tensor  # () of the latest update

    def __init__(
        self,
        denoiser: Denoiser,
        dataset: LabelledImages,
        config: TrainConfig,
        checkpoint_dir: str | Path | None = None,
        accelerator: "Accelerator | None" = None,
    ):
        directory = check_arguments(denoiser, dataset, config, checkpoint_dir, accelerator)
        denoiser = trainable(denoiser)
        self.labels = conditions(denoiser, dataset)
        check_fit(denoiser, dataset, self.labels, config)
        self.denoiser, self.dataset, self.config, self.accelerator = denoiser, dataset, config, accelerator
        if accelerator is None:
            self.device, self.dtype = choose_device(config.device), choose_precision(config.precision, config.device)
        else:
            processes.check_accelerator(accelerator, config)
            self.device, self.dtype = accelerator.device, PRECISIONS[processes.precision_of(accelerator)]
        self.directory = directory
        self.state, self.seen, self.read_back = None, set(), False
        if self.directory is not None:
            self.identity, self.seen = checkpoints.identity(config, denoiser, dataset), checkpoints.names(self.directory)
            with self._together():
                self.state = checkpoints.newest(self.directory)
                if self.state is not None:
                    checkpoints.check_fit(self.state, self.identity, denoiser, self.directory)
                    if checkpoints.may_go_on(self.state, config.steps):
                        warnings.warn(
                            f"the run in {self.directory} has made its {self.state.content['step']} steps and continues to {config.steps}: "
                            "its learning rate rises again and falls to 0 at the new end. A run planned with this many steps from the "
                            "start would end with other weights",
                            stacklevel=3,
                        )
            if accelerator is not None:
                processes.check_same_step(0 if self.state is None else self.state.content["step"], self.directory)
            self.directory.mkdir(parents=True, exist_ok=True)
        denoiser.image_shape, denoiser.class_names = image_shape_of(dataset), class_names_of(dataset, denoiser.num_classes)

    def place(self) -> None:
        """Moves denoiser and images to the device, and copies the first process's weights to all."""
        self.denoiser.to(self.device).train()
        self.images = self.dataset.images.detach().to(self.device)
        if self.accelerator is not None:
            processes.take_weights_of_first(self.denoiser)

    def distribute(self, objective: nn.Module, ema: Denoiser) -> nn.Module:
        """The objective, prepared for several processes: with averaged gradients, or with sharded weights."""
        self.ema, self.synchronised = ema, objective  # the module whose gradient averaging can be postponed
        if shards(self.accelerator):
            for network in (self.denoiser.network, ema.network):
                shard(network, self.accelerator)
            self.synchronised = self.denoiser.network
        elif self.accelerator is not None:
            self.synchronised = objective = self.accelerator.prepare_model(objective)
        return objective

    @contextmanager
    def resumed(self, ema: Denoiser, optimizer: torch.optim.Optimizer) -> Iterator[int]:
        """Restores the newest checkpoint, if any, and yields the number of updates it contains."""
        self.optimizer = optimizer
        # float16 needs a scaled loss. In the other precisions the scale stays 1, and the scaler only skips steps whose gradient is
        # not finite, on the device, without making the CPU wait
        scales = self.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=2.0**16 if scales else 1.0)
        self.kept_scaler = self.scaler if scales else None
        done = 0 if self.state is None else self.state.restore(self.denoiser, ema, optimizer, self.kept_scaler)
        self.state = None  # frees four times the weights' memory
        self.skips, self.due = Skips(min(self.config.skip_limit, self.config.steps), self.device), False
        self.parts = parts_of_batch(self.config.batch_size, self.accelerator)
        with keep_freed_memory():
            yield done

    def draw(self, step: int) -> Iterator[Batch]:
        """The batch of update number `step`, in one part per gradient accumulation step."""
        batch = draw_batch(self.images, self.labels, self.denoiser, self.config, step)
        self.before = [buffer.clone() for buffer in self.denoiser.buffers()]
        self.loss = torch.zeros((), device=self.device, dtype=torch.float32)
        for part in self.parts:
            self.dropout_seed = derived_seed(self.config.seed, step, part.start, DROPOUT)
            # gradients are averaged over processes once, after the last part
            with nullcontext() if self.accelerator is None or part is self.parts[-1] else self.accelerator.no_sync(self.synchronised):
                y = None if batch.y is None else batch.y[part]
                yield Batch(batch.x0[part], y, batch.t[part], to_device(batch.eps[part], self.device))

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within, the denoiser computes in the run's precision, and its network's random numbers depend only on seed and step."""
        precision = torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)
        with torchs_defaults(), torch.enable_grad(), seeded_dropout(self.denoiser.network, self.dropout_seed), precision:
            yield

    @torch.enable_grad()
    def backward(self, loss: Tensor) -> None:
        """Accumulates the gradient of this part's mean loss."""
        loss = loss / len(self.parts)
        # the second factor is 1, or NaN if the loss is not finite: the gradient is then NaN too, and the scaler skips the step
        self.scaler.scale(loss * (1 + 0 * loss.detach())).backward()
        self.loss += loss.detach()

    def update(self, lr: float) -> None:
        """Takes the optimizer's step with the clipped gradient; skips it if loss or gradient is not finite."""
        if self.accelerator is not None:
            self.loss = self.accelerator.reduce(self.loss, "mean")
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.scaler.unscale_(self.optimizer)
        self.grad_norm = gather(torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), self.config.grad_clip))
        self.scaler.step(self.optimizer)
        self.scaler.update(None if self.kept_scaler else 1.0)
        self.optimizer.zero_grad()
        skipped = self.skips.add(self.loss, self.grad_norm)
        # running statistics: undo a skipped step's change, and copy them into the average, since they are averages already
        for buffer, old, average in zip(self.denoiser.buffers(), self.before, self.ema.buffers(), strict=True):
            buffer.copy_(torch.where(skipped, old, buffer))
            average.copy_(buffer)
        reshard(self.ema.network)  # the caller may have sampled from it

    def checkpoint(self, step: int) -> None:
        """Writes a checkpoint if one is due. Raises `FloatingPointError` if too many steps in a row were skipped."""
        last = step == self.config.steps
        self.due = self.due or (self.directory is not None and step % self.config.checkpoint_every == 0)
        if self.device.type == "cpu" or self.due or last or step % self.config.skip_limit == 0:  # elsewhere, checking means waiting
            self.skips.check(step)
        # not within a row of skipped steps, whose count would be lost on resuming: the next good step writes it
        if self.directory is None or not (last or (self.due and not self.skips.in_a_row)):
            return
        self.due = False
        writes = self.accelerator is None or self.accelerator.is_main_process
        content = checkpoints.content(step, self.identity, self.denoiser, self.ema, self.optimizer, self.kept_scaler, keep=writes)
        with self._together():
            if writes:
                path = checkpoints.write(self.directory, content, self.seen)
                if not self.read_back:
                    checkpoints.check_readable(path)
                self.read_back = True

    @property
    def skipped(self) -> Tensor:
        """() number of steps skipped in this call."""
        return self.skips.count.clone()

    def _together(self):
        return nullcontext() if self.accelerator is None else processes.failing_together()


class Skips:
    """Counts the steps whose loss or gradient norm is not finite, and stops training after `limit` of them in a row."""

    def __init__(self, limit: int, device: torch.device):
        self.limit = limit
        self.count = torch.zeros((), dtype=torch.long, device=device)
        self.in_a_row = torch.zeros((), dtype=torch.long, device=device)
        self.longest = torch.zeros((), dtype=torch.long, device=device)  # so that a row that ended before the check counts too

    def add(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """Counts a step and returns whether it was skipped."""
        skipped = ~(loss.isfinite() & grad_norm.isfinite())
        self.count += skipped
        self.in_a_row = (self.in_a_row + 1) * skipped
        self.longest = torch.maximum(self.longest, self.in_a_row)
        return skipped

    def check(self, step: int) -> None:
        """Raises `FloatingPointError` if `limit` steps in a row were skipped; `step` is the last one counted. Waits for the device."""
        if int(self.longest) >= self.limit:
            skipped = int(self.in_a_row)
            which = f"in the {skipped} steps up to {step}, which were skipped; the weights are still those of step {step - skipped}"
            if skipped < self.limit:
                which = f"in {int(self.longest)} steps in a row before step {step}, which were skipped"
            raise FloatingPointError(
                f"loss or gradient was not finite {which}. Expected finite values: look for damaged images, lower lr, or use "
                "precision='float32'"
            )


def check_fit(denoiser: Denoiser, dataset: LabelledImages, labels: Tensor, config: TrainConfig) -> None:
    """Raises `ValueError` if this denoiser cannot be trained on this dataset in this way. labels: its `conditions`."""
    images = dataset.images
    shape = image_shape_of(dataset)
    if any(map(is_sharded, denoiser.parameters())):
        raise ValueError("the denoiser's weights are sharded over processes; expected a new denoiser, which resumes from the checkpoint")
    if images.numel() == 0:
        raise ValueError(f"the dataset's images have shape {tuple(images.shape)}; expected one or more images of one or more pixels")
    if images.dtype != torch.float32:
        raise ValueError(f"the dataset's images are {images.dtype}; expected torch.float32: use images.float()")
    if denoiser.image_shape is not None and denoiser.image_shape != shape:
        raise ValueError(f"the dataset's images have shape {shape}; expected {denoiser.image_shape}, the image shape of this denoiser")
    check_warmup(config)
    low, high = images.aminmax()
    if not (low >= -1 and high <= 1):
        bad = (~images.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        finite = f"; {len(bad)} of {len(images)} contain NaN or infinity, the first is image {bad[0]}: leave them out" if bad else ""
        hint = finite or ": see diffusion_lib.to_float"
        raise ValueError(f"the dataset's images range from {low:.8g} to {high:.8g}; expected [-1, 1]{hint}")
    if denoiser.num_classes is not None:
        for label in (labels.min(), labels.max()):
            if not NO_LABEL <= label < denoiser.num_classes:
                raise ValueError(f"the dataset has label {label}; expected 0..{denoiser.num_classes - 1}, or {NO_LABEL} for no class")
    check_input = getattr(unwrapped(denoiser.network), "check_input", None)
    if check_input is not None:
        t = torch.ones(1, dtype=torch.long, device=images.device)
        check_input(images[:1], t, labels[:1] if denoiser.is_conditional else None)


def conditions(denoiser: Denoiser, dataset: LabelledImages) -> Tensor:
    """What a denoiser takes as y for each image: its label (N,), or for a captioned one the words of its caption (N, L). On the CPU.

    Raises `ValueError` for images and labels of the wrong kind, and for captions that are missing or have unknown words.
    """
    check_images_and_labels(dataset.images, dataset.labels)
    if denoiser.words is None:
        return dataset.labels.cpu()
    captions = getattr(dataset, "captions", ())
    if not captions:
        raise ValueError("the denoiser takes captions, but the dataset has none; expected ImageDataset(…, captions=…), one text per image")
    return as_words(captions, len(dataset.images), denoiser.words)
