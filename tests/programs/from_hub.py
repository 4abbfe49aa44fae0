"""Loads a model from a hub, whose address is in the environment, and asks for two that do not exist.

from_hub.py FILE: writes the model's schedule and one of its predictions to FILE, and prints the errors for the missing ones.
"""

import sys

import torch

import diffusion_lib as dl

denoiser = dl.Denoiser.from_pretrained("someone/glyph-model")
with torch.no_grad():
    torch.save((denoiser.schedule.alpha_bar, denoiser(torch.ones(2, 1, 8, 8), 5).x0), sys.argv[1])
for missing in ("someone/other-model", "not a/valid id"):
    try:
        dl.Denoiser.from_pretrained(missing)
    except FileNotFoundError as error:
        print(error)
