"""Interactive views. They hold no model and compute nothing that matters: pictures go to the page once, and the page scrubs.

`noising` mixes x0 and eps in the browser, so that every timestep costs two images. `scrub` shows recorded frames of anything:
a sampler's chains (`record`), training, a sweep. Both answer without a kernel once they are shown.
"""

from diffusion_lib.widgets.noising import NoisingWidget, noising
from diffusion_lib.widgets.scrub import Recording, ScrubWidget, record, scrub

__all__ = ["NoisingWidget", "Recording", "ScrubWidget", "noising", "record", "scrub"]
