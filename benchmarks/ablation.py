"""What does each change for speed give? Training steps a second with all of them, and with one of them undone.

    python benchmarks/ablation.py                    about a minute on two CPU cores; add --compile for two more

All variants are timed in turns, in the same rounds; a number is the median over the rounds. What is not here: memory that is kept
between steps (`diffusion_lib.training.memory`), which is a setting of the whole process.
"""

import statistics
from collections.abc import Callable
from unittest import mock

import common
import peers
import torch
import torch.nn.functional as F
from throughput import training_step
from torch import Tensor, nn

import diffusion_lib as dl
from diffusion_lib import devices
from diffusion_lib.training import loop as training
from diffusion_lib.unet import AttentionBlock

BASE = "as it is"


class FusedAttention(AttentionBlock):
    """Always torch's fused attention, on a CPU in training too."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


def fuse_attention(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, AttentionBlock):
            module.__class__ = FusedAttention


def plain_adamw(denoiser: dl.Denoiser, config: dl.TrainConfig) -> torch.optim.AdamW:
    """One parameter after the other."""
    return torch.optim.AdamW(denoiser.parameters(), lr=config.lr, foreach=False, fused=False)


def leave(network: nn.Module) -> None:
    """Changes nothing."""


def variants(batch_size: int, precision: str, compiled: bool) -> dict[str, Callable[[], object]]:
    """A training step of each."""

    def step(change: Callable[[nn.Module], object] = leave, precision: str = precision, **config) -> Callable[[], object]:
        torch.manual_seed(0)
        network = dl.UNet(**config)
        change(network)
        return training_step(dl.Denoiser(network, dl.cosine_schedule(), "v", peers.SHAPE), batch_size, "cpu", precision)

    calls = {BASE: step()}
    if precision != "float32":
        calls["float32"] = step(precision="float32")
    calls["pixels, not 2x2 patches"] = step(patch_size=1)
    calls["norm groups of 4 channels, not of 8"] = step(norm_groups=8)
    calls["channels first"] = step(lambda network: network.to(memory_format=torch.contiguous_format))
    calls["fused attention"] = step(fuse_attention)
    with mock.patch.object(training, "make_optimizer", plain_adamw):
        calls["AdamW parameter by parameter"] = step()
        calls["AdamW parameter by parameter"]()  # the optimizer is made in the first step
    if compiled:
        calls["compiled"] = step(nn.Module.compile)
    return calls


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precision", nargs="+", choices=devices.PRECISIONS, help="default: float32, and what the CPU is faster in")
    parser.add_argument("--compile", action="store_true", help="also try torch.compile, which needs a C++ compiler")
    options = parser.parse_args(arguments)
    faster = devices.choose_precision(device="cpu")
    for precision in options.precision or [p for p, dtype in devices.PRECISIONS.items() if dtype is None or dtype == faster]:
        seconds = common.side_by_side(variants(options.batch_size, precision, options.compile), options.rounds)
        print(f"{precision}, batches of {options.batch_size}: {common.machine()}")
        for name, times in seconds.items():
            rate, factor = options.batch_size / statistics.median(times), common.ratio(times, seconds[BASE])
            print(f"    {name:38}{rate:6.0f} images/s   takes {factor:5.2f} times as long", flush=True)


if __name__ == "__main__":
    main()
