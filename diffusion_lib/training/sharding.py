"""Weights sharded over processes (FSDP2: Zhao et al. 2023, arXiv:2304.11277), as accelerate is set up to do it.

Of a tensor that is sharded (torch's `DTensor`) each process holds one part. What asks for the whole tensor, or calls the network,
makes the processes talk: all of them must do it, in the same order.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffusion_lib.devices import is_sharded

if TYPE_CHECKING:
    from accelerate import Accelerator

if torch.distributed.is_available():
    # DistributedDataParallel imports this, and its default arguments keep the process group of that moment for good: so it has to be
    # imported before there is one, or gloo's threads outlive it and now and then abort a process that has done its work
    import torch.distributed.nn.functional


def shards(accelerator: "Accelerator | None") -> bool:
    """Whether the accelerator is set to shard weights."""
    return accelerator is not None and str(accelerator.distributed_type).endswith("FSDP")


def check_settings(accelerator: "Accelerator") -> None:
    """Raises `ValueError` for settings of accelerate's that `shard` does not know."""
    from torch.distributed.fsdp import CPUOffloadPolicy

    plugin, parallelism = accelerator.state.fsdp_plugin, getattr(accelerator, "parallelism_config", None)
    found = dict(
        fsdp_version=getattr(plugin, "fsdp_version", 1),
        cpu_offload=isinstance(plugin.cpu_offload, CPUOffloadPolicy),
        activation_checkpointing=plugin.activation_checkpointing,
        ignored_modules=plugin.ignored_modules,
        # with these, processes share the work on an image, where `train` gives each its own images
        **{name: getattr(parallelism, name, False) for name in ("tp_enabled", "cp_enabled", "sp_enabled")},
    )
    for name in found:
        expected = dict(fsdp_version=2, ignored_modules=None).get(name, False)
        if found[name] != expected:
            raise ValueError(f"accelerate's FSDP has {name}={found[name]}; expected {expected}: run `accelerate config` again")


def shard(network: torch.nn.Module, accelerator: "Accelerator") -> None:
    """Shards the weights over the processes, in place; the modules that are sharded one by one are accelerate's choice."""
    from accelerate.utils import fsdp2_prepare_model
    from torch.distributed.fsdp import MixedPrecisionPolicy

    network.to(memory_format=torch.contiguous_format)  # FSDP2 knows no other
    # weights stay float32, and so do the images and the noise that come in; autocast computes in less where that does no harm
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
    accelerator.state.fsdp_plugin.cpu_ram_efficient_loading = False  # every process has the weights already
    fsdp2_prepare_model(accelerator, network)


def reshard(network: torch.nn.Module) -> None:
    """Shards weights that are still gathered: a call without gradients leaves those of the outermost module so."""
    for module in network.modules():
        sharded: Any = module  # if it is, torch has made it an FSDPModule
        if hasattr(sharded, "reshard"):
            sharded.reshard()


def gather(tensor: Any) -> Tensor:
    """The whole tensor, where each process may hold a part of it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def gather_state(state: Any, keep: bool = True) -> Any:
    """A dict of any depth, with whole tensors in the place of the sharded ones; all processes must call it.

    They are put together one at a time and kept in the CPU's memory, where `keep` is true; elsewhere None takes their place.
    """
    if isinstance(state, dict):
        return {name: gather_state(value, keep) for name, value in state.items()}
    if not is_sharded(state):
        return state
    tensor = state.full_tensor()
    return tensor.cpu() if keep else None


def placed_like(tensor: Any, like: Any) -> Any:
    """The whole `tensor`, which all processes have, on the device of `like`, sharded and laid out in memory as `like` is.

    One of another shape, or what is no tensor, is returned as it is.
    """
    if not (isinstance(tensor, Tensor) and isinstance(like, Tensor) and tensor.shape == like.shape):
        return tensor
    if not is_sharded(like):
        return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor.to(like.device).contiguous(), like.device_mesh, like.placements)
