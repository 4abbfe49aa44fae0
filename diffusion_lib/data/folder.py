"""A folder of the user's own images."""

import os
import warnings
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor

from diffusion_lib.data.dataset import ImageDataset, check_memory, mirror_first_half
from diffusion_lib.data.layout import find_classes
from diffusion_lib.data.paths import existing_folder
from diffusion_lib.data.pictures import find_pictures, read_picture, readable_suffixes

SHOWN = 5  # the number of broken files listed
PATIENCE = 3.0  # seconds of loading until a progress bar appears


def load_folder(
    folder: str | os.PathLike,
    *,
    train: bool = True,
    n: int | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    flip: bool = False,
    skip_broken: bool = False,
) -> ImageDataset:
    """The images in a folder, RGB (or grey, channels=1), by default 32x32: resized to cover the size, then cropped to the centre;
    transparent pixels become white. Sub-folders with images are classes, loaded in turn; without them, there are no classes.

    Warns about skipped files and gives the reasons. One `ValueError` lists all files that look like pictures but cannot be read;
    skip_broken skips them.
    """
    path = existing_folder(folder)
    found = find_pictures(path)
    left_out = found.what_was_left_out()
    if not found.pictures:
        said = f". Skipped: {left_out}" if left_out else ""
        raise FileNotFoundError(f"{path} contains no images; expected files ending in {', '.join(readable_suffixes())}{said}")
    layout = find_classes(path, found.pictures)
    notes = [*([f"skipped {left_out}"] if left_out else []), *layout.notes]
    if not train:
        notes.append("a folder has only one set of images: train=False returns the same ones. Keep test images in another folder")

    names = list(layout.of_class)
    rounds = zip_longest(*layout.of_class.values())  # one image of each class in turn, so that the first n cover all classes
    ordered = [(file, label) for files in rounds for label, file in enumerate(files) if file is not None]
    height, width = size if isinstance(size, tuple) else (size or 32, size or 32)
    images, labels = _read(path, ordered, n, (channels or 3, height, width), flip, skip_broken, notes)
    if channels is None and all(_is_grey(image) for image in images):
        notes.insert(0, "all images are grey but were loaded as RGB; channels=1 (--channels 1) needs a third of the memory")
    if notes:
        warnings.warn("; ".join([f"folder:{path}: {notes[0]}", *notes[1:]]), stacklevel=3)  # points to load_dataset's caller
    if names == [""]:
        return ImageDataset.without_classes(images)
    return ImageDataset(images, torch.tensor(labels), tuple(names))


def _read(
    path: Path,
    ordered: list[tuple[Path, int]],
    n: int | None,
    shape: tuple[int, int, int],
    flip: bool,
    skip_broken: bool,
    notes: list[str],
) -> tuple[Tensor, list[int]]:
    """The first n pictures as images, and their labels; with flip, their mirror images follow. Adds notes about skipped files."""
    from tqdm import tqdm

    channels, height, width = shape
    most = min(n or len(ordered), len(ordered))
    room = most * (2 if flip else 1)
    check_memory(room, shape)
    images, several = torch.empty(room, *shape), 0
    labels: list[int] = []
    broken: list[str] = []
    for file, label in tqdm(ordered, desc=f"loading {path.name}", unit="image", delay=PATIENCE, leave=False):
        if len(labels) + (0 if skip_broken else len(broken)) == most:
            break
        try:
            pixels, more = read_picture(file, height, width, channels)
        except MemoryError as error:
            raise MemoryError(f"{file} needs too much memory; expected a smaller picture: scale it down or remove it") from error
        except Exception as error:  # decoders raise all kinds of exceptions
            broken.append(f"{file} cannot be read as an image ({error})")
            continue
        images[len(labels)] = pixels
        labels.append(label)
        several += more
    if several:
        notes.append(f"{several:,} of the files contain several images (animations, pages): the first one is used")
    listed = "\n  ".join(["", *broken[:SHOWN], *([f"and {len(broken) - SHOWN:,} more"] if len(broken) > SHOWN else [])])
    if broken and not (skip_broken and labels):
        raise ValueError(_remedy(broken, listed, len(ordered), skip_broken))
    if broken:
        notes.append(f"skipped {len(broken):,} of {len(ordered):,} files:{listed}")
    images = images[: len(labels) * (2 if flip else 1)]
    if flip:
        mirror_first_half(images)
        labels *= 2
    return images.div_(127.5).sub_(1), labels  # like `to_float`, in place


def _remedy(broken: list[str], listed: str, total: int, skipped: bool) -> str:
    skip = "" if skipped else ", or skip {} with skip_broken=True (--skip-broken)"
    if len(broken) == 1:
        return f"{broken[0]}; expected an intact image: repair, convert or remove it{skip.format('it')}"
    many = f"{len(broken):,} of {total:,} files are broken; expected intact images: repair, convert or remove them"
    return f"{many}{skip.format('them')}:{listed}"


def _is_grey(image: Tensor) -> bool:
    return bool((image[0] == image[1]).all() and (image[1] == image[2]).all())
