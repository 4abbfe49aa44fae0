"""Draws docs/samples.png: postcards that the shipped model draws from captions: the first samples of a seed."""

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

import diffusion_lib as dl

TARGET = Path(__file__).resolve().parent.parent / "docs" / "samples.png"
CAPTIONS = (
    "a red house by the sea at night under a clear sky",
    "a white lighthouse on the beach at sunset with the sun",
    "a big yellow balloon in the hills at dawn",
    "a big green tree in the snow while it snows",
    "a purple tent in the desert by day",
    "a blue boat right of a white lighthouse under a rainbow",
)
STEPS, SCALE = 25, 2.0  # as in benchmarks/postcards_quality.py
COLUMNS = 16


def main() -> None:
    matplotlib.use("agg")
    model = dl.Guided(dl.load_pretrained("postcards"), SCALE)
    large = dl.sample(model, len(CAPTIONS), y=CAPTIONS, steps=STEPS, seed=0)
    unseen = dl.load_dataset("postcards", train=False, n=3 * COLUMNS)
    small = dl.sample(model, len(unseen), y=unseen.captions, steps=STEPS, seed=1)
    figure = plt.figure(figsize=(10.5, 4.55), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(2.3, 2.1))
    above, below = parts
    for ax, image, caption in zip(above.subplots(1, len(CAPTIONS)), large, CAPTIONS, strict=True):
        dl.plots.show(image, columns=1, ax=ax)
        ax.text(0.5, -0.03, "\n".join(textwrap.wrap(caption, 26)), transform=ax.transAxes, fontsize=8, ha="center", va="top")
    dl.plots.show(small, columns=COLUMNS, ax=below.subplots())
    figure.savefig(TARGET, dpi=100, pil_kwargs=dict(optimize=True))
    print(f"wrote {TARGET.name}")


if __name__ == "__main__":
    main()
