"""Shared by several test files: a tiny network and dataset, denoisers with known answers, and schedules written out in plain floats."""

import math
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import torch

import diffusion_lib as dl
from diffusion_lib.process import eps_from_x0

TESTS = Path(__file__).parent
SHARED = Path(__file__).parents[2] / "shared" / "data"  # where maintainers keep MNIST; tests that want it skip without


CONFIG = dl.TrainConfig(steps=12, batch_size=10, warmup_steps=3, checkpoint_every=3, device="cpu", precision="float32")  # of a short run
AUTO = replace(CONFIG, device="auto", precision="auto")
SEVERAL = replace(AUTO, steps=10)  # of a short run in several processes


def tiny_unet(num_classes=3, dropout=0.0, seed=0, zero=False):
    """A U-Net of two levels with attention for 1x8x8 images; unless `zero`, the layers that start at 0 are moved away from it."""
    torch.manual_seed(seed)
    # 16 channels: with 8, each group norm would hold one channel, and the bias before it would have no effect
    network = dl.UNet(in_channels=1, base_channels=16, num_classes=num_classes, dropout=dropout)
    with torch.no_grad():
        for parameter in network.parameters():
            if not zero and not parameter.any():
                parameter.normal_(std=0.1)
    return network


def tiny_denoiser(prediction="eps", T=20, **options):
    return dl.Denoiser(tiny_unet(**options), dl.linear_schedule(T), prediction, image_shape=(1, 8, 8))


def tiny_dataset(n=24, num_classes=3, seed=0):
    """Bars: the class says where, the rest is a little noise."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % num_classes
    images = torch.full((n, 1, 8, 8), -0.9) + 0.1 * torch.rand(n, 1, 8, 8, generator=random)
    for i, label in enumerate(labels.tolist()):
        images[i, :, :, 2 * label : 2 * label + 2] += 1.7
    return dl.ImageDataset(images, labels, tuple("abc"[:num_classes]))


def as_if_sharded(denoiser):
    """The denoiser with weights that look as those do of which each process holds a part; `training/programs/sharded.py` has real ones."""
    for parameter in denoiser.parameters():
        parameter.full_tensor = parameter.detach
    return denoiser


class Broken(dl.Denoiser):
    """Its loss is `value` in the calls whose numbers are in `bad`, 1 the first."""

    calls, bad, value = 0, (), math.nan

    def loss(self, *args, **kwargs):
        self.calls += 1
        loss = super().loss(*args, **kwargs)
        return loss * self.value if self.calls in self.bad else loss


def broken(bad, value=math.nan):
    tiny = tiny_denoiser()
    denoiser = Broken(tiny.network, tiny.schedule, "eps", tiny.image_shape)
    denoiser.bad, denoiser.value = bad, value
    return denoiser


def weights(denoiser):
    return {name: value.clone() for name, value in denoiser.state_dict().items()}


def run(denoiser, dataset, config=CONFIG, directory=None, steps=None):
    """Trains, `steps` of the config's steps if given; the denoiser's and the average's weights after each step, and the losses."""
    taken = [(weights(s.denoiser), weights(s.ema), s.loss.item()) for s in islice(dl.train(denoiser, dataset, config, directory), steps)]
    return [list(column) for column in zip(*taken, strict=True)]


def start(*line, cwd=None, **settings):
    """Runs a Python program in a process of its own, which can import `helpers`, and returns what it printed and its exit status.

    line: what comes after `python`; settings: environment variables. The time limit only keeps a program that hangs from hanging us.
    """
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | dict(PYTHONPATH=path, PYTHONIOENCODING="utf-8") | settings
    command = [sys.executable, *map(str, line)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Curved:
    """A denoiser with a formula: smooth, different at each t, and with x0 well outside [-1, 1], so that clipping shows."""

    image_shape = (1, 2, 2)

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, xt, t, y=None):
        x0 = 1.6 * torch.sin(2 * xt + t / self.schedule.T)
        return dl.Prediction(x0, eps_from_x0(self.schedule, xt, t, x0))


class GaussianData:
    """The exact denoiser of pixels that are independent N(0, s^2)."""

    image_shape = (1, 16, 16)

    def __init__(self, schedule, s):
        self.schedule, self.s = schedule, s

    def __call__(self, xt, t, y=None):
        alpha_bar = self.schedule.alpha_bar[t].item()
        x0 = math.sqrt(alpha_bar) * self.s**2 / (alpha_bar * self.s**2 + 1 - alpha_bar) * xt
        return dl.Prediction(x0, eps_from_x0(self.schedule, xt, t, x0))


def betas_of(name, T):
    """The papers' betas as plain floats, beta_1 first."""
    if name == "linear":
        return [min(0.999, 1000 / T * (1e-4 + (t - 1) / (T - 1) * (0.02 - 1e-4))) for t in range(1, T + 1)]
    if name == "cosine":
        f = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
    else:
        sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
        f = [(sigmoid(3) - sigmoid(-3 + 6 * t / T)) / (sigmoid(3) - sigmoid(-3)) for t in range(T + 1)]
    return [min(1 - f[t] / f[t - 1], 0.999) for t in range(1, T + 1)]


def alpha_bars_of(name, T):
    """alpha_bar_0 .. alpha_bar_T as plain floats: the product of the alphas up to t."""
    alpha_bars = [1.0]
    for beta in betas_of(name, T):
        alpha_bars.append(alpha_bars[-1] * (1 - beta))
    return alpha_bars


@contextmanager
def serve(handler):
    """A web server on this computer alone, for as long as the block runs; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
