"""Interactive views. They hold no model: pictures go to the page once, and the page moves through them.

`noising` mixes x0 and eps in the page, so that all timesteps together cost two images. `explore_schedules` draws schedules and their
effect on images; `design_schedule` lets the reader shape one. `chains` shows samplers' chains side by side, `scrub` recorded frames
of anything, and `scrub_grid` frames under two sliders. `training` moves through a training run, and `live_training` shows a run as it
goes on. `attention` looks inside a U-Net.

Once shown, all of them except a live run work without a kernel. Each sends its position (`t`, `frame`, `step`) to the kernel, where it
can be set, observed, and linked with ipywidgets' `jslink`.
"""

from diffusion_lib.widgets.attention import AttentionWidget, attention
from diffusion_lib.widgets.designer import DesignerWidget, design_schedule
from diffusion_lib.widgets.noising import NoisingWidget, noising
from diffusion_lib.widgets.schedules import ScheduleWidget, explore_schedules
from diffusion_lib.widgets.scrub import ChainWidget, GridWidget, Recording, ScrubWidget, chains, record, scrub, scrub_grid
from diffusion_lib.widgets.training import TrainingWidget, live_training, training

__all__ = [
    "AttentionWidget",
    "ChainWidget",
    "DesignerWidget",
    "GridWidget",
    "NoisingWidget",
    "Recording",
    "ScheduleWidget",
    "ScrubWidget",
    "TrainingWidget",
    "attention",
    "chains",
    "design_schedule",
    "explore_schedules",
    "live_training",
    "noising",
    "record",
    "scrub",
    "scrub_grid",
    "training",
]
