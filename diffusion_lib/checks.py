"""Checks of users' input, made where it enters. Each raises a `ValueError` that names the value, what was expected and the remedy."""

import math
import operator
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.errors import unknown_name
from diffusion_lib.words import as_vocabulary, as_words, check_words

NO_LABEL = -1  # the label of an image whose class is not given
# far beyond any network that this package is for: a config from an unknown source may ask for anything
MAX_LEVELS, MAX_BLOCKS, MAX_SIDE = 8, 16, 16_384


def whole(name: str, value: Any, low: int = 1, high: int | None = None, of: str = "") -> int:
    """`value` as a Python int, from an int of Python, numpy or a one-element tensor. Raises `ValueError` for others, and outside low..high.

    of: appended to the range in the message, as in "expected an integer, 1..1000 for a schedule of T=1000".
    """
    try:
        if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool:
            raise TypeError
        number = operator.index(value)  # refuses floats, even 32.0: a fraction may be the caller's mistake
    except (TypeError, RuntimeError, ValueError):
        number = None
    if number is None or number < low or (high is not None and number > high):
        expected = f"{low} or more" if high is None else f"{low}..{high}"
        raise ValueError(f"{name}={value!r}; expected an integer, {expected}{of}")
    return number


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, expected: str = "a finite number") -> float:
    """`value` as a Python float, from any kind of number or a one-element tensor. Raises `ValueError` for others, and outside low..high."""
    try:
        if isinstance(value, str | bytes | bool | np.bool_) or getattr(value, "ndim", 0) != 0:
            raise TypeError
        plain = float(value)
    except (TypeError, RuntimeError, ValueError):
        plain = math.nan
    if not (low <= plain <= high and math.isfinite(plain)):
        raise ValueError(f"{name}={value!r}; expected {expected}")
    return plain


def table(name: str, values: Any, least: int = 2, expected: str = "(T + 1,) with T >= 1: one entry per t = 0..T") -> Tensor:
    """A float64 copy on the CPU, of shape (least or more,). Numbers from a list keep all their digits."""
    try:
        given = values if isinstance(values, Tensor) else torch.as_tensor(values, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is {_described(values)}; expected a tensor or a list of numbers of shape {expected}") from error
    if given.is_complex():
        raise ValueError(f"{name} has dtype {given.dtype}; expected real numbers of shape {expected}")
    if given.ndim != 1 or len(given) < least:
        raise ValueError(f"{name} has shape {tuple(given.shape)}; expected {expected}")
    return given.detach().to("cpu", torch.float64, copy=True)


def check_schedule(schedule: Any) -> None:
    """Raises unless `schedule` has a schedule's tables."""
    if not all(hasattr(schedule, each) for each in ("signal", "noise", "T")):
        remedy = f"diffusion_lib.make_schedule({schedule!r})" if isinstance(schedule, str) else "such as diffusion_lib.cosine_schedule()"
        raise ValueError(f"the schedule is {_described(schedule)}; expected a Schedule: {remedy}")


def check_network(network: Any) -> None:
    """Raises unless `network` is a module."""
    if not isinstance(network, torch.nn.Module):
        raise ValueError(f"the network is {_described(network)}; expected a torch.nn.Module such as diffusion_lib.UNet()")


def as_class_names(names: Any, num_classes: int | None) -> tuple[str, ...]:
    """The classes' names: none, or one per class. Raises unless they are distinct strings, as many as there are classes."""
    names = () if names is None else names
    if isinstance(names, str) or not hasattr(names, "__iter__") or not all(isinstance(name, str) for name in names):
        raise ValueError(f"class_names={names!r}; expected a list or tuple of names, one per class")
    names = tuple(names)
    if names and len(names) != (num_classes or 0):
        raise ValueError(f"{len(names)} class_names for a network of {num_classes} classes; expected one per class, or none")
    if len(set(names)) < len(names):
        raise ValueError(f"class_names holds {next(name for name in names if names.count(name) > 1)!r} twice; expected distinct names")
    return names


def check_denoiser(denoiser: Any) -> None:
    """Raises unless `denoiser` has what a sampler needs."""
    if callable(denoiser) and hasattr(denoiser, "schedule"):
        return
    if hasattr(getattr(denoiser, "module", None), "schedule"):  # DataParallel and its like
        remedy = "use the one inside, .module"
    elif isinstance(denoiser, torch.nn.Module):
        remedy = "make one with diffusion_lib.Denoiser(network, schedule, prediction)"
    else:
        remedy = "such as diffusion_lib.load_pretrained('glyphs')"
    raise ValueError(f"the denoiser is {_described(denoiser)}; expected a denoiser, with a schedule: {remedy}")


def _described(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float | None) else f"of type {type(value).__name__}"


def check_finite(images: Tensor, name: str = "images") -> None:
    """Raises if a value is NaN or infinite. Waits for the images' device."""
    if not images.is_floating_point() or images.is_meta or not images.numel():
        return
    if torch.stack(torch.aminmax(images.detach())).isfinite().all():  # isfinite of all values would need as much memory again
        return
    where = ""
    if images.ndim > 3:
        bad = (~images.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        where = f" in {len(bad)} of {len(images)}, first in image {bad[0]}"
    raise ValueError(f"{name} contain NaN or infinity{where}; expected finite numbers, roughly in [-1, 1]")


def all_finite(images: Tensor, name: str) -> Tensor:
    """Images that a network has made. Raises `FloatingPointError` if a value is NaN or infinite. Waits for their device."""
    try:
        check_finite(images, name)
    except ValueError as error:
        remedy = "the weights may be damaged, or too large for half precision: try float32, or check the loss of the training run"
        raise FloatingPointError(f"{error}: {remedy}") from None
    return images


def check_generator(generator: Any, n: int) -> None:
    """Raises unless `generator` is None, a `torch.Generator`, or a sequence of n of them."""
    if generator is None or isinstance(generator, torch.Generator):
        return
    if not isinstance(generator, Sequence) or not all(isinstance(each, torch.Generator) for each in generator):
        raise ValueError(
            f"generator is {_described(generator)}; expected torch.Generator().manual_seed(seed), or a list with one per image"
        )
    if len(generator) != n:
        raise ValueError(f"generator has {len(generator)} entries for {n} images; expected one per image, or a single generator")


def check_sampler_options(options: dict) -> None:
    """Raises for options that `sample` spells differently: those of other libraries' samplers, and some of our own."""
    remedies = dict(
        generator="seed=…: each sample has its own generator",
        xT="shape=… and seed=…, or a sampler called on your own noise, such as ddim_steps(denoiser, xT)",
        num_inference_steps="steps=…",
        guidance_scale="a guided denoiser: sample(Guided(denoiser, scale), …)",
        num_images="n, the second argument",
    )
    for name in options.keys() & remedies.keys():
        raise ValueError(f"sample takes no {name}; expected {remedies[name]}")


def check_images(**images: Tensor) -> None:
    """Raises unless each is a floating-point (B, C, H, W) tensor with B > 0, and all agree in shape, dtype and device."""
    (first, reference), *_ = images.items()
    for name, x in images.items():
        if not isinstance(x, Tensor):
            hint = ", such as its .images" if hasattr(x, "images") else ": see torch.as_tensor and torch.stack"
            raise ValueError(f"{name} is of type {type(x).__name__}; expected a tensor of shape (B, C, H, W){hint}")
        if x.ndim != 4:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected (B, C, H, W): add a batch dimension with x[None]")
        if len(x) == 0:
            raise ValueError(f"{name} is an empty batch; expected one or more images")
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
        raise ValueError(f"t is of type {type(t).__name__}; expected an int or a LongTensor of shape ({batch},): see torch.as_tensor")
    if isinstance(t, Tensor):
        if t.dtype != torch.long:
            raise ValueError(f"t has dtype {t.dtype}; expected torch.long: timesteps are integers, use t.long()")
        if t.shape not in {(), (batch,)}:
            raise ValueError(f"t has shape {tuple(t.shape)}; expected ({batch},): one timestep per image in the batch")
        outside = t[(t < lowest) | (t > T)].tolist()
    else:  # a single number needs no tensor arithmetic
        outside = [] if lowest <= t <= T else [t]
    if outside:
        raise ValueError(f"t={outside[0]} is out of range; expected {lowest}..{T} for this schedule of T={T}")


def labels_for(denoiser: Any, y: Any, n: int) -> Tensor | None:
    """`as_words` for a captioned denoiser, else `as_labels` with the class names that it has; None where y is None."""
    if y is None:
        return None
    if words := getattr(denoiser, "words", None):
        return as_words(y, n, words)
    return as_labels(y, n, getattr(denoiser, "class_names", None) or ())


def check_condition(y: Tensor, num_classes: int | None, words: Sequence[str] | None, batch: int) -> None:
    """Raises `ValueError` unless y is what a network of these classes or words takes. Waits for y's device."""
    if words is None:
        check_labels(y, num_classes, batch)
    else:
        check_words(y, len(words), batch)


def check_labels(y: Tensor, num_classes: int | None, batch: int) -> None:
    """Raises unless y is a LongTensor (batch,) of classes 0..num_classes-1 or `NO_LABEL`. Waits for y's device."""
    count = check_label_shape(y, num_classes, batch)
    outside = y[(y < NO_LABEL) | (y >= count)]
    if len(outside):
        raise ValueError(f"y={outside[0].item()} is out of range; expected classes 0..{count - 1}, or {NO_LABEL} for no class")


def check_label_shape(y: Tensor, num_classes: int | None, batch: int) -> int:
    """Like `check_labels`, but does not read the values. Returns the number of classes."""
    if num_classes is None:
        raise ValueError("y was given to an unconditional network; expected y=None, or a network built with num_classes")
    if not isinstance(y, Tensor):
        raise ValueError(f"y is of type {type(y).__name__}; expected a LongTensor of shape ({batch},): one class per image")
    if y.dtype != torch.long or y.shape != (batch,):
        raise ValueError(f"y is {y.dtype} of shape {tuple(y.shape)}; expected torch.long of shape ({batch},): one class per image")
    return num_classes


def as_labels(y: Any, n: int, names: Sequence[str] = ()) -> Tensor:
    """Labels in any usual form as a LongTensor (n,): one for all n images or one per image, as integers or as class names.

    y: an int, a name, or a list, tuple, array or tensor of either. Raises `ValueError` for anything else.
    """
    if isinstance(y, Tensor) and y.dtype == torch.long and y.shape == (n,):
        return y
    y = y.tolist() if isinstance(y, np.ndarray) and y.dtype.kind in "OSU" else y
    if isinstance(y, str):
        y = _label_of(y, names)
    elif isinstance(y, list | tuple):
        y = [_label_of(each, names) for each in y]
    try:
        labels = y if isinstance(y, Tensor) else torch.as_tensor(y, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"y={y!r}; expected one class for all {n} images, or a list of {n} integers") from error
    if labels.ndim == 1 and len(labels) != n:
        found, images = ("entry" if len(labels) == 1 else "entries"), ("image" if n == 1 else "images")
        raise ValueError(f"y has {len(labels)} {found} for {n} {images}; expected one per image, or one class for all")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"y has dtype {labels.dtype}; expected integers, classes counted from 0: use y.long()")
    if labels.shape not in {(), (n,)}:
        raise ValueError(f"y has shape {tuple(labels.shape)} for {n} images; expected one class for all, or one per image: ({n},)")
    return labels.long().expand(n)


def _label_of(text: Any, names: Sequence[str]) -> Any:
    if not isinstance(text, str):
        return text
    if not names:
        raise ValueError(f"y={text!r} is a name, but this denoiser has no class names; expected integers, counted from 0")
    if text not in names:
        raise unknown_name("class", text, names)
    return list(names).index(text)


def as_image_shape(shape: Any) -> tuple[int, int, int]:
    """(C, H, W) as Python ints. Raises unless it is three integers, each in 1..`MAX_SIDE`."""
    try:
        channels, height, width = (whole("it", each, 1, MAX_SIDE) for each in shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"image_shape={shape!r}; expected (C, H, W), integers in 1..{MAX_SIDE}") from error
    return channels, height, width


def check_like(x: Tensor, weight: Tensor) -> None:
    """Raises unless images fit a network's weights: same device, and same dtype unless autocast converts them."""
    same = x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type)
    for what, alike in (("device", x.device == weight.device), ("dtype", same)):
        if not alike:
            ours, theirs = getattr(x, what), getattr(weight, what)
            raise ValueError(f"images have {what} {ours} but the network {theirs}; expected the same: convert one of them with .to(…)")


def unet_config(**config: Any) -> dict[str, Any]:
    """A `UNet`'s arguments as plain Python numbers and lists. Raises for sizes that are impossible."""
    if config["out_channels"] is None:
        config["out_channels"] = config["in_channels"]
    for name in ("channel_mults", "attention_levels"):
        if isinstance(config[name], str) or not hasattr(config[name], "__iter__"):
            raise ValueError(f"{name}={config[name]!r}; expected a list or tuple of integers, such as (1, 2)")
        config[name] = list(config[name])
    for name in ("in_channels", "base_channels", "blocks_per_level", "patch_size", "norm_groups", "out_channels"):
        config[name] = whole(name, config[name])
    if config["num_classes"] is not None:
        config["num_classes"] = whole("num_classes", config["num_classes"])
    config["channel_mults"] = [whole(f"channel_mults[{i}]", m) for i, m in enumerate(config["channel_mults"])]
    levels, base_channels, norm_groups = len(config["channel_mults"]), config["base_channels"], config["norm_groups"]
    if not 1 <= levels <= MAX_LEVELS:
        raise ValueError(f"channel_mults has {levels} entries; expected 1..{MAX_LEVELS}, one factor per level, such as (1, 2)")
    config["attention_levels"] = [whole("a level in attention_levels", level, 0, levels - 1) for level in config["attention_levels"]]
    if base_channels % 2:
        raise ValueError(f"base_channels={base_channels}; expected an even number: a cosine and a sine per frequency of t")
    if base_channels % norm_groups:
        raise ValueError(f"base_channels={base_channels}; expected a multiple of norm_groups={norm_groups}: groups are equal in size")
    words = config.pop("words", None)
    if words is not None:  # the config of a network without captions says nothing of them
        config["words"] = as_vocabulary(words)
        if config["num_classes"] is not None:
            raise ValueError(f"num_classes={config['num_classes']} and words; expected one of them: y are either classes or captions")
        if not config["attention_levels"]:
            raise ValueError("words without attention_levels; expected one level or more: on them the image attends to the words")
    whole("blocks_per_level", config["blocks_per_level"], 1, MAX_BLOCKS)
    config["dropout"] = number("dropout", config["dropout"], 0, expected="a probability, 0 <= dropout < 1")
    if config["dropout"] >= 1:
        raise ValueError(f"dropout={config['dropout']!r}; expected a probability, 0 <= dropout < 1")
    return config
