"""Loads a model from a hub, whose address is in the environment, and asks for two that there are not.

from_hub.py FILE: writes the schedule and an answer of the model into FILE, and prints what is said of those that are missing.
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
