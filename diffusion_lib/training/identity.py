"""What makes two runs the same run: only then does one go on from the other's checkpoint."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b

import numpy as np
import torch

from diffusion_lib.data import class_names_of, image_shape_of
from diffusion_lib.networks import kind_of, unwrapped
from diffusion_lib.saving import class_name

# what may change between the interrupted run and the one that goes on with it
FREE = {"checkpoint_every", "skip_limit", "device", "precision"}


def identity(config, denoiser, dataset) -> dict:
    """What makes two runs the same run: numbers, strings and lists, by name."""
    network, schedule = unwrapped(denoiser.network), denoiser.schedule
    run = {name: value for name, value in asdict(config).items() if name not in FREE}
    known = getattr(network, "config", None)
    run |= {f"network.{name}": _plain(value) for name, value in (known.items() if isinstance(known, Mapping) else ())}
    data = blake2b(digest_size=8)
    for tensor in (dataset.images, dataset.labels):
        data.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    shape = image_shape_of(dataset)
    run["dataset"] = f"{len(dataset.images)} images of {shape}, digest {data.hexdigest()}"
    run |= {
        "denoiser": class_name(type(denoiser)),
        "network.kind": kind_of(network) or type(network).__qualname__,
        "image_shape": list(shape),
        "class_names": list(class_names_of(dataset, denoiser.num_classes)),
    }
    run |= dict(schedule=schedule.name, signal=schedule.signal.tolist(), noise=schedule.noise.tolist())
    return run | dict(prediction=denoiser.prediction)


def difference(ours: dict, theirs: dict) -> str | None:
    """The name of something in which two runs differ, by their `identity`; None if they are the same run."""
    for name in sorted(ours.keys() | theirs.keys()):
        if (name in ours) != (name in theirs) or not _same(ours.get(name), theirs.get(name)):
            return name
    return None


def _same(ours: object, theirs: object) -> bool:
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, float) and isinstance(theirs, float):  # alpha_bar: kinds of processors differ by 1e-14
        return math.isclose(ours, theirs, rel_tol=1e-12) or (math.isnan(ours) and math.isnan(theirs))
    return ours == theirs


def _plain(value: object) -> object:
    """What can be compared with the value, made of numbers, strings, None, lists and dicts alone: `weights_only=True` reads no other."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, Mapping):
        return {name if isinstance(name, str) else repr(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))  # where an object lies in memory is another place in each run
