"""MNIST, Fashion-MNIST and CIFAR-10, which torchvision downloads once."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusion_lib.data.dataset import ImageDataset, to_float
from diffusion_lib.data.download import FAILURES, cache_folder, download

CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10"}  # classes of torchvision.datasets


def load_torchvision(name: str, *, train: bool = True, n: int | None = None, root: str | Path | None = None) -> ImageDataset:
    """One of `CLASSES`, from its files in `root` or the cache folder; downloads them if they are missing."""
    from torchvision import datasets

    kind, folder = getattr(datasets, CLASSES[name]), Path(root).expanduser() if root is not None else cache_folder()
    source = _from_files(kind, name, folder, train)
    if source is None:
        try:
            download(
                name,
                folder,
                fetch=lambda fresh: _download_from_mirrors(kind, fresh),
                is_there=lambda: _from_files(kind, name, folder, train=True) is not None,
            )
        except FAILURES as error:
            raise FileNotFoundError(
                f"{name} is not in {folder} and could not be downloaded there ({str(error) or type(error).__name__}); expected a network, "
                "or its files in that folder (root=… names another). The dataset 'glyphs' needs neither."
            ) from error
        source = _from_files(kind, name, folder, train)
    if source is None:
        raise FileNotFoundError(f"{name} was downloaded to {folder} but is missing; expected a folder that no other program cleans up")
    pixels = torch.as_tensor(np.asarray(source.data))[:n]
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)  # (N, H, W) or (N, H, W, 3)
    return ImageDataset(to_float(pixels), torch.as_tensor(source.targets).long()[:n], tuple(source.classes))


def _from_files(kind: type, name: str, folder: Path, train: bool) -> Any:
    """Torchvision's dataset, or None if its files are missing."""
    try:
        source = kind(str(folder), train=train)
        if len(source.data) != len(source.targets):
            raise ValueError(f"{len(source.data)} images and {len(source.targets)} labels")
        return source
    except Exception as error:  # torchvision's errors for damaged files do not name the file
        if isinstance(error, RuntimeError) and str(error).startswith("Dataset not found"):
            return None
        raise ValueError(
            f"the files of {name} in {folder} are damaged ({str(error) or type(error).__name__}); expected intact files: delete them to "
            "download them again. The dataset 'glyphs' needs no files."
        ) from error


def _download_from_mirrors(kind: type, folder: str) -> None:
    """Torchvision's download. Torchvision tries the next mirror only if one is unreachable; this tries it after any failure."""
    mirrors = list(getattr(kind, "mirrors", [])) or [None]
    for number, mirror in enumerate(mirrors, 1):
        try:
            type(kind.__name__, (kind,), {} if mirror is None else dict(mirrors=[mirror]))(folder, download=True)
            return
        except FAILURES:
            if number == len(mirrors):
                raise
