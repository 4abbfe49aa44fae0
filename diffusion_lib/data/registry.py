"""The datasets by name. To add one, write its loader and give it a line in `DATASETS`: all else looks here.

    def load_stripes(*, n=None, seed=0, **options) -> ImageDataset: ...

    DATASETS["stripes"] = load_stripes

Every loader is called with the options of `load_dataset`, train, n, size, seed and root, and takes those that mean something to it.
n, if it is given, is 1 or more: the loader gives so many images, or all if there are fewer. A name that ends in ":PATH" stands for
all that begin like it; the loader gets the rest of the name first.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from diffusion_lib.data.dataset import ImageDataset
from diffusion_lib.data.folder import load_folder
from diffusion_lib.data.glyphs import load_glyphs
from diffusion_lib.data.photo import load_photo
from diffusion_lib.data.torchvision_sets import load_torchvision
from diffusion_lib.errors import unknown_name

DATASETS: dict[str, Callable[..., ImageDataset]] = {
    "glyphs": load_glyphs,
    "photo": load_photo,
    "mnist": partial(load_torchvision, "mnist"),
    "fashion_mnist": partial(load_torchvision, "fashion_mnist"),
    "cifar10": partial(load_torchvision, "cifar10"),
    "folder:PATH": load_folder,
}


def dataset_names() -> str:
    """The names in words, for the help of a command: "glyphs, photo, … or folder:PATH"."""
    *others, last = DATASETS
    return f"{', '.join(others)} or {last}"


def load_dataset(
    name: str, train: bool = True, *, n: int | None = None, size: int | None = None, seed: int = 0, root: str | Path | None = None
) -> ImageDataset:
    """The dataset called `name`, one of `diffusion_lib.data.DATASETS`: "glyphs", "photo", "mnist", …, or "folder:PATH".

    train: the training images, or others to test on (photo and folder have but one set). n: how many, None for all (glyphs:
    20,000 to train on, 4,000 to test). size: height and width for photo (default 64) and folder (default 32: shorter side
    resized, centre cropped; what is transparent is white). seed: of the glyphs. root: where torchvision's datasets are kept
    instead of the cache folder, $DIFFUSION_LIB_CACHE or ~/.cache/diffusion_lib.
    """
    for option, value in (("n", n), ("size", size)):
        if value is not None and value < 1:
            raise ValueError(f"{option}={value}; expected 1 or more, or None for the default")
    kind, colon, path = name.partition(":")
    loader = DATASETS.get(f"{kind}:PATH" if colon else name)
    if loader is None:
        raise unknown_name("dataset", name, DATASETS)
    return loader(*([path] if colon else []), train=train, n=n, size=size, seed=seed, root=root)
