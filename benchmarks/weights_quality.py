"""How good are the samples of the models that ship? Beside real images, against the same held-out ones. README.md shows the result.

    python benchmarks/weights_quality.py --root FOLDER       the table that ships (8 minutes on two CPU cores)

FOLDER holds torchvision's MNIST, or gets it (a download of 11 MB). Each model is asked for as many images of each class as there are
among the held-out images that it is compared with, none of which it was trained on. The row "real" compares other held-out images
with the same ones: no model can be expected to do better.
"""

import argparse
import json
import time
from pathlib import Path

import common
import torch
from torch import Tensor

import diffusion_lib as dl
from diffusion_lib.data import LabelledImages
from diffusion_lib.measure.results import FOLDER

MODELS = ("glyphs", "mnist")


def held_out(name: str, n: int, seed: int, root: Path | None) -> tuple[dl.ImageDataset, dl.ImageDataset]:
    """Twice n images that no model was trained on, drawn without replacement."""
    test = dl.load_dataset(name, train=False, n=2 * n) if name == "glyphs" else dl.load_dataset(name, train=False, root=root)
    if len(test) < 2 * n:
        raise ValueError(f"n={n}; expected {len(test) // 2} or less, half of the held-out images of {name}")
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    return tuple(dl.ImageDataset(*test[part], test.class_names) for part in (order[:n], order[n : 2 * n]))


def scores(name: str, images: Tensor, labels: Tensor, reference: LabelledImages) -> dict:
    """What a classifier of the dataset `name` makes of images (n, C, H, W) that show, or should show, the labels (n,)."""
    classifier = dl.load_classifier(name)
    real, fake = (dl.measure.features(classifier, each) for each in (reference.images, images))
    estimates = dict(
        accuracy=dl.measure.accuracy(classifier, images, labels),
        frechet_distance=dl.measure.frechet_distance(real, fake, resamples=100),
    )
    return {key: estimate._asdict() for key, estimate in estimates.items()}


def row_of(name: str, options: argparse.Namespace) -> dict:
    model = dl.load_pretrained(name).to(options.device)
    reference, other = held_out(name, options.n, options.seed, options.root)
    start = time.perf_counter()
    images = dl.sample(model, options.n, steps=options.steps, y=reference.labels, seed=options.seed, batch_size=250).cpu()
    return dict(
        model=name,
        sha256=common.digest(name),
        parameters=sum(p.numel() for p in model.parameters()),
        seconds_of_sampling=round(time.perf_counter() - start, 1),
        samples=scores(name, images, reference.labels, reference),
        real=scores(name, other.images, other.labels, reference),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--root", type=Path, help="where torchvision's MNIST is; default: the cache folder")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--n", type=int, default=5000, help="samples of each model, and held-out images beside them (default 5000)")
    parser.add_argument("--steps", type=int, default=50, help="of the DDIM chain (default 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=FOLDER / "weights_quality.json")
    options = parser.parse_args(arguments)

    results = dict(
        **common.origin(__file__, options.device),
        settings=dict(n=options.n, sampler="ddim", steps=options.steps, eta=0.0, seed=options.seed, labels="those of the held-out images"),
        rows=[],
    )
    if options.out.exists():
        before = json.loads(options.out.read_text(encoding="utf-8"))
        if all(before[key] == results[key] for key in ("settings", "torch")):
            results["rows"] = [row for row in before["rows"] if row["model"] not in options.models]  # of a run for other models
    for name in options.models:
        row = row_of(name, options)
        results["rows"] = sorted([*results["rows"], row], key=lambda row: row["model"])
        for what in ("samples", "real"):
            cells = "   ".join(f"{key} {dl.measure.Estimate(**value)}" for key, value in row[what].items())
            print(f"{name:8}{what:9}{cells}", flush=True)
    common.write(options.out, results)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
