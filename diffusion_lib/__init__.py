"""Image diffusion models, small enough to read in one evening: the library behind the notebooks.

```python
import diffusion_lib as dl

images = dl.sample(dl.load_pretrained("glyphs"), 16)
```
"""

from importlib import import_module

from diffusion_lib.checks import NO_LABEL
from diffusion_lib.data import ImageDataset, load_dataset, to_float, to_uint8
from diffusion_lib.denoiser import Denoiser, IdealDenoiser, Prediction
from diffusion_lib.guidance import Guided
from diffusion_lib.pretrained import load_checkpoint, load_classifier, load_pretrained
from diffusion_lib.process import (
    Gaussian,
    eps_from_v,
    eps_from_x0,
    q_posterior,
    q_sample,
    v_from,
    x0_from_eps,
    x0_from_v,
)
from diffusion_lib.sampling import (
    Step,
    ddim_encode_steps,
    ddim_steps,
    ddpm_steps,
    sample,
    sample_generators,
    timestep_subset,
)
from diffusion_lib.schedules import (
    Schedule,
    cosine_schedule,
    linear_schedule,
    make_schedule,
    sigmoid_schedule,
    straight_schedule,
)
from diffusion_lib.training import TrainConfig, TrainStep, train
from diffusion_lib.unet import UNet

__version__ = "0.1.0"

_SUBMODULES = ("exercises", "plots", "widgets")  # imported when first asked for: they, or what they need, are slow to import

__all__ = [  # noqa: RUF022 - in the order in which they build on one another
    "Schedule",
    "linear_schedule",
    "cosine_schedule",
    "sigmoid_schedule",
    "straight_schedule",
    "make_schedule",
    "Gaussian",
    "q_sample",
    "q_posterior",
    "eps_from_x0",
    "x0_from_eps",
    "v_from",
    "x0_from_v",
    "eps_from_v",
    "UNet",
    "NO_LABEL",
    "Prediction",
    "Denoiser",
    "IdealDenoiser",
    "Guided",
    "Step",
    "ddpm_steps",
    "ddim_steps",
    "ddim_encode_steps",
    "sample",
    "sample_generators",
    "timestep_subset",
    "ImageDataset",
    "load_dataset",
    "to_float",
    "to_uint8",
    "load_pretrained",
    "load_classifier",
    "load_checkpoint",
    "train",
    "TrainConfig",
    "TrainStep",
]


def __getattr__(name: str):
    if name in _SUBMODULES:
        return import_module(f"diffusion_lib.{name}")
    raise AttributeError(f"module 'diffusion_lib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBMODULES])
