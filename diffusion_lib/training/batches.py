"""What a training step learns from: images, labels, timesteps and noise.

All of it depends on the run's seed and the step's number alone. So a run that goes on from a checkpoint draws what it would have
drawn, and several processes draw what one would, without telling each other (but for dropout, of which each part of a batch has
its own).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lib.checks import NO_LABEL
from diffusion_lib.denoiser import Denoiser, random_timesteps
from diffusion_lib.devices import to_device
from diffusion_lib.networks import unwrapped
from diffusion_lib.training.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


class Batch(NamedTuple):
    """The arguments of `Denoiser.loss`. Labels and timesteps are on the CPU: there, they can be looked at without waiting for a GPU."""

    x0: Tensor  # (B, C, H, W), where the dataset's images are
    y: Tensor | None  # LongTensor (B,), NO_LABEL where none is given
    t: Tensor  # LongTensor (B,), uniform on 1..T
    eps: Tensor  # (B, C, H, W)


def draw_batch(images: Tensor, labels: Tensor, denoiser: Denoiser, config: TrainConfig, step: int) -> Batch:
    """The batch of update number `step`. Each process draws all of it, and uses its own part: so they need not tell each other."""
    index = batch_indices(len(images), config.batch_size, step, config.seed)
    random = torch.Generator().manual_seed(step_seed(config.seed, step))  # devices and dtypes are named: a session may have set others
    y = drop_labels(labels[index], config.cond_drop_prob, random) if denoiser.num_classes is not None else None
    t = random_timesteps(denoiser.schedule.T, config.batch_size, random)
    eps = torch.randn(config.batch_size, *images.shape[1:], generator=random, device="cpu", dtype=torch.float32)
    return Batch(images[to_device(index, images.device)], y, t, eps)


def step_seed(seed: int, step: int) -> int:
    """The seed of the labels, timesteps and noise of update number `step`."""
    # a prime apart: no step of one seed draws what a step of the next one draws. Not hashed like the other seeds: the commands in
    # docs/training.md make the weights that ship only while it stays as it is
    return seed * 1_000_003 + step


def parts_of_batch(batch_size: int, accelerator: "Accelerator | None" = None) -> list[slice]:
    """The parts of a batch that this process computes, one after the other: as many as gradients are accumulated over."""
    if accelerator is None:
        return [slice(0, batch_size)]
    parts = accelerator.gradient_accumulation_steps
    size = batch_size // (accelerator.num_processes * parts)
    first = accelerator.process_index * parts
    return [slice(number * size, (number + 1) * size) for number in range(first, first + parts)]


def batch_indices(n: int, batch_size: int, step: int, seed: int) -> Tensor:
    """The images of update number `step`: every image once an epoch, in an order that is new each epoch. LongTensor (batch_size,)."""
    first = (step - 1) * batch_size
    epochs = range(first // n, (first + batch_size - 1) // n + 1)  # more than one where a batch runs over the end of an epoch
    order = torch.cat([_epoch_order(n, epoch, seed) for epoch in epochs])
    return order[first % n : first % n + batch_size]


@lru_cache(maxsize=2)
def _epoch_order(n: int, epoch: int, seed: int) -> Tensor:
    # seeds below 0, so that no epoch's order is made of the same random numbers as a step's noise
    return torch.randperm(n, generator=torch.Generator().manual_seed(-1 - seed * 1_000_003 - epoch), device="cpu")


def drop_labels(labels: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """The labels, each replaced by `NO_LABEL` with this probability: Ho & Salimans 2022 (arXiv:2207.12598), algorithm 1."""
    dropped = torch.rand(len(labels), generator=generator, device=generator.device, dtype=torch.float32) < probability
    return labels.masked_fill(dropped.to(labels.device), NO_LABEL)


@contextmanager
def seeded_dropout(network: nn.Module, seed: int) -> Iterator[None]:
    """Dropout, and whatever else is random in a network, draws from torch's global random state: within, that state is `seed`'s;
    afterwards it is the caller's again."""
    draws = getattr(unwrapped(network), "draws_noise", True)  # one that does not say so may draw: functional dropout shows in no module
    every = range(torch.cuda.device_count()) if draws else ()  # what manual_seed seeds; named, or torch warns if there are several
    mps = torch.mps.get_rng_state() if draws and torch.backends.mps.is_available() else None  # which fork_rng knows nothing of
    try:
        with torch.random.fork_rng(every, enabled=draws):
            if draws:
                torch.manual_seed(seed)
            yield
    finally:
        if mps is not None:
            torch.mps.set_rng_state(mps)
