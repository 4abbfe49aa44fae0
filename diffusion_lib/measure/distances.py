"""Sample quality: distances between sets of images, in the features of a small network, with intervals.

The distances are those of Heusel et al. 2017 (arXiv:1706.08500; FID) and Binkowski et al. 2018 (arXiv:1801.01401; KID), computed by
torchmetrics. The features come from a small network (`load_classifier`, `train_features`, or any other), not from Inception. So scores
can be compared with each other, and with the score of real images against real images, but not with published scores.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from diffusion_lib.checks import as_labels, check_finite, check_images, whole
from diffusion_lib.data import LabelledImages
from diffusion_lib.devices import torchs_defaults
from diffusion_lib.measure.classifier import AttributeClassifier, Classifier, FeatureNetwork


class Estimate(NamedTuple):
    """A measured value with its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


Images = Tensor | LabelledImages | Iterable  # (N, C, H, W) in [-1, 1], a dataset, or batches from a generator or a DataLoader
Network = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> features (B, F)


@torch.no_grad()
@torchs_defaults()
def features(network: Network, images: Images, batch_size: int = 512, *, progress: bool = False) -> Tensor:
    """The network's features of images (N, C, H, W) in [-1, 1]: float64 (N, F), on the CPU.

    network: a `FeatureNetwork`, such as a `Classifier`, or any other function from images (B, C, H, W) to (B, F). A module is called in
    eval mode, on the device of its weights. images: a tensor, a dataset, or an iterator over batches (of images, or of images and
    labels). batch_size: images per call. Raises `ValueError` for images that are not finite floats, and for outputs other than (B, F).
    """
    if not callable(network):
        raise ValueError(f"network is a {type(network).__name__}; expected a function from images (B, C, H, W) to features (B, F)")
    extract = network.features if isinstance(network, FeatureNetwork) else network
    found = []
    with _in_eval_mode(network) as home, tqdm(unit="image", desc="features", disable=not progress) as bar:
        for part in _batches(images, whole("batch_size", batch_size)):
            check_finite(part)
            out = extract(part if home is None else part.to(home.device, home.dtype))
            if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != len(part):
                made = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
                raise ValueError(f"the network returns {made} for {len(part)} images; expected ({len(part)}, F), one row per image")
            if not out.isfinite().all():
                raise ValueError(
                    "the network returns features that are not finite for finite images; expected finite features: check its weights"
                )
            found.append(out.double().cpu())
            bar.update(len(part))
    if not found:
        raise ValueError("there are no images; expected two or more: a generator can be used only once")
    return torch.cat(found)


@torchs_defaults()
def frechet_distance(
    real: Images, fake: Images, y: Tensor | None = None, resamples: int = 40, seed: int = 0, *, network: Network | None = None
) -> Estimate:
    """Fréchet distance between the normal distributions fitted to two sets of features (N, F) and (M, F); 0 is best.

    It falls as N and M grow, even between sets from one distribution: compare only sets of equal size. The interval is the value
    plus or minus 1.96 standard deviations over bootstrap resamples of both sets.

    y: LongTensor (N,), the class of row i of both sets (M = N), if the number of images per class was fixed rather than random.
    Resamples then keep these numbers; otherwise random class counts, which did not occur, would widen the interval. With k images
    per class, this omits 1 / k of the variance.

    network: treats real and fake as images and computes their features with this network: see `features`.

    Raises `ValueError` for features that do not match, are not finite, or (for the real set) are all equal. Warns if there are no more
    images than features: the covariances are then singular, and the value is mostly bias.
    """
    real, fake = _both(real, fake, network, at_least=2)
    resamples = _check_parts(resamples=resamples)
    seed = whole("seed", seed, low=0)
    if y is not None and not len(y) == len(real) == len(fake):
        raise ValueError(f"y has {len(y)} classes for {len(real)} real and {len(fake)} fake features; expected one per row of both")
    if (fewest := min(len(real), len(fake))) <= real.shape[1]:
        warnings.warn(
            f"{fewest} images and {real.shape[1]} features: this Fréchet distance is mostly bias; expected several times as many images "
            "as features: use more, or see kernel_distance",
            stacklevel=3,  # torchs_defaults is between
        )
    value = _frechet(real, fake)
    random = torch.Generator().manual_seed(seed)
    draws = [_frechet(_resample(real, y, random), _resample(fake, y, random)) for _ in range(resamples)]
    return _around(value, torch.tensor(draws).std().item(), lowest=0.0)


@torchs_defaults()
def kernel_distance(real: Images, fake: Images, blocks: int = 10, *, network: Network | None = None) -> Estimate:
    """Squared maximum mean discrepancy with a cubic kernel, between two sets of features (N, F) and (M, F); about 0 is best.

    Unbiased for every N and M, so it may be slightly negative. The value is the mean over `blocks` disjoint parts of the sets; the
    interval is that mean plus or minus 1.96 standard errors. network and errors: as in `frechet_distance`.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    blocks = _check_parts(blocks=blocks)
    real, fake = _both(real, fake, network, at_least=2 * blocks)
    size = min(len(real), len(fake)) // blocks
    values = []
    for i in range(blocks):
        part = slice(i * size, (i + 1) * size)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*will save all extracted features")  # only one block's, briefly
            metric = KernelInceptionDistance(_AsIs(real.shape[1]), subsets=1, subset_size=size)
        metric.update(real[part], real=True)
        metric.update(fake[part], real=False)
        with torch.random.fork_rng(devices=[]):  # it shuffles its subset, which is the whole block
            values.append(metric.compute()[0])
    of_blocks = torch.stack(values)
    return _around(of_blocks.mean().item(), of_blocks.std().item() / math.sqrt(blocks))


@torchs_defaults()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> Estimate:
    """The fraction of images (N, C, H, W) that the classifier reads as the requested labels (N,), in 0..1, with Wilson's interval."""
    return fraction(classifier.read(images) == as_labels(labels, len(images)).to(images.device))


@torchs_defaults()
def attribute_accuracy(classifier: AttributeClassifier, images: Tensor, attributes: Mapping[str, Tensor]) -> dict[str, Estimate]:
    """For each attribute, the fraction of images (N, C, H, W) in which the classifier reads the given value (N,), with Wilson's interval;
    and "all", the fraction of images in which it reads every attribute so."""
    found = classifier.read(images)
    right = {name: found[name] == values.to(images.device) for name, values in attributes.items()}
    return {name: fraction(each) for name, each in right.items()} | dict(all=fraction(torch.stack([*right.values()]).all(dim=0)))


def fraction(right: Tensor) -> Estimate:
    """The fraction of True in a bool tensor (N,), with Wilson's interval."""
    n, z = len(right), 1.96
    p = right.double().mean().item()
    # (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)                                        Wilson 1927
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((centre + side) / (1 + z**2 / n) for side in (-half, half))
    # at p = 0 and p = 1 one end is p itself, up to rounding
    return Estimate(p, max(0.0, min(p, low)), min(1.0, max(p, high)))


class _AsIs(nn.Module):
    """The feature network that torchmetrics requires, for features that are already computed."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _frechet(real: Tensor, fake: Tensor) -> float:
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(_AsIs(real.shape[1]))
    metric.update(real, real=True)
    metric.update(fake, real=False)
    # rounding can give -1e-12 between a set and itself
    return max(0.0, metric.compute().item())


def _resample(x: Tensor, y: Tensor | None, random: torch.Generator) -> Tensor:
    """N rows of x (N, F), drawn with replacement; with y (N,), within each class."""
    strata = [x] if y is None else [x[y == k] for k in y.unique()]
    return torch.cat([rows[torch.randint(len(rows), (len(rows),), generator=random)] for rows in strata])


def _around(value: float, deviation: float, lowest: float = -math.inf) -> Estimate:
    return Estimate(value, max(lowest, value - 1.96 * deviation), value + 1.96 * deviation)


@contextmanager
def _in_eval_mode(network: object) -> Iterator[Tensor | None]:
    """Puts a module into eval mode within the block: in training mode, features depend on the batch. Yields one of its weights, whose
    device and dtype are the network's; None if it has none."""
    if not isinstance(network, nn.Module):
        yield None
        return
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield next((p for p in network.parameters() if p.is_floating_point()), None)
    finally:
        for module, mode in modes.items():
            module.training = mode


def _batches(images: Any, batch_size: int) -> Iterator[Tensor]:
    images = getattr(images, "images", images)
    in_parts = isinstance(images, Iterable) and not isinstance(images, Tensor | np.ndarray | str)
    for each in images if in_parts else [images]:
        part = each[0] if isinstance(each, tuple | list) and each else each  # a batch of images and labels
        check_images(images=part)
        yield from part.split(batch_size)


def _both(real: Images, fake: Images, network: Network | None, at_least: int) -> tuple[Tensor, Tensor]:
    """Features of both sets, checked."""
    if network is not None:
        shapes = [tuple(images.shape[1:]) for x in (real, fake) if isinstance(images := getattr(x, "images", x), Tensor)]
        if len(set(shapes)) > 1:
            raise ValueError(f"fake images have shape {shapes[1]}, real ones {shapes[0]}; expected the same (C, H, W)")
        real, fake = features(network, real), features(network, fake)
    for name, x in (("real", real), ("fake", fake)):
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} is a {type(x).__name__}; expected features (N, F), or images and a network: network=…")
    assert isinstance(real, Tensor)
    assert isinstance(fake, Tensor)
    _check_features(real, fake, at_least)
    return real.double().cpu(), fake.double().cpu()


def _check_features(real: Tensor, fake: Tensor, at_least: int) -> None:
    for name, x in (("real", real), ("fake", fake)):
        if x.ndim != 2 or x.shape[1] != real.shape[1] or len(x) < at_least:
            raise ValueError(
                f"{name} features have shape {tuple(x.shape)}; expected (N, {real.shape[-1]}) with N >= {at_least}: see features(), "
                "or pass network=… with images"
            )
        if not x.is_floating_point():
            raise ValueError(f"{name} features have dtype {x.dtype}; expected floats: see features()")
        if not x.isfinite().all():
            raise ValueError(f"{name} features contain NaN or infinity; expected features of finite images: check how they were made")
    if (real - real[:1]).abs().max() <= 1e-5 * real.abs().max():
        raise ValueError(f"the {len(real)} real features are all equal; expected features of different images")


def _check_parts(**parts: int) -> int:
    ((name, n),) = parts.items()
    n = whole(name, n, low=0)
    if n < 2:
        raise ValueError(f"{name}={n}; expected 2 or more: with fewer there is no interval")
    return n
