"""What the two commands, `diffusion_lib.training` and `diffusion_lib.measure`, have in common."""

import argparse
from pathlib import Path
from typing import Any

import torch

from diffusion_lib.data import size_from_text, takes
from diffusion_lib.files import as_path

# torch has no class for the CPU's shortage, nor for sizes beyond what it can count
SHORTAGES = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed", "storage size calculation overflow")


def image_size(text: str) -> int | tuple[int, int]:
    """What --size asks for."""
    try:
        return size_from_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def path(text: str) -> Path:
    """The path that an option names."""
    try:
        return as_path(text)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def of_model(dataset: str, shape: tuple[int, int, int] | None, size: int | tuple[int, int] | None, channels: int | None) -> dict[str, Any]:
    """size and channels for `load_dataset`: those asked for, else those of a model of this image shape, where the dataset takes them."""
    if shape is not None:
        size = shape[1:] if size is None and takes(dataset, "size") else size
        channels = shape[0] if channels is None and shape[0] in (1, 3) and takes(dataset, "channels") else channels
    return dict(size=size) | ({} if channels is None else dict(channels=channels))


def is_shortage(error: BaseException) -> bool:
    """Whether there was too little memory, on whichever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SHORTAGES)


def told(error: BaseException, remedy: str) -> str:
    """The error in one line; of too little memory, with the remedy."""
    if not is_shortage(error):
        return str(error) or type(error).__name__
    reason = str(error).partition("\n")[0]
    return f"out of memory{f' ({reason})' if reason else ''}; expected a run that fits: {remedy}"
