"""Pictures in any usual form, converted to the one form that is drawn, and tiled into one picture."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffusion_lib.checks import whole
from diffusion_lib.data import to_float, to_uint8

PIXELS = (20, 255)  # images without negative values and with a maximum in this range are taken for unscaled pixels


def image_grid(images: Any, columns: int = 8, padding: int = 1) -> Tensor:
    """A batch (B, C, H, W) in [-1, 1] as one picture uint8 (H', W', 3), row by row, separated by grey lines.

    images: also a single image, a list, an array or an `ImageDataset`: see `as_images`. Raises `ValueError` as it does.
    """
    return draw(as_images(images), whole("columns", columns), whole("padding", padding, low=0))


def draw(images: Tensor, columns: int, padding: int = 1) -> Tensor:
    """`image_grid` of images that have been checked."""
    picture = tile(to_uint8(images.detach().cpu()), columns, padding, fill=96)
    return picture.expand(3, -1, -1).permute(1, 2, 0).contiguous()


def tile(images: Tensor, columns: int, padding: int = 0, fill: float = 0) -> Tensor:
    """A batch (B, C, H, W) as one picture (C, H', W'), row by row; lines of `padding` pixels and empty cells have the value `fill`.

    (torchvision's make_grid does the same, but importing torchvision takes longer than drawing a first figure.)
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cells = F.pad(images, (0, padding, 0, padding), value=fill)  # each with the line below it and the one to its right
    cells = torch.cat([cells, torch.full_like(cells[:1], fill).expand(rows * columns - len(images), -1, -1, -1)])
    height, width = cells.shape[2:]
    picture = cells.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).reshape(-1, rows * height, columns * width)
    return F.pad(picture, (padding, 0, padding, 0), value=fill)


def as_images(images: Any, name: str = "images") -> Tensor:
    """Pictures in any usual form as floats (B, C, H, W) on the CPU, without gradients.

    images: floats in about [-1, 1], (B, C, H, W), (C, H, W) or (H, W) with C = 1 or 3, as a tensor or a numpy array; Pillow pictures; a
    list of any of these; or a dataset, whose images are used. Raises `ValueError` for anything else, including pairs of images and
    labels, numbers that are not finite, and pixels 0..255.
    """
    batch = _batch(images, name)
    limits = value_range(batch)
    if limits is None:
        bad = [i for i, image in enumerate(batch) if value_range(image) is None]
        where = f" in {len(bad)} of {len(batch)}, the first is number {bad[0]}" if len(batch) > 1 else ""
        raise ValueError(f"{name} {_has(name)} values that are not finite (NaN or infinity){where}; expected numbers, in about -1..1")
    _check_scale(name, *limits)
    return batch


def as_frames(frames: Any, name: str, dimensions: int = 5) -> Tensor:
    """Recorded frames as floats (F, B, C, H, W), on their device, without gradients; with `dimensions` 6, a grid of them.

    frames: a tensor, an array, or a list of F tensors or arrays, for a grid also of lists. `check_frames` checks their values.
    """
    if _is_pair(frames):
        raise _pair(name)
    if isinstance(frames, list | tuple) and frames and dimensions > 3:
        parts = [as_frames(each, name, dimensions - 1) for each in frames]
        if len({part.shape for part in parts}) > 1:
            shapes = sorted({tuple(part.shape) for part in parts})
            raise ValueError(f"{name} is a list of shapes {', '.join(map(str, shapes))}; expected frames of one shape (B, C, H, W)")
        return torch.stack(parts)
    return _floats(frames, name)


def check_frames(frames: Tensor, name: str, place: Callable[[int], str]) -> None:
    """Raises `ValueError` unless frames (F, …, C, H, W) can be drawn. place(i): the name of frame i in errors, such as "frame 3"."""
    check_channels(frames.shape[-3], name)
    if not frames.numel():
        raise ValueError(f"{name} has shape {tuple(frames.shape)}; expected one frame or more of one image or more")

    least, greatest = math.inf, -math.inf
    for i, frame in enumerate(frames):
        limits = value_range(frame)
        if limits is None:
            raise ValueError(f"{name} is not finite (NaN or infinity) at {place(i)}; expected numbers, in about -1..1")
        least, greatest = min(least, limits[0]), max(greatest, limits[1])
    _check_scale(name, least, greatest)


def _batch(images: Any, name: str) -> Tensor:
    images = getattr(images, "images", images)
    if _is_pair(images):
        raise _pair(name)
    if isinstance(images, Iterable) and not isinstance(images, Tensor | np.ndarray | str | bytes | dict | Image):
        parts = []
        for each in images:
            if _is_pair(each):
                raise _pairs(images, name)
            parts.append(_batch(each, name))
        shapes = sorted({tuple(part.shape[1:]) for part in parts})
        if len(shapes) > 1:
            raise ValueError(
                f"{name} {_has(name, 'is')} of shapes {', '.join(map(str, shapes))}; expected one shape (C, H, W): resize or crop them"
            )
        if not parts:
            raise ValueError(f"{name} {_has(name, 'holds')} no images; expected a batch of one or more")
        return torch.cat(parts)
    if isinstance(images, Dataset):  # of somebody else's, which can be looked into by number only
        raise _pairs(images, name)
    batch = _four_dimensions(_floats(images, name), name).cpu()
    if not batch.numel():
        raise ValueError(f"{name} {_has(name, 'holds')} no images, with shape {tuple(batch.shape)}; expected a batch of one or more")
    return batch


def _is_pair(value: Any) -> bool:
    """Whether this is an image or a batch with its labels, which may be numbers, names or a tensor, as a dataset yields them."""
    if not isinstance(value, list | tuple) or len(value) < 2:
        return False
    first, *others = value
    is_image = isinstance(first, Image) or (isinstance(first, Tensor | np.ndarray) and first.ndim >= 2)
    return is_image and not _is_label(first) and all(_is_label(each) for each in others)


def _is_label(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim < 2 or value.dtype in (torch.int32, torch.int64)
    if isinstance(value, np.ndarray | np.generic):
        return value.ndim < 2 or value.dtype.kind in "iOSU"
    if isinstance(value, list | tuple):  # the class names of a batch
        return bool(value) and all(isinstance(each, str | int) for each in value)
    return isinstance(value, str | int | float | None)


def _pair(name: str) -> ValueError:
    return ValueError(f"{name} {_has(name, 'is')} a pair of images and their labels; expected only the images: {_code(name)}[0]")


def _pairs(images: Any, name: str) -> ValueError:
    """The error for a loader, a dataset or a list that yields images with their labels."""
    given, remedy = f"{name} {_has(name, 'is')} a {type(images).__name__}", "[image for image, label in …]"
    if isinstance(images, DataLoader):
        remedy = "next(iter(loader))[0]"
    elif isinstance(images, Dataset):
        remedy = "[dataset[i][0] for i in range(16)]"
    return ValueError(f"{given} of images and their labels; expected only the images: {remedy}")


def _floats(images: Any, name: str) -> Tensor:
    """A tensor of floats without gradients, at least float32."""
    if isinstance(images, Image):
        return _pillow(images, name)
    remedy = "use diffusion_lib.to_float"
    if isinstance(images, np.ndarray) and images.dtype.kind in "biuf":
        # torch needs a writable array in the native byte order
        images = torch.from_numpy(np.require(images, images.dtype.newbyteorder("="), ["C", "W"]))
        remedy = "use diffusion_lib.to_float(torch.from_numpy(…))"
    if not isinstance(images, Tensor):
        raise ValueError(f"{name} {_has(name, 'is')} a {type(images).__name__}; expected a tensor of shape (B, C, H, W), floats in [-1, 1]")
    if images.layout != torch.strided or images.is_meta:
        raise ValueError(f"{name} {_has(name)} no dense values ({images.layout} on {images.device}); expected a dense tensor")
    if not images.is_floating_point():
        if images.dtype == torch.bool:
            remedy = f"{_code(name)}.float() * 2 - 1 makes a mask black and white"
        elif images.dtype != torch.uint8:
            remedy = "use .float() and scale them"
        raise ValueError(f"{name} {_has(name)} dtype {images.dtype}; expected floats in [-1, 1]: {remedy}")
    return images.detach().float() if images.dtype.itemsize < 4 else images.detach()


def _pillow(picture: Image, name: str) -> Tensor:
    if picture.mode.startswith(("I", "F")):
        raise ValueError(
            f"{name} {_has(name, 'holds')} a picture of mode {picture.mode!r}; expected 8 bits for each colour: "
            "picture.convert('L') or 'RGB'"
        )
    pixels = torch.from_numpy(np.array(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB")))
    return to_float(pixels.view(*pixels.shape[:2], -1).permute(2, 0, 1))


def _four_dimensions(images: Tensor, name: str) -> Tensor:
    shape = tuple(images.shape)
    if len(shape) in (3, 4) and shape[-3] not in (1, 3) and shape[-1] in (1, 3):
        raise ValueError(f"{name} {_has(name)} shape {shape}, with the channels last; expected (B, C, H, W): use movedim(-1, -3)")
    if len(shape) == 3 and shape[0] not in (1, 3):
        raise ValueError(
            f"{name} {_has(name)} shape {shape}; expected (B, C, H, W), or (C, H, W) with 1 or 3 channels for one image: "
            f"for grey images without a channel, use {_code(name)}[:, None]"
        )
    if len(shape) not in (2, 3, 4):
        raise ValueError(f"{name} {_has(name)} shape {shape}; expected (B, C, H, W): a batch of images")
    images = images.reshape((1,) * (4 - len(shape)) + shape)
    check_channels(images.shape[1], name)
    return images


def check_channels(channels: int, name: str) -> None:
    """Raises `ValueError` unless there are 1 or 3, which can be drawn."""
    if channels not in (1, 3):
        remedy = f": {_code(name)}[:, :3] drops the fourth, transparency" if channels == 4 else ""
        raise ValueError(f"{name} {_has(name)} {channels} channels; expected 1 (grey) or 3 (colour){remedy}")


def value_range(images: Tensor) -> tuple[float, float] | None:
    """The least and the greatest value; None if one is not finite. Makes no copy of the images, as isfinite() would."""
    low, high = torch.stack(images.detach().aminmax()).tolist()  # NaN if one value is
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _check_scale(name: str, low: float, high: float) -> None:
    if low >= 0 and PIXELS[0] < high <= PIXELS[1]:
        raise ValueError(
            f"{name} {_has(name, 'ranges')} from {low:.6g} to {high:.6g}, as pixels 0..255 do; expected about -1..1: "
            f"{_code(name)} / 127.5 - 1"
        )


def _code(name: str) -> str:
    return name if name.isidentifier() else "images"


def _has(name: str, verb: str = "has") -> str:
    return {"has": "have", "is": "are", "holds": "hold", "ranges": "range"}[verb] if name == "images" else verb
