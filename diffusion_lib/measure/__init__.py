"""How good are the samples? A classifier, distances with intervals, and what the benchmarks measured."""

from diffusion_lib.measure.classifier import Classifier
from diffusion_lib.measure.distances import Estimate, accuracy, features, frechet_distance, kernel_distance
from diffusion_lib.measure.results import load_results

__all__ = ["Classifier", "Estimate", "accuracy", "features", "frechet_distance", "kernel_distance", "load_results"]
