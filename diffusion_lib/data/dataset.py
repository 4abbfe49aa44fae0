"""Datasets: images in one tensor, one label per image. Images are floats in [-1, 1] of shape (B, C, H, W) throughout the package."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.checks import NO_LABEL, as_labels, check_finite

SHOWN = 12  # the number of classes listed


class LabelledImages(Protocol):
    """Any object with these two attributes is a dataset for training, not only `ImageDataset`."""

    @property
    def images(self) -> Tensor:
        """float (N, C, H, W) in [-1, 1]"""

    @property
    def labels(self) -> Tensor:
        """LongTensor (N,) of 0..num_classes-1, or `NO_LABEL` for an image without a class"""


def image_shape_of(dataset: LabelledImages) -> tuple[int, int, int]:
    """(C, H, W)"""
    channels, height, width = dataset.images.shape[1:]
    return channels, height, width


def num_classes_of(dataset: LabelledImages) -> int | None:
    """The number of classes, or None for an unlabelled dataset: its `num_classes`, the number of its `class_names`, or without either
    the largest label plus one."""
    if hasattr(dataset, "num_classes"):
        return dataset.num_classes
    if hasattr(dataset, "class_names"):
        return len(dataset.class_names) or None
    highest = max(dataset.labels.tolist(), default=NO_LABEL)
    return None if highest == NO_LABEL else highest + 1


def describe(dataset: LabelledImages) -> str:
    """The number of images per class, in words: "5 images of 3x32x32 in 2 classes: 3 cat, 2 dog"."""
    text = f"{len(dataset.images):,} image{'s' * (len(dataset.images) != 1)} of {'x'.join(map(str, dataset.images.shape[1:]))}"
    numbers = Counter(dataset.labels.tolist())
    without = numbers.pop(NO_LABEL, 0)
    num_classes = num_classes_of(dataset)
    if num_classes is None:
        return f"{text} without classes"
    names = getattr(dataset, "class_names", None) or range(num_classes)
    unlabelled = f"; {without:,} without a class" if without else ""
    classes = f"{text} in {num_classes} class{'es' * (num_classes != 1)}"
    if num_classes <= SHOWN:
        return f"{classes}: {', '.join(f'{numbers[label]:,} {name}' for label, name in enumerate(names))}{unlabelled}"
    counts = [numbers[label] for label in range(num_classes)]
    return f"{classes} of {min(counts):,} to {max(counts):,}: {', '.join(map(str, names[: SHOWN - 1]))}, …, {names[-1]}{unlabelled}"


def class_names_of(dataset: LabelledImages, num_classes: int | None) -> tuple[str, ...]:
    """The dataset's class names; empty unless there are exactly `num_classes` of them."""
    names = tuple(getattr(dataset, "class_names", None) or ())
    return names if len(names) == num_classes else ()


def check_images_and_labels(images: Tensor, labels: Tensor) -> None:
    """Raises `ValueError` unless they are float (N, C, H, W) and a LongTensor (N,)."""
    for name, value in (("images", images), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is of type {type(value).__name__}; expected a tensor: see torch.as_tensor")
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images have shape {tuple(images.shape)} and dtype {images.dtype}; expected floats (N, C, H, W): see to_float")
    if labels.shape != images.shape[:1] or labels.dtype != torch.long:
        raise ValueError(f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; expected torch.long ({len(images)},)")


def check_memory(n: int, shape: Sequence[int]) -> None:
    """Raises `MemoryError` before loading if n images of this shape, as floats, exceed this machine's memory."""
    channels, height, width = shape
    needed = 4 * n * channels * height * width
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return
    if needed > there:
        what = f"{n:,} images of {channels}x{height}x{width} take {needed / 1e9:,.1f} GB"
        raise MemoryError(
            f"{what}, but this machine has {there / 1e9:,.1f} GB; expected less: use fewer images (n, --images) or a smaller size"
        )


def to_float(pixels: Tensor | np.ndarray) -> Tensor:
    """uint8 pixels 0..255 as floats in [-1, 1]."""
    pixels = _as_tensor("pixels", pixels)
    if pixels.dtype != torch.uint8:
        raise ValueError(f"pixels have dtype {pixels.dtype}; expected torch.uint8 in 0..255")
    # one copy, then in place: datasets are large
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(127.5).sub_(1)


def to_uint8(images: Tensor | np.ndarray) -> Tensor:
    """The inverse of `to_float`, for display and storage: clips floats to [-1, 1], never stretches them, and returns uint8 0..255.

    Warns if a value is NaN or infinite, which no pixel can show; NaN becomes black.
    """
    images = _as_tensor("images", images)
    if not images.is_floating_point():
        raise ValueError(f"images have dtype {images.dtype}; expected floats in [-1, 1]")
    try:
        check_finite(images)
    except ValueError as error:
        warnings.warn(f"{error}: NaN is shown as black", stacklevel=2)
        images = images.nan_to_num(nan=-1.0)
    return images.detach().float().clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)


@dataclass(frozen=True, eq=False, repr=False)
class ImageDataset:
    """Labelled images in memory. `dataset[i]` is (image, label); i may be an int, a slice or a LongTensor.

    images: float (N, C, H, W) in [-1, 1]. labels: LongTensor (N,) of 0..len(class_names)-1, or -1 for images without a class.
    Both may be arrays; labels may have any integer type or be class names. class_names: () or None for no classes.
    captions: one text per image, or () for none. attributes: what is true of each image, such as dict(size=sizes) with
    sizes a LongTensor (N,) of indices into attribute_names["size"], such as ("small", "large").
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    attribute_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self):
        images, names = _as_tensor("images", self.images), _as_names(self.class_names)
        if not isinstance(self.images, Tensor) and images.dtype == torch.float64:
            images = images.to(torch.get_default_dtype())  # numpy's and Python's floats have 64 bits by default
        labels = _as_labels(self.labels, len(images) if images.ndim else 0, names)
        check_images_and_labels(images, labels)
        if names and not labels.is_meta and ((labels < NO_LABEL) | (labels >= len(names))).any():
            outside = next(label for label in labels.tolist() if not NO_LABEL <= label < len(names))
            raise ValueError(f"labels contain {outside}; expected 0..{len(names) - 1}, indices of class_names, or {NO_LABEL} for none")
        if images.shape[3] in (1, 3) and min(images.shape[1:3]) > 4:
            raise ValueError(
                f"images have shape {tuple(images.shape)}; expected (N, C, H, W), but these look like (N, H, W, C): "
                "use torch.as_tensor(images).permute(0, 3, 1, 2)"
            )
        values = {str(name): _as_names(each) for name, each in (self.attribute_names or {}).items()}
        attributes = _as_attributes(self.attributes or {}, values, len(images))
        captions = _as_captions(self.captions, len(images))
        plain = dict(images=images, labels=labels, class_names=names, captions=captions, attributes=attributes, attribute_names=values)
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @classmethod
    def without_classes(cls, images: Tensor) -> "ImageDataset":
        """A dataset of unlabelled images (N, C, H, W): every label is `NO_LABEL`."""
        return cls(images, torch.full((len(images),), NO_LABEL, device=getattr(images, "device", "cpu")), ())

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {describe(self)}"

    def __getitem__(self, index: int | slice | Tensor) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        return image_shape_of(self)

    @property
    def num_classes(self) -> int | None:
        """The number of classes; None for an unlabelled dataset."""
        return len(self.class_names) or None


def part_of(dataset: LabelledImages, index: slice | Tensor) -> ImageDataset:
    """Some of a dataset's images, with all that belongs to them. index: a slice, or a LongTensor (n,)."""
    captions, attributes = getattr(dataset, "captions", ()), getattr(dataset, "attributes", {})
    chosen = range(len(dataset.images))[index] if isinstance(index, slice) else index.tolist()
    return ImageDataset(
        dataset.images[index],
        dataset.labels[index],
        getattr(dataset, "class_names", ()),
        tuple(captions[k] for k in chosen) if captions else (),
        {name: values[index] for name, values in attributes.items()},
        getattr(dataset, "attribute_names", {}),
    )


def with_mirror_images(dataset: ImageDataset) -> ImageDataset:
    """The dataset's images, followed by the mirror image (left to right) of each. Raises `ValueError` for images with captions."""
    if dataset.captions:
        raise ValueError("flip=True for images with captions; expected flip=False: a caption says what is left and what is right")
    images = dataset.images.new_empty(2 * len(dataset), *dataset.image_shape)
    images[: len(dataset)] = dataset.images
    mirror_first_half(images)
    return ImageDataset(images, dataset.labels.repeat(2), dataset.class_names)


def mirror_first_half(images: Tensor) -> None:
    """Overwrites the second half of the images with the mirror images of the first."""
    first, second = images.chunk(2)
    for start in range(0, len(first), 64):  # limits the memory
        second[start : start + 64] = first[start : start + 64].flip(3)


def _as_tensor(name: str, value: Any) -> Tensor:
    """Returns tensors unchanged; converts arrays and lists of numbers."""
    if isinstance(value, Tensor):
        return value
    try:
        if not isinstance(value, np.ndarray | list | tuple):
            raise TypeError
        array = np.ascontiguousarray(value)  # torch supports no negative strides
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        kind = type(value).__name__ + (f" of {value.dtype}" if isinstance(value, np.ndarray) else "")
        raise ValueError(f"{name} is of type {kind}; expected a tensor or an array of numbers: see torch.as_tensor") from error


def _as_labels(labels: Any, n: int, names: tuple[str, ...]) -> Tensor:
    """Integers of any type, or class names, as a LongTensor."""
    if isinstance(labels, np.ndarray | list | tuple) and len(labels) == n > 0 and all(isinstance(label, str) for label in labels):
        return as_labels(list(map(str, labels)), n, names)
    labels = _as_tensor("labels", labels)
    integers = not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool
    return labels.long() if integers else labels


def _as_names(names: Any) -> tuple[str, ...]:
    if names is None:
        return ()
    if isinstance(names, str | Mapping | Set) or not isinstance(names, Iterable):
        raise ValueError(f"class_names={names!r}; expected a list or tuple of names, in the order of the labels, or () for no classes")
    return tuple(map(str, names))


def _as_captions(captions: Any, n: int) -> tuple[str, ...]:
    captions = () if captions is None else captions
    if isinstance(captions, str) or not isinstance(captions, Iterable):
        raise ValueError(f"captions={captions!r}; expected a list or tuple of texts, one per image, or () for none")
    captions = tuple(map(str, captions))
    if captions and len(captions) != n:
        raise ValueError(f"{len(captions)} captions for {n} images; expected one per image, or () for none")
    return captions


def _as_attributes(attributes: Any, names: dict[str, tuple[str, ...]], n: int) -> dict[str, Tensor]:
    if not isinstance(attributes, Mapping) or attributes.keys() != names.keys():
        raise ValueError(
            f"attributes={attributes!r} and attribute_names={names!r}; expected two dicts with the same keys: indices of the "
            "images' values, and the names of the values"
        )
    converted = {str(name): _as_labels(values, n, names[name]) for name, values in attributes.items()}
    for name, values in converted.items():
        if values.shape != (n,) or values.dtype != torch.long:
            raise ValueError(f"attributes[{name!r}] has shape {tuple(values.shape)} and dtype {values.dtype}; expected torch.long ({n},)")
        if n and not 0 <= values.min() <= values.max() < len(names[name]):
            raise ValueError(f"attributes[{name!r}] ranges from {values.min()} to {values.max()}; expected 0..{len(names[name]) - 1}")
    return converted
