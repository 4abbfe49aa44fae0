"""Sample quality: feature networks, distances with intervals, and stored results of the benchmarks."""

from diffusion_lib.measure.classifier import Classifier, FeatureNetwork
from diffusion_lib.measure.distances import Estimate, accuracy, features, frechet_distance, kernel_distance
from diffusion_lib.measure.own_images import train_features
from diffusion_lib.measure.results import load_results

__all__ = [
    "Classifier",
    "Estimate",
    "FeatureNetwork",
    "accuracy",
    "features",
    "frechet_distance",
    "kernel_distance",
    "load_results",
    "train_features",
]
