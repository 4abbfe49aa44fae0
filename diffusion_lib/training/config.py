"""The settings of a training run, and their checks."""

import math
import operator
from dataclasses import dataclass, fields
from typing import Any

import torch

from diffusion_lib.denoiser import TIMESTEPS
from diffusion_lib.devices import PRECISIONS, device_named
from diffusion_lib.errors import check_name, unknown_name

SHORT = dict(fp16="float16", half="float16", bf16="bfloat16", fp32="float32", float="float32", full="float32")  # others' names


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run. The defaults give readable glyphs after two to four minutes on two CPU cores.

    Raises `TypeError` and `ValueError` for impossible settings. Numbers are stored as plain Python numbers.
    """

    steps: int = 2000  # parameter updates in total
    batch_size: int = 32  # over all processes together
    lr: float = 2e-3  # the highest learning rate
    weight_decay: float = 0.01  # AdamW's, on matrices and convolutions; not on biases, norms and embeddings
    warmup_steps: int = 100  # the learning rate rises linearly over these, then falls to 0 on a cosine
    grad_clip: float = 1.0  # a gradient with a larger norm is scaled down to this norm
    ema_decay: float = 0.999  # decay of the averaged weights, from which to sample
    cond_drop_prob: float = 0.1  # probability of hiding an image's class from the network, so that it also learns y=None
    timesteps: str = "uniform"  # the distribution of t: "uniform", or "logit_normal", which trains more at medium noise
    checkpoint_every: int = 500  # in steps, if there is a checkpoint_dir
    skip_limit: int = 30  # training stops after this many steps in a row with a loss or gradient that is not finite
    seed: int = 0
    device: str = "auto"  # "auto": CUDA, else MPS, else CPU; also a torch.device or a GPU's number
    precision: str = "auto"  # of the network's arithmetic: "float32", "bfloat16", "float16", or torch's; "auto": the device's fastest

    def __post_init__(self):
        # numpy's numbers are accepted, but stored as plain Python numbers: checkpoints hold no others
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
            raise ValueError(f"seed={self.seed}; expected less than 2^32: torch's generators ignore higher bits")
        for name in ("ema_decay", "cond_drop_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected 0 or more and less than 1")
        check_name("timesteps", self.timesteps, TIMESTEPS)
        if self.precision not in ("auto", *PRECISIONS):
            error = unknown_name("precision", self.precision, ("auto", *PRECISIONS))
            meant = SHORT.get(self.precision.lower())
            raise ValueError(f"{error} Did you mean {meant!r}?") if meant and "Did you mean" not in str(error) else error
        check_computes(self.device)  # `train` checks that the device exists: a config may be made on another machine


def check_computes(device: Any) -> None:
    """Raises `ValueError` for a device name that torch does not know, and for "meta"."""
    if device_named(device).type == "meta":
        raise ValueError(
            f"device={str(device)!r} stores no values and cannot compute; expected 'auto', the fastest available device, or 'cpu': "
            "--device auto on the command line"
        )


def check_warmup(config: TrainConfig) -> None:
    """Raises `ValueError` if the learning rate would rise until the end. Not checked by `TrainConfig`: another number of steps fixes it."""
    if config.warmup_steps >= config.steps and config.warmup_steps > 0:
        raise ValueError(f"warmup_steps={config.warmup_steps} with steps={config.steps}; expected fewer warm-up steps than steps")


def _as_plain(kind: type, name: str, value: Any) -> int | float | str:
    try:
        if kind is str and isinstance(value, str | torch.device):
            return str(value)
        if name == "precision" and isinstance(value, torch.dtype):
            return str(value).removeprefix("torch.")
        if name == "device" and isinstance(value, int) and not isinstance(value, bool):
            return str(device_named(value))  # a GPU's number, as `sample` takes it
        if kind is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if kind is not str and not isinstance(value, str | bytes):
            return operator.index(value) if kind is int else float(value)
    except TypeError:
        pass
    expected = {int: "an integer", float: "a number", str: "a string"}[kind]
    raise TypeError(f"{name}={value!r} is of type {type(value).__name__}; expected {expected}")
