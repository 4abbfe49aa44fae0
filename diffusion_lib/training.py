"""Training as a generator: the caller decides what to log, draw and keep, and stops by stopping to ask.

    for step in train(denoiser, dataset, TrainConfig(steps=2000)):
        ...                                     # step.loss, step.ema, …

From a shell: `python -m diffusion_lib.training --dataset glyphs --steps 2000 --out runs/glyphs` (see `--help`).

What a step draws (images, timesteps, noise, dropout) depends on the seed and the step's number alone. So a run that is
interrupted and resumed from a checkpoint draws what it would have drawn.
"""

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib import checkpoints
from diffusion_lib.datasets import ImageDataset, load_dataset
from diffusion_lib.denoiser import PREDICTIONS, Denoiser
from diffusion_lib.errors import unknown_name
from diffusion_lib.memory import freed_memory_is_kept
from diffusion_lib.schedules import SCHEDULES, make_schedule
from diffusion_lib.unet import NO_LABEL, UNet

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults write readable glyphs after two to four minutes on two CPU cores."""

    steps: int = 2000  # parameter updates in all
    batch_size: int = 32
    lr: float = 2e-3  # the highest learning rate
    weight_decay: float = 0.01  # AdamW's, on matrices and convolutions; not on biases, norms and embeddings
    warmup_steps: int = 100  # the learning rate rises linearly over these, then falls to 0 on a cosine
    grad_clip: float = 1.0  # the largest norm of the gradient; a larger one is scaled down to it
    ema_decay: float = 0.999  # of the averaged weights, which are the ones to sample from
    label_dropout: float = 0.1  # the part of the images whose class is not told, so that y=None works too
    checkpoint_every: int = 500  # steps, if there is a checkpoint_dir
    seed: int = 0
    device: str = "auto"  # "auto": CUDA, else MPS, else CPU
    precision: str = "auto"  # of the network's arithmetic: "float32", "bfloat16", "float16"; "auto": the fastest the device has

    def __post_init__(self):
        for name in ("steps", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected 1 or more")
        for name in ("lr", "grad_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a number above 0")
        for name in ("weight_decay", "warmup_steps", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected 0 or more")
        for name in ("ema_decay", "label_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected 0 or more and less than 1")
        if self.precision not in ("auto", *PRECISIONS):
            raise unknown_name("precision", self.precision, ("auto", *PRECISIONS))


class TrainStep(NamedTuple):
    """What one training step gives. The two denoisers are the ones that go on being trained: copy them to keep this moment."""

    step: int  # 1..steps: how many updates have been made
    loss: Tensor  # () mean loss of the batch, before the update; detached, on the device: float(step.loss)
    grad_norm: Tensor  # () norm of the gradient before clipping
    lr: float  # the learning rate of the update
    denoiser: Denoiser  # with the weights just updated
    ema: Denoiser  # with the averaged weights, in eval mode: sample from this one


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
        torch._foreach_lerp_(list(self.denoiser.parameters()), list(denoiser.parameters()), 1 - decay)
        for ours, theirs in zip(self.denoiser.buffers(), denoiser.buffers(), strict=True):
            ours.copy_(theirs)  # running statistics, in networks that have any, are averages already


def train(denoiser: Denoiser, dataset: ImageDataset, config: TrainConfig, checkpoint_dir: str | Path | None = None) -> Iterator[TrainStep]:
    """Trains `denoiser` in place on `dataset`, yielding after every update; the device it is moved to is `config.device`.

    checkpoint_dir: a checkpoint is written there every `checkpoint_every` steps and at the end. If one is there already,
    training goes on after it, to the same weights (bit for bit on a CPU) as if it had never stopped.

    Raises `ValueError` if images, labels or checkpoint do not fit the denoiser and the config, before anything is changed.
    """
    _check_fit(denoiser, dataset, config)
    device, dtype = choose_device(config.device), choose_precision(config.precision, config.device)
    state = None if checkpoint_dir is None else checkpoints.newest(checkpoint_dir)
    if state is not None:
        checkpoints.check_fit(state, config, denoiser, checkpoint_dir)
    denoiser.image_shape = dataset.image_shape
    return _train(denoiser, dataset, config, checkpoint_dir, state, device, dtype)


def _train(denoiser, dataset, config, checkpoint_dir, state, device, dtype) -> Iterator[TrainStep]:
    denoiser.to(device).train()
    images, labels = dataset.images.to(device), dataset.labels.to(device)
    optimizer = make_optimizer(denoiser, config)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    ema = EMA(denoiser, config.ema_decay)
    first = 1
    if state is not None:
        first = state.restore(denoiser, ema.denoiser, optimizer, scaler) + 1

    with freed_memory_is_kept():
        for step in range(first, config.steps + 1):
            index = batch_indices(len(images), config.batch_size, step, config.seed).to(device)
            step_seed = config.seed * 1_000_003 + step  # a prime apart: no step of one seed draws what a step of the next one draws
            random = torch.Generator().manual_seed(step_seed)
            y = labels_to_tell(labels[index], config.label_dropout, random) if denoiser.num_classes is not None else None
            lr = learning_rate(step, config)
            for group in optimizer.param_groups:
                group["lr"] = lr

            with dropout_seed(denoiser, step_seed), torch.autocast(device.type, dtype, enabled=dtype is not None):
                loss = denoiser.loss(images[index], y, generator=random).mean()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            grad_norm = torch.nn.utils.clip_grad_norm_(denoiser.parameters(), config.grad_clip)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            ema.update(denoiser, step)

            if checkpoint_dir is not None and (step % config.checkpoint_every == 0 or step == config.steps):
                checkpoints.write(checkpoint_dir, step, config, denoiser, ema.denoiser, optimizer, scaler)
            yield TrainStep(step, loss.detach(), grad_norm, lr, denoiser, ema.denoiser)


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


def batch_indices(n: int, batch_size: int, step: int, seed: int) -> Tensor:
    """The images of update number `step`: every image once an epoch, in an order that is new each epoch. LongTensor (batch_size,)."""
    first = (step - 1) * batch_size
    epochs = range(first // n, (first + batch_size - 1) // n + 1)  # more than one where a batch runs over the end of an epoch
    order = torch.cat([_epoch_order(n, epoch, seed) for epoch in epochs])
    return order[first % n : first % n + batch_size]


@lru_cache(maxsize=2)
def _epoch_order(n: int, epoch: int, seed: int) -> Tensor:
    # seeds below 0, so that no epoch's order is made of the same random numbers as a step's noise
    return torch.randperm(n, generator=torch.Generator().manual_seed(-1 - seed * 1_000_003 - epoch))


def labels_to_tell(labels: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """The labels, each replaced by `NO_LABEL` with probability `dropout`: Ho & Salimans 2022 (arXiv:2207.12598), algorithm 1."""
    dropped = torch.rand(len(labels), generator=generator) < dropout
    return labels.masked_fill(dropped.to(labels.device), NO_LABEL)


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA if there is one, else Apple's MPS, else the CPU."""
    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise ValueError(f"device={name!r}; expected 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or another that torch knows") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_precision(name: str = "auto", device: str = "auto") -> torch.dtype | None:
    """The dtype of the network's arithmetic, None for plain float32. "auto": bfloat16 where the device computes in it, else
    float16 on a GPU (with loss scaling, in `train`), else float32."""
    if name != "auto":
        return PRECISIONS[name]
    kind = choose_device(device).type
    if kind == "cuda":
        # including_emulation=False: a T4 says yes otherwise, and is slow
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if kind == "cpu" and native else None


@contextmanager
def dropout_seed(denoiser: Denoiser, seed: int) -> Iterator[None]:
    """Dropout draws from torch's global random state: within, that state is `seed`'s; afterwards it is the caller's again."""
    has_dropout = any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in denoiser.modules())
    with torch.random.fork_rng(enabled=has_dropout):
        if has_dropout:
            torch.manual_seed(seed)
        yield


def _check_fit(denoiser: Denoiser, dataset: ImageDataset, config: TrainConfig) -> None:
    if len(dataset) == 0:
        raise ValueError("the dataset holds no images; expected one or more")
    if denoiser.image_shape is not None and denoiser.image_shape != dataset.image_shape:
        raise ValueError(f"the dataset's images are {dataset.image_shape}; expected {denoiser.image_shape}, those of this denoiser")
    if config.warmup_steps >= config.steps and config.warmup_steps > 0:
        raise ValueError(f"warmup_steps={config.warmup_steps} with steps={config.steps}; expected fewer than the steps")
    low, high = dataset.images.aminmax()
    if not (low >= -1 and high <= 1):
        raise ValueError(f"the dataset's images range from {low:.4g} to {high:.4g}; expected [-1, 1]: see diffusion_lib.datasets.to_float")
    if denoiser.num_classes is not None and dataset.labels.max() >= denoiser.num_classes:
        raise ValueError(f"the dataset has label {dataset.labels.max()}; expected 0..{denoiser.num_classes - 1}, the network's num_classes")
    if isinstance(denoiser.network, UNet):
        y = None if denoiser.num_classes is None else dataset.labels[:1]
        denoiser.network.check_input(dataset.images[:1], torch.ones(1, dtype=torch.long), y)


def main(arguments: list[str] | None = None) -> None:
    """`python -m diffusion_lib.training`: trains a U-Net on a dataset and saves the averaged weights with `save_pretrained`."""
    from tqdm import tqdm

    parser = argparse.ArgumentParser(prog="python -m diffusion_lib.training", description=main.__doc__)
    formatter = dict(help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the model; checkpoints go into its folder checkpoints, and are resumed from"
    )
    parser.add_argument("--dataset", default="glyphs", help="glyphs, photo, mnist, fashion_mnist, cifar10 or folder:PATH; default: glyphs")
    parser.add_argument("--root", type=Path, help="where torchvision's datasets are kept; default: the cache folder")
    parser.add_argument("--images", type=int, help="how many images to train on; default: all")
    parser.add_argument("--size", type=int, help="height and width of photo and folder images")
    parser.add_argument("--schedule", default="cosine", choices=SCHEDULES, **formatter)
    parser.add_argument("--T", type=int, default=1000, **formatter)
    parser.add_argument("--prediction", default="v", choices=PREDICTIONS, **formatter)
    for name in ("base_channels", "norm_groups"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=UNet().config[name], **formatter)
    parser.add_argument("--unconditional", action="store_true", help="do not tell the network the classes")
    for field in fields(TrainConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default, **formatter)
    options = parser.parse_args(arguments)

    dataset = load_dataset(options.dataset, n=options.images, size=options.size, root=options.root)
    config = TrainConfig(**{field.name: getattr(options, field.name) for field in fields(TrainConfig)})
    torch.manual_seed(config.seed)  # the network's first weights
    num_classes = None if options.unconditional else dataset.num_classes
    network = UNet(dataset.image_shape[0], options.base_channels, num_classes=num_classes, norm_groups=options.norm_groups)
    denoiser = Denoiser(network, make_schedule(options.schedule, options.T), options.prediction)

    steps = train(denoiser, dataset, config, options.out / "checkpoints")
    progress = tqdm(total=config.steps, unit="step", smoothing=0.05)
    average, ema = 0.0, None
    for step in steps:
        ema = step.ema
        average += (float(step.loss) - average) * max(0.01, 1 / step.step)
        progress.update(step.step - progress.n)
        progress.set_postfix(loss=f"{average:.4f}", lr=f"{step.lr:.1e}")
    progress.close()
    if ema is None:  # the run was finished before: its last checkpoint holds the average
        ema = denoiser
        ema.load_state_dict(checkpoints.newest(options.out / "checkpoints").content["ema"])
    ema.save_pretrained(options.out)
    print(f"saved to {options.out}: use diffusion_lib.Denoiser.from_pretrained({str(options.out)!r})")


if __name__ == "__main__":
    main()
