"""The kinds of network that a saved config may name: none that a stranger's file chooses. Another one is one entry."""

from collections.abc import Mapping
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lib import saving
from diffusion_lib.errors import unknown_name
from diffusion_lib.unet import UNet

# each is made as NETWORKS[kind](**network.config)
NETWORKS: dict[str, type[nn.Module]] = {"UNet": UNet}


def unwrapped(module: Any) -> Any:
    """The module inside torch's wrappers: that of `torch.compile`, data parallelism, an averaged model. Others are returned as they are."""
    while (inner := _inside(module)) is not None:
        module = module._modules[inner]
    return module


def plain_name(module: nn.Module, name: str) -> str:
    """The name in `module.state_dict()` that it would have without torch's wrappers, around the module itself or any part of it."""
    parts: list[str] = []
    within: Any = module
    for part in name.split("."):
        if part != _inside(within):
            parts.append(part)
        within = getattr(within, "_modules", {}).get(part)
    return ".".join(parts)


def plain_state(module: nn.Module) -> dict[str, Any]:
    """`module.state_dict()`, under the names that it would have without torch's wrappers."""
    return {plain_name(module, name): value for name, value in module.state_dict().items()}


def kind_of(network: nn.Module) -> str | None:
    """The network's name in `NETWORKS`, None if it has none."""
    mro = type(unwrapped(network)).__mro__
    own = next(each for each in mro if not each.__module__.startswith("torch."))  # torch's FSDP makes a subclass of it
    return next((kind for kind, known in NETWORKS.items() if known is own), None)


def config_of(network: Any) -> dict:
    """The network's kind and config. Raises `ValueError` for a network of another kind, or one whose weights its config does not make."""
    network = unwrapped(network)
    kind = kind_of(network)
    if kind is None:
        raise ValueError(
            f"the network is a {type(network).__name__}; expected one of {', '.join(NETWORKS)}, whose config can be stored: "
            "diffusion_lib.networks.NETWORKS lists the kinds"
        )
    config = dict(kind=kind, **network.config)
    try:
        saving.check_weights(lambda: NETWORKS[kind](**network.config), plain_state(network))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"the network's weights are not those of a {kind} of its config ({shorten(str(error), 300, placeholder=' …')}), which "
            "could not load them; expected a network as it was made: undo what was replaced, parametrised, pruned or quantised in it"
        ) from error
    return config


def from_config(config: Mapping, weights: dict[str, Tensor]) -> nn.Module:
    """The network of a config, with these weights. Raises `ValueError` for a kind that is not listed, or weights that do not fit."""
    options = dict(config)
    if (kind := options.pop("kind")) not in NETWORKS:
        raise unknown_name("network", kind, NETWORKS)
    return saving.built(lambda: NETWORKS[kind](**options), weights)


def _inside(module: Any) -> str | None:
    """The name under which one of torch's wrappers holds what it wraps; None of a module that is none."""
    if "_orig_mod" in getattr(module, "_modules", ()):  # torch.compile's class is known only to torch._dynamo, which is slow to import
        return "_orig_mod"
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
    return "module" if isinstance(module, wrappers) else None
