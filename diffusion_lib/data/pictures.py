"""Finding and reading picture files.

A file is a picture by its suffix or, if the suffix is unknown, by its content. Only formats in `FORMATS` are decoded.
"""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# Pillow's names. The list is closed: some of Pillow's other decoders start programs
FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".mpo"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif", ".avifs"),  # Pillow 11.3 or later
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "QOI": (".qoi",),
    "TGA": (".tga",),
    "HEIF": (".heic", ".heif", ".hif"),  # if pillow-heif has registered its decoder
}
BY_SUFFIX_ONLY = {"TGA"}  # these files have no distinctive first bytes
# camera raws and microscope slides are TIFF files too, but Pillow would read a preview; a text may begin like a PPM file
BY_SUFFIX_OR_WITHOUT = BY_SUFFIX_ONLY | {"TIFF", "PPM"}
NOT_READ = {
    f".{suffix}" for suffix in ["heic", "heif", "hif", "avif", "avifs", "jxl", "svg", "svgz", "eps", "ps", "pdf", "ai", "psd", "psb"]
}
NOT_READ |= {f".{suffix}" for suffix in ["xcf", "kra", "ico", "icns", "cur", "exr", "hdr", "pfm", "dds", "pcx", "sgi", "rgb", "ras", "wmf"]}
NOT_READ |= {f".{suffix}" for suffix in ["emf", "xbm", "xpm", "dcm", "fits", "raw", "dng", "nef", "nrw", "cr2", "cr3", "crw", "arw", "srf"]}
NOT_READ |= {f".{suffix}" for suffix in ["sr2", "orf", "rw2", "raf", "pef", "srw", "x3f", "3fr", "erf", "mrw"]}
CONVERT, NO_PICTURE, NO_FILE = (
    "formats that are not supported: convert them to PNG or JPEG",
    "not pictures",
    "not files: pipes or broken links",
)
JUNK = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"}
MOST_FOLDERS = 10_000
MOST_PIXELS = 2**28  # 268 megapixels: phones reach 200
PIXELS_PER_BYTE = 1000  # limit for large pictures: photographs have about 10, a picture of a single colour 200 to 400


@dataclass
class Found:
    """The files in a folder and its sub-folders."""

    pictures: list[Path] = field(default_factory=list)
    left_out: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))  # the number of files of each suffix, by reason

    def what_was_left_out(self) -> str:
        """In words: "12 .heic (formats that are not supported: …), 1 .txt (not pictures)"; empty if nothing was skipped."""
        return ", ".join(
            f"{', '.join(f'{number:,} {suffix}' for suffix, number in suffixes.most_common())} ({reason})"
            for reason, suffixes in sorted(self.left_out.items())
        )


def find_pictures(top: Path) -> Found:
    """The sorted picture files in a folder and its sub-folders, following links. Ignores hidden files (mostly previews) and files of
    operating systems (`JUNK`)."""

    def refuse(error: OSError) -> None:
        raise error

    found = Found()
    suffixes = set(readable_suffixes())
    for number, (folder, below, files) in enumerate(os.walk(top, onerror=refuse, followlinks=True)):
        if number == MOST_FOLDERS:  # ten folders with links to each other become millions
            raise ValueError(f"{top} leads to more than {MOST_FOLDERS:,} folders, following links; expected fewer")
        above = {os.path.realpath(each) for each in (Path(folder), *Path(folder).parents)}
        below[:] = sorted(name for name in below if is_shown(name) and os.path.realpath(Path(folder, name)) not in above)
        for file in (Path(folder, name) for name in files if is_shown(name)):
            reason = _why_not(file, suffixes)
            if reason is None:
                found.pictures.append(file)
            else:
                found.left_out[reason][file.suffix.lower() or "without suffix"] += 1
    found.pictures.sort()
    return found


def is_shown(name: str) -> bool:
    """Whether a file or folder of this name is not hidden, not a backup copy and not in `JUNK`."""
    return not name.startswith(".") and not name.endswith("~") and name.casefold() not in JUNK


def _why_not(file: Path, suffixes: set[str]) -> str | None:
    """Why a file is not a readable picture; None if it is."""
    if not file.is_file():  # reading a pipe would block
        return NO_FILE
    suffix = file.suffix.lower()
    if suffix in suffixes or (suffix not in NOT_READ and _begins_like_a_picture(file, suffix)):
        return None
    return CONVERT if suffix in NOT_READ else NO_PICTURE


def _formats(exclude: set[str]) -> list[str]:
    """The names in `FORMATS` that this Pillow can decode."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN and name not in exclude]


def readable_suffixes() -> list[str]:
    """The suffixes of picture files."""
    return [suffix for name in _formats(exclude=set()) for suffix in FORMATS[name]]


def _begins_like_a_picture(file: Path, suffix: str) -> bool:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(file, formats=_formats(exclude=BY_SUFFIX_OR_WITHOUT if suffix else BY_SUFFIX_ONLY)).close()
    except Image.DecompressionBombError:  # its size is checked when it is read
        return True
    except Exception:  # decoders raise all kinds of exceptions
        return False
    return True


def read_picture(file: Path, height: int, width: int, channels: int) -> tuple[Tensor, bool]:
    """A picture's first frame as uint8 (channels, height, width), and whether there are more frames.

    Applies the EXIF orientation, resizes to cover height x width and crops to the centre; transparent pixels become white.
    Raises whatever the decoder raises, and `ValueError` for a picture that is too large or has more than 8 bits per channel.
    """
    from PIL import Image, ImageOps

    # a stream, not the path: given a path, Pillow maps uncompressed files into memory and scrambles rotated TIFF files
    with file.open("rb") as stream, _limit_of_pixels() as usual, _opened(stream, file.suffix.lower()) as opened:
        pixels, size = opened.width * opened.height, file.stat().st_size
        if usual is not None and pixels > max(usual, size * PIXELS_PER_BYTE):
            raise ValueError(f"Image size ({pixels:,} pixels) exceeds limit of {usual:,} pixels for a file of only {size:,} bytes")
        if opened.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels have mode {opened.mode}, not 8 bits per channel")
        more = opened.format != "MPO" and getattr(opened, "is_animated", False)  # a phone's second picture only supports the first
        side = 4 * max(height, width)
        opened.draft(None, (side, side))  # decodes JPEG at 1/2 to 1/8 if still large enough: less memory, nearly the same image
        ImageOps.exif_transpose(opened, in_place=True)
        picture = ImageOps.fit(_resizable(opened), (width, height), Image.Resampling.LANCZOS)
        if picture.mode == "RGBA":  # transparent pixels may have any colour
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return pixels_of(picture, channels), more


def _opened(stream: BinaryIO, suffix: str) -> "ImageFile":
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(stream, formats=_formats(exclude={name for name in BY_SUFFIX_ONLY if suffix not in FORMATS[name]}))
    except UnidentifiedImageError:
        raise ValueError(f"cannot identify image file: its content is in no supported format, despite {suffix or 'its name'}") from None


def pixels_of(picture: "Image", channels: int) -> Tensor:
    """A Pillow image as uint8 (channels, H, W), RGB or grey."""
    array = np.array(picture.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(array).view(picture.height, picture.width, channels).permute(2, 0, 1)


def _resizable(image: "Image") -> "Image":
    """The image in a mode whose colours can be averaged, with alpha if it has transparency."""
    if image.mode in ("LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "RGBA", "CMYK", "YCbCr") else image.convert("RGB")


@contextmanager
def _limit_of_pixels() -> Iterator[int | None]:
    """Raises Pillow's pixel limit to `MOST_PIXELS` and turns its warning into an error. Yields the previous limit, or None; a higher limit
    stays in force."""
    from PIL import Image

    usual = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            Image.MAX_IMAGE_PIXELS = None if usual is None else max(usual, MOST_PIXELS)
            yield usual
        finally:
            Image.MAX_IMAGE_PIXELS = usual
