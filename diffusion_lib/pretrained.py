"""The weights that ship with the package, and those of an unfinished training run.

docs/training.md lists the commands that trained the shipped weights.
"""

from pathlib import Path
from typing import Any

import torch

from diffusion_lib.denoiser import Denoiser
from diffusion_lib.errors import unknown_name
from diffusion_lib.files import as_path
from diffusion_lib.measure.classifier import FeatureNetwork
from diffusion_lib.saving import CONFIG, SHIPPED, blame, check_tensors, class_name, nearby_hint, shipped_hint
from diffusion_lib.training import checkpoints


def load_pretrained(name: str) -> Denoiser:
    """The trained denoiser called `name`, in eval mode, on the CPU.

    "postcards": 32x32 colour landscapes, given a caption: `sample(model, 8, y="a red house by the sea at night")`. The others have
    28x28 images. "glyphs": the letters and digits of `diffusion_lib.data.glyphs.CHARACTERS`, a `UNet` of 48 channels. "mnist":
    handwritten digits 0..9, the default `UNet` of 32 channels. Both are class-conditional. "glyphs-1", "glyphs-10", "glyphs-1000",
    "glyphs-20000": small unconditional models, trained on that many images: the first ones of `load_dataset("glyphs")`, and for
    the last model all of `load_dataset("glyphs", seed=1)`.
    """
    return Denoiser.from_pretrained(_folder("denoiser", name))


def load_classifier(name: str) -> Any:
    """The classifier for the dataset `name`, in eval mode. It measures sample quality. Images are in [-1, 1].

    "glyphs", "mnist": a `Classifier`. "postcards": an `AttributeClassifier`, which reads every attribute of a picture.
    """
    return FeatureNetwork.from_pretrained(_folder("classifier", name))


def load_checkpoint(directory: str | Path, cls: type[Denoiser] = Denoiser) -> Denoiser:
    """The averaged weights in the newest checkpoint of a training run, as a denoiser in eval mode on the CPU.

    directory: the folder of the run or of its checkpoints, or one checkpoint. cls: the denoiser's class. Raises `FileNotFoundError` if
    there is no readable checkpoint, and `ValueError` for a run of another class, a network of a kind that
    `diffusion_lib.networks.NETWORKS` does not list, and weights that `save_pretrained` would not have written.
    """
    place = as_path(directory)
    if place.is_file():
        return from_state(checkpoints.one(place), cls)
    for folder in (place / "checkpoints", place):
        if (state := checkpoints.newest(folder)) is not None:
            return from_state(state, cls)
    hint = "" if place.is_dir() else shipped_hint(str(directory)) or nearby_hint(place)
    if (place / CONFIG).is_file():
        hint = f": {cls.__name__}.from_pretrained loads the model in it"
    raise FileNotFoundError(f"{directory} contains no readable checkpoint; expected the folder of a training run{hint}")


def load_model(source: str | Path) -> Denoiser:
    """A denoiser from any source: the name of a shipped model, a folder or hub id for `from_pretrained`, or an unfinished run for
    `load_checkpoint`. Names of shipped models come first: write "./glyphs" for a folder of that name."""
    place = as_path(source)
    if isinstance(source, str) and (SHIPPED / "denoiser" / source).is_dir() and source == place.name:
        return load_pretrained(source)
    if place.exists() and not (place / CONFIG).is_file():
        return load_checkpoint(source)
    return Denoiser.from_pretrained(source)


def from_state(state: checkpoints.State, cls: type[Denoiser] = Denoiser) -> Denoiser:
    """The averaged weights in a checkpoint, as a denoiser."""
    run, ema = state.content["run"], state.content["ema"]
    with blame(state.path):
        if run["denoiser"] != class_name(cls):
            raise ValueError(f"its denoiser is of class {run['denoiser']}, not {class_name(cls)}")
        check_tensors(ema, state.path.stat().st_size)
        network = {name.removeprefix("network."): value for name, value in run.items() if name.startswith("network.")}
        config = dict(prediction=run["prediction"], image_shape=run["image_shape"], schedule=run["schedule"], network=network)
        config["class_names"] = run["class_names"]
        tables = {f"schedule.{name}": torch.tensor(run[name], dtype=torch.float64, device="cpu") for name in ("signal", "noise")}
        return cls.from_files(config, ema | tables)


def _folder(kind: str, name: str) -> Path:
    known = sorted(path.name for path in (SHIPPED / kind).iterdir() if path.is_dir())
    if name not in known:
        error = unknown_name(f"pretrained {kind}", name, known)
        if isinstance(name, Path) or "/" in str(name) or Path(str(name)).is_dir():
            raise ValueError(f"{error} {kind.title()}.from_pretrained loads a model from a folder")
        raise error
    return SHIPPED / kind / name
