"""What a dataset is: images in one tensor, a label each. Everywhere in this package images are floats in [-1, 1], shape (B, C, H, W)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.checks import NO_LABEL

if TYPE_CHECKING:
    from PIL.Image import Image


class LabelledImages(Protocol):
    """Whatever has these two is a dataset that can be trained on, `ImageDataset` or not."""

    @property
    def images(self) -> Tensor:
        """float (N, C, H, W) in [-1, 1]"""

    @property
    def labels(self) -> Tensor:
        """LongTensor (N,) of 0..num_classes-1, or `NO_LABEL` for an image whose class is not given"""


def image_shape_of(dataset: LabelledImages) -> tuple[int, int, int]:
    """(C, H, W)"""
    channels, height, width = dataset.images.shape[1:]
    return channels, height, width


def num_classes_of(dataset: LabelledImages) -> int | None:
    """How many classes the labels name, None if there are none: the dataset's own `num_classes` or as many as its `class_names`; of a
    dataset that has neither, the largest label and one more."""
    if hasattr(dataset, "num_classes"):
        return dataset.num_classes
    if hasattr(dataset, "class_names"):
        return len(dataset.class_names) or None
    highest = max(dataset.labels.tolist(), default=NO_LABEL)
    return None if highest == NO_LABEL else highest + 1


def check_images_and_labels(images: Tensor, labels: Tensor) -> None:
    """Raises `ValueError` unless they are float (N, C, H, W) and a LongTensor (N,)."""
    for name, value in (("images", images), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} are a {type(value).__name__}; expected a tensor: see torch.as_tensor")
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images have shape {tuple(images.shape)} and dtype {images.dtype}; expected floats (N, C, H, W): see to_float")
    if labels.shape != images.shape[:1] or labels.dtype != torch.long:
        raise ValueError(f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; expected torch.long ({len(images)},)")


def to_float(pixels: Tensor) -> Tensor:
    """uint8 pixels 0..255 as floats in [-1, 1]."""
    if pixels.dtype != torch.uint8:
        raise ValueError(f"pixels have dtype {pixels.dtype}; expected torch.uint8 in 0..255")
    return pixels.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """The inverse of `to_float`, for showing and storing: floats to uint8 0..255, clipped to [-1, 1] first and never stretched."""
    if not images.is_floating_point():
        raise ValueError(f"images have dtype {images.dtype}; expected floats in [-1, 1]")
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images with a label each, all in memory. `dataset[i]` is (image, label); i may be an int, a slice or a LongTensor.

    images: float (N, C, H, W) in [-1, 1]. labels: LongTensor (N,) of 0..len(class_names)-1, or of -1 where there are no classes.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self):
        check_images_and_labels(self.images, self.labels)
        object.__setattr__(self, "class_names", tuple(self.class_names))

    @classmethod
    def without_classes(cls, images: Tensor) -> "ImageDataset":
        """Of images (N, C, H, W) alone: every label is `NO_LABEL`."""
        return cls(images, torch.full((len(images),), NO_LABEL), ())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice | Tensor) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        return image_shape_of(self)

    @property
    def num_classes(self) -> int | None:
        """How many classes the labels name; None if there are none."""
        return len(self.class_names) or None


def from_pictures(pictures: "Iterable[Image]") -> Tensor:
    """Pillow's RGB pictures, all of one size, as images (N, 3, H, W) in [-1, 1]."""
    return to_float(torch.stack([torch.from_numpy(np.array(picture)).permute(2, 0, 1) for picture in pictures]))
