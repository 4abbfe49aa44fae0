"""Small convolutional networks. Quality scores compare their features; a classifier also reads generated characters.

`python -m diffusion_lib.measure --dataset glyphs --out DIR` trains a classifier: see train_classifier.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lib.data import LabelledImages
from diffusion_lib.devices import torchs_defaults
from diffusion_lib.saving import Saveable, built
from diffusion_lib.training.batches import batch_indices

SMALLEST = 8  # the smallest height and width: three levels halve them


class FeatureNetwork(Saveable):
    """images (B, C, H, W) in [-1, 1] -> features (B, num_features). Three levels of convolutions, then the mean over positions."""

    def __init__(self, in_channels: int = 1, width: int = 32, num_features: int = 64):
        super().__init__()
        self.config: dict[str, Any] = dict(in_channels=in_channels, width=width, num_features=num_features)
        self.num_features = num_features
        widths = [in_channels, width, 2 * width, 4 * width]
        self.levels = nn.ModuleList([level(a, b) for a, b in pairwise(widths)])
        self.to_features = nn.Linear(widths[-1], num_features)

    def features(self, images: Tensor) -> Tensor:
        """The activations of the last hidden layer: (B, num_features)."""
        channels = self.config["in_channels"]
        if images.ndim != 4 or images.shape[1] != channels or not images.is_floating_point() or min(images.shape[2:]) < SMALLEST:
            raise ValueError(
                f"images have shape {tuple(images.shape)} and dtype {images.dtype}; expected floats (B, {channels}, H, W), "
                f"H and W at least {SMALLEST}"
            )
        h = images
        for one in self.levels:
            h = one(h)
        return F.silu(self.to_features(h.mean(dim=(2, 3))))

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)

    def to_files(self) -> tuple[dict, dict[str, Tensor]]:
        """Config and weights for `save_pretrained`."""
        return self.config, self.state_dict()

    @classmethod
    def from_files(cls, config: dict, tensors: dict[str, Tensor]) -> "FeatureNetwork":
        """The network that `to_files` described, in eval mode; a classifier if it was one."""
        kind: Any = Classifier if "num_classes" in config else AttributeClassifier if "attributes" in config else FeatureNetwork
        kind = cls if issubclass(cls, kind) else kind  # a subclass of a reader's own
        if not issubclass(kind, cls):
            raise ValueError(f"it holds a {kind.__name__}; expected a {cls.__name__}")
        return built(lambda: kind(**config), tensors).eval()


class Classifier(FeatureNetwork):
    """images (B, C, H, W) in [-1, 1] -> logits (B, num_classes)."""

    def __init__(self, in_channels: int = 1, num_classes: int = 36, width: int = 32, num_features: int = 64):
        super().__init__(in_channels, width, num_features)
        self.config["num_classes"] = num_classes
        self.to_logits = nn.Linear(num_features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.to_logits(self.features(images))

    @torch.no_grad()
    def read(self, images: Tensor, batch_size: int = 512) -> Tensor:
        """The most probable class of each image: LongTensor (B,). Raises `ValueError` for images that are not finite."""
        check_readable(images)
        return torch.cat([self(part).argmax(dim=1) for part in images.split(batch_size)])


class AttributeClassifier(FeatureNetwork):
    """images (B, C, H, W) in [-1, 1] -> logits (B, number of values of all attributes): for each attribute, the logits of its values.

    attributes: the names of each one's values, such as `diffusion_lib.data.postcards.ATTRIBUTES`.
    """

    def __init__(self, attributes: Mapping[str, Sequence[str]], in_channels: int = 3, width: int = 32, num_features: int = 128):
        super().__init__(in_channels, width, num_features)
        self.attributes = {name: tuple(values) for name, values in attributes.items()}
        self.config = self.config | dict(attributes={name: list(values) for name, values in attributes.items()})
        self.to_logits = nn.Linear(num_features, sum(map(len, self.attributes.values())))

    def forward(self, images: Tensor) -> Tensor:
        return self.to_logits(self.features(images))

    def split(self, logits: Tensor) -> dict[str, Tensor]:
        """The logits (B, number of values) of each attribute."""
        return dict(zip(self.attributes, logits.split([len(values) for values in self.attributes.values()], dim=1), strict=True))

    @torch.no_grad()
    def read(self, images: Tensor, batch_size: int = 512) -> dict[str, Tensor]:
        """The most probable value of each attribute: LongTensors (B,). Raises `ValueError` for images that are not finite."""
        check_readable(images)
        logits = torch.cat([self(part) for part in images.split(batch_size)])
        return {name: each.argmax(dim=1) for name, each in self.split(logits).items()}


def check_readable(images: Tensor) -> None:
    """Raises `ValueError` for images that are not finite."""
    if not images.isfinite().all():
        raise ValueError("images contain NaN or infinity; expected floats in [-1, 1]: check how they were made")


def cross_entropy(classifier: Classifier | AttributeClassifier, dataset: LabelledImages, index: Tensor) -> Tensor:
    """The loss () of a batch; of an `AttributeClassifier` the sum over attributes."""
    logits = classifier(dataset.images[index])
    if isinstance(classifier, Classifier):
        return F.cross_entropy(logits, dataset.labels[index], label_smoothing=0.05)
    truth: Any = getattr(dataset, "attributes")  # noqa: B009 - not every dataset has any
    return torch.stack(
        [F.cross_entropy(each, truth[name][index], label_smoothing=0.02) for name, each in classifier.split(logits).items()]
    ).sum()


def train_classifier(
    classifier: Classifier | AttributeClassifier,
    dataset: LabelledImages,
    steps: int = 2000,
    batch_size: int = 128,
    lr: float = 3e-3,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Trains `classifier` in place and yields the loss () of each batch after its update."""
    classifier.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=lr, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    classifier.train()
    for step in range(1, steps + 1):
        with torchs_defaults():
            index = batch_indices(len(dataset.images), batch_size, step, seed)
            loss = cross_entropy(classifier, dataset, index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        yield loss.detach()


def level(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions with batch norm, then max pooling, which halves height and width."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.SiLU()),
        *(nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.SiLU()),
        nn.MaxPool2d(2),
    )
