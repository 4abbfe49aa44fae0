"""The checks behind the notebooks' exercises: `check_…(answer)` says whether an answer is right, and if not, what is wrong with it."""

from diffusion_lib.exercises.forward_noising import (
    check_alpha_bar,
    check_at_log_snr,
    check_from_the_middle,
    check_noised,
    check_pooled,
    check_step_back,
)
from diffusion_lib.exercises.sampling import (
    check_calls,
    check_ddim_step,
    check_guided,
    check_levels,
    check_sigma,
    check_step,
)
from diffusion_lib.exercises.start import check_average, check_network_calls, check_same_images, check_spell
from diffusion_lib.exercises.training import (
    check_averaged,
    check_loss,
    check_random_timesteps,
    check_rate,
    check_share_of_first_weights,
    check_v,
    check_x0_from_v,
)
from diffusion_lib.exercises.unet import (
    check_attention,
    check_clock_hands,
    check_group_norm,
    check_loss_without_zero_init,
    check_told_time,
    check_unpatch,
)

__all__ = [
    "check_alpha_bar",
    "check_at_log_snr",
    "check_attention",
    "check_average",
    "check_averaged",
    "check_calls",
    "check_clock_hands",
    "check_ddim_step",
    "check_from_the_middle",
    "check_group_norm",
    "check_guided",
    "check_levels",
    "check_loss",
    "check_loss_without_zero_init",
    "check_network_calls",
    "check_noised",
    "check_pooled",
    "check_random_timesteps",
    "check_rate",
    "check_same_images",
    "check_share_of_first_weights",
    "check_sigma",
    "check_spell",
    "check_step",
    "check_step_back",
    "check_told_time",
    "check_unpatch",
    "check_v",
    "check_x0_from_v",
]
