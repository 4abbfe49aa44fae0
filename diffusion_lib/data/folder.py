"""A folder of the reader's own images."""

import os
import warnings
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from diffusion_lib.data.dataset import ImageDataset, from_pictures

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # what they may hold: some of Pillow's other decoders start programs
MOST_FOLDERS = 10_000


def load_folder(folder: str | Path, *, n: int | None = None, size: int | None = None, **options) -> ImageDataset:
    """The images in a folder, RGB, 32x32 or of another size: the shorter side resized, then cropped to the centre; what is transparent
    is white. Sub-folders that hold images are classes, and take turns; without such, there are no classes."""
    path = Path(folder).expanduser()
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
    images = from_pictures(_open_square(file, size or 32) for file, _ in chosen)
    if names == [""]:
        return ImageDataset.without_classes(images)
    return ImageDataset(images, torch.tensor([label for _, label in chosen]), tuple(names))


def _image_files(path: Path) -> list[Path]:
    """The image files in a folder and in those below, through links too, sorted; hidden ones (previews, mostly) left out."""

    def refuse(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for number, (folder, below, files) in enumerate(os.walk(path, onerror=refuse, followlinks=True)):
        if number == MOST_FOLDERS:  # links from each to each other make of ten folders millions
            raise ValueError(f"{path} leads to more than {MOST_FOLDERS:,} folders, links followed; expected fewer")
        above = {os.path.realpath(each) for each in (Path(folder), *Path(folder).parents)}
        below[:] = sorted(name for name in below if not name.startswith(".") and os.path.realpath(Path(folder, name)) not in above)
        found += [Path(folder, name) for name in files if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES]
    return sorted(file for file in found if file.is_file())


def _open_square(file: Path, size: int) -> "Image":
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # a small file may unpack to gigabytes
            with Image.open(file, formats=IMAGE_FORMATS) as opened:
                if opened.mode.startswith(("I", "F")):
                    raise ValueError(f"its pixels are of mode {opened.mode}, not of 8 bits a channel")
                image = ImageOps.exif_transpose(opened)
                if "A" in image.getbands() or "transparency" in image.info:  # behind which any colour may hide
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
                return ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    except Exception as error:  # decoders raise whatever comes to their minds
        raise ValueError(f"{file} cannot be read as an image ({error}); expected a whole one: repair, convert or remove it") from error
