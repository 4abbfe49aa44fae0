"""The device and the precision of the arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str | int | torch.device = "auto") -> torch.device:
    """The device called `name`; "auto" is CUDA if available, else Apple's MPS, else the CPU. An int is a GPU's number.

    Raises `ValueError` for a name that torch does not know and for a missing device, `TypeError` for other types.
    """
    device = device_named(name)
    if name == "auto" or (device.type in ("cpu", "meta") and not device.index):  # these always exist
        return torch.device(device.type)
    count = _count(device)
    if (device.index or 0) >= count:
        here = f" ({count} {device.type} {'device' if count == 1 else 'devices'} found)" if count else ""
        raise ValueError(
            f"device={str(name)!r} is not available{here}; expected 'auto', the fastest available device, or 'cpu': "
            "--device auto on the command line"
        )
    return device


def device_named(name: Any) -> torch.device:
    """The device called `name`, available or not: see `choose_device`."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if isinstance(name, bool) or not isinstance(name, str | int | torch.device):
        raise TypeError(f"device={name!r} is of type {type(name).__name__}; expected 'auto', 'cpu', 'cuda', 'cuda:1', 'mps', …")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name!r}; expected 'auto', 'cpu', 'cuda', 'cuda:1', 'mps' or another device that torch knows") from error


def _count(device: torch.device) -> int:
    """The number of available devices of this kind."""
    try:
        return torch.get_device_module(device).device_count()  # this initialises none of them
    except (RuntimeError, AttributeError):  # torch has no module for this kind: "meta", for one
        return 0


@contextmanager
def torchs_defaults() -> Iterator[None]:
    """Within, new tensors default to float32 on the CPU, whatever the session has set."""
    before = torch.get_default_dtype()
    if before == torch.float32 and torch.get_default_device().type == "cpu":  # setting them slows down every function of torch
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """x on `device`. Copies from the CPU to a GPU do not wait for work queued there."""
    if device.type == "cuda" and x.device.type == "cpu" and not torch.compiler.is_compiling():  # which cannot pin memory
        x = x.clone() if x.is_pinned() else x.contiguous()  # the caller may overwrite x before the GPU has read it
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def like(x: Tensor, other: Tensor) -> Tensor:
    """x in the dtype and on the device of `other`; see `to_device`."""
    return to_device(x.to(other.dtype), other.device)


def is_sharded(value: object) -> bool:
    """Whether this is a sharded tensor (torch's `DTensor`), of which each process holds one part."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def choose_precision(name: str = "auto", device: str = "auto") -> torch.dtype | None:
    """The dtype of the network's arithmetic; None for plain float32. "auto": bfloat16 where the hardware supports it, else
    float16 on a GPU (`train` then scales the loss), else float32."""
    if name != "auto":
        return PRECISIONS[name]
    kind = device_named(device).type
    if kind == "cuda":
        # with emulation, a T4 would report support and be slow
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if kind == "cpu" and native else None
