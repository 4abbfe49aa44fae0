"""Pictures on disk: a grid of images, or the frames of a chain as separate files or as an animation."""

import io
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from diffusion_lib.checks import whole
from diffusion_lib.errors import unknown_name
from diffusion_lib.files import as_path, write_whole
from diffusion_lib.pictures import as_frames, as_images, check_channels, check_frames, draw
from diffusion_lib.recording import Recording, Thinning, checked_steps, length_of
from diffusion_lib.sampling import Step

FORMATS: dict[str, dict[str, Any]] = {  # suffix -> Pillow's options; lossless except for GIF's 256 colours a frame
    ".gif": dict(format="GIF", loop=0),
    ".png": dict(format="PNG", loop=0),
    ".apng": dict(format="PNG", loop=0),
    ".webp": dict(format="WEBP", loop=0, lossless=True),
}
STILLS: dict[str, dict[str, Any]] = {  # the same for one picture; lossless except for JPEG and GIF
    ".png": dict(format="PNG"),
    ".webp": dict(format="WEBP", lossless=True),
    ".jpg": dict(format="JPEG", quality=95),
    ".jpeg": dict(format="JPEG", quality=95),
    ".gif": dict(format="GIF"),
    ".bmp": dict(format="BMP"),
    ".tif": dict(format="TIFF"),
    ".tiff": dict(format="TIFF"),
}
WHATS = ("xt", "x0_hat")
MAX_SIDE = 16_383  # pixels, what WebP allows
MAX_FPS = 50  # what GIF holds and browsers play: 0.02 s for each frame


def save_grid(path: str | os.PathLike, images: Any, columns: int = 8, padding: int = 1, scale: int = 1) -> Path:
    """Writes images (B, C, H, W) in [-1, 1] as one picture, made by `image_grid`. The path's suffix is the format: .png, .webp, .jpg, …

    images: in any form that `as_images` takes. scale: each pixel becomes scale x scale pixels. Returns the path.
    """
    path = _path(path, STILLS, "save_grid(path, images)")
    images, columns, padding = as_images(images), whole("columns", columns), whole("padding", padding, low=0)
    picture = _enlarged(draw(images, columns, padding).numpy(), whole("scale", scale))
    return _write(path, [picture], STILLS[path.suffix.lower()])


def save_gif(
    path: str | os.PathLike,
    film: Any,
    *,
    what: str = "xt",
    frames: int | None = 50,
    fps: float = 10,
    scale: int = 1,
    columns: int = 8,
) -> Path:
    """Writes a chain as an animation. The path's suffix is the format: .gif, .png or .apng (animated PNG), or .webp.

    film: a sampler's steps, what `widgets.record` returns, or any frames (F, B, C, H, W) in [-1, 1]. what: "xt" or "x0_hat", for a
    chain. frames: how many to write, evenly spaced and always with the last one; None for all, which are then held in memory with one
    byte for each colour. fps: frames per second, at most 50. scale: each pixel becomes scale x scale pixels. columns: images in a row.

    Returns the path. Raises `ValueError` for a chain that has no steps left, and for frames that are not finite.
    """
    path, scale, columns = _path(path, FORMATS, "save_gif(path, film)"), whole("scale", scale), whole("columns", columns)
    if isinstance(fps, bool) or not isinstance(fps, int | float | np.number) or not 0 < fps <= MAX_FPS:
        raise ValueError(f"fps={fps!r}; expected frames per second, above 0 and at most {MAX_FPS}")
    length, walk = _walk(film, what)
    thinning: Thinning[np.ndarray] = Thinning(sys.maxsize if frames is None else frames, length)
    for t, images in walk:
        thinning.add(t, draw(images, columns).numpy())
    pictures = [_enlarged(picture, scale) for _, _, picture in thinning.chosen()]
    return _write(path, pictures, FORMATS[path.suffix.lower()] | dict(save_all=True, duration=round(1000 / fps)))


def save_frames(folder: str | os.PathLike, film: Any, *, what: str = "xt", scale: int = 1, columns: int = 8) -> list[Path]:
    """Writes every frame of a chain into a folder as it comes: 0000.png, 0001.png and so on. Returns these paths.

    film, what, scale, columns: as in `save_gif`. Creates the folder if needed. Raises `ValueError` if it already holds numbered pictures.
    """
    folder = _path(folder, (), "save_frames(folder, film)")
    scale, columns = whole("scale", scale), whole("columns", columns)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder for the separate pictures: save_gif writes one file")
    if any(folder.glob("[0-9][0-9][0-9][0-9]*.png")):
        raise ValueError(f"{folder} already holds numbered pictures; expected a new or empty folder, so that two films are not mixed")
    paths: list[Path] = []
    for _, images in _walk(film, what)[1]:
        paths.append(_write(folder / f"{len(paths):04d}.png", [_enlarged(draw(images, columns).numpy(), scale)], dict(format="PNG")))
    return paths


def _walk(film: Any, what: str) -> tuple[int, Iterator[tuple[int, Tensor]]]:
    """The number of frames (0 if unknown), and for each frame, as it comes, its timestep and its images (B, C, H, W)."""
    if what not in WHATS:
        raise unknown_name("what", what, WHATS)
    if isinstance(film, Recording):
        return len(film.t), zip(film.t, _looked_at(getattr(film, what), what), strict=True)
    first = film[0] if isinstance(film, list | tuple) and film else None
    if isinstance(film, Tensor | np.ndarray) or isinstance(first, Tensor | np.ndarray):
        frames = _looked_at(film, "film")
        return len(frames), zip(range(len(frames))[::-1], frames, strict=True)
    return length_of(film) if isinstance(film, Iterable) else 0, _of_steps(film, what)


def _of_steps(steps: Iterable[Step], what: str) -> Iterator[tuple[int, Tensor]]:
    for step in checked_steps(steps, "the chain"):
        check_channels(step.xt.shape[1], what)
        yield step.t, getattr(step, what)


def _looked_at(frames: Any, name: str) -> Tensor:
    frames = as_frames(frames, name)
    if frames.ndim != 5:
        remedy = f": {name}[:, None] makes each image a frame" if frames.ndim == 4 else ""
        raise ValueError(f"{name} has shape {tuple(frames.shape)}; expected frames (F, B, C, H, W){remedy}")
    check_frames(frames, name, lambda i: f"frame {i}")
    return frames


def _path(path: Any, suffixes: Collection[str], call: str) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path is a {type(path).__name__}; expected a path, as in {call}")
    path = as_path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"{path} ends in {path.suffix!r}; expected one of {', '.join(suffixes)}, which determines the format")
    return path


def _enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    height, width = (n * scale for n in picture.shape[:2])
    if max(height, width) > MAX_SIDE:
        raise ValueError(
            f"the picture would be {height}x{width} pixels; expected at most {MAX_SIDE} a side: a smaller scale, or fewer or smaller images"
        )
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def _write(path: Path, pictures: Sequence[np.ndarray], options: dict[str, Any]) -> Path:
    """Pictures uint8 (H, W, 3), the frames of one file."""
    grey = all((picture == picture[..., :1]).all() for picture in pictures)
    images = (Image.fromarray(picture[..., 0] if grey else picture) for picture in pictures)
    if options["format"] == "GIF" and not grey:  # Pillow's default takes a second for a frame of noise, and is hardly better
        images = (image.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE) for image in images)
    first, *others = images
    buffer = io.BytesIO()
    first.save(buffer, **options | (dict(append_images=others) if others else {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole({path: buffer.getvalue()})
    return path
