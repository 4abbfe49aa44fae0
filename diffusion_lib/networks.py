"""The kinds of network that a saved config may name. A file cannot choose other classes; a new kind is one entry in a table."""

from collections.abc import Mapping
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lib import saving
from diffusion_lib.errors import unknown_name
from diffusion_lib.unet import UNet

# each is built as NETWORKS[kind](**network.config)
NETWORKS: dict[str, type[nn.Module]] = {"UNet": UNet}


def unwrapped(module: Any) -> Any:
    """The module inside torch's wrappers (`torch.compile`, data parallelism, averaged models). Other modules are returned unchanged."""
    while (inner := _inside(module)) is not None:
        module = module._modules[inner]
    return module


def plain_name(module: nn.Module, name: str) -> str:
    """A name in `module.state_dict()`, without the prefixes of torch's wrappers around the module or any part of it."""
    parts: list[str] = []
    within: Any = module
    for part in name.split("."):
        if part != _inside(within):
            parts.append(part)
        within = getattr(within, "_modules", {}).get(part)
    return ".".join(parts)


def plain_state(module: nn.Module) -> dict[str, Any]:
    """`module.state_dict()`, without the prefixes of torch's wrappers."""
    return {plain_name(module, name): value for name, value in module.state_dict().items()}


def kind_of(network: nn.Module) -> str | None:
    """The network's name in `NETWORKS`, or None."""
    mro = type(unwrapped(network)).__mro__
    own = next(each for each in mro if not each.__module__.startswith("torch."))  # torch's FSDP subclasses it
    return next((kind for kind, known in NETWORKS.items() if known is own), None)


def config_of(network: Any) -> dict:
    """The network's kind and config. Raises `ValueError` for an unknown kind, and for weights that do not match the config."""
    network = unwrapped(network)
    kind = kind_of(network)
    if kind is None:
        raise ValueError(
            f"the network is a {type(network).__name__}; expected one of {', '.join(NETWORKS)}, whose configs can be stored: "
            "diffusion_lib.networks.NETWORKS lists the kinds"
        )
    config = dict(kind=kind, **network.config)
    try:
        saving.check_weights(lambda: NETWORKS[kind](**network.config), plain_state(network))
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(
            f"the network's weights do not match its config as a {kind} ({shorten(str(error), 300, placeholder=' …')}); "
            "expected an unmodified network: undo replaced, parametrised, pruned or quantised parts"
        ) from error
    return config


def from_config(config: Mapping, weights: dict[str, Tensor]) -> nn.Module:
    """The network of a config, with these weights. Raises `ValueError` for an unknown kind, and for weights that do not fit."""
    options = dict(config)
    if (kind := options.pop("kind")) not in NETWORKS:
        raise unknown_name("network", kind, NETWORKS)
    return saving.built(lambda: NETWORKS[kind](**options), weights)


def _inside(module: Any) -> str | None:
    """The name under which a wrapper of torch's holds its module; None for any other module."""
    if "_orig_mod" in getattr(module, "_modules", ()):  # torch.compile's class is known only to torch._dynamo, which is slow to import
        return "_orig_mod"
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
    return "module" if isinstance(module, wrappers) else None
