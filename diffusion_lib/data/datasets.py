"""Images to learn from, as one tensor each. Everywhere in this package images are floats in [-1, 1], shape (B, C, H, W).

`glyphs` and `photo` are made from files that matplotlib ships and need no network. MNIST, Fashion-MNIST and CIFAR-10 come
through torchvision, which downloads them once into a cache folder. `folder:PATH` is a folder of the reader's own images.
"""

import os
import shutil
import socket
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.checks import NO_LABEL
from diffusion_lib.data.glyphs import CHARACTERS, draw_glyphs
from diffusion_lib.errors import unknown_name

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # what they may hold: some of Pillow's other decoders start programs


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


class DatasetProtocol(Protocol):
    images: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images with a label each, all in memory. `dataset[i]` is (image, label); i may be an int, a slice or a LongTensor.

    images: float (N, C, H, W) in [-1, 1]. labels: LongTensor (N,) of 0..len(class_names)-1, or of -1 where there are no classes.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self):
        if self.images.ndim != 4 or not self.images.is_floating_point():
            raise ValueError(
                f"images have shape {tuple(self.images.shape)} and dtype {self.images.dtype}; expected floats (N, C, H, W): see to_float"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.long:
            raise ValueError(
                f"labels have shape {tuple(self.labels.shape)} and dtype {self.labels.dtype}; expected torch.long ({len(self.images)},)"
            )
        object.__setattr__(self, "class_names", tuple(self.class_names))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice | Tensor) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)"""
        return tuple(self.images.shape[1:])

    @property
    def num_classes(self) -> int | None:
        """How many classes the labels name; None if there are none."""
        return len(self.class_names) or None


def load_dataset(
    name: str, train: bool = True, *, n: int | None = None, size: int | None = None, seed: int = 0, root: str | Path | None = None
) -> ImageDataset:
    """The dataset called "glyphs", "photo", "mnist", "fashion_mnist", "cifar10" or "folder:PATH".

    train: the training images, or others to test on (photo and folder have but one set). n: how many, None for all (glyphs:
    20,000 to train on, 4,000 to test). size: height and width for photo (default 64) and folder (default 32: shorter side
    resized, centre cropped; what is transparent is white). seed: of the glyphs. root: where torchvision's datasets are kept
    instead of the cache folder, $DIFFUSION_LIB_CACHE or ~/.cache/diffusion_lib.
    """
    for option, value in (("n", n), ("size", size)):
        if value is not None and value < 1:
            raise ValueError(f"{option}={value}; expected 1 or more, or None for the default")
    if name.startswith("folder:"):
        dataset = _folder(Path(name.removeprefix("folder:")).expanduser(), size or 32, n)
    elif name == "glyphs":
        dataset = _glyphs(n or (20_000 if train else 4_000), 2 * seed + (0 if train else 1))
    elif name == "photo":
        dataset = _photo(size or 64)
    elif name in TORCHVISION:
        dataset = _torchvision(name, train, Path(root).expanduser() if root is not None else cache_folder())
    else:
        raise unknown_name("dataset", name, ["glyphs", "photo", *TORCHVISION, "folder:PATH"])
    if n is None or n >= len(dataset):
        return dataset
    return ImageDataset(*dataset[:n], dataset.class_names)


def cache_folder() -> Path:
    """Where downloads are kept: $DIFFUSION_LIB_CACHE if set, else ~/.cache/diffusion_lib."""
    return Path(os.environ.get("DIFFUSION_LIB_CACHE") or "~/.cache/diffusion_lib").expanduser()


@lru_cache(maxsize=8)
def _glyphs(n: int, seed: int) -> ImageDataset:
    pixels, labels = draw_glyphs(n, seed)
    return ImageDataset(to_float(pixels), labels, tuple(CHARACTERS))


def _photo(size: int) -> ImageDataset:
    """Grace Hopper in 1978, a photograph in the public domain that matplotlib ships; head and shoulders, RGB."""
    from matplotlib import cbook
    from PIL import Image

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        photo = Image.open(file).convert("RGB").crop((60, 20, 452, 412)).resize((size, size), Image.Resampling.LANCZOS)
    return ImageDataset(_stack([photo]), torch.full((1,), NO_LABEL), ())


def _torchvision(name: str, train: bool, root: Path) -> ImageDataset:
    from torchvision import datasets

    kind = getattr(datasets, TORCHVISION[name])
    source = _from_files(kind, name, root, train)
    if source is None:
        try:
            _download(kind, name, root)
        except (OSError, RuntimeError, HTTPException) as error:
            raise FileNotFoundError(
                f"{name} is not in {root} and could not be downloaded there ({str(error) or type(error).__name__}); expected a network, or "
                "its files in that folder (root=… names another). The 'glyphs' dataset needs neither."
            ) from error
        source = _from_files(kind, name, root, train)
    if source is None:
        raise FileNotFoundError(f"{name} was downloaded to {root} and is not there; expected a folder that no other program cleans up")
    pixels = torch.as_tensor(np.asarray(source.data))
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()  # (N, H, W) or (N, H, W, 3)
    return ImageDataset(to_float(pixels), torch.as_tensor(source.targets).long(), tuple(source.classes))


def _from_files(kind: type, name: str, root: Path, train: bool):
    """Torchvision's dataset, None if its files are not there."""
    try:
        source = kind(str(root), train=train)
        if len(source.data) != len(source.targets):
            raise ValueError(f"{len(source.data)} images and {len(source.targets)} labels")
        return source
    except Exception as error:  # torchvision asserts, reshapes and unpacks, and says nothing of the file
        if isinstance(error, RuntimeError) and str(error).startswith("Dataset not found"):
            return None
        raise ValueError(
            f"the files of {name} in {root} are damaged ({str(error) or type(error).__name__}); expected whole ones: remove them, and they "
            "are downloaded again. The 'glyphs' dataset needs none."
        ) from error


def _download(kind: type, name: str, root: Path) -> None:
    """Torchvision's download with its checksums, by one process at a time, and each file in its place only when it is whole."""
    from filelock import FileLock

    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"), _patience(PATIENCE):
        if _from_files(kind, name, root, train=True) is not None:
            return  # another process was faster
        for leftover in root.glob(f".{name}-*"):  # of a download that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as fresh:
            _download_from_mirrors(kind, fresh)
            for file in sorted(path for path in Path(fresh).rglob("*") if path.is_file()):
                place = root / file.relative_to(fresh)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, place)


def _download_from_mirrors(kind: type, folder: str) -> None:
    """Torchvision's download. By itself it turns to the next mirror only if one cannot be reached; here, for any reason."""
    mirrors = list(getattr(kind, "mirrors", [])) or [None]
    for number, mirror in enumerate(mirrors, 1):
        try:
            type(kind.__name__, (kind,), {} if mirror is None else dict(mirrors=[mirror]))(folder, download=True)
            return
        except (OSError, RuntimeError, HTTPException):
            if number == len(mirrors):
                raise


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """How long a host may say nothing; one that goes on sending is waited for. Torchvision sets no limit of its own; Python's applies to
    new connections of the whole process."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


PATIENCE = 60.0  # seconds
MOST_FOLDERS = 10_000
TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}


def _folder(path: Path, size: int, n: int | None) -> ImageDataset:
    """The images in a folder, RGB. Sub-folders that hold images are classes, and take turns; without such, there are no classes."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder; expected one with images, as in 'folder:my_pictures'")
    of_class = defaultdict(list)
    for file in _image_files(path):
        of_class[file.relative_to(path).parts[0] if file.parent != path else ""].append(file)
    if not of_class:
        raise FileNotFoundError(f"{path} holds no images; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    names = sorted(of_class)
    if "" in names and len(names) > 1:
        raise ValueError(f"{path} holds images both beside and inside its sub-folders; expected one or the other (sub-folders are classes)")
    rounds = zip_longest(*(of_class[name] for name in names))  # one of each class, so that the first n are of all classes
    chosen = [(file, label) for files in rounds for label, file in enumerate(files) if file is not None][:n]
    images = _stack([_open_square(file, size) for file, _ in chosen])
    if names == [""]:
        return ImageDataset(images, torch.full((len(chosen),), NO_LABEL), ())
    return ImageDataset(images, torch.tensor([label for _, label in chosen]), tuple(names))


def _image_files(path: Path) -> list[Path]:
    """The image files in a folder and in those below, through links too, sorted; hidden ones (previews, mostly) left out."""

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for number, (folder, below, files) in enumerate(os.walk(path, onerror=refuse, followlinks=True)):
        if number == MOST_FOLDERS:  # links from each to each other make of ten folders millions
            raise ValueError(f"{path} leads to more than {MOST_FOLDERS:,} folders, links followed; expected fewer")
        above = {os.path.realpath(each) for each in (folder, *Path(folder).parents)}
        below[:] = sorted(name for name in below if not name.startswith(".") and os.path.realpath(Path(folder, name)) not in above)
        found += [Path(folder, name) for name in files if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES]
    return sorted(file for file in found if file.is_file())


def _open_square(file: Path, size: int):
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # a small file may unpack to gigabytes
            with Image.open(file, formats=IMAGE_FORMATS) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"its pixels are of mode {image.mode}, not of 8 bits a channel")
                image = ImageOps.exif_transpose(image)
                if "A" in image.getbands() or "transparency" in image.info:  # behind which any colour may hide
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
                return ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    except Exception as error:  # decoders raise whatever comes to their minds
        raise ValueError(f"{file} cannot be read as an image ({error}); expected a whole one: repair, convert or remove it") from error


def _stack(images) -> Tensor:
    return to_float(torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]))
