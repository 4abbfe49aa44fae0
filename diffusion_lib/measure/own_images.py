"""Features for the user's own images, and a comparison of a model's samples with them.

A distance detects only what its features respond to. A classifier's features respond to what distinguishes the classes: a missing
class, halves that do not belong together. Features of a random network, normalised on the images, respond to appearance: blur, noise,
contrast, edges, low variety. On a folder without classes they did better than features trained on the images (docs/quality.md).
"""

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from diffusion_lib.checks import NO_LABEL, check_finite, whole
from diffusion_lib.data import ImageDataset, LabelledImages, cache_folder, check_images_and_labels, image_shape_of, num_classes_of, part_of
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.devices import torchs_defaults
from diffusion_lib.measure.classifier import SMALLEST, Classifier, FeatureNetwork, train_classifier
from diffusion_lib.measure.distances import Estimate, features, frechet_distance, kernel_distance
from diffusion_lib.sampling import sample

FEWEST = 40  # images: the kernel distance's blocks need 20 in each half
BATCH = 64


class Comparison(NamedTuple):
    """Samples and other real images, each compared with the same real images; all sets have n images."""

    n: int
    samples: tuple[Estimate, Estimate]  # Fréchet distance, kernel distance
    real: tuple[Estimate, Estimate]


@torchs_defaults()
def train_features(
    dataset: LabelledImages,
    *,
    width: int = 16,
    num_features: int = 32,
    steps: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> FeatureNetwork:
    """A feature network for images like these, in eval mode, on the CPU.

    If every image has one of two or more classes, trains a `Classifier` on them for `steps` updates (None: 20 epochs, within 100..2000
    updates). Otherwise, or with steps=0, returns a random network with batch norms fitted to the images. width: channels of the first
    level. Raises `ValueError` for fewer than two images, and for images that are too small or not finite floats.
    """
    if not hasattr(dataset, "images") or not hasattr(dataset, "labels"):
        raise ValueError(
            f"dataset is a {type(dataset).__name__}; expected one with images and labels: see ImageDataset, or ImageDataset.without_classes"
        )
    check_images_and_labels(dataset.images, dataset.labels)
    check_finite(dataset.images)
    channels, *sides = image_shape_of(dataset)
    n, classes = len(dataset.images), num_classes_of(dataset) or 0
    if n < 2 or min(sides) < SMALLEST:
        raise ValueError(f"{n} images of {sides[0]}x{sides[1]}; expected two or more, of at least {SMALLEST}x{SMALLEST}")
    width, num_features = whole("width", width), whole("num_features", num_features)
    steps = min(2000, max(100, math.ceil(20 * n / BATCH))) if steps is None else whole("steps", steps, low=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(whole("seed", seed, low=0))
        if steps == 0 or classes < 2 or (dataset.labels == NO_LABEL).any():
            return _normalised(FeatureNetwork(channels, width, num_features), dataset.images)
        classifier = Classifier(channels, classes, width, num_features)
    training = train_classifier(classifier, dataset, steps, BATCH, seed=seed)
    for _ in tqdm(training, total=steps, unit="step", desc="feature network", disable=not progress):
        pass
    return classifier.eval()


@torch.no_grad()
def _normalised(network: FeatureNetwork, images: Tensor) -> FeatureNetwork:
    """The network with batch norms fitted to these images; a few thousand of them are enough."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches, not a running mean
    network.train()
    for part in images[:4096].split(512):
        network(part)
    return network.eval()


def feature_network(dataset: LabelledImages, directory: str | Path | None = None) -> tuple[FeatureNetwork, Path]:
    """The network in `directory`, or a new one for the dataset, saved there; and its directory.

    directory: None for a place in the cache folder that depends on the dataset's images and labels, so that models of the same images
    are compared in the same features.
    """
    place = Path(directory) if directory is not None else cache_folder() / "features" / _digest(dataset)
    if place.is_dir() and any(place.iterdir()):
        network = FeatureNetwork.from_pretrained(place)
        if network.config["in_channels"] != dataset.images.shape[1]:
            raise ValueError(
                f"the feature network in {place} takes images of {network.config['in_channels']} channels, but the dataset's have "
                f"{dataset.images.shape[1]}; expected the same number: use another folder"
            )
        return network, place
    network = train_features(dataset)
    network.save_pretrained(place)
    return network, place


def _digest(dataset: LabelledImages) -> str:
    content = hashlib.sha256(repr((tuple(dataset.images.shape), dataset.images.dtype)).encode())
    for part in (dataset.images, dataset.labels):
        content.update(part.cpu().numpy().tobytes())
    return content.hexdigest()[:16]


@torchs_defaults()
def split_in_halves(dataset: LabelledImages, seed: int = 0) -> tuple[ImageDataset, ImageDataset]:
    """Two random disjoint halves. Raises `ValueError` if there are too few images to compare."""
    half = len(dataset.images) // 2
    if half < FEWEST // 2:
        raise ValueError(f"{len(dataset.images)} images; expected {FEWEST} or more: one half is compared with the other")
    order = torch.randperm(len(dataset.images), generator=torch.Generator().manual_seed(seed))
    return part_of(dataset, order[:half]), part_of(dataset, order[half : 2 * half])


@torchs_defaults()
def compare(
    model: Denoiser,
    network: FeatureNetwork,
    other: LabelledImages,
    reference: LabelledImages,
    *,
    steps: int = 50,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Comparison:
    """Compares samples of the model with the reference images, and the `other` real images with them too. There are as many samples as
    reference images, of the same classes or captions if the model has them."""
    y: Any = None
    if getattr(model, "words", None):
        y = list(getattr(reference, "captions", ())) or None
    elif model.num_classes is not None and model.num_classes == num_classes_of(reference):
        y = reference.labels
    model, samples = model.to(device), []
    for start in tqdm(range(0, n := len(reference.images), BATCH), unit="batch", desc="samples"):
        of_batch = None if y is None else y[start : start + BATCH]
        samples.append(sample(model, min(BATCH, n - start), steps=steps, y=of_batch, seed=seed, first=start).cpu())
    fake, real, target = (features(network, images) for images in (torch.cat(samples), other, reference))
    of_samples, of_real = ((frechet_distance(target, each), kernel_distance(target, each)) for each in (fake, real))
    return Comparison(n, of_samples, of_real)
