"""The kinds of network that a saved config may name: none that a stranger's file chooses. Another one is one entry."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from diffusion_lib import saving
from diffusion_lib.errors import unknown_name
from diffusion_lib.unet import UNet

# each is made as NETWORKS[kind](**network.config)
NETWORKS: dict[str, type[nn.Module]] = {"UNet": UNet}


def kind_of(network: nn.Module) -> str | None:
    """The network's name in `NETWORKS`, None if it has none."""
    own = next(each for each in type(network).__mro__ if not each.__module__.startswith("torch."))  # torch's FSDP makes a subclass of it
    return next((kind for kind, known in NETWORKS.items() if known is own), None)


def config_of(network: Any) -> dict:
    """The network's kind and config. Raises `ValueError` for a network of another kind."""
    kind = kind_of(network)
    if kind is None:
        raise ValueError(
            f"the network is a {type(network).__name__}; expected one of {', '.join(NETWORKS)}, whose config can be stored: "
            "diffusion_lib.networks.NETWORKS lists the kinds"
        )
    return dict(kind=kind, **network.config)


def from_config(config: Mapping, weights: dict[str, Tensor]) -> nn.Module:
    """The network of a config, with these weights. Raises `ValueError` for a kind that is not listed, or weights that do not fit."""
    options = dict(config)
    if (kind := options.pop("kind")) not in NETWORKS:
        raise unknown_name("network", kind, NETWORKS)
    return saving.built(lambda: NETWORKS[kind](**options), weights)
