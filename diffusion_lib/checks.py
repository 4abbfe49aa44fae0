"""What users hand in, looked at where it enters. Each function raises `ValueError` with the value, what was expected and the remedy."""

import operator
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.errors import unknown_name

NO_LABEL = -1  # the label of an image whose class is not given
# far beyond any network that this package is for; a config from a stranger may ask for anything
MAX_LEVELS, MAX_BLOCKS, MAX_SIDE = 8, 16, 16_384


def whole(name: str, value: Any, low: int = 1, high: int | None = None, of: str = "") -> int:
    """`value` as Python's int: its own, numpy's, or a torch tensor of one integer; else, or outside low..high, `ValueError`.

    of: what to say of the range, as in "expected a whole number, 1..1000 for a schedule of T=1000".
    """
    try:
        if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool:
            raise TypeError
        number = operator.index(value)  # refuses floats, 32.0 too, whose fraction might be the caller's mistake
    except (TypeError, RuntimeError, ValueError):
        number = None
    if number is None or number < low or (high is not None and number > high):
        expected = f"{low} or more" if high is None else f"{low}..{high}"
        raise ValueError(f"{name}={value!r}; expected a whole number, {expected}{of}")
    return number


def check_finite(images: Tensor, name: str = "images") -> None:
    """Raises if a number is NaN or infinite. Waits for the device that they are on."""
    if not images.is_floating_point() or images.isfinite().all():
        return
    where = ""
    if images.ndim > 3:
        bad = (~images.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        where = f" in {len(bad)} of {len(images)}, first in number {bad[0]}"
    raise ValueError(f"{name} hold values that are not finite (NaN or infinity){where}; expected numbers, in about -1..1")


def check_images(**images: Tensor) -> None:
    """Raises unless each is a floating-point (B, C, H, W) tensor, B > 0, and all agree in shape, dtype and device."""
    (first, reference), *_ = images.items()
    for name, x in images.items():
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} is a {type(x).__name__}; expected a tensor of shape (B, C, H, W)")
        if x.ndim != 4:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected (B, C, H, W): add a batch dimension with x[None]")
        if len(x) == 0:
            raise ValueError(f"{name} holds no images; expected a batch of one or more")
        if not x.is_floating_point():
            raise ValueError(f"{name} has dtype {x.dtype}; expected floats in [-1, 1]: use diffusion_lib.to_float")
        for what in ("shape", "dtype", "device"):
            ours, theirs = getattr(x, what), getattr(reference, what)
            if ours != theirs:
                ours, theirs = (tuple(value) if what == "shape" else value for value in (ours, theirs))
                raise ValueError(f"{name} has {what} {ours} but {first} has {theirs}; expected the same {what}")


def check_t(t: int | Tensor, T: int, batch: int, lowest: int = 1) -> None:
    """Raises unless t is an int or a LongTensor (batch,), each entry in lowest..T."""
    if isinstance(t, bool) or not isinstance(t, Integral | Tensor):
        raise ValueError(f"t is a {type(t).__name__}; expected an int or a LongTensor of shape ({batch},)")
    if isinstance(t, Tensor):
        if t.dtype != torch.long:
            raise ValueError(f"t has dtype {t.dtype}; expected torch.long: timesteps are whole numbers, use t.long()")
        if t.shape not in {(), (batch,)}:
            raise ValueError(f"t has shape {tuple(t.shape)}; expected ({batch},): one timestep for each image in the batch")
        outside = t[(t < lowest) | (t > T)].tolist()
    else:  # no tensor arithmetic for one number
        outside = [] if lowest <= t <= T else [t]
    if outside:
        raise ValueError(f"t={outside[0]} is out of range; expected {lowest}..{T} for this schedule of T={T}")


def check_labels(y: Tensor, num_classes: int | None, batch: int) -> None:
    """Raises unless y is a LongTensor (batch,) of classes 0..num_classes-1 or `NO_LABEL`. Waits for the device that y is on."""
    count = check_label_shape(y, num_classes, batch)
    outside = y[(y < NO_LABEL) | (y >= count)]
    if len(outside):
        raise ValueError(f"y={outside[0].item()} is out of range; expected classes 0..{count - 1}, or {NO_LABEL} for no class")


def check_label_shape(y: Tensor, num_classes: int | None, batch: int) -> int:
    """As `check_labels`, without a look at the values. Returns how many classes there are."""
    if num_classes is None:
        raise ValueError("y was given to a network without classes; expected y=None, or build it with num_classes")
    if y.dtype != torch.long or y.shape != (batch,):
        raise ValueError(f"y is {y.dtype} of shape {tuple(y.shape)}; expected torch.long of shape ({batch},): one class for each image")
    return num_classes


def as_labels(y: Any, n: int, names: Sequence[str] = ()) -> Tensor:
    """Labels in any usual form as a LongTensor (n,): one for all or one for each of n images, whole numbers or some of the classes' names.

    y: an int, a name, or a list, tuple, array or tensor of either. `ValueError` for anything else.
    """
    texts = [y] if isinstance(y, str) else list(y) if isinstance(y, list | tuple) and any(isinstance(each, str) for each in y) else None
    if texts is not None:
        numbers = [_label_of(text, names) for text in texts]
        y = numbers[0] if isinstance(y, str) else numbers
    try:
        labels = torch.as_tensor(y)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"y={y!r}; expected one class for all {n} images, or a list of {n} of them, as whole numbers") from error
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"y has dtype {labels.dtype}; expected whole numbers, classes counted from 0: use y.long()")
    if labels.shape not in {(), (n,)}:
        raise ValueError(f"y has shape {tuple(labels.shape)} for {n} images; expected one class for all, or one for each: ({n},)")
    return labels.long().expand(n)


def _label_of(text: Any, names: Sequence[str]) -> Any:
    if not isinstance(text, str):
        return text
    if not names:
        raise ValueError(f"y={text!r} is a name, and this denoiser's classes have none; expected whole numbers, counted from 0")
    if text not in names:
        raise unknown_name("class", text, names)
    return list(names).index(text)


def check_image_shape(shape: Sequence[int]) -> None:
    """Raises unless it is (C, H, W), each 1..`MAX_SIDE`."""
    if len(shape) != 3 or not all(isinstance(n, int) and 1 <= n <= MAX_SIDE for n in shape):
        raise ValueError(f"image_shape={shape!r}; expected (C, H, W), whole numbers of 1..{MAX_SIDE}")


def check_unet_config(
    *,
    in_channels: int,
    base_channels: int,
    channel_mults: Sequence[int],
    blocks_per_level: int,
    attention_levels: Sequence[int],
    patch_size: int,
    num_classes: int | None,
    dropout: float,
    norm_groups: int,
    out_channels: int,
) -> None:
    """Raises for sizes that make no `UNet`."""
    positive = dict(in_channels=in_channels, base_channels=base_channels, blocks_per_level=blocks_per_level, patch_size=patch_size)
    positive |= dict(norm_groups=norm_groups, out_channels=out_channels) | {f"channel_mults[{i}]": m for i, m in enumerate(channel_mults)}
    positive |= {} if num_classes is None else dict(num_classes=num_classes)
    for name, value in positive.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}; expected a whole number, 1 or more")
    if base_channels % 2:
        raise ValueError(f"base_channels={base_channels}; expected an even number: a cosine and a sine of each frequency of t")
    if base_channels % norm_groups:
        raise ValueError(f"base_channels={base_channels}; expected a multiple of norm_groups={norm_groups}: as many channels in each group")
    if not 1 <= len(channel_mults) <= MAX_LEVELS:
        raise ValueError(
            f"channel_mults has {len(channel_mults)} entries; expected 1..{MAX_LEVELS}, a factor for each level, such as (1, 2)"
        )
    if blocks_per_level > MAX_BLOCKS:
        raise ValueError(f"blocks_per_level={blocks_per_level}; expected at most {MAX_BLOCKS}")
    for level in attention_levels:
        if level not in range(len(channel_mults)):
            raise ValueError(f"attention_levels names level {level!r}; expected levels 0..{len(channel_mults) - 1}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout!r}; expected a probability, 0 <= dropout < 1")
