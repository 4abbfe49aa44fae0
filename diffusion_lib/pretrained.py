"""Denoisers on disk, and the weights that ship with the package. docs/training.md has the commands that made them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lib import pretrained_files
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.errors import unknown_name
from diffusion_lib.measure.classifier import Classifier
from diffusion_lib.schedules import Schedule
from diffusion_lib.training import checkpoints
from diffusion_lib.training.sharding import is_sharded
from diffusion_lib.unet import UNet

WEIGHTS = Path(__file__).parent / "weights"
# The kinds of network that a saved config may name: none that a stranger's file chooses. Each is made as NETWORKS[kind](**network.config).
NETWORKS: dict[str, type[nn.Module]] = {"UNet": UNet}


def load_pretrained(name: str) -> Denoiser:
    """The trained denoiser called `name`, of 28x28 images, in eval mode, on the CPU.

    "glyphs": the letters and digits of `diffusion_lib.data.glyphs.CHARACTERS`, by a `UNet` of 48 channels; "mnist": handwritten
    digits, 0..9, by the default one of 32: both class-conditional. "glyphs-1", "glyphs-10", "glyphs-1000", "glyphs-20000": small
    unconditional ones, of so many images: the first ones of `load_dataset("glyphs")`, for the last those of
    `load_dataset("glyphs", seed=1)`.
    """
    return Denoiser.from_pretrained(_folder("denoiser", name))


def load_classifier(name: str) -> Classifier:
    """The classifier trained on the dataset `name` ("glyphs", "mnist"), in eval mode: what quality is measured with. Images in [-1, 1]."""
    return Classifier.from_pretrained(_folder("classifier", name))


def save_denoiser(denoiser: Denoiser, directory: str | Path) -> None:
    """`Denoiser.save_pretrained`."""
    if any(map(is_sharded, denoiser.parameters())):
        raise ValueError(
            "the weights are sharded over processes; expected whole ones: Denoiser.from_pretrained(folder) loads the average in the "
            "newest checkpoint of the run"
        )
    network: Any = denoiser.network
    kind = next((kind for kind, known in NETWORKS.items() if type(network) is known), None)
    if kind is None:
        raise ValueError(
            f"the network is a {type(network).__name__}; expected one of {', '.join(NETWORKS)}, whose config can be stored: "
            "diffusion_lib.pretrained.NETWORKS lists the kinds"
        )
    config = dict(
        prediction=denoiser.prediction,
        image_shape=denoiser.image_shape,
        schedule=denoiser.schedule.name,
        network=dict(kind=kind, **network.config),
    )
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"schedule.{name}": getattr(denoiser.schedule, name) for name in ("signal", "noise")}
    pretrained_files.write(directory, config, tensors)


def load_denoiser(directory_or_hub_id: str | Path, cls: type[Denoiser] = Denoiser) -> Denoiser:
    """`Denoiser.from_pretrained`."""
    folder = Path(directory_or_hub_id)
    if folder.is_dir() and not (folder / pretrained_files.CONFIG).exists():
        for place in (folder / "checkpoints", folder):
            if (state := checkpoints.newest(place)) is not None:
                return load_checkpoint(state, cls)
    config, tensors = pretrained_files.read(directory_or_hub_id)
    with pretrained_files.blame(directory_or_hub_id):
        pretrained_files.expect_keys(config, {"prediction", "image_shape", "schedule", "network"})
        schedule = Schedule(tensors.pop("schedule.signal"), tensors.pop("schedule.noise"), str(config["schedule"]))
        return _built(cls, config["network"], tensors, schedule, config["prediction"], config["image_shape"])


def load_checkpoint(state: checkpoints.State, cls: type[Denoiser] = Denoiser) -> Denoiser:
    """The average in a checkpoint of a training run, in eval mode, on the CPU."""
    run = state.content["run"]
    with pretrained_files.blame(state.path):
        schedule = Schedule(torch.tensor(run["signal"]), torch.tensor(run["noise"]), run["schedule"])
        network = {name.removeprefix("network."): value for name, value in run.items() if name.startswith("network.")}
        return _built(cls, network, state.content["ema"], schedule, run["prediction"], run["image_shape"])


def _built(
    cls: type[Denoiser], network: dict, tensors: dict[str, Tensor], schedule: Schedule, prediction: str, image_shape: Any
) -> Denoiser:
    """The denoiser of a config and weights that may come from anywhere."""
    if strange := [name for name in tensors if not name.startswith("network.")]:
        raise ValueError(f"it holds a tensor {strange[0]!r}; expected names that begin with 'network.', and the schedule's tables")
    weights = {name.removeprefix("network."): value for name, value in tensors.items()}
    config = dict(network)
    if (kind := config.pop("kind")) not in NETWORKS:
        raise unknown_name("network", kind, NETWORKS)
    built: Any = pretrained_files.built(lambda: NETWORKS[kind](**config), weights)
    if image_shape is not None and hasattr(built, "check_image_shape"):
        built.check_image_shape(image_shape)
    return cls(built, schedule, prediction, image_shape).eval()


def _folder(kind: str, name: str) -> Path:
    known = sorted(path.name for path in (WEIGHTS / kind).iterdir() if path.is_dir())
    if name not in known:
        raise unknown_name(f"pretrained {kind}", name, known)
    return WEIGHTS / kind / name
