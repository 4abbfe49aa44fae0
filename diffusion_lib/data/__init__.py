"""Datasets of images."""

from diffusion_lib.data.dataset import (
    ImageDataset,
    LabelledImages,
    check_images_and_labels,
    class_names_of,
    describe,
    image_shape_of,
    num_classes_of,
    part_of,
    to_float,
    to_uint8,
)
from diffusion_lib.data.download import cache_folder
from diffusion_lib.data.registry import DATASETS, dataset_names, load_dataset, size_from_text, takes

__all__ = [
    "DATASETS",
    "ImageDataset",
    "LabelledImages",
    "cache_folder",
    "check_images_and_labels",
    "class_names_of",
    "dataset_names",
    "describe",
    "image_shape_of",
    "load_dataset",
    "num_classes_of",
    "part_of",
    "size_from_text",
    "takes",
    "to_float",
    "to_uint8",
]
