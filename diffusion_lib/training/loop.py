"""Training as a generator: the caller decides what to log, draw and keep, and stops by stopping to ask.

    for step in train(denoiser, dataset, TrainConfig(steps=2000)):
        ...                                     # step.loss, step.ema, …

This is the algorithm. `run.Run` does what lets it survive interruptions, use any precision and work on several processes.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diffusion_lib.data import LabelledImages
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.training.config import TrainConfig
from diffusion_lib.training.run import Run

if TYPE_CHECKING:
    from accelerate import Accelerator


class TrainStep(NamedTuple):
    """What one training step gives. The two denoisers are the ones that go on being trained: copy them to keep this moment."""

    step: int  # 1..steps: how many updates have been made
    loss: Tensor  # () mean loss of the batch, before the update; detached, on the device: float(step.loss)
    grad_norm: Tensor  # () norm of the gradient before clipping
    lr: float  # the learning rate of the update
    denoiser: Denoiser  # with the weights just updated
    ema: Denoiser  # with the averaged weights, in eval mode: sample from this one
    skipped: Tensor  # () how many steps of this call were skipped so far: loss or gradient was not finite, and nothing was updated


def train(
    denoiser: Denoiser,
    dataset: LabelledImages,
    config: TrainConfig,
    checkpoint_dir: str | Path | None = None,
    accelerator: "Accelerator | None" = None,
) -> Iterator[TrainStep]:
    """Trains `denoiser` in place on `dataset`, yielding after every update; the device it is moved to is `config.device`.

    dataset: an `ImageDataset`, or anything with `.images`, float32 (N, C, H, W) in [-1, 1], and `.labels`, LongTensor (N,).
    checkpoint_dir: a checkpoint is written there every `checkpoint_every` steps and at the end. If one is there already,
    training goes on after it, to the same weights (bit for bit on a CPU) as if it had never stopped. If none is there yet, it starts
    from the weights that `denoiser` has: after a run that was stopped before its first checkpoint, make a new one.
    accelerator: an `accelerate.Accelerator`, for several processes; see `run.Run` and docs/past-one-machine.md.

    Raises `ValueError` if images, labels or checkpoint do not fit the denoiser and the config, before anything is changed; `OSError` or
    `MemoryError` if a checkpoint cannot be read or written; and `FloatingPointError` after `config.skip_limit` steps in a row whose
    loss or gradient was not finite. `run.Run` has the details.
    """
    run = Run(denoiser, dataset, config, checkpoint_dir, accelerator)  # raises here, at the call, for what cannot be trained
    return _steps(run.denoiser, config, run)


def _steps(denoiser: Denoiser, config: TrainConfig, run: Run) -> Iterator[TrainStep]:
    run.place()  # on the device
    ema = EMA(denoiser, config.ema_decay)
    objective = run.distribute(Objective(denoiser), ema.denoiser)  # over the processes, if there are several
    optimizer = make_optimizer(denoiser, config)
    with run.resumed(ema.denoiser, optimizer) as done:  # the number of updates that the newest checkpoint has seen
        for step in range(done + 1, config.steps + 1):
            for x0, y, t, eps in run.draw(step):  # one batch, or parts of it whose gradients add up
                with run.computing():  # in the run's precision
                    loss = objective(x0, y, t, eps)
                run.backward(loss)
            lr = learning_rate(step, config)
            run.update(lr)  # the weights, by the optimizer
            ema.update(denoiser, step)
            run.checkpoint(step)
            yield TrainStep(step, run.loss, run.grad_norm, lr, denoiser, ema.denoiser, run.skipped)


class Objective(torch.nn.Module):
    """The mean loss of a batch, as a module's call: what torch's data parallelism can wrap."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x0: Tensor, y: Tensor | None, t: Tensor, eps: Tensor) -> Tensor:
        # L_simple = E_{t, x0, eps} || eps - eps_hat(xt, t) ||^2                                      Ho et al. 2020, equation 14
        return self.denoiser.loss(x0, y, t, eps).mean()


class EMA:
    """An exponential moving average of a denoiser's weights, in `denoiser`: a copy in eval mode that is never trained.

    Of the weights alone: running statistics, which are averages already, are `run.Run`'s to take over.
    """

    def __init__(self, denoiser: Denoiser, decay: float):
        self.decay = decay
        self.denoiser = deepcopy(denoiser).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, denoiser: Denoiser, step: int) -> None:
        """Moves the average towards the weights after update number `step` (1, 2, …)."""
        # ema <- d ema + (1 - d) weights,  d = min(decay, (1 + step) / (10 + step)): a short memory while there is little to remember
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.denoiser.parameters()), list(denoiser.parameters()), 1 - decay)


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
