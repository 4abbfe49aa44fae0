"""Small networks of two much-used libraries as denoisers, and the training that their documentation recommends.

    pip install -e '.[benchmarks]'

diffusers: `UNet2DModel` with block_out_channels (32, 64, 64), as the Hugging Face diffusion course builds and trains it: it
predicts eps, squaredcos_cap_v2 schedule, Adam with a learning rate of 1e-3, batches of 128, no averaged weights.
denoising-diffusion-pytorch: `Unet(dim=32, dim_mults=(1, 2, 4))` in its `GaussianDiffusion`: it predicts v, sigmoid schedule; Adam with
8e-5 and betas (0.9, 0.99), gradients of two batches of 32 clipped to norm 1, averaged weights, as its README and `Trainer` have it.
Both compute in the precision that our own training would choose.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

import diffusion_lib as dl
from diffusion_lib.devices import choose_device, choose_precision

SHAPE = (1, 28, 28)


class Moment(NamedTuple):
    """Where a training run stands."""

    seconds: float  # since it began
    images: int  # seen so far
    denoiser: dl.Denoiser  # to sample from; goes on being trained


class CountedFromOne(nn.Module):
    """A network whose timesteps are 0..T-1, as one whose timesteps are 1..T."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, xt: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        answer = self.network(xt, t - 1)
        return getattr(answer, "sample", answer)


def diffusers_denoiser(shape: tuple[int, int, int] = SHAPE) -> dl.Denoiser:
    from diffusers import DDPMScheduler, UNet2DModel

    network = UNet2DModel(
        sample_size=shape[1],
        in_channels=shape[0],
        out_channels=shape[0],
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    beta = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2").betas
    return dl.Denoiser(CountedFromOne(network), dl.Schedule.from_beta(beta, "squaredcos_cap_v2"), "eps", shape)


def ddp_denoiser(diffusion: nn.Module | None = None, network: nn.Module | None = None, shape: tuple[int, int, int] = SHAPE) -> dl.Denoiser:
    diffusion = ddp_diffusion(shape) if diffusion is None else diffusion
    network = diffusion.model if network is None else network
    return dl.Denoiser(CountedFromOne(network), dl.Schedule.from_beta(diffusion.betas.cpu(), "its sigmoid"), "v", shape)


def ddp_diffusion(shape: tuple[int, int, int] = SHAPE) -> nn.Module:
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    return GaussianDiffusion(Unet(dim=32, dim_mults=(1, 2, 4), channels=shape[0]), image_size=shape[1])


def train_diffusers(images: Tensor, seed: int, device: str = "cpu") -> Iterator[Moment]:
    denoiser = diffusers_denoiser().to(device).train()
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-3)
    start, dtype = time.perf_counter(), choose_precision(device=device)
    for step, batch in enumerate(batches(images.to(device), 128, seed), 1):
        with torch.autocast(choose_device(device).type, dtype, enabled=dtype is not None):
            loss = denoiser.loss(batch).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        yield Moment(time.perf_counter() - start, 128 * step, denoiser)


def train_ddp(images: Tensor, seed: int, device: str = "cpu") -> Iterator[Moment]:
    from ema_pytorch import EMA

    diffusion = ddp_diffusion().to(device).train()
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=8e-5, betas=(0.9, 0.99))
    ema = EMA(diffusion, beta=0.995, update_every=10)
    averaged = ddp_denoiser(diffusion, ema.ema_model.model)
    start, dtype = time.perf_counter(), choose_precision(device=device)
    batch, step = batches((images.to(device) + 1) / 2, 32, seed), 0  # it wants [0, 1] and makes [-1, 1] of it
    while True:
        step += 1
        for _ in range(2):
            with torch.autocast(choose_device(device).type, dtype, enabled=dtype is not None):
                loss = diffusion(next(batch)) / 2
            loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        yield Moment(time.perf_counter() - start, 64 * step, averaged)


def batches(images: Tensor, size: int, seed: int) -> Iterator[Tensor]:
    """Batches of all images in a new order each epoch, without end."""
    random = torch.Generator().manual_seed(seed)
    while True:
        for index in torch.randperm(len(images), generator=random).to(images.device).split(size):
            if len(index) == size:
                yield images[index]
