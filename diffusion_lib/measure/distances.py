"""How good are the samples? Distances between sets of images, in the features of a small classifier, with intervals.

The distances are those of Heusel et al. 2017 (arXiv:1706.08500; FID) and Binkowski et al. 2018 (arXiv:1801.01401; KID), computed by
torchmetrics; the features are our own classifier's (`load_classifier`), not Inception's. So the numbers compare samplers and
models here with one another, and with real images against real images, but not with any published score.
"""

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lib.measure.classifier import Classifier


class Estimate(NamedTuple):
    """A measured value with its 95% confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@torch.no_grad()
def features(classifier: Classifier, images: Tensor, batch_size: int = 512) -> Tensor:
    """The classifier's features of images (N, C, H, W) in [-1, 1]: float64 (N, num_features), on the CPU."""
    return torch.cat([classifier.features(part).cpu() for part in images.split(batch_size)]).double()


def frechet_distance(real: Tensor, fake: Tensor, y: Tensor | None = None, resamples: int = 40, seed: int = 0) -> Estimate:
    """Fréchet distance of the normal distributions fitted to two sets of features (N, F) and (M, F); 0 is the best.

    It falls as N and M grow, also between sets of one distribution: compare at equal sizes only. The interval is the value
    plus and minus 1.96 standard deviations over bootstrap resamples of both sets.

    y: LongTensor (N,), the class of row i of both sets (M = N), where the number of images of each class was chosen rather
    than drawn. Resamples then keep those numbers, or chance in the classes, of which there was none, would widen the interval.
    With k images in each class that leaves out 1 / k of the variance.

    Raises `ValueError` for features that do not fit or are not finite.
    """
    _check_features(real, fake, at_least=2)
    _check_parts(resamples=resamples)
    if y is not None and not len(y) == len(real) == len(fake):
        raise ValueError(f"y has {len(y)} classes for {len(real)} real and {len(fake)} fake features; expected one for each row of both")
    value = _frechet(real, fake)
    random = torch.Generator().manual_seed(seed)
    draws = [_frechet(_resample(real, y, random), _resample(fake, y, random)) for _ in range(resamples)]
    return _around(value, torch.tensor(draws).std().item(), lowest=0.0)


def kernel_distance(real: Tensor, fake: Tensor, blocks: int = 10) -> Estimate:
    """Squared maximum mean discrepancy under the cubic kernel, of two sets of features (N, F) and (M, F); about 0 is the best.

    Unbiased at every N and M, so it may be slightly negative. The mean over `blocks` disjoint parts of the sets; the interval
    is that mean plus and minus 1.96 standard errors. Raises like `frechet_distance`.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    _check_parts(blocks=blocks)
    _check_features(real, fake, at_least=2 * blocks)
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


def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> Estimate:
    """The fraction of the images (N, C, H, W) read correctly: those that the classifier reads as the label (N,) asked for. In 0..1, with
    Wilson's interval."""
    n, z = len(images), 1.96
    p = (classifier.read(images) == labels).double().mean().item()
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


def _check_features(real: Tensor, fake: Tensor, at_least: int) -> None:
    for name, x in (("real", real), ("fake", fake)):
        if x.ndim != 2 or x.shape[1] != real.shape[1] or len(x) < at_least:
            raise ValueError(
                f"{name} features have shape {tuple(x.shape)}; expected (N, {real.shape[-1]}) with N >= {at_least}: see features()"
            )
        if not x.isfinite().all():
            raise ValueError(f"{name} features are not all finite; expected those of finite images: see how they were made")


def _check_parts(**parts: int) -> None:
    for name, n in parts.items():
        if n < 2:
            raise ValueError(f"{name}={n}; expected 2 or more: with fewer there is no interval")
