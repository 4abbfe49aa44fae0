"""Training. `loop` holds the algorithm, written to be read; `run` and the other modules support it.

From a shell: `python -m diffusion_lib.training --dataset glyphs --steps 2000 --out runs/glyphs` (see `--help`), and the same command
under `torchrun` or `accelerate launch` for several processes.
"""

from diffusion_lib.training.config import TrainConfig
from diffusion_lib.training.loop import EMA, TrainStep, learning_rate, make_optimizer, train
from diffusion_lib.training.processes import sample_over_processes

__all__ = ["EMA", "TrainConfig", "TrainStep", "learning_rate", "make_optimizer", "sample_over_processes", "train"]
