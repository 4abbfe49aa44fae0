"""Images to learn from."""

from diffusion_lib.data.datasets import DatasetProtocol, ImageDataset, cache_folder, load_dataset, to_float, to_uint8

__all__ = ["DatasetProtocol", "ImageDataset", "cache_folder", "load_dataset", "to_float", "to_uint8"]
