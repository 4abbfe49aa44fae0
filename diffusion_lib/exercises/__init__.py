"""The checks behind the notebooks' exercises: `check_…(answer)` says whether an answer is right and, if it is not, what is wrong.

The package collects every `check_…` that one of its modules defines: there is no list to maintain.
"""

# ruff: noqa: F403 - star imports show the checks to editors and type checkers
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
