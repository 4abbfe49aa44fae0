"""Training of the classifier: `python -m diffusion_lib.measure --dataset glyphs --out DIR`."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from diffusion_lib.data import LabelledImages, dataset_names, image_shape_of, load_dataset, num_classes_of
from diffusion_lib.measure.classifier import Classifier
from diffusion_lib.measure.distances import accuracy
from diffusion_lib.training.batches import batch_indices


def train_classifier(
    classifier: Classifier, dataset: LabelledImages, steps: int = 2000, batch_size: int = 128, lr: float = 3e-3, seed: int = 0
) -> Iterator[Tensor]:
    """Trains `classifier` in place, yielding the loss () of each batch after its update."""
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=lr, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    classifier.train()
    for step in range(1, steps + 1):
        index = batch_indices(len(dataset.images), batch_size, step, seed)
        loss = F.cross_entropy(classifier(dataset.images[index]), dataset.labels[index], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        yield loss.detach()


def main(arguments: list[str] | None = None) -> None:
    """Trains the classifier on a labelled dataset of 1-channel or RGB images and prints the fraction of its test images that it reads
    correctly."""
    from tqdm import tqdm

    parser = argparse.ArgumentParser(prog="python -m diffusion_lib.measure", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--dataset", default="glyphs", help=f"{dataset_names()}; default: %(default)s")
    parser.add_argument("--root", type=Path, help="where torchvision's datasets are kept; default: the cache folder")
    parser.add_argument("--images", type=int, help="how many images to train on; default: all")
    for name, default in dict(steps=2000, batch_size=128, lr=3e-3, seed=0).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help="default: %(default)s")
    options = parser.parse_args(arguments)

    data = load_dataset(options.dataset, n=options.images, root=options.root)
    num_classes = num_classes_of(data)
    if num_classes is None:
        parser.error(f"--dataset {options.dataset}: its images have no classes; expected a dataset with classes")
    held_out = load_dataset(options.dataset, train=False, root=options.root)
    torch.manual_seed(options.seed)  # the classifier's first weights
    classifier = Classifier(image_shape_of(data)[0], num_classes)
    training = train_classifier(classifier, data, options.steps, options.batch_size, options.lr, options.seed)
    for _ in tqdm(training, total=options.steps, unit="step"):
        pass
    classifier.eval().save_pretrained(options.out)
    fraction = accuracy(classifier, held_out.images, held_out.labels).value
    print(f"reads {fraction:.2%} of {len(held_out.images)} test images correctly; saved to {options.out}")
