"""Networks inside torch's wrappers are the networks that they are, and only what can be loaded again is saved."""

import pytest
import torch
from helpers import tiny_unet
from torch import nn
from torch.nn.utils import prune

from diffusion_lib.networks import config_of, kind_of, plain_name, plain_state, unwrapped


def compiled(module):
    return torch.compile(module, backend="eager")


WRAPPERS = {
    "compiled": compiled,
    "data parallel": nn.DataParallel,
    "averaged": torch.optim.swa_utils.AveragedModel,
    "compiled twice": lambda module: compiled(nn.DataParallel(compiled(module))),
}


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_wrapped_network_has_the_kind_of_its_inner_network(wrap):
    network = WRAPPERS[wrap](tiny_unet())
    assert unwrapped(network).config == tiny_unet().config
    assert kind_of(network) == "UNet"
    assert config_of(network) == dict(kind="UNet", **tiny_unet().config)
    assert plain_state(unwrapped(network)).keys() == tiny_unet().state_dict().keys()


def test_plain_names_drop_only_the_wrappers_prefixes():
    network = tiny_unet()
    plain = list(network.state_dict())
    network.middle = compiled(network.middle)
    network.down[0] = nn.DataParallel(network.down[0])
    assert list(network.state_dict()) != plain
    assert list(plain_state(nn.DataParallel(compiled(network)))) == plain
    assert plain_name(network, "middle._orig_mod.residual.conv1.weight") == "middle.residual.conv1.weight"

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(1, 1)  # a name that a wrapper uses, too

    assert list(plain_state(Own())) == ["module.weight", "module.bias"]
    assert unwrapped(own := Own()) is own


def test_compiled_part_of_a_network_can_be_stored():
    network = tiny_unet()
    network.middle = compiled(network.middle)
    assert config_of(network)["kind"] == "UNet"


@pytest.mark.parametrize("change", ["parametrised", "replaced", "pruned"])
def test_rejects_storing_a_network_that_differs_from_its_config(change):
    network = tiny_unet()
    if change == "parametrised":
        nn.utils.parametrizations.weight_norm(network.stem)
    elif change == "replaced":
        network.stem = nn.Conv2d(4, 24, 3, padding=1)
    else:
        prune.l1_unstructured(network.time_embedding.mlp[0], "weight", amount=0.5)
    with pytest.raises(ValueError, match=r"(?s)weights do not match its config as a UNet \(.+\); expected an unmodified network: undo"):
        config_of(network)
