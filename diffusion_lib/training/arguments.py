"""What `train` is called with, looked at before anything else: things of another kind, each with what to write instead."""

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from diffusion_lib.denoiser import Denoiser
from diffusion_lib.files import as_folder
from diffusion_lib.networks import unwrapped
from diffusion_lib.training.config import TrainConfig


def check_arguments(denoiser: Any, dataset: Any, config: Any, checkpoint_dir: Any, accelerator: Any) -> Path | None:
    """Raises `TypeError` or `ValueError` for arguments of `train` of another kind than it takes. Returns the checkpoints' folder."""
    if not isinstance(unwrapped(denoiser), Denoiser):
        remedy = ": Denoiser(network, schedule, prediction) makes one of a network" if isinstance(denoiser, nn.Module) else ""
        remedy = ": train the denoiser within it" if isinstance(getattr(denoiser, "denoiser", None), Denoiser) else remedy
        raise TypeError(f"denoiser is {_kind(denoiser)}; expected a Denoiser{remedy}")
    if not (hasattr(dataset, "images") and hasattr(dataset, "labels")):
        raise ValueError(
            f"the dataset is {_kind(dataset)}; expected an ImageDataset, or whatever has .images and .labels{_dataset_of(dataset)}"
        )
    if not isinstance(config, TrainConfig):
        remedy = "TrainConfig(**config)" if isinstance(config, Mapping) else "TrainConfig() holds the defaults"
        raise TypeError(f"config is {_kind(config)}; expected a TrainConfig: {remedy}")
    if accelerator is not None and not hasattr(accelerator, "distributed_type"):
        raise TypeError(f"accelerator={accelerator!r}; expected an accelerate.Accelerator, or None: the device is TrainConfig's")
    if torch.is_inference_mode_enabled():
        raise ValueError("train was called in torch.inference_mode; expected a call outside of it: nothing can be learnt within")
    return _folder(checkpoint_dir)


def trainable(denoiser: Any) -> Denoiser:
    """The denoiser without torch's wrappers around it. Raises `ValueError` if its weights cannot be trained as they are."""
    plain = unwrapped(denoiser)
    if plain is not denoiser:
        warnings.warn(
            f"the denoiser is within a {type(denoiser).__name__}, which training does not use; wrap denoiser.network instead",
            stacklevel=4,
        )
    for module in plain.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            raise ValueError(
                "the network is within a DistributedDataParallel; expected the network itself: train(…, accelerator=Accelerator()) "
                "averages the gradients of several processes"
            )
    weights = list(plain.parameters())
    if any(weight.is_meta for weight in weights):
        raise ValueError("the denoiser's weights are on 'meta', which holds no numbers; expected them on a device: make it on the CPU")
    if wrong := {str(weight.dtype) for weight in weights if weight.is_floating_point()} - {"torch.float32"}:
        raise ValueError(
            f"the denoiser's weights are {min(wrong)}; expected torch.float32: use denoiser.float() (the config's precision is that "
            "of the arithmetic alone)"
        )
    if not any(weight.requires_grad for weight in weights):
        raise ValueError(
            "the denoiser has no weights with requires_grad; expected some to train: a step's average, for one, is made to be trained "
            "by copy.deepcopy(step.ema).requires_grad_()"
        )
    return plain


def _folder(checkpoint_dir: Any) -> Path | None:
    if checkpoint_dir is None:
        return None
    if not isinstance(checkpoint_dir, str | os.PathLike) or not str(checkpoint_dir):
        raise TypeError(f"checkpoint_dir={checkpoint_dir!r}; expected the path of a folder, or None for no checkpoints")
    return as_folder("checkpoint_dir", checkpoint_dir)


def _dataset_of(data: Any) -> str:
    """How a dataset is made of what was given instead."""
    if isinstance(data, Tensor):
        return ": ImageDataset.without_classes(images) makes one of a tensor"
    if isinstance(data, np.ndarray):
        return ": ImageDataset.without_classes(torch.as_tensor(images)) makes one of floats (N, C, H, W) in [-1, 1]"
    if isinstance(data, str | os.PathLike):
        return f": load_dataset({str(data)!r}), or load_dataset('folder:PATH') for a folder of pictures"
    if isinstance(data, DataLoader) and hasattr(data.dataset, "images"):
        return ": the loader's .dataset is one, and train makes its own batches"
    if isinstance(data, list | tuple):
        return ": ImageDataset.without_classes(torch.stack(images)) makes one of a list of tensors"
    data = data.dataset if isinstance(data, DataLoader) else data
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, Mapping):
        return (
            ": images, labels = zip(*data), then ImageDataset(torch.stack(images), torch.tensor(labels), class_names) makes one of what "
            "holds (image, label)"
        )
    return ""


def _kind(value: Any) -> str:
    return f"the class {value.__name__} itself" if isinstance(value, type) else f"a {type(value).__name__}"
