"""The identity of a run: a run resumes only from a checkpoint with the same identity."""

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

# settings that may change when a run is resumed
FREE = {"checkpoint_every", "skip_limit", "device", "precision"}


def identity(config, denoiser, dataset) -> dict:
    """Everything that defines a run, as named numbers, strings and lists."""
    network, schedule = unwrapped(denoiser.network), denoiser.schedule
    run = {name: value for name, value in asdict(config).items() if name not in FREE}
    known = getattr(network, "config", None)
    run |= {f"network.{name}": _plain(value) for name, value in (known.items() if isinstance(known, Mapping) else ())}
    data = blake2b(digest_size=8)
    for tensor in (dataset.images, dataset.labels):
        data.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    if denoiser.words is not None:
        data.update("\n".join(dataset.captions).encode())
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
    """The name of one entry in which two identities differ; None if they are equal."""
    for name in sorted(ours.keys() | theirs.keys()):
        if (name in ours) != (name in theirs) or not _same(ours.get(name), theirs.get(name)):
            return name
    return None


def _same(ours: object, theirs: object) -> bool:
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, float) and isinstance(theirs, float):  # alpha_bar differs by 1e-14 between kinds of CPU
        return math.isclose(ours, theirs, rel_tol=1e-12) or (math.isnan(ours) and math.isnan(theirs))
    return ours == theirs


def _plain(value: object) -> object:
    """The value as numbers, strings, None, lists and dicts, which `weights_only=True` can read."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, Mapping):
        return {name if isinstance(name, str) else repr(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))  # addresses differ between runs
