"""Which network and which settings learn colour and words soonest? Variants of a captioned model, each trained for the same time.

    python benchmarks/postcards_network.py                                          five minutes each, one after the other
    python benchmarks/postcards_network.py --variants base "uniform timesteps" --seconds 60 --out /tmp/network.json

The pictures are postcards under a clear sky with one thing in them, and their captions state everything: what a model can learn of in
minutes. The number of steps is what the variant makes in --seconds on this machine, so a larger network sees fewer pictures. Samples
of 12 DDIM steps are then read by the classifier that ships: the fraction in which each attribute is as asked. The losses are those of
pictures that were not trained on, at some timesteps, with the caption and without; "grain" is the mean absolute difference of
neighbours in the sky. A run that is stopped goes on with the variants that its results file lacks.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import common
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import diffusion_lib as dl
from diffusion_lib.data import ImageDataset, part_of
from diffusion_lib.data.captions import captions_of, random_numbers, vocabulary
from diffusion_lib.data.postcards import ATTRIBUTES, CLEAR
from diffusion_lib.measure.distances import fraction
from diffusion_lib.measure.results import FOLDER

WORDS = vocabulary(ATTRIBUTES)
TIMES = (50, 200, 400, 600, 750, 900)
SKY = 10  # rows at the top


class Finished(nn.Module):
    """A network and a finishing convolution at full resolution: what leaves its patches is corrected across their edges."""

    def __init__(self, network: dl.UNet, channels: int = 16):
        super().__init__()
        self.network, self.words = network, network.words
        self.first = nn.Conv2d(2 * network.in_channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, network.in_channels, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        answer = self.network(x, t, y)
        return answer + self.last(F.silu(self.first(torch.cat([answer, x], dim=1))))


def unet(base_channels: int = 32, **options) -> dl.UNet:
    return dl.UNet(3, base_channels, words=WORDS, **options)


def without_coordinates() -> dl.UNet:
    network = unet()
    network.places = 0
    network.stem = nn.Conv2d(12, 32, 3, padding=1).to(memory_format=torch.channels_last)
    return network


SETTINGS = dict(prediction="v", batch_size=32, lr=3e-3, ema_decay=0.995, timesteps="logit_normal")
# of each variant: how its network is made, and which of the settings differ
VARIANTS: dict[str, tuple[Callable[[], nn.Module], dict]] = {
    "base": (unet, {}),
    "uniform timesteps": (unet, dict(timesteps="uniform")),
    "without coordinates": (without_coordinates, {}),
    "finishing convolution": (lambda: Finished(unet()), {}),
    "24 channels": (lambda: unet(24), {}),
    "48 channels": (lambda: unet(48), {}),
    "three levels": (lambda: unet(channel_mults=(1, 2, 4), attention_levels=(1, 2)), {}),
    "attention on both levels": (lambda: unet(attention_levels=(0, 1)), {}),
    "patches of 4": (lambda: unet(64, patch_size=4), {}),
    "batches of 64": (unet, dict(batch_size=64)),
    "lr 1.5e-3": (unet, dict(lr=1.5e-3)),
    "lr 6e-3": (unet, dict(lr=6e-3)),
    "predicts x0": (unet, dict(prediction="x0")),
}


def simple(cards: ImageDataset, seed: int) -> ImageDataset:
    """The postcards under a clear sky with one thing in them, and captions that state everything."""
    has = cards.attributes
    cards = part_of(cards, ((has["weather"] == CLEAR) & (has["thing"] > 0) & (has["second_thing"] == 0)).nonzero().flatten())
    captions = captions_of(cards.attributes, ATTRIBUTES, random_numbers(len(cards), seed), complete=True)
    return ImageDataset(cards.images, cards.labels, cards.class_names, captions, cards.attributes, cards.attribute_names)


def steps_within(seconds: float, denoiser: dl.Denoiser, cards: ImageDataset, options: dict) -> int:
    """How many steps a training makes in this time: measured on a run of a few, whose weights are not used."""
    started, taken = 0.0, 30
    for step in dl.train(denoiser, cards, dl.TrainConfig(steps=taken, warmup_steps=1, **options)):
        if step.step == 10:
            started = time.perf_counter()
    return round(seconds * (taken - 10) / (time.perf_counter() - started))


def learn(name: str, seconds: float, seed: int, cards: ImageDataset, unseen: ImageDataset) -> dict:
    """Trains a variant for about this time, and measures what it has learnt."""
    make, differs = VARIANTS[name]
    options = SETTINGS | differs | dict(seed=seed)
    prediction = options.pop("prediction")

    def new() -> dl.Denoiser:
        torch.manual_seed(seed)
        return dl.Denoiser(make(), dl.cosine_schedule(), prediction)

    steps = steps_within(seconds, new(), cards, options)
    config = dl.TrainConfig(steps=steps, warmup_steps=min(100, steps // 2), **options)
    denoiser, started = new(), time.perf_counter()
    *_, step = dl.train(denoiser, cards, config)
    took, ema = time.perf_counter() - started, step.ema
    samples = dl.sample(dl.Guided(ema, 2.0), len(unseen), y=list(unseen.captions), steps=12, seed=seed, batch_size=128)
    read = dl.load_classifier("postcards").read(samples)
    right = {attribute: read[attribute] == values for attribute, values in unseen.attributes.items()}
    eps = torch.randn(unseen.images.shape, generator=torch.Generator().manual_seed(seed))
    losses = {}
    with torch.no_grad():
        for t in TIMES:
            ts = torch.full((len(unseen),), t)
            losses[t] = [round(ema.loss(unseen.images, y, ts, eps).mean().item(), 4) for y in (list(unseen.captions), None)]
    return dict(
        variant=name,
        seed=seed,
        steps=steps,
        images=steps * options["batch_size"],
        seconds=round(took),
        parameters=sum(p.numel() for p in denoiser.parameters()),
        losses=losses,
        grain=samples[:, :, :SKY].diff(dim=3).abs().mean().item(),
        right={attribute: fraction(each)._asdict() for attribute, each in right.items()}
        | dict(all=fraction(torch.stack(list(right.values())).all(dim=0))._asdict()),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seconds", type=float, default=300, help="of training (default 300)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=120_000, help="postcards drawn; a quarter of them are simple (default 120,000)")
    parser.add_argument("--n", type=int, default=512, help="samples (default 512)")
    parser.add_argument("--out", type=Path, default=FOLDER / "postcards_network.json")
    options = parser.parse_args(arguments)
    settings = dict(seconds=options.seconds, images=options.images, n=options.n)
    results = dict(**common.origin(__file__, "cpu"), settings=settings, rows=[])
    if options.out.exists() and (found := json.loads(options.out.read_text()))["settings"] == settings:
        results["rows"] = found["rows"]
    cards = simple(dl.load_dataset("postcards", n=options.images), 0)
    unseen = simple(dl.load_dataset("postcards", train=False, n=max(8 * options.n, 100)), 1)
    unseen = part_of(unseen, slice(0, options.n))
    results["real_grain"] = unseen.images[:, :, :SKY].diff(dim=3).abs().mean().item()
    print(f"{len(cards)} postcards; grain of real skies {results['real_grain']:.3f}")
    done = {(row["variant"], row["seed"]) for row in results["rows"]}
    for seed in options.seeds:
        for name in options.variants:
            if (name, seed) in done:
                continue
            row = learn(name, options.seconds, seed, cards, unseen)
            results["rows"].append(row)
            common.write(options.out, results)
            right = " ".join(f"{attribute} {each['value']:.2f}" for attribute, each in row["right"].items() if "second" not in attribute)
            print(f"{name:26}{row['images']:8,} images in {row['seconds']:4} s, grain {row['grain']:.3f}: {right}", flush=True)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
