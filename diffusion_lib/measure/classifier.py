"""A small convolutional classifier: it reads generated characters, and its features are what the quality scores compare.

`python -m diffusion_lib.measure --dataset glyphs --out DIR` trains it: see train_classifier.py.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_lib.saving import Saveable, built


class Classifier(Saveable):
    """images (B, C, 28, 28) in [-1, 1] -> logits (B, num_classes). Three levels of convolutions, then the mean over positions."""

    def __init__(self, in_channels: int = 1, num_classes: int = 36, width: int = 32, num_features: int = 64):
        super().__init__()
        self.config = dict(in_channels=in_channels, num_classes=num_classes, width=width, num_features=num_features)
        self.num_features = num_features
        widths = [in_channels, width, 2 * width, 4 * width]
        self.levels = nn.ModuleList([level(a, b) for a, b in pairwise(widths)])
        self.to_features = nn.Linear(widths[-1], num_features)
        self.to_logits = nn.Linear(num_features, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """What the last hidden layer makes of the images: (B, num_features)."""
        if images.ndim != 4 or images.shape[1] != self.config["in_channels"] or not images.is_floating_point():
            raise ValueError(
                f"images have shape {tuple(images.shape)} and dtype {images.dtype}; expected floats (B, {self.config['in_channels']}, H, W)"
            )
        h = images
        for one in self.levels:
            h = one(h)
        return F.silu(self.to_features(h.mean(dim=(2, 3))))

    def forward(self, images: Tensor) -> Tensor:
        return self.to_logits(self.features(images))

    @torch.no_grad()
    def read(self, images: Tensor, batch_size: int = 512) -> Tensor:
        """The class that each image most looks like: LongTensor (B,). Raises `ValueError` for images that are not finite."""
        if not images.isfinite().all():
            raise ValueError("images hold numbers that are not finite; expected floats in [-1, 1]: see how they were made")
        return torch.cat([self(part).argmax(dim=1) for part in images.split(batch_size)])

    def to_files(self) -> tuple[dict, dict[str, Tensor]]:
        """Config and weights for `save_pretrained`."""
        return self.config, self.state_dict()

    @classmethod
    def from_files(cls, config: dict, tensors: dict[str, Tensor]) -> "Classifier":
        """The classifier of `to_files`, in eval mode."""
        return built(lambda: cls(**config), tensors).eval()


def level(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two convolutions with batch norm, then half the height and width."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.SiLU()),
        *(nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.SiLU()),
        nn.MaxPool2d(2),
    )
