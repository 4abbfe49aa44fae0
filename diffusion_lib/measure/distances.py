"""How good are the samples? Distances between sets of images, in the features of a small classifier, with intervals.

The distances are those of Heusel et al. 2017 (arXiv:1706.08500; FID) and Binkowski et al. 2018 (arXiv:1801.01401; KID), computed by
torchmetrics; the features are a small network's (`load_classifier`, `train_features`, or any other), not Inception's. So the numbers
compare samplers and models here with one another, and with real images against real images, but not with any published score.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from diffusion_lib.checks import as_labels, check_finite, check_images, whole
from diffusion_lib.data import LabelledImages
from diffusion_lib.devices import torchs_defaults
from diffusion_lib.measure.classifier import Classifier, FeatureNetwork


class Estimate(NamedTuple):
    """A measured value with its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


Images = Tensor | LabelledImages | Iterable  # (N, C, H, W) in [-1, 1], a dataset, or batches as a generator or a DataLoader yields them
Network = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> features (B, F)


@torch.no_grad()
@torchs_defaults()
def features(network: Network, images: Images, batch_size: int = 512, *, progress: bool = False) -> Tensor:
    """The network's features of images (N, C, H, W) in [-1, 1]: float64 (N, F), on the CPU.

    network: a `FeatureNetwork`, such as a `Classifier`, or any other function from images (B, C, H, W) to (B, F). A module is called in
    eval mode, where its weights are. images: a tensor, a dataset, or batches (of images, or of images and labels) from an iterator.
    batch_size: of the network's calls. Raises `ValueError` for images that are not finite floats, and for other outputs than (B, F).
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
                raise ValueError(f"the network makes {made} of {len(part)} images; expected features ({len(part)}, F), a row for each")
            if not out.isfinite().all():
                raise ValueError(
                    "the network makes features that are not finite of finite images; expected finite ones: look at its weights"
                )
            found.append(out.double().cpu())
            bar.update(len(part))
    if not found:
        raise ValueError("images are none at all; expected two or more: a generator can be walked through only once")
    return torch.cat(found)


@torchs_defaults()
def frechet_distance(
    real: Images, fake: Images, y: Tensor | None = None, resamples: int = 40, seed: int = 0, *, network: Network | None = None
) -> Estimate:
    """Fréchet distance of the normal distributions fitted to two sets of features (N, F) and (M, F); 0 is the best.

    It falls as N and M grow, also between sets of one distribution: compare at equal sizes only. The interval is the value
    plus and minus 1.96 standard deviations over bootstrap resamples of both sets.

    y: LongTensor (N,), the class of row i of both sets (M = N), where the number of images of each class was chosen rather
    than drawn. Resamples then keep those numbers, or chance in the classes, of which there was none, would widen the interval.
    With k images in each class that leaves out 1 / k of the variance.

    network: real and fake are images rather than features, and this makes features of them: see `features`.

    Raises `ValueError` for features that do not fit or are not finite, and for real ones that are all the same. Warns where there are
    no more images than features: the covariances are singular then, and the value is mostly bias.
    """
    real, fake = _both(real, fake, network, at_least=2)
    resamples = _check_parts(resamples=resamples)
    seed = whole("seed", seed, low=0)
    if y is not None and not len(y) == len(real) == len(fake):
        raise ValueError(f"y has {len(y)} classes for {len(real)} real and {len(fake)} fake features; expected one for each row of both")
    if (fewest := min(len(real), len(fake))) <= real.shape[1]:
        warnings.warn(
            f"{fewest} images, {real.shape[1]} features: such a Fréchet distance is mostly bias; expected several times as many images: "
            "use more, or see kernel_distance",
            stacklevel=3,  # torchs_defaults is between
        )
    value = _frechet(real, fake)
    random = torch.Generator().manual_seed(seed)
    draws = [_frechet(_resample(real, y, random), _resample(fake, y, random)) for _ in range(resamples)]
    return _around(value, torch.tensor(draws).std().item(), lowest=0.0)


@torchs_defaults()
def kernel_distance(real: Images, fake: Images, blocks: int = 10, *, network: Network | None = None) -> Estimate:
    """Squared maximum mean discrepancy under the cubic kernel, of two sets of features (N, F) and (M, F); about 0 is the best.

    Unbiased at every N and M, so it may be slightly negative. The mean over `blocks` disjoint parts of the sets; the interval
    is that mean plus and minus 1.96 standard errors. network: as in `frechet_distance`, and what is raised, too.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    blocks = _check_parts(blocks=blocks)
    real, fake = _both(real, fake, network, at_least=2 * blocks)
    size = min(len(real), len(fake)) // blocks
    values = []
    for i in range(blocks):
        part = slice(i * size, (i + 1) * size)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*will save all extracted features")  # a block's, a moment
            metric = KernelInceptionDistance(_AsIs(real.shape[1]), subsets=1, subset_size=size)
        metric.update(real[part], real=True)
        metric.update(fake[part], real=False)
        with torch.random.fork_rng(devices=[]):  # it draws the order of its subset, which is all there is
            values.append(metric.compute()[0])
    of_blocks = torch.stack(values)
    return _around(of_blocks.mean().item(), of_blocks.std().item() / math.sqrt(blocks))


@torchs_defaults()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> Estimate:
    """The fraction of the images (N, C, H, W) read correctly: those that the classifier reads as the label (N,) asked for. In 0..1, with
    Wilson's interval."""
    n, z = len(images), 1.96
    p = (classifier.read(images) == as_labels(labels, n).to(images.device)).double().mean().item()
    # (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)                                        Wilson 1927
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((centre + side) / (1 + z**2 / n) for side in (-half, half))
    # at p = 0 and p = 1 an end is p itself, but for rounding
    return Estimate(p, max(0.0, min(p, low)), min(1.0, max(p, high)))


class _AsIs(nn.Module):
    """The feature network that torchmetrics asks for, where the features are computed already."""

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
    # rounding can leave -1e-12 between a set and itself
    return max(0.0, metric.compute().item())


def _resample(x: Tensor, y: Tensor | None, random: torch.Generator) -> Tensor:
    """As many rows of x (N, F), drawn with replacement; of each class in y (N,) as many as it has."""
    strata = [x] if y is None else [x[y == k] for k in y.unique()]
    return torch.cat([rows[torch.randint(len(rows), (len(rows),), generator=random)] for rows in strata])


def _around(value: float, deviation: float, lowest: float = -math.inf) -> Estimate:
    return Estimate(value, max(lowest, value - 1.96 * deviation), value + 1.96 * deviation)


@contextmanager
def _in_eval_mode(network: object) -> Iterator[Tensor | None]:
    """Has the network, if it is a module, in eval mode for as long as the block runs: in training, features depend on the batch. Gives
    one of its weights, which says where and in which dtype it computes; None without any."""
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
        part = each[0] if isinstance(each, tuple | list) and each else each  # of images and labels
        check_images(images=part)
        yield from part.split(batch_size)


def _both(real: Images, fake: Images, network: Network | None, at_least: int) -> tuple[Tensor, Tensor]:
    """Features of both sets, checked."""
    if network is not None:
        shapes = [tuple(images.shape[1:]) for x in (real, fake) if isinstance(images := getattr(x, "images", x), Tensor)]
        if len(set(shapes)) > 1:
            raise ValueError(f"fake images are of shape {shapes[1]}, real ones of {shapes[0]}; expected the same (C, H, W)")
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
                "or give network=… with images"
            )
        if not x.is_floating_point():
            raise ValueError(f"{name} features have dtype {x.dtype}; expected floats: see features()")
        if not x.isfinite().all():
            raise ValueError(f"{name} features are not all finite; expected those of finite images: see how they were made")
    if (real - real[:1]).abs().max() <= 1e-5 * real.abs().max():
        raise ValueError(f"the {len(real)} real features are all the same; expected those of different images")


def _check_parts(**parts: int) -> int:
    ((name, n),) = parts.items()
    n = whole(name, n, low=0)
    if n < 2:
        raise ValueError(f"{name}={n}; expected 2 or more: with fewer there is no interval")
    return n
