"""The datasets by name. To add one, write a loader and enter it in `DATASETS`; everything else reads that table.

    def load_stripes(*, n=None, seed=0) -> ImageDataset: ...

    DATASETS["stripes"] = load_stripes

A loader's parameters are the options of `load_dataset` that apply to it; other options are refused. n, if given, is 1 or more: the
loader returns that many images, or all if there are fewer. size is an integer or a pair (height, width). A loader without `train` has
no test set; one with `flip` adds the mirror images itself. A name that ends in ":PATH" matches all names with that prefix; the loader
receives the rest of the name as its first argument.
"""

import inspect
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from diffusion_lib.checks import MAX_SIDE, whole
from diffusion_lib.data.dataset import ImageDataset, with_mirror_images
from diffusion_lib.data.folder import load_folder
from diffusion_lib.data.glyphs import load_glyphs
from diffusion_lib.data.photo import load_photo
from diffusion_lib.data.postcards import load_postcards
from diffusion_lib.data.torchvision_sets import load_torchvision
from diffusion_lib.devices import torchs_defaults
from diffusion_lib.errors import unknown_name

DATASETS: dict[str, Callable[..., ImageDataset]] = {
    "glyphs": load_glyphs,
    "postcards": load_postcards,
    "photo": load_photo,
    "mnist": partial(load_torchvision, "mnist"),
    "fashion_mnist": partial(load_torchvision, "fashion_mnist"),
    "cifar10": partial(load_torchvision, "cifar10"),
    "folder:PATH": load_folder,
}

OPTIONS = ("train", "n", "size", "seed", "root", "channels", "skip_broken", "held_out")


def dataset_names() -> str:
    """The names for help texts: "glyphs, photo, … or folder:PATH"."""
    *others, last = DATASETS
    return f"{', '.join(others)} or {last}"


def load_dataset(
    name: str | os.PathLike,
    train: bool = True,
    *,
    n: int | None = None,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    channels: int | None = None,
    flip: bool = False,
    skip_broken: bool = False,
    held_out: bool = False,
) -> ImageDataset:
    """The dataset called `name`, a key of `diffusion_lib.data.DATASETS`: "glyphs", "photo", "mnist", …, or "folder:PATH". A `Path` means
    a folder.

    train: the training set, or the test set (photo and folder have only one set). n: number of images, None for all (glyphs and
    postcards: 20,000 for training, 4,000 for testing). size: height and width, one number or a pair, for photo (default 64), folder
    (default 32) and postcards (default 32, square): photo and folder images are resized to cover it and cropped to the centre, and
    transparent pixels become white; postcards are drawn in this size. channels: 3 (RGB) or 1 (grey), for
    photo and folder. flip: appends the mirror image of each image. skip_broken: for a folder, skips unreadable files with a warning
    instead of raising. held_out: postcards of the combinations that occur in no training and no test set. seed: for glyphs and
    postcards. root: the folder for torchvision's datasets instead of the cache folder,
    $DIFFUSION_LIB_CACHE or ~/.cache/diffusion_lib.

    A folder's sub-folders are its classes. A warning lists skipped files; `repr` of the dataset, or `diffusion_lib.data.describe`,
    shows its contents. Raises `ValueError` for options that the dataset does not take.
    """
    loader, path = _find(name, root)
    size = None if size is None else _as_size(size)
    n = None if n is None else whole("n", n, of=", or None for all")
    seed = whole("seed", seed, 0, 2**62)
    if channels is not None and whole("channels", channels) not in (1, 3):
        raise ValueError(f"channels={channels}; expected 3 (RGB) or 1 (grey)")
    for option, switch in dict(train=train, flip=flip, skip_broken=skip_broken, held_out=held_out).items():
        if not isinstance(switch, bool | np.bool_):
            raise ValueError(f"{option}={switch!r}; expected True or False")
    if root is not None and (not isinstance(root, str | os.PathLike) or not os.fspath(root)):
        raise ValueError(f"root={root!r}; expected a folder, or None for the cache folder")
    options: dict[str, Any] = dict(
        n=n,
        size=size,
        seed=seed or None,
        root=root,
        channels=channels and int(channels),
        skip_broken=bool(skip_broken) or None,
        held_out=bool(held_out) or None,
    )
    given = {option: value for option, value in options.items() if value is not None}
    known = _options_of(loader)
    for option, value in given.items():
        if known is not None and option not in known:
            raise _not_taken(option, value, name, known)
    if known is None or "train" in known:
        given["train"] = bool(train)
    elif not train:
        raise ValueError(f"train=False with {name!r}, which has no test set; expected train=True")
    with torchs_defaults():  # the same images whatever the session's defaults
        if flip and known is not None and "flip" in known:  # it allocates room for them
            return loader(*path, **given, flip=True)
        dataset = loader(*path, **given)
        return with_mirror_images(dataset) if flip else dataset


def takes(name: str | os.PathLike, option: str) -> bool:
    """Whether the dataset called `name` takes this option of `load_dataset`. Raises `ValueError` if there is no such dataset."""
    known = _options_of(_find(name, None)[0])
    return known is None or option in known


def _find(name: str | os.PathLike, root: str | Path | None) -> tuple[Callable[..., ImageDataset], list[str]]:
    """The loader, and its first argument, the path, if there is one."""
    if isinstance(name, os.PathLike):
        return DATASETS["folder:PATH"], [os.fspath(name)]
    if not isinstance(name, str):
        raise ValueError(f"name={name!r}; expected a dataset's name, {dataset_names()}, or a Path")
    kind, colon, path = name.partition(":")
    loader = DATASETS.get(f"{kind}:PATH" if colon else name)
    if loader is not None:
        return loader, [path] if colon else []
    error = unknown_name("dataset", name, DATASETS)
    if name == "folder" and root is not None:
        raise ValueError(f"{error} The path is part of the name: 'folder:{root}'.")
    if any(separator in name for separator in "/\\") or os.path.isdir(name):
        raise ValueError(f"{error} A folder of images is written 'folder:{name}'.")
    same = [known for known in DATASETS if _letters(known) == _letters(name)]
    raise ValueError(f"{error} Did you mean {same[0]!r}?") if same and "Did you mean" not in str(error) else error


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _as_size(size: Any) -> int | tuple[int, int]:
    """An integer, or a pair (height, width), as Python ints."""
    if isinstance(size, list | tuple | np.ndarray | Tensor) and np.ndim(size) == 1:
        if len(size) != 2:
            raise ValueError(f"size={size!r}; expected one integer, or two: (height, width)")
        height, width = (whole(f"size[{i}]", side, 1, MAX_SIDE) for i, side in enumerate(size))
        return height, width
    return whole("size", size, 1, MAX_SIDE, of=", or a pair of them: (height, width)")


def size_from_text(text: str) -> int | tuple[int, int]:
    """ "32" as 32, "32x48" as (32, 48): height and width. Raises `ValueError` for other strings."""
    sides = re.fullmatch(r"\s*(\d+)\s*(?:[x×,]\s*(\d+)\s*)?", text)
    if sides is None:
        raise ValueError(f"size={text!r}; expected an integer, or HEIGHTxWIDTH, as in 32x48")
    height, width = sides.groups()
    return _as_size(int(height) if width is None else (int(height), int(width)))


def _options_of(loader: Callable) -> set[str] | None:
    """The names of the options that a loader takes; None if it takes any."""
    parameters = inspect.signature(loader).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name for parameter in parameters}


def _not_taken(option: str, value: object, name: str | os.PathLike, known: set[str]) -> ValueError:
    takers = [other for other, loader in DATASETS.items() if option in (_options_of(loader) or ())]
    ours = ", ".join(each for each in OPTIONS if each in known) or "none"
    return ValueError(
        f"{option}={value!r} does not apply to the dataset {str(name)!r}; it takes: {ours} "
        f"({option} applies to {', '.join(takers) or 'none'})"
    )
