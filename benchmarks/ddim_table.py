"""Table 1 of the DDIM paper in miniature: quality against the number of steps, from DDIM to DDPM with the large variance.

    python benchmarks/ddim_table.py --precision bfloat16 --compile --steps 2 3 5 10 20       the table that ships
    python benchmarks/ddim_table.py --steps 5 10 --n 500 --out /tmp/table.json

The first takes some 20 minutes on two CPU cores with AVX512-BF16; the default is all numbers of steps up to 1000, which takes hours.

The rows are eta = 0, 0.2, 0.5, 1 (DDPM with the small variance) and DDPM with the large variance; the columns are numbers of steps. A
caption states a thing and its colour, "a red house", and leaves everything else to the sampler. All cells share their captions and the
noise that they begin with, and no guidance is used. The scores of a cell:

    frechet_distance   to real postcards of one thing, in the features of the classifier that ships
    as_asked           the fraction of samples in which the classifier reads the thing and its colour as asked
    contrast           the samples' root mean square deviation from the mean real picture, as a fraction of the real pictures'
    grain              the mean absolute difference of horizontal neighbours

The row "real" measures other real pictures of one thing.

A run that is stopped goes on where it was: what the statistics need of every part of a cell is kept in the folder --work, and a cell
that the results file already holds, of the same weights and settings, is not drawn again: a second run can add columns.
Song et al. 2021 (arXiv:2010.02502), table 1.
"""

import argparse
import json
import time
from pathlib import Path

import common
import torch
from torch import Tensor

import diffusion_lib as dl
from diffusion_lib.files import write_whole
from diffusion_lib.measure.results import FOLDER
from diffusion_lib.pretrained import load_model

ROWS = {
    "eta=0": (dl.ddim_steps, dict(eta=0.0)),
    "eta=0.2": (dl.ddim_steps, dict(eta=0.2)),
    "eta=0.5": (dl.ddim_steps, dict(eta=0.5)),
    "eta=1": (dl.ddim_steps, dict(eta=1.0)),
    "large variance": (dl.ddpm_steps, dict(variance="large")),
}
COLUMNS = (2, 3, 5, 10, 20, 50, 100, 250, 1000)
SCORES = ("frechet_distance", "as_asked", "contrast", "grain")
PART, BATCH = 250, 125  # samples between two savings, and in a call of the network
SHOWN = 50  # captions that the results file holds


def of_one_thing(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Pictures (n, 3, 32, 32) with exactly one thing, that thing and its colour (n,), and captions that state these two."""
    cards = dl.load_dataset("postcards", train=False, n=3 * n + 50, seed=seed)  # more than half of all have one thing
    names, attributes = cards.attribute_names, cards.attributes
    chosen = ((attributes["thing"] > 0) & (attributes["second_thing"] == 0)).nonzero().flatten()[:n]
    thing, colour = attributes["thing"][chosen], attributes["colour"][chosen]
    captions = [f"a {names['colour'][c]} {names['thing'][k]}" for c, k in zip(colour.tolist(), thing.tolist(), strict=True)]
    return cards.images[chosen], thing, colour, captions


class Judge:
    """Measures samples of captions 0..n-1 beside real pictures."""

    def __init__(self, n: int, seed: int):
        self.classifier = dl.load_classifier("postcards")
        other, self.thing, self.colour, self.captions = of_one_thing(n, 2 * seed)
        real, *_ = of_one_thing(n, 2 * seed + 1)
        self.mean, self.reference = real.mean(dim=0), dl.measure.features(self.classifier, real)
        self.spread = (real - self.mean).square().mean(dim=(1, 2, 3)).double()
        self.real = self.summary(self.observe(other, slice(0, n)))

    def observe(self, images: Tensor, part: slice) -> dict[str, Tensor]:
        """What the statistics need of samples of the captions in `part`."""
        read = self.classifier.read(images)
        return dict(
            features=dl.measure.features(self.classifier, images).float(),
            right=(read["thing"] == self.thing[part]) & (read["colour"] == self.colour[part]),
            spread=(images - self.mean).square().mean(dim=(1, 2, 3)),
            grain=images.diff(dim=3).abs().mean(dim=(1, 2, 3)),
        )

    def summary(self, seen: dict[str, Tensor]) -> dict:
        """A cell of the table, from what was observed of all its samples."""
        n = len(seen["grain"])
        distance = dl.measure.frechet_distance(self.reference[:n], seen["features"].double(), resamples=200)
        return dict(
            n=n,
            frechet_distance=distance._asdict(),
            as_asked=dl.measure.fraction(seen["right"])._asdict(),
            contrast=root_of_ratio(seen["spread"].double(), self.spread[:n])._asdict(),
            grain=mean_of(seen["grain"].double())._asdict(),
        )


def mean_of(x: Tensor) -> dl.measure.Estimate:
    """The mean of x (n,), with its 95% interval."""
    mean, half = x.mean().item(), 1.96 * (x.std() / len(x) ** 0.5).item()
    return dl.measure.Estimate(mean, mean - half, mean + half)


def root_of_ratio(a: Tensor, b: Tensor) -> dl.measure.Estimate:
    """sqrt(mean of a (n,) / mean of b (m,)), with its 95% interval by the delta method."""
    value = (a.mean() / b.mean()).sqrt().item()
    # the relative variance of a root is a quarter of that of its square
    half = 1.96 * value / 2 * sum((x.var() / len(x) / x.mean() ** 2).item() for x in (a, b)) ** 0.5
    return dl.measure.Estimate(value, value - half, value + half)


def cell(model: dl.Denoiser, judge: Judge, row: str, steps: int, n: int, work: Path, options: argparse.Namespace) -> dict:
    """Draws what is still missing of a cell, and measures it."""
    sampler, choices = ROWS[row]
    parts = []
    for start in range(0, n, PART):
        part = slice(start, min(start + PART, n))
        place = work / f"{row.replace(' ', '-')}_{steps}_{part.start}-{part.stop}.pt"
        if not place.exists():
            y = list(judge.captions[part])
            settings = dict(sampler=sampler, steps=steps, seed=options.seed, first=start, batch_size=BATCH) | choices
            seen = judge.observe(common.sampled(options, model, len(y), y=y, **settings), part)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole({place: lambda path, seen=seen: torch.save(seen, path)})
        parts.append(torch.load(place))
    return judge.summary({name: torch.cat([each[name] for each in parts]) for name in parts[0]})


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="postcards", help="name of a shipped model, or a folder (default: postcards)")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--steps", type=int, nargs="+", default=list(COLUMNS))
    parser.add_argument("--n", type=int, default=5000, help="samples in each cell (default 5000)")
    parser.add_argument("--n-long", type=int, default=5000, help="samples in cells of more than 100 steps (default 5000)")
    parser.add_argument("--seed", type=int, default=0)
    common.add_arithmetic(parser)
    parser.add_argument("--work", type=Path, default=Path("runs/ddim_table"), help="folder for what a stopped run goes on from")
    parser.add_argument("--out", type=Path, default=FOLDER / "ddim_table.json")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    model = load_model(options.model)
    sha256 = common.digest_of(model.network.state_dict())
    model, judge = common.prepared(model, options), Judge(options.n, options.seed)
    kinds = dict(seed=options.seed, clip=True, scale=1.0, precision=options.precision)
    work = options.work / f"{sha256[:12]}_seed{options.seed}_{options.precision}"  # others have other parts
    results = dict(
        **common.origin(__file__, options.device),
        model=dict(name=options.model, sha256=sha256),
        settings=dict(n=options.n, n_long=options.n_long, **kinds),
        captions=list(judge.captions[:SHOWN]),  # for readers, who draw these again
        real=judge.real,
        cells=[],
    )
    before = json.loads(options.out.read_text()) if options.out.exists() else {}
    if before.get("model", {}).get("sha256") == sha256 and before["settings"] | kinds == before["settings"]:
        results["cells"] = [found for found in before["cells"] if found["n"] == samples_in(found["steps"], options)]
    print(f"{'':16}{'steps':>6}   " + "".join(f"{score:26}" for score in SCORES))
    print_row("real", "", judge.real)
    for steps in options.steps:
        for row in options.rows:
            found = next((each for each in results["cells"] if (each["row"], each["steps"]) == (row, steps)), None)
            if found is None:
                n = samples_in(steps, options)
                found = dict(row=row, steps=steps, **cell(model, judge, row, steps, n, work, options))
                results["cells"].append(found)
                common.write(options.out, results)
            print_row(row, steps, found)
    print(f"{round(time.perf_counter() - started)} s; written to {options.out}")


def samples_in(steps: int, options: argparse.Namespace) -> int:
    """How many samples a cell of so many steps has."""
    return options.n if steps <= 100 else min(options.n, options.n_long)


def print_row(row: str, steps: int | str, found: dict) -> None:
    estimates = [dl.measure.Estimate(**found[name]) for name in SCORES]
    print(f"{row:16}{steps:>6}   " + "".join(f"{estimate!s:26}" for estimate in estimates), flush=True)


if __name__ == "__main__":
    main()
