"""What the benchmark scripts share: their options' parser, sampling in a precision, results files, and timing side by side."""

import argparse
import datetime
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import diffusion_lib as dl
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.devices import PRECISIONS
from diffusion_lib.files import write_whole
from diffusion_lib.saving import SHIPPED


def parser(description: str) -> argparse.ArgumentParser:
    """One that shows a script's docstring as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_arithmetic(parser: argparse.ArgumentParser) -> None:
    """Options of scripts that sample for a long time."""
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=PRECISIONS, help="of the network's arithmetic (default float32)")
    parser.add_argument("--compile", action="store_true", help="compile the network: faster from some minutes on")


def prepared(model: Denoiser, options: argparse.Namespace) -> Denoiser:
    """The model on its device, compiled if it should be."""
    model.to(options.device)
    if options.compile:
        model.network = torch.compile(model.network)
    return model


def sampled(options: argparse.Namespace, *args: Any, **kwargs: Any) -> Tensor:
    """`sample` in the precision of the options; the images are float32, on the CPU."""
    dtype = PRECISIONS[options.precision]
    with torch.autocast(torch.device(options.device).type, dtype, enabled=dtype is not None):
        return dl.sample(*args, **kwargs).float().cpu()


def origin(script: str, device: str) -> dict:
    """How results were made, and when: what every results file begins with."""
    return dict(
        script=f"benchmarks/{Path(script).name}",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine(device),
        torch=torch.__version__,
    )


def digest(model: str) -> str:
    """Of the network's weights that ship, so that results of older ones are noticed."""
    tensors = load_file(SHIPPED / "denoiser" / model / "model.safetensors")
    return digest_of({name: value for name, value in tensors.items() if name.startswith("network.")})


def digest_of(tensors: dict[str, Tensor]) -> str:
    """Of tensors and their names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].cpu().numpy().tobytes())
    return found.hexdigest()


def machine(device: str = "cpu") -> dict:
    """What it was measured on."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        cpu = models[0] if models else cpu
    gpu = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    vectors = next((name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if capabilities.get(name)), None)
    return dict(cpu=cpu, instructions=vectors, cores=os.cpu_count(), threads=torch.get_num_threads(), gpu=gpu)


def write(path: Path, results: dict) -> None:
    """Writes the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole({path: (json.dumps(results, indent=1) + "\n").encode()})


def side_by_side(
    calls: dict[str, Callable[[], object]], rounds: int, device: str = "cpu", warm_up: int = 2, repeats: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call in each round. A round makes every call in turn, so that what slows the machine slows them all.

    repeats: how often a round makes each call before it reads the clock, for a GPU, which is given work ahead of time.
    """
    seconds = {name: [] for name in calls}
    for round_ in range(-warm_up, rounds):
        for name, call in calls.items():
            synchronize(device)
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            synchronize(device)
            if round_ >= 0:
                seconds[name].append((time.perf_counter() - start) / repeats)
    return seconds


def synchronize(device: str) -> None:
    """Waits for what a GPU has still to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))
