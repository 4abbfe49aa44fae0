"""Training as a generator: the caller decides what to log, draw and keep, and may stop at any step.

    for step in train(denoiser, dataset, TrainConfig(steps=2000)):
        ...                                     # step.loss, step.ema, …

This is the algorithm. `run.Run` handles interruptions, precision and several processes.
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
    """The result of one training step. Training continues to change both denoisers: copy them to keep this state."""

    step: int  # 1..steps: the number of updates made
    loss: Tensor  # () mean loss of the batch, before the update; detached, on the device: float(step.loss)
    grad_norm: Tensor  # () norm of the gradient before clipping
    lr: float  # the learning rate of the update
    denoiser: Denoiser  # with the updated weights
    ema: Denoiser  # with the averaged weights, in eval mode: sample from this one
    skipped: Tensor  # () number of steps skipped in this call because loss or gradient was not finite


def train(
    denoiser: Denoiser,
    dataset: LabelledImages,
    config: TrainConfig,
    checkpoint_dir: str | Path | None = None,
    accelerator: "Accelerator | None" = None,
) -> Iterator[TrainStep]:
    """Trains `denoiser` in place on `dataset`, on `config.device`, and yields after every update.

    dataset: an `ImageDataset`, or anything with `.images`, float32 (N, C, H, W) in [-1, 1], and `.labels`, LongTensor (N,).
    checkpoint_dir: the folder for checkpoints, written every `checkpoint_every` steps and at the end. If it holds one, training
    resumes from it and reaches the same weights (bit for bit on a CPU) as if it had never stopped. If it holds none, training starts
    from the weights of `denoiser`: after a run that stopped before its first checkpoint, create a new denoiser.
    accelerator: an `accelerate.Accelerator`, for several processes; see `run.Run` and docs/past-one-machine.md.

    Raises `ValueError` before any change if images, labels or checkpoint do not fit the denoiser and the config; `OSError` or
    `MemoryError` if a checkpoint cannot be read or written; `FloatingPointError` after `config.skip_limit` steps in a row with a
    loss or gradient that is not finite. `run.Run` has the details.
    """
    run = Run(denoiser, dataset, config, checkpoint_dir, accelerator)  # raises here, at the call, if training is impossible
    return _steps(run.denoiser, config, run)


def _steps(denoiser: Denoiser, config: TrainConfig, run: Run) -> Iterator[TrainStep]:
    run.place()  # on the device
    ema = EMA(denoiser, config.ema_decay)
    objective = run.distribute(Objective(denoiser), ema.denoiser)  # across the processes, if there are several
    optimizer = make_optimizer(denoiser, config)
    with run.resumed(ema.denoiser, optimizer) as done:  # the number of updates in the newest checkpoint
        for step in range(done + 1, config.steps + 1):
            for x0, y, t, eps in run.draw(step):  # one batch, or its parts, whose gradients add up
                with run.computing():  # in the run's precision
                    loss = objective(x0, y, t, eps)
                run.backward(loss)
            lr = learning_rate(step, config)
            run.update(lr)  # the weights, by the optimizer
            ema.update(denoiser, step)
            run.checkpoint(step)
            yield TrainStep(step, run.loss, run.grad_norm, lr, denoiser, ema.denoiser, run.skipped)


class Objective(torch.nn.Module):
    """The mean loss of a batch as a module, which torch's data parallelism can wrap."""

    def __init__(self, denoiser: Denoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x0: Tensor, y: Tensor | None, t: Tensor, eps: Tensor) -> Tensor:
        # L_simple = E_{t, x0, eps} || eps - eps_hat(xt, t) ||^2                                      Ho et al. 2020, equation 14
        return self.denoiser.loss(x0, y, t, eps).mean()


class EMA:
    """An exponential moving average of a denoiser's weights, held in `denoiser`, a copy in eval mode that is never trained.

    It averages weights only; `run.Run` copies running statistics, which are already averages.
    """

    def __init__(self, denoiser: Denoiser, decay: float):
        self.decay = decay
        self.denoiser = deepcopy(denoiser).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, denoiser: Denoiser, step: int) -> None:
        """Moves the average towards the weights after update number `step` (1, 2, …)."""
        # ema <- kappa ema + (1 - kappa) weights,  kappa = min(decay, (1 + step) / (10 + step)): a short memory early in the run
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.denoiser.parameters()), list(denoiser.parameters()), 1 - decay)


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of update 1..steps: a linear rise over `warmup_steps`, then half a cosine period down to 0."""
    if step <= config.warmup_steps:
        return config.lr * step / config.warmup_steps
    # lr/2 (1 + cos(pi u)), u from 0 after the warm-up to 1 one step after the last: Loshchilov & Hutter 2017 (arXiv:1608.03983), eq. 5
    u = (step - config.warmup_steps) / (config.steps + 1 - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * u))


def make_optimizer(denoiser: Denoiser, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), without weight decay on biases, norms and embeddings."""
    embeddings = {id(p) for m in denoiser.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    decays = [p for p in denoiser.parameters() if p.ndim > 1 and id(p) not in embeddings]
    does_not = [p for p in denoiser.parameters() if p.ndim <= 1 or id(p) in embeddings]
    groups = [dict(params=decays, weight_decay=config.weight_decay), dict(params=does_not, weight_decay=0.0)]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.99), fused=True)
