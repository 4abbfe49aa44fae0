"""Training: `loop` is the algorithm, everything else here carries it."""

from diffusion_lib.training.loop import EMA, TrainConfig, TrainStep, learning_rate, make_optimizer, train

__all__ = ["EMA", "TrainConfig", "TrainStep", "learning_rate", "make_optimizer", "train"]
