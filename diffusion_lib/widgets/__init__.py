"""Interactive views. They hold no model and compute nothing that matters: pictures go to the page once, and the page scrubs.

`noising` mixes x0 and eps in the page, so that every timestep costs two images; `explore_schedules` draws schedules and what they
do to images, and with `design_schedule` the reader shapes one. `chains` shows samplers' chains side by side, `scrub` recorded frames
of anything, and `scrub_grid` such frames under two sliders. `training` scrubs through a training run, `live_training` shows one while
it runs. `attention` looks into a U-Net.

All but a live run answer without a kernel once they are shown. Each gives its position to the kernel (`t`, `frame`, `step`), so
that it can be set, observed, and linked with ipywidgets' `jslink`.
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
