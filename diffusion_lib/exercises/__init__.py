"""The checks behind the notebooks' exercises: `check_…(answer)` says whether an answer is right, and if not, what is wrong with it.

The checks are collected from the modules below. `doctor` examines a reader's own sampler or training loop.
"""

# ruff: noqa: F401, F403 - with star imports editors and type checkers see the checks, too
from diffusion_lib.exercises.diagnosis import doctor
from diffusion_lib.exercises.forward_noising import *
from diffusion_lib.exercises.memory import *
from diffusion_lib.exercises.museum import *
from diffusion_lib.exercises.sampling import *
from diffusion_lib.exercises.start import *
from diffusion_lib.exercises.training import *
from diffusion_lib.exercises.unet import *

__all__ = [name for name in sorted(globals()) if name.startswith("check_") or name == "doctor"]


def __dir__() -> list[str]:
    return __all__
