"""Checks of the arguments of `train`. An argument of the wrong type gets an error that says what to write instead."""

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
    """Raises `TypeError` or `ValueError` for arguments that `train` cannot take. Returns the checkpoints' folder."""
    if not isinstance(unwrapped(denoiser), Denoiser):
        remedy = ": make one with Denoiser(network, schedule, prediction)" if isinstance(denoiser, nn.Module) else ""
        remedy = ": train the denoiser inside it" if isinstance(getattr(denoiser, "denoiser", None), Denoiser) else remedy
        raise TypeError(f"denoiser is {_kind(denoiser)}; expected a Denoiser{remedy}")
    if not (hasattr(dataset, "images") and hasattr(dataset, "labels")):
        raise ValueError(
            f"the dataset is {_kind(dataset)}; expected an ImageDataset, or any object with .images and .labels{_dataset_of(dataset)}"
        )
    if not isinstance(config, TrainConfig):
        remedy = "TrainConfig(**config)" if isinstance(config, Mapping) else "TrainConfig() holds the defaults"
        raise TypeError(f"config is {_kind(config)}; expected a TrainConfig: {remedy}")
    if accelerator is not None and not hasattr(accelerator, "distributed_type"):
        raise TypeError(f"accelerator={accelerator!r}; expected an accelerate.Accelerator, or None: set the device in TrainConfig")
    if torch.is_inference_mode_enabled():
        raise ValueError("train was called in torch.inference_mode; expected a call outside: inference mode records no gradients")
    return _folder(checkpoint_dir)


def trainable(denoiser: Any) -> Denoiser:
    """The denoiser without torch's wrappers. Raises `ValueError` if its weights cannot be trained as they are."""
    plain = unwrapped(denoiser)
    if plain is not denoiser:
        warnings.warn(
            f"the denoiser is wrapped in a {type(denoiser).__name__}, which training ignores; wrap denoiser.network instead",
            stacklevel=4,
        )
    for module in plain.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            raise ValueError(
                "the network is wrapped in a DistributedDataParallel; expected the network itself: train(…, accelerator=Accelerator()) "
                "averages the gradients of several processes"
            )
    weights = list(plain.parameters())
    if any(weight.is_meta for weight in weights):
        raise ValueError("the denoiser's weights are on 'meta', which stores no values; expected weights on a device: create it on the CPU")
    if wrong := {str(weight.dtype) for weight in weights if weight.is_floating_point()} - {"torch.float32"}:
        raise ValueError(
            f"the denoiser's weights are {min(wrong)}; expected torch.float32: use denoiser.float() (the config's precision sets only "
            "the arithmetic)"
        )
    if not any(weight.requires_grad for weight in weights):
        raise ValueError(
            "the denoiser has no weights with requires_grad; expected trainable weights: to train an average, for example, use "
            "copy.deepcopy(step.ema).requires_grad_()"
        )
    return plain


def _folder(checkpoint_dir: Any) -> Path | None:
    if checkpoint_dir is None:
        return None
    if not isinstance(checkpoint_dir, str | os.PathLike) or not str(checkpoint_dir):
        raise TypeError(f"checkpoint_dir={checkpoint_dir!r}; expected the path of a folder, or None for no checkpoints")
    return as_folder("checkpoint_dir", checkpoint_dir)


def _dataset_of(data: Any) -> str:
    """How to make a dataset from the given object."""
    if isinstance(data, Tensor):
        return ": for a tensor, use ImageDataset.without_classes(images)"
    if isinstance(data, np.ndarray):
        return ": for floats (N, C, H, W) in [-1, 1], use ImageDataset.without_classes(torch.as_tensor(images))"
    if isinstance(data, str | os.PathLike):
        return f": load_dataset({str(data)!r}), or load_dataset('folder:PATH') for a folder of pictures"
    if isinstance(data, DataLoader) and hasattr(data.dataset, "images"):
        return ": pass the loader's .dataset; train makes its own batches"
    if isinstance(data, list | tuple):
        return ": for a list of tensors, use ImageDataset.without_classes(torch.stack(images))"
    data = data.dataset if isinstance(data, DataLoader) else data
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, Mapping):
        return (
            ": for pairs (image, label), use images, labels = zip(*data) and ImageDataset(torch.stack(images), torch.tensor(labels), "
            "class_names)"
        )
    return ""


def _kind(value: Any) -> str:
    return f"the class {value.__name__} itself" if isinstance(value, type) else f"a {type(value).__name__}"
