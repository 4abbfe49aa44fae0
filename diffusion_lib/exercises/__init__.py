"""The checks behind the notebooks' exercises: `check_…(answer)` says whether an answer is right, and if not, what is wrong with it.

Every `check_…` that a module below defines is one of them: there is no list to keep. `doctor` examines a reader's own programs.
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

__all__ = [name for name in sorted(globals()) if name.startswith("check_")]


def __dir__() -> list[str]:
    return __all__
