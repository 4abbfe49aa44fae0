"""Exhibits of notebook 06: mistakes found in public diffusion code. Each has one check; the notebook shows the mistake as the answer.

Where another notebook asks for the right answer, the exhibit shares its check. The other checks are in the modules named after the rooms.
"""

# ruff: noqa: F401 - the notebook and the tests find every exhibit here
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_lib.data.glyphs import CHARACTERS
from diffusion_lib.denoiser import DenoiserProtocol
from diffusion_lib.exercises.exhibit import AS_IT_STANDS, exhibit
from diffusion_lib.exercises.forward_noising import check_noised
from diffusion_lib.exercises.museum_judging import check_exhibit_13, check_exhibit_14, check_exhibit_15
from diffusion_lib.exercises.museum_patients import (
    check_patient_a,
    check_patient_b,
    check_patient_c,
    check_patient_d,
    check_patient_e,
    check_patient_f,
    innocent,
    measured,
    patient,
    run_program,
    sabotaged,
)
from diffusion_lib.exercises.museum_sampler import check_exhibit_2, check_exhibit_4
from diffusion_lib.exercises.museum_schedule import check_exhibit_7, check_exhibit_8
from diffusion_lib.exercises.museum_training import check_exhibit_10, check_exhibit_12
from diffusion_lib.exercises.sampling import check_guided, check_levels, check_step
from diffusion_lib.exercises.training import check_ema_update, check_random_timesteps
from diffusion_lib.process import randn_like
from diffusion_lib.sampling import sample_generators, timestep_subset


def generate(
    denoiser: DenoiserProtocol,
    word: str,
    *,
    levels: Callable[[int, int], list[int]] = timestep_subset,
    clip: Callable[[Tensor], Tensor] = lambda x0_hat: x0_hat.clamp(-1, 1),
    step: Callable = check_step.reference,
    steps: int = 20,
    eta: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """The sampler of notebook 04 with replaceable parts: images (len(word), 1, 28, 28) of the characters of `word`.

    levels(T, steps): the timesteps to visit. clip(x0_hat): applied to the predicted image. step(xt, eps_hat, z, alpha_bar_s,
    alpha_bar_t, eta): the next image, (4.4).
    """
    y = torch.tensor([CHARACTERS.index(c) for c in word])
    generators = sample_generators(seed, range(len(y)))
    xt, alpha_bar = randn_like(torch.empty(len(y), 1, 28, 28), generators), denoiser.schedule.alpha_bar
    for t, s in pairwise(levels(denoiser.schedule.T, steps)):
        with torch.no_grad():
            x0_hat = clip(denoiser(xt, t, y).x0)
        # eps_hat = (xt - sqrt(alpha_bar_t) x0_hat) / sqrt(1 - alpha_bar_t)
        eps_hat = (xt - alpha_bar[t].sqrt() * x0_hat) / (1 - alpha_bar[t]).sqrt()
        xt = step(xt, eps_hat, randn_like(xt, generators), alpha_bar[s], alpha_bar[t], eta)
    return xt


check_exhibit_1 = exhibit(check_levels, 0, "the grain is gone: the last step goes to alpha_bar_0 = 1")
check_exhibit_3 = exhibit(check_step, 1, "at eta = 0 all of eps_hat is kept, as in DDIM")
check_exhibit_6 = exhibit(check_noised, 0, "its variance is 1 at every t, and the network sees what it was trained on")
check_exhibit_5 = exhibit(check_guided, 0, "a larger scale gives more of the class")
check_exhibit_9 = exhibit(check_random_timesteps, 3, "every timestep from 1 to T is trained, and no other")
check_exhibit_11 = exhibit(check_ema_update, 3, "the average moves")
