"""Does a captioned model draw what it is asked for? Every attribute, for captions of the kinds it was trained on and for others.

    python benchmarks/postcards_quality.py --precision bfloat16 --compile                    what ships
    python benchmarks/postcards_quality.py --model runs/postcards --out /tmp/postcards_quality.json

The first takes 11 minutes on two CPU cores with AVX512-BF16.

Complete captions, which state every attribute, are drawn for pictures that the model was not trained on. The classifier that
ships reads each attribute of the samples, and the results hold the fraction that is as asked, with its interval. "seen" are
combinations of a thing, its colour and the time of day as in training; "held out" are those that occur in no training picture. The
Fréchet distance is to as many real pictures of the same meanings; the row "real" compares other pictures of these meanings with them.
"""

import argparse
import time
from pathlib import Path

import common
import torch
from torch import Tensor

import diffusion_lib as dl
from diffusion_lib.data.captions import captions_of, random_numbers
from diffusion_lib.data.postcards import RANDOM_NUMBERS, draw_postcards
from diffusion_lib.measure.results import FOLDER
from diffusion_lib.pretrained import load_model


def pictures_of(meanings: dict[str, Tensor], seed: int) -> Tensor:
    """Real pictures of these meanings, other ones for each seed."""
    n = len(meanings["time"])
    return dl.to_float(draw_postcards(meanings, torch.rand(n, RANDOM_NUMBERS, generator=torch.Generator().manual_seed(seed))))


def measure(model: dl.Denoiser, held_out: bool, options: argparse.Namespace) -> dict:
    """The results for one kind of caption."""
    n, seed = options.n, options.seed
    cards = dl.load_dataset("postcards", train=False, n=n, held_out=held_out, seed=seed + 1)
    captions = captions_of(cards.attributes, cards.attribute_names, random_numbers(n, seed), complete=True)
    classifier = dl.load_classifier("postcards")
    reference = dl.measure.features(classifier, pictures_of(cards.attributes, 2 * seed + 10**6))
    guided = model if options.scale == 1 else dl.Guided(model, options.scale)
    start = time.perf_counter()
    samples = common.sampled(options, guided, n, y=captions, steps=options.steps, seed=seed, batch_size=options.batch_size)
    seconds = time.perf_counter() - start
    found = {}
    for name, images in dict(samples=samples, real=pictures_of(cards.attributes, 2 * seed + 10**6 + 1)).items():
        accuracies = dl.measure.attribute_accuracy(classifier, images, cards.attributes)
        distance = dl.measure.frechet_distance(reference, dl.measure.features(classifier, images), resamples=100)
        found[name] = {attribute: estimate._asdict() for attribute, estimate in accuracies.items()}
        found[name]["frechet_distance"] = distance._asdict()
    return dict(seconds_of_sampling=round(seconds, 1), **found)


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", default="postcards", help="name of a shipped model, or a folder (default: postcards)")
    parser.add_argument("--n", type=int, default=5000, help="captions of each kind (default 5000)")
    parser.add_argument("--steps", type=int, default=25, help="of the DDIM chain (default 25)")
    parser.add_argument("--scale", type=float, default=2.0, help="of guidance (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=125)
    common.add_arithmetic(parser)
    parser.add_argument("--out", type=Path, default=FOLDER / "postcards_quality.json")
    options = parser.parse_args(arguments)
    model = load_model(options.model)
    about = dict(
        name=options.model,
        parameters=sum(p.numel() for p in model.parameters()),
        sha256=common.digest_of(model.network.state_dict()),
    )
    model = common.prepared(model, options)
    settings = {name: getattr(options, name) for name in ("n", "steps", "scale", "seed", "precision")} | dict(sampler="ddim", eta=0.0)
    results = dict(**common.origin(__file__, options.device), model=about, settings=settings)
    for name, held_out in (("seen", False), ("held out", True)):
        results[name] = measure(model, held_out, options)
        for what in ("samples", "real"):
            print(f"{name}, {what}")
            for attribute, estimate in results[name][what].items():
                print(f"    {attribute:18}{dl.measure.Estimate(**estimate)}", flush=True)
    common.write(options.out, results)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
