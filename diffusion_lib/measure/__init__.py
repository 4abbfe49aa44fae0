"""Sample quality: feature networks, distances with intervals, and stored results of the benchmarks."""

from diffusion_lib.measure.classifier import AttributeClassifier, Classifier, FeatureNetwork
from diffusion_lib.measure.distances import Estimate, accuracy, attribute_accuracy, features, fraction, frechet_distance, kernel_distance
from diffusion_lib.measure.own_images import train_features
from diffusion_lib.measure.results import load_results

__all__ = [
    "AttributeClassifier",
    "Classifier",
    "Estimate",
    "FeatureNetwork",
    "accuracy",
    "attribute_accuracy",
    "features",
    "fraction",
    "frechet_distance",
    "kernel_distance",
    "load_results",
    "train_features",
]
