"""Training as a generator: the caller decides what to log, draw and keep, and stops by stopping to ask.

    for step in train(denoiser, dataset, TrainConfig(steps=2000)):
        ...                                     # step.loss, step.ema, …

From a shell: `python -m diffusion_lib.training --dataset glyphs --steps 2000 --out runs/glyphs` (see `--help`), and the same
command under `torchrun` or `accelerate launch` for several processes.

What a step draws (images, timesteps, noise) depends on the seed and the step's number alone. So a run that is interrupted and
resumed from a checkpoint draws what it would have drawn, and several processes draw what one would.
"""

import argparse
import math
import operator
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffusion_lib.data import ImageDataset, load_dataset
from diffusion_lib.denoiser import PREDICTIONS, Denoiser, random_timesteps
from diffusion_lib.devices import PRECISIONS, choose_device, choose_precision, is_spread, moved
from diffusion_lib.errors import unknown_name
from diffusion_lib.schedules import SCHEDULES, make_schedule
from diffusion_lib.training import checkpoints
from diffusion_lib.training.batches import batch_indices, dropout_seed, labels_to_tell, parts_of_batch, seeded_dropout, step_seed
from diffusion_lib.training.memory import freed_memory_is_kept
from diffusion_lib.training.sharding import check_settings, shard, shards, spread_again, whole
from diffusion_lib.unet import NO_LABEL, UNet

if TYPE_CHECKING:
    from accelerate import Accelerator

LOOK_EVERY = 0.1  # seconds: to look at a loss is to wait for the GPU
ACCELERATES = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # what accelerate calls them


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults write readable glyphs after two to four minutes on two CPU cores.

    Raises `TypeError` and `ValueError` for what cannot be. Numbers are kept as Python's own.
    """

    steps: int = 2000  # parameter updates in all
    batch_size: int = 32  # of all processes together
    lr: float = 2e-3  # the highest learning rate
    weight_decay: float = 0.01  # AdamW's, on matrices and convolutions; not on biases, norms and embeddings
    warmup_steps: int = 100  # the learning rate rises linearly over these, then falls to 0 on a cosine
    grad_clip: float = 1.0  # the largest norm of the gradient; a larger one is scaled down to it
    ema_decay: float = 0.999  # of the averaged weights, which are the ones to sample from
    label_dropout: float = 0.1  # the part of the images whose class is not told, so that y=None works too
    checkpoint_every: int = 500  # steps, if there is a checkpoint_dir
    skip_limit: int = 30  # steps in a row that may be skipped because loss or gradient is not finite; then training stops
    seed: int = 0
    device: str = "auto"  # "auto": CUDA, else MPS, else CPU
    precision: str = "auto"  # of the network's arithmetic: "float32", "bfloat16", "float16"; "auto": the fastest the device has

    def __post_init__(self):
        # numpy's numbers, too, and as Python's own: a checkpoint holds no others
        for field in fields(TrainConfig):
            object.__setattr__(self, field.name, _as_plain(type(field.default), field.name, getattr(self, field.name)))
        for name in ("steps", "batch_size", "checkpoint_every", "skip_limit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected 1 or more")
        for name in ("lr", "grad_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a number above 0")
        for name in ("lr", "weight_decay"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a finite number")
        for name in ("weight_decay", "warmup_steps", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected 0 or more")
        if self.seed >= 2**32:
            raise ValueError(f"seed={self.seed}; expected less than 2^32: torch's generators look at no more")
        for name in ("ema_decay", "label_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected 0 or more and less than 1")
        if self.precision not in ("auto", *PRECISIONS):
            raise unknown_name("precision", self.precision, ("auto", *PRECISIONS))


def _as_plain(kind: type, name: str, value: object) -> int | float | str:
    try:
        if kind is str and isinstance(value, str | torch.device):
            return str(value)
        if kind is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if kind is not str and not isinstance(value, str | bytes):
            return operator.index(value) if kind is int else float(value)
    except TypeError:
        pass
    expected = {int: "a whole number", float: "a number", str: "a string"}[kind]
    raise TypeError(f"{name}={value!r} is of type {type(value).__name__}; expected {expected}")


class TrainStep(NamedTuple):
    """What one training step gives. The two denoisers are the ones that go on being trained: copy them to keep this moment
    (not where their weights are spread over processes: there, checkpoints keep it)."""

    step: int  # 1..steps: how many updates have been made
    loss: Tensor  # () mean loss of the batch, before the update; detached, on the device: float(step.loss)
    grad_norm: Tensor  # () norm of the gradient before clipping
    lr: float  # the learning rate of the update
    denoiser: Denoiser  # with the weights just updated
    ema: Denoiser  # with the averaged weights, in eval mode: sample from this one
    skipped: Tensor  # () how many steps of this call were skipped so far: loss or gradient was not finite, and nothing was updated


class EMA:
    """An exponential moving average of a denoiser's weights, in `denoiser`: a copy in eval mode that is never trained."""

    def __init__(self, denoiser: Denoiser, decay: float):
        self.decay = decay
        self.denoiser = deepcopy(denoiser).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, denoiser: Denoiser, step: int) -> None:
        """Moves the average towards the weights after update number `step` (1, 2, …)."""
        # ema <- d ema + (1 - d) weights,  d = min(decay, (1 + step) / (10 + step)): a short memory while there is little to remember
        decay = min(self.decay, (1 + step) / (10 + step))
        spread_again(self.denoiser)  # the caller may have sampled from it
        torch._foreach_lerp_(list(self.denoiser.parameters()), list(denoiser.parameters()), 1 - decay)
        for ours, theirs in zip(self.denoiser.buffers(), denoiser.buffers(), strict=True):
            ours.copy_(theirs)  # running statistics, in networks that have any, are averages already


class Skips:
    """Counts the steps whose loss or gradient norm is not finite, and stops training after `limit` of them in a row."""

    def __init__(self, limit: int, device: torch.device):
        self.limit = limit
        self.count = torch.zeros((), dtype=torch.long, device=device)
        self.in_a_row = torch.zeros((), dtype=torch.long, device=device)
        self.longest = torch.zeros((), dtype=torch.long, device=device)  # so that a row that has ended when it is looked at counts too

    def add(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """Counts a step, and tells whether it was skipped."""
        skipped = ~(loss.isfinite() & grad_norm.isfinite())
        self.count += skipped
        self.in_a_row = (self.in_a_row + 1) * skipped
        self.longest = torch.maximum(self.longest, self.in_a_row)
        return skipped

    def check(self, step: int) -> None:
        """Raises `FloatingPointError` if `limit` steps in a row were skipped, `step` being the last one counted. Waits for the device."""
        if int(self.longest) >= self.limit:
            skipped = int(self.in_a_row)
            which = f"in the {skipped} steps up to {step}, which were skipped; the weights are still those of step {step - skipped}"
            if skipped < self.limit:
                which = f"in {int(self.longest)} steps in a row before step {step}, which were skipped"
            raise FloatingPointError(
                f"loss or gradient was not finite {which}. Expected finite numbers: look for damaged images, lower lr, or use "
                "precision='float32'"
            )


class Objective(torch.nn.Module):
    """The mean loss of a batch, as the forward pass of a module: what torch's data parallelism can wrap."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x0: Tensor, y: Tensor | None, t: Tensor, eps: Tensor) -> Tensor:
        return self.denoiser.loss(x0, y, t, eps).mean()


def train(
    denoiser: Denoiser,
    dataset: ImageDataset,
    config: TrainConfig,
    checkpoint_dir: str | Path | None = None,
    accelerator: "Accelerator | None" = None,
) -> Iterator[TrainStep]:
    """Trains `denoiser` in place on `dataset`, yielding after every update; the device it is moved to is `config.device`.

    checkpoint_dir: a checkpoint is written there every `checkpoint_every` steps and at the end. If one is there already,
    training goes on after it, to the same weights (bit for bit on a CPU) as if it had never stopped. If none is there yet, it starts
    from the weights that `denoiser` has: after a run that was stopped before its first checkpoint, make a new one.
    accelerator: an `accelerate.Accelerator`, for several processes; each calls `train` with the same arguments, and gets the same
    steps. Device, precision and gradient accumulation are then the accelerator's. All processes must see `checkpoint_dir`.
    If it is set to FSDP (version 2), weights, average and the optimizer's moments are spread over the processes, and stay so: all of
    them must then call a step's denoisers, and on the same images. A checkpoint holds them whole. (Running statistics, such as
    batch norm's, are then each process's own; `UNet` has none.)

    Raises `ValueError` if images, labels or checkpoint do not fit the denoiser and the config, and `OSError` or `MemoryError` if a
    checkpoint that may be good cannot be read, before anything is changed; `OSError` if one cannot be written, or another run writes to
    the same folder; and `FloatingPointError` after `config.skip_limit` steps in a row whose loss or gradient was not finite, or if those
    were all steps (on a GPU, where to look at numbers is to wait for them, they are looked at every `skip_limit` steps and before a
    checkpoint is written, which is never done in such a row, but for the last step's).
    """
    _check_fit(denoiser, dataset, config)
    if accelerator is None:
        device, dtype = choose_device(config.device), choose_precision(config.precision, config.device)
    else:
        _check_accelerator(accelerator, config)
        device, dtype = accelerator.device, {ACCELERATES[name]: dtype for name, dtype in PRECISIONS.items()}[accelerator.mixed_precision]
    state, run, seen = None, {}, set()
    if checkpoint_dir is not None:
        run, seen = checkpoints.identity(config, denoiser, dataset), checkpoints.names(checkpoint_dir)
        with nullcontext() if accelerator is None else _failing_together():
            state = checkpoints.newest(checkpoint_dir)
            if state is not None:
                checkpoints.check_fit(state, run, denoiser, make_optimizer(denoiser, config), checkpoint_dir)
        if accelerator is not None:
            _check_same_checkpoint(state, checkpoint_dir)
        Path(checkpoint_dir).mkdir(parents=True, exist_ok=True)
    denoiser.image_shape = dataset.image_shape
    return _train(denoiser, dataset, config, checkpoint_dir, state, run, seen, device, dtype, accelerator)


def _train(denoiser, dataset, config, checkpoint_dir, state, run, seen, device, dtype, accelerator) -> Iterator[TrainStep]:
    denoiser.to(device).train()
    images, labels = dataset.images.to(device), dataset.labels.cpu()
    objective = Objective(denoiser)
    if accelerator is not None:
        _take_weights_of_first_process(denoiser)
    ema = EMA(denoiser, config.ema_decay)
    waits = objective  # the module that can be told to put off averaging the gradients
    if shards(accelerator):
        for network in (denoiser.network, ema.denoiser.network):
            shard(network, accelerator)
        waits = denoiser.network
    elif accelerator is not None:
        waits = objective = accelerator.prepare_model(objective)
    optimizer = make_optimizer(denoiser, config)
    # float16 needs the loss scaled up; in the other precisions the scale stays 1, and what the scaler does is to skip a step whose
    # gradient is not finite, on the device, without making the processor wait for it
    scales = dtype == torch.float16
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**16 if scales else 1.0)
    first = 1
    if state is not None:
        first = state.restore(denoiser, ema.denoiser, optimizer, scaler if scales else None) + 1
        state = None  # four times the weights' memory
    skips, due, written = Skips(min(config.skip_limit, config.steps), device), False, False
    parts = parts_of_batch(config.batch_size, accelerator)

    with freed_memory_is_kept():
        for step in range(first, config.steps + 1):
            batch = draw_batch(images, labels, denoiser, config, step)
            lr = learning_rate(step, config)
            for group in optimizer.param_groups:
                group["lr"] = lr
            before = [buffer.clone() for buffer in denoiser.buffers()]

            loss = torch.zeros((), device=device)
            for part in parts:
                last = part is parts[-1]  # gradients are averaged over the processes once, after the last part
                x0, y, t, eps = (None if each is None else each[part] for each in batch)
                dropout = seeded_dropout(denoiser, dropout_seed(config.seed, step, part.start))
                with nullcontext() if accelerator is None or last else accelerator.no_sync(waits):
                    with dropout, torch.autocast(device.type, dtype, enabled=dtype is not None):
                        part_loss = objective(x0, y, t, moved(eps, device)) / len(parts)
                    # the second factor is 1, or nan if the loss is not finite: then so is the gradient, and the scaler skips the step
                    scaler.scale(part_loss * (1 + 0 * part_loss.detach())).backward()
                loss += part_loss.detach()
            loss = loss if accelerator is None else accelerator.reduce(loss, "mean")
            scaler.unscale_(optimizer)
            grad_norm = whole(torch.nn.utils.clip_grad_norm_(denoiser.parameters(), config.grad_clip))
            scaler.step(optimizer)
            scaler.update(None if scales else 1.0)
            optimizer.zero_grad()
            skipped = skips.add(loss, grad_norm)
            for buffer, old in zip(denoiser.buffers(), before, strict=True):  # the forward pass has changed running statistics already
                buffer.copy_(torch.where(skipped, old, buffer))
            ema.update(denoiser, step)
            due = due or (checkpoint_dir is not None and step % config.checkpoint_every == 0)
            if device.type == "cpu" or due or step % config.skip_limit == 0 or step == config.steps:  # elsewhere, to look is to wait
                skips.check(step)
            # none in a row of skipped steps, which a run that went on from it would have to count anew: the next good step writes it
            if checkpoint_dir is not None and (step == config.steps or (due and not skips.in_a_row)):
                due = False
                writes = accelerator is None or accelerator.is_main_process
                content = checkpoints.content(step, run, denoiser, ema.denoiser, optimizer, scaler if scales else None, keep=writes)
                with nullcontext() if accelerator is None else _failing_together():
                    if writes:
                        path = checkpoints.write(checkpoint_dir, content, seen)
                        if not written:
                            checkpoints.check_readable(path)
                        written = True
                del content  # whole, where weights are spread
            yield TrainStep(step, loss, grad_norm, lr, denoiser, ema.denoiser, skips.count.clone())


class Batch(NamedTuple):
    """What one update learns from: the arguments of `Objective`, for all processes together. All but x0 is on the CPU: there, labels
    and timesteps can be looked at without waiting for a GPU."""

    x0: Tensor  # (batch_size, C, H, W), where the dataset's images are
    y: Tensor | None  # LongTensor (batch_size,), NO_LABEL where none is told
    t: Tensor  # LongTensor (batch_size,), uniform on 1..T
    eps: Tensor  # (batch_size, C, H, W)


def draw_batch(images: Tensor, labels: Tensor, denoiser: Denoiser, config: TrainConfig, step: int) -> Batch:
    """The batch of update number `step`. Each process draws all of it, and uses its own part: so they need not tell each other."""
    index = batch_indices(len(images), config.batch_size, step, config.seed)
    random = torch.Generator().manual_seed(step_seed(config.seed, step))
    y = labels_to_tell(labels[index], config.label_dropout, random) if denoiser.num_classes is not None else None
    t = random_timesteps(denoiser.schedule.T, config.batch_size, random)
    return Batch(images[moved(index, images.device)], y, t, torch.randn(config.batch_size, *images.shape[1:], generator=random))


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of update 1..steps: a linear rise over `warmup_steps`, then half a cosine down to 0."""
    if step <= config.warmup_steps:
        return config.lr * step / config.warmup_steps
    # lr/2 (1 + cos(pi u)), u from 0 after the warm-up to 1 one step after the last: Loshchilov & Hutter 2017 (arXiv:1608.03983), eq. 5
    u = (step - config.warmup_steps) / (config.steps + 1 - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * u))


def make_optimizer(denoiser: Denoiser, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) whose weight decay leaves biases, norms and embeddings alone."""
    embeddings = {id(p) for m in denoiser.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    decays = [p for p in denoiser.parameters() if p.ndim > 1 and id(p) not in embeddings]
    does_not = [p for p in denoiser.parameters() if p.ndim <= 1 or id(p) in embeddings]
    groups = [dict(params=decays, weight_decay=config.weight_decay), dict(params=does_not, weight_decay=0.0)]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99), fused=True)


def _check_same_checkpoint(state: checkpoints.State | None, directory: str | Path) -> None:
    from accelerate.utils import gather_object

    steps = gather_object([0 if state is None else state.content["step"]])
    if len(set(steps)) > 1:
        raise ValueError(
            f"the processes would go on after steps {steps}; expected the same for all: {directory} must be one folder for all"
        )


@contextmanager
def _failing_together() -> Iterator[None]:
    """Within, each process does something; afterwards all go on, or all raise: those that failed their own exception, the others an
    `OSError` that tells it."""
    from accelerate.utils import gather_object

    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    said = gather_object([None if failure is None else str(failure) or type(failure).__name__])
    if failure is not None:
        raise failure
    for process, text in enumerate(said):
        if text is not None:
            raise OSError(f"in {f'process {process}' if process else 'the first process'}: {text}")


@torch.no_grad()
def _take_weights_of_first_process(denoiser: Denoiser) -> None:
    from accelerate.utils import broadcast

    for value in [*denoiser.parameters(), *denoiser.buffers()]:
        value.copy_(broadcast(value.contiguous()))


def _check_fit(denoiser: Denoiser, dataset: ImageDataset, config: TrainConfig) -> None:
    if any(map(is_spread, denoiser.parameters())):
        raise ValueError("the denoiser's weights are spread over processes; expected a new one, which goes on from the checkpoint")
    if dataset.images.numel() == 0:
        raise ValueError(f"the dataset's images have shape {tuple(dataset.images.shape)}; expected one or more, of one pixel or more")
    if dataset.images.dtype != torch.float32:
        raise ValueError(f"the dataset's images are {dataset.images.dtype}; expected torch.float32")
    if denoiser.image_shape is not None and denoiser.image_shape != dataset.image_shape:
        raise ValueError(f"the dataset's images are {dataset.image_shape}; expected {denoiser.image_shape}, those of this denoiser")
    if config.warmup_steps >= config.steps and config.warmup_steps > 0:
        raise ValueError(f"warmup_steps={config.warmup_steps} with steps={config.steps}; expected fewer than the steps")
    low, high = dataset.images.aminmax()
    if not (low >= -1 and high <= 1):
        raise ValueError(f"the dataset's images range from {low:.8g} to {high:.8g}; expected [-1, 1]: see diffusion_lib.to_float")
    if denoiser.num_classes is not None:
        for label in (dataset.labels.min(), dataset.labels.max()):
            if not NO_LABEL <= label < denoiser.num_classes:
                raise ValueError(f"the dataset has label {label}; expected 0..{denoiser.num_classes - 1}, or {NO_LABEL} for no class")
    if isinstance(denoiser.network, UNet):
        y = None if denoiser.num_classes is None else dataset.labels[:1]
        denoiser.network.check_input(dataset.images[:1], torch.ones(1, dtype=torch.long), y)


def _check_accelerator(accelerator: "Accelerator", config: TrainConfig) -> None:
    kind = str(accelerator.distributed_type).rpartition(".")[2]
    if kind not in {"NO", "MULTI_CPU", "MULTI_GPU", "MULTI_XPU", "MULTI_NPU", "MULTI_MLU", "FSDP"}:
        raise ValueError(f"accelerate is set to {kind}; expected plain data parallelism or FSDP: run `accelerate config` again without it")
    if shards(accelerator):
        check_settings(accelerator)
    if (config.device, config.precision) != ("auto", "auto"):
        raise ValueError(
            f"device={config.device!r} and precision={config.precision!r} with an accelerator; expected 'auto': they are the accelerator's"
        )
    started = accelerator.num_processes if "RANK" not in os.environ else int(os.environ.get("WORLD_SIZE", "1"))
    if started != accelerator.num_processes:
        raise ValueError(
            f"accelerate counts {accelerator.num_processes} process where WORLD_SIZE={started} were started, so each would train alone; "
            f"expected {started}: make Accelerator(cpu=True) where there are no GPUs (--device cpu, on the command line)"
        )
    pieces = accelerator.num_processes * accelerator.gradient_accumulation_steps
    if config.batch_size % pieces:
        raise ValueError(
            f"batch_size={config.batch_size}; expected a multiple of {pieces}: {accelerator.num_processes} processes times "
            f"{accelerator.gradient_accumulation_steps} parts that gradients are accumulated over"
        )


def launched(device: str, precision: str) -> "Accelerator | None":
    """The accelerator of a process that `torchrun` or `accelerate launch` has started, None in one that was started by hand.

    Device and precision are the options of the command line; where they say "auto", accelerate's own settings decide.
    Raises `ValueError` for a device other than "auto" and "cpu".
    """
    if not any(name == "RANK" or name.startswith("ACCELERATE_") for name in os.environ):  # WORLD_SIZE alone may be a cluster's word
        return None
    if device not in ("auto", "cpu"):
        raise ValueError(f"device={device!r} in a process that was launched; expected 'auto' or 'cpu': each process has its own GPU")
    from accelerate import Accelerator

    if precision == "auto" and "ACCELERATE_MIXED_PRECISION" not in os.environ:
        dtype = choose_precision("auto", device)
        precision = next(name for name, known in PRECISIONS.items() if known == dtype)
    # accelerate looks for other processes on a CPU only if it is told that there is no GPU
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=None if precision == "auto" else ACCELERATES[precision])
    if accelerator.num_processes == 1 and "MASTER_ADDR" in os.environ and "RANK" not in os.environ:
        warnings.warn(
            "accelerate's launcher was asked for several processes and has started one: on CPUs it starts more only through mpirun. "
            "For several, use torchrun",
            stacklevel=2,
        )
    return accelerator


def main(arguments: list[str] | None = None) -> None:
    """`python -m diffusion_lib.training`: trains a U-Net on a dataset and saves the averaged weights with `save_pretrained`."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lib.training", description=main.__doc__)
    formatter = dict(help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the model; checkpoints go into its folder checkpoints, and are resumed from"
    )
    parser.add_argument("--dataset", default="glyphs", help="glyphs, photo, mnist, fashion_mnist, cifar10 or folder:PATH; default: glyphs")
    parser.add_argument("--root", type=Path, help="where torchvision's datasets are kept; default: the cache folder")
    parser.add_argument("--images", type=int, help="how many images to train on; default: all")
    parser.add_argument("--dataset-seed", type=int, default=0, help="of the glyphs: another one gives other images; default: 0")
    parser.add_argument("--size", type=int, help="height and width of photo and folder images")
    parser.add_argument("--schedule", default="cosine", choices=SCHEDULES, **formatter)
    parser.add_argument("--T", type=int, default=1000, **formatter)
    parser.add_argument("--prediction", default="v", choices=PREDICTIONS, **formatter)
    for name in ("base_channels", "norm_groups"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=UNet().config[name], **formatter)
    parser.add_argument("--unconditional", action="store_true", help="do not tell the network the classes")
    parser.add_argument("--traceback", action="store_true", help="when something goes wrong, show where in the code")
    parser.add_argument("--compile", action="store_true", help="compile the network first: on a GPU, time that long runs get back")
    for field in fields(TrainConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default, **formatter)
    options = parser.parse_args(arguments)
    try:
        config = TrainConfig(**{field.name: getattr(options, field.name) for field in fields(TrainConfig)})
    except ValueError as error:
        parser.error(str(error))

    try:
        _train_and_save(options, config)
    except (OSError, ValueError, FloatingPointError, MemoryError) as error:
        if options.traceback:
            raise
        parser.exit(1, f"{parser.prog}: {str(error) or type(error).__name__}\n")
    except KeyboardInterrupt:
        done = max(checkpoints.names(options.out / "checkpoints"), default=None)
        parser.exit(130, f"\nstopped: the same command goes on {f'after {done}' if done else 'at the first step'}\n")


def _train_and_save(options: argparse.Namespace, config: TrainConfig) -> None:
    from tqdm import tqdm

    accelerator = launched(config.device, config.precision)
    is_main = accelerator is None or accelerator.is_main_process
    if accelerator is not None:
        config = replace(config, device="auto", precision="auto")
        if is_main:
            processes = f"{accelerator.num_processes} process{'es' * (accelerator.num_processes > 1)}"
            print(f"{processes} on {accelerator.device.type}, mixed precision: {accelerator.mixed_precision}", flush=True)
    dataset = load_dataset(options.dataset, n=options.images, size=options.size, seed=options.dataset_seed, root=options.root)
    torch.manual_seed(config.seed)  # the network's first weights
    num_classes = None if options.unconditional else dataset.num_classes
    network = UNet(dataset.image_shape[0], options.base_channels, num_classes=num_classes, norm_groups=options.norm_groups)
    denoiser = Denoiser(network, make_schedule(options.schedule, options.T), options.prediction)
    ema = deepcopy(denoiser)
    if options.compile:
        # a small network leaves a GPU waiting for the processor, unless its kernels are replayed as one graph; but a replay writes
        # over the gradients of the one before, which may be those of another part of the batch
        alone_on_gpu = accelerator is None and choose_device(options.device).type == "cuda"
        network.compile(mode="reduce-overhead" if alone_on_gpu else "default", dynamic=False)

    steps = train(denoiser, dataset, config, options.out / "checkpoints", accelerator)
    progress = tqdm(total=config.steps, unit="step", smoothing=0.05, disable=not is_main)
    average, seen, losses, look_at = 0.0, 0, [], 0.0
    for step in steps:
        losses.append(step.loss)
        if time.monotonic() < look_at and step.step < config.steps:
            continue
        look_at = time.monotonic() + LOOK_EVERY
        for loss in torch.stack(losses).tolist():
            if math.isfinite(loss):
                seen += 1
                average += (loss - average) * max(0.01, 1 / seen)
        losses.clear()
        if progress.n == 0:  # or the steps of a run that goes on would seem to have taken no time
            progress.initial = progress.n = progress.last_print_n = step.step - 1
        progress.update(step.step - progress.n)
        progress.set_postfix(loss=f"{average:.4f}", lr=f"{step.lr:.1e}", **({"skipped": int(step.skipped)} if step.skipped else {}))
    progress.close()
    if is_main:
        state = checkpoints.newest(options.out / "checkpoints")
        if state is None or state.content["step"] != config.steps:
            raise OSError(f"the last checkpoint in {options.out} does not read back as it was written: look at the disk, and start again")
        if checkpoints.difference(state.content["run"], checkpoints.identity(config, denoiser, dataset)) is not None:
            raise OSError(f"the last checkpoint in {options.out} is another run's; expected a folder that no other run writes to")
        ema.image_shape = dataset.image_shape
        ema.load_state_dict(state.content["ema"])
        ema.save_pretrained(options.out)
        print(f"saved to {options.out}: use diffusion_lib.Denoiser.from_pretrained({str(options.out)!r})")
    if accelerator is not None:
        accelerator.end_training()


if __name__ == "__main__":
    main()
