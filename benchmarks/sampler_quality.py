"""DDPM and DDIM on the same noise: quality, seconds and network calls against the number of steps. Notebook 04 shows the result.

    python benchmarks/sampler_quality.py                     the table that ships (25 minutes on two CPU cores)
    python benchmarks/sampler_quality.py --n 72 --steps 10 20 --out /tmp/sampler_quality.json

The glyphs model that ships is asked for the 36 characters in turn. Its images are compared with as many held-out glyphs, which
it never saw, and of which it takes as many of each character; the row "real" compares other held-out glyphs, chosen in the same
way, with the same ones. The equal numbers matter: with 360 images drawn at random, which characters happen to be drawn moves
the Fréchet distance more than any sampler does. There is no kernel distance in the table: it is unbiased for images drawn
independently, and these are not.
"""

import time
from pathlib import Path

import common
import torch
from torch import Tensor

import diffusion_lib as dl
from diffusion_lib.measure.results import FOLDER
from diffusion_lib.sampling import SAMPLERS

HELD_OUT = 4_000
MODEL = "glyphs"


class Scores:
    """The quality of images of the classes y (n,), measured against held-out images of the same classes."""

    def __init__(self, y: Tensor):
        held_out = dl.load_dataset(MODEL, train=False, n=HELD_OUT)
        reference, other = choose(held_out.labels, y)
        self.classifier, self.y, self.other = dl.load_classifier(MODEL), y, held_out.images[other]
        self.reference = dl.measure.features(self.classifier, held_out.images[reference])

    def __call__(self, images: Tensor) -> dict:
        """The scores of images (n, C, H, W) that were asked to show the classes y, each with its interval."""
        features = dl.measure.features(self.classifier, images)
        estimates = dict(
            accuracy=dl.measure.accuracy(self.classifier, images, self.y),
            frechet_distance=dl.measure.frechet_distance(self.reference, features, self.y, resamples=200),
        )
        return {name: estimate._asdict() for name, estimate in estimates.items()}


def choose(labels: Tensor, y: Tensor) -> tuple[list[int], list[int]]:
    """Two disjoint lists of indices into `labels`, each of which spells y."""
    unused = {k: (labels == k).nonzero().flatten().tolist() for k in y.unique().tolist()}
    for k, count in zip(*(x.tolist() for x in y.unique(return_counts=True)), strict=True):
        if len(unused[k]) < 2 * count:
            raise ValueError(f"class {k} has {len(unused[k])} held-out images; expected {2 * count} or more: use a smaller --n")
    return tuple([unused[k].pop(0) for k in y.tolist()] for _ in range(2))


def measure(n: int, steps: list[int], seed: int, batch_size: int, device: str) -> dict:
    """All that the results file holds. Prints a row of the table as soon as it is known."""
    started = time.perf_counter()
    model = dl.load_pretrained(MODEL).to(device)
    y = torch.arange(n) % model.num_classes
    scores = Scores(y)
    dl.sample(model, min(n, batch_size), steps=2, y=y[:batch_size])  # not timed: the first calls are slower

    print(f"{'':7}{'steps':>6}{'seconds':>9}   {'accuracy':26}{'Fréchet distance':26}")
    real = scores(scores.other)
    print_row("real", "", "", real)
    runs = []
    for sampler in SAMPLERS:
        for count in steps:
            start = time.perf_counter()
            images = dl.sample(model, n, sampler=sampler, steps=count, y=y, seed=seed, batch_size=batch_size).cpu()
            seconds = time.perf_counter() - start
            calls = count * -(-n // batch_size)  # one call a step and batch
            result = scores(images)
            runs.append(dict(sampler=sampler, steps=count, network_calls=calls, seconds=round(seconds, 3)) | result)
            print_row(sampler, count, f"{seconds:.1f}", result)
    return dict(
        **common.origin(__file__, device),
        settings=dict(
            n=n,
            steps=steps,
            seed=seed,
            batch_size=batch_size,
            eta=0.0,
            variance="small",
            clip=True,
            labels="arange(n) % 36",
            held_out_labels="the same",
        ),
        model=dict(name=MODEL, sha256=common.digest(MODEL)),
        seconds_in_all=round(time.perf_counter() - started),
        real=real,
        runs=runs,
    )


def print_row(name: str, steps: int | str, seconds: str, scores: dict) -> None:
    cells = "".join(f"{dl.measure.Estimate(**score)!s:26}" for score in scores.values())
    print(f"{name:7}{steps:>6}{seconds:>9}   {cells}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--n", type=int, default=360, help="images for each sampler and number of steps, 72 to 1500 (default 360)")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50, 100, 250, 1000])
    parser.add_argument("--seed", type=int, default=0, help="of the noise, the same for every run (default 0)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=FOLDER / "sampler_quality.json")
    options = parser.parse_args(arguments)
    if not 72 <= options.n <= 1500:
        parser.error(f"--n {options.n}; expected 72 (two of each class, for the intervals) to 1500 (what the held-out images last for)")
    if outside := [s for s in options.steps if not 1 <= s <= 1000]:
        parser.error(f"--steps {outside[0]}; expected integers, 1 to 1000")
    results = measure(options.n, options.steps, options.seed, options.batch_size, options.device)
    common.write(options.out, results)
    print(f"{results['seconds_in_all']} s in all; written to {options.out}")


if __name__ == "__main__":
    main()
