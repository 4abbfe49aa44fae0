"""Features for the reader's own images, and a model's samples compared with them.

What the features notice is what the distance notices. A classifier's notice what makes the classes: a class that is missing, halves
that do not belong together. Those of a random network, normalised on the images, notice appearance: blur, noise, contrast, edges, and too
little variety; on a folder without classes they did better than features trained on the images alone (docs/quality.md has both).
"""

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from diffusion_lib.checks import NO_LABEL, check_finite, whole
from diffusion_lib.data import ImageDataset, LabelledImages, cache_folder, check_images_and_labels, image_shape_of, num_classes_of
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.devices import torchs_defaults
from diffusion_lib.measure.classifier import SMALLEST, Classifier, FeatureNetwork, train_classifier
from diffusion_lib.measure.distances import Estimate, features, frechet_distance, kernel_distance
from diffusion_lib.sampling import sample

FEWEST = 40  # images to compare: 20 in each half, which is what the kernel distance's blocks need
BATCH = 64


class Comparison(NamedTuple):
    """Samples, and other real images, each compared with the same real images; all sets of n."""

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

    Where every image has one of two or more classes, a `Classifier` that is trained on them, for `steps` updates (None: 20 epochs, but
    100..2000 updates); otherwise, or with steps=0, a random network, whose batch norms are set to what they meet on the images. width:
    channels of its first level. Raises `ValueError` for fewer than two images, and for images that are no finite floats or too small.
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
        raise ValueError(f"{n} images of {sides[0]}x{sides[1]}; expected two or more, of {SMALLEST}x{SMALLEST} at least")
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
    """The network with the means and variances of these images in its batch norms; thousands of images say as much as all."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over the batches, not a running one
    network.train()
    for part in images[:4096].split(512):
        network(part)
    return network.eval()


def feature_network(dataset: LabelledImages, directory: str | Path | None = None) -> tuple[FeatureNetwork, Path]:
    """The network in `directory`, or one trained on the dataset and then saved there, and where that is.

    directory: None for a place in the cache folder that depends on the dataset's images and labels, so that models of the same images
    are compared in the same features.
    """
    place = Path(directory) if directory is not None else cache_folder() / "features" / _digest(dataset)
    if place.is_dir() and any(place.iterdir()):
        network = FeatureNetwork.from_pretrained(place)
        if network.config["in_channels"] != dataset.images.shape[1]:
            raise ValueError(
                f"the feature network in {place} is for images of {network.config['in_channels']} channels, the dataset's have "
                f"{dataset.images.shape[1]}; expected the same: name another folder"
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
    """Two sets of as many images each, drawn at random. Raises `ValueError` if there are too few to compare."""
    half = len(dataset.images) // 2
    if half < FEWEST // 2:
        raise ValueError(f"{len(dataset.images)} images; expected {FEWEST} or more: half of them are compared with the other half")
    order = torch.randperm(len(dataset.images), generator=torch.Generator().manual_seed(seed))
    names = getattr(dataset, "class_names", ())
    first, second = (ImageDataset(dataset.images[part], dataset.labels[part], names) for part in (order[:half], order[half : 2 * half]))
    return first, second


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
    """As many samples of the model as there are reference images, of their classes if it knows them, and the `other` real images, each
    compared with the reference."""
    y = reference.labels if model.num_classes is not None and model.num_classes == num_classes_of(reference) else None
    model, samples = model.to(device), []
    for start in tqdm(range(0, n := len(reference.images), BATCH), unit="batch", desc="samples"):
        of_batch = None if y is None else y[start : start + BATCH]
        samples.append(sample(model, min(BATCH, n - start), steps=steps, y=of_batch, seed=seed, first=start).cpu())
    fake, real, target = (features(network, images) for images in (torch.cat(samples), other, reference))
    of_samples, of_real = ((frechet_distance(target, each), kernel_distance(target, each)) for each in (fake, real))
    return Comparison(n, of_samples, of_real)
