"""What the commands `diffusion_lib.training` and `diffusion_lib.measure` share."""

import argparse
from pathlib import Path
from typing import Any

import torch

from diffusion_lib.data import size_from_text, takes
from diffusion_lib.files import as_path

# torch raises plain RuntimeErrors when CPU memory runs out, and for sizes beyond its counters
SHORTAGES = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed", "storage size calculation overflow")


def image_size(text: str) -> int | tuple[int, int]:
    """The value of --size."""
    try:
        return size_from_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def path(text: str) -> Path:
    """The path in an option."""
    try:
        return as_path(text)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def of_model(dataset: str, shape: tuple[int, int, int] | None, size: int | tuple[int, int] | None, channels: int | None) -> dict[str, Any]:
    """size and channels for `load_dataset`: the requested ones, or else those of the model's image shape, if the dataset takes them."""
    if shape is not None:
        size = shape[1:] if size is None and takes(dataset, "size") else size
        channels = shape[0] if channels is None and shape[0] in (1, 3) and takes(dataset, "channels") else channels
    return dict(size=size) | ({} if channels is None else dict(channels=channels))


def is_shortage(error: BaseException) -> bool:
    """Whether memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SHORTAGES)


def message_of(error: BaseException, remedy: str) -> str:
    """The error in one line; if memory ran out, with the remedy."""
    if not is_shortage(error):
        return str(error) or type(error).__name__
    reason = str(error).partition("\n")[0]
    return f"out of memory{f' ({reason})' if reason else ''}; expected a run that fits: {remedy}"
