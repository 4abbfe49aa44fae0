"""Draws docs/samples.png: every character, three times, as the shipped model writes it."""

from pathlib import Path

import torch

import diffusion_lib as dl
from diffusion_lib.widgets.base import png
from diffusion_lib.widgets.stills import fit

TARGET = Path(__file__).resolve().parent.parent / "docs" / "samples.png"
SEEDS = range(3)


def main() -> None:
    model = dl.load_pretrained("glyphs")
    images = torch.cat([dl.sample(model, 36, y=range(36), steps=50, seed=seed) for seed in SEEDS])
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_bytes(png(fit(dl.plots.image_grid(images, columns=18).numpy(), 1050)))
    print(f"wrote {TARGET.name}")


if __name__ == "__main__":
    main()
