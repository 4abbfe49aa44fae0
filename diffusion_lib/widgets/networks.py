"""The denoiser inside torch.compile, DataParallel or guidance."""

from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from diffusion_lib import networks
from diffusion_lib.denoiser import Denoiser
from diffusion_lib.sampling import parameters_of

WRAPPERS = ("_orig_mod", "module")  # the names that torch.compile and DataParallel add to a path


def unwrapped(denoiser: Any) -> Any:
    """The denoiser without the wrappers of torch.compile and DataParallel; `ValueError` if it is not a denoiser."""
    denoiser = networks.unwrapped(denoiser)
    if not callable(denoiser) or getattr(denoiser, "schedule", None) is None:
        remedy = ": Denoiser(network, schedule, prediction) makes one from a network" if isinstance(denoiser, nn.Module) else ""
        raise ValueError(f"denoiser is a {type(denoiser).__name__}; expected a denoiser, which has a schedule{remedy}")
    return denoiser


def with_network(denoiser: Any) -> Denoiser:
    """The `Denoiser` inside guidance, torch.compile or DataParallel; `ValueError` if there is none."""
    denoiser = unwrapped(denoiser)
    inner = networks.unwrapped(getattr(denoiser, "denoiser", denoiser))
    if not isinstance(getattr(inner, "network", None), nn.Module):
        raise ValueError(f"the denoiser is a {type(inner).__name__}; expected a Denoiser, whose network is a UNet")
    if isinstance(
        inner.network, DataParallel | DistributedDataParallel
    ):  # it would call copies of the module, one on each device, instead of the module
        inner = Denoiser(inner.network.module, inner.schedule, inner.prediction, inner.image_shape, inner.class_names)
    return inner


def placed(images: Tensor, denoiser: Any) -> Tensor:
    """The images with the device and type of the denoiser's weights; unchanged if it has none."""
    weight = next(parameters_of(denoiser), None)
    return images if weight is None else images.to(weight.device, weight.dtype)
