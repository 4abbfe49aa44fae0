"""The batch of a training step: images, labels, timesteps and noise.

A batch depends only on the run's seed and the step's number. A resumed run therefore draws what it would have drawn, and several
processes draw what one would, without communication (except for dropout, which each part of a batch draws for itself).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lib.checks import NO_LABEL
from diffusion_lib.denoiser import TIMESTEPS, Denoiser
from diffusion_lib.devices import to_device
from diffusion_lib.networks import unwrapped
from diffusion_lib.training.config import TrainConfig
from diffusion_lib.words import NO_WORD

if TYPE_CHECKING:
    from accelerate import Accelerator


class Batch(NamedTuple):
    """The arguments of `Denoiser.loss`. Labels and timesteps stay on the CPU, where checking them does not wait for a GPU."""

    x0: Tensor  # (B, C, H, W), on the device of the dataset's images
    y: Tensor | None  # LongTensor (B,), NO_LABEL for images without a class; or (B, L), the words of captions
    t: Tensor  # LongTensor (B,) in 1..T
    eps: Tensor  # (B, C, H, W)


def draw_batch(images: Tensor, labels: Tensor, denoiser: Denoiser, config: TrainConfig, step: int) -> Batch:
    """The batch of update number `step`. Each process draws all of it and uses its own part, so no communication is needed."""
    index = batch_indices(len(images), config.batch_size, step, config.seed)
    random = torch.Generator().manual_seed(step_seed(config.seed, step))  # explicit devices and dtypes: a session may change the defaults
    y = drop_labels(labels[index], config.cond_drop_prob, random) if denoiser.is_conditional else None
    t = TIMESTEPS[config.timesteps](denoiser.schedule.T, config.batch_size, random)
    eps = torch.randn(config.batch_size, *images.shape[1:], generator=random, device="cpu", dtype=torch.float32)
    return Batch(images[to_device(index, images.device)], y, t, eps)


def step_seed(seed: int, step: int) -> int:
    """The seed of the labels, timesteps and noise of update number `step`."""
    # seeds are a prime apart, so no step of one seed repeats a step of the next. Not hashed like other seeds: the commands in
    # docs/training.md reproduce the shipped weights only while this formula stays
    return seed * 1_000_003 + step


def parts_of_batch(batch_size: int, accelerator: "Accelerator | None" = None) -> list[slice]:
    """The slices of a batch that this process computes, one per gradient accumulation step."""
    if accelerator is None:
        return [slice(0, batch_size)]
    parts = accelerator.gradient_accumulation_steps
    size = batch_size // (accelerator.num_processes * parts)
    first = accelerator.process_index * parts
    return [slice(number * size, (number + 1) * size) for number in range(first, first + parts)]


def batch_indices(n: int, batch_size: int, step: int, seed: int) -> Tensor:
    """The images of update number `step`: each image once per epoch, in a new order each epoch. LongTensor (batch_size,)."""
    first = (step - 1) * batch_size
    epochs = range(first // n, (first + batch_size - 1) // n + 1)  # two or more where a batch crosses the end of an epoch
    order = torch.cat([_epoch_order(n, epoch, seed) for epoch in epochs])
    return order[first % n : first % n + batch_size]


@lru_cache(maxsize=2)
def _epoch_order(n: int, epoch: int, seed: int) -> Tensor:
    # negative seeds, so that no epoch's order uses the random numbers of a step's noise
    return torch.randperm(n, generator=torch.Generator().manual_seed(-1 - seed * 1_000_003 - epoch), device="cpu")


def drop_labels(labels: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """The labels, each replaced by `NO_LABEL` with this probability, or captions by none: Ho & Salimans 2022 (arXiv:2207.12598),
    algorithm 1."""
    dropped = (torch.rand(len(labels), generator=generator, device=generator.device, dtype=torch.float32) < probability).to(labels.device)
    return labels.masked_fill(dropped, NO_LABEL) if labels.ndim == 1 else labels.masked_fill(dropped[:, None], NO_WORD)


@contextmanager
def seeded_dropout(network: nn.Module, seed: int) -> Iterator[None]:
    """Seeds torch's global random state, from which dropout and other random layers draw, and restores the caller's state
    afterwards."""
    draws = getattr(unwrapped(network), "draws_noise", True)  # assume an unknown network draws: functional dropout shows in no module
    every = range(torch.cuda.device_count()) if draws else ()  # those that manual_seed seeds; torch warns if they are not listed
    mps = torch.mps.get_rng_state() if draws and torch.backends.mps.is_available() else None  # fork_rng does not cover it
    try:
        with torch.random.fork_rng(every, enabled=draws):
            if draws:
                torch.manual_seed(seed)
            yield
    finally:
        if mps is not None:
            torch.mps.set_rng_state(mps)
