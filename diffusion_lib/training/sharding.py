"""Weights sharded over processes (FSDP2: Zhao et al. 2023, arXiv:2304.11277), as configured in accelerate.

Each process holds one part of a sharded tensor (torch's `DTensor`). Gathering the full tensor and calling the network involve
communication: all processes must do both, in the same order.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffusion_lib.devices import is_sharded

if TYPE_CHECKING:
    from accelerate import Accelerator

if torch.distributed.is_available():
    # DistributedDataParallel imports this module, whose default arguments keep the current process group for ever. Import it before
    # there is one: otherwise gloo's threads outlive the group and sometimes abort a process that has finished
    import torch.distributed.nn.functional


def shards(accelerator: "Accelerator | None") -> bool:
    """Whether the accelerator is configured to shard weights."""
    return accelerator is not None and str(accelerator.distributed_type).endswith("FSDP")


def check_settings(accelerator: "Accelerator") -> None:
    """Raises `ValueError` for settings of accelerate that `shard` does not support."""
    from torch.distributed.fsdp import CPUOffloadPolicy

    plugin, parallelism = accelerator.state.fsdp_plugin, getattr(accelerator, "parallelism_config", None)
    found = dict(
        fsdp_version=getattr(plugin, "fsdp_version", 1),
        cpu_offload=isinstance(plugin.cpu_offload, CPUOffloadPolicy),
        activation_checkpointing=plugin.activation_checkpointing,
        ignored_modules=plugin.ignored_modules,
        # with these, processes share the work on one image, but `train` gives each process its own images
        **{name: getattr(parallelism, name, False) for name in ("tp_enabled", "cp_enabled", "sp_enabled")},
    )
    for name in found:
        expected = dict(fsdp_version=2, ignored_modules=None).get(name, False)
        if found[name] != expected:
            raise ValueError(f"accelerate's FSDP has {name}={found[name]}; expected {expected}: run `accelerate config` again")


def shard(network: torch.nn.Module, accelerator: "Accelerator") -> None:
    """Shards the weights over the processes in place; accelerate chooses which modules to shard one by one."""
    from accelerate.utils import fsdp2_prepare_model
    from torch.distributed.fsdp import MixedPrecisionPolicy

    network.to(memory_format=torch.contiguous_format)  # FSDP2 supports no other
    # weights, images and noise stay float32; autocast lowers the precision of the arithmetic where it is safe
    accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy()
    accelerator.state.fsdp_plugin.cpu_ram_efficient_loading = False  # every process has the weights already
    fsdp2_prepare_model(accelerator, network)


def reshard(network: torch.nn.Module) -> None:
    """Shards weights that are still gathered: a call without gradients leaves the outermost module's weights gathered."""
    for module in network.modules():
        sharded: Any = module  # torch makes a sharded module an FSDPModule
        if hasattr(sharded, "reshard"):
            sharded.reshard()


def gather(tensor: Any) -> Tensor:
    """The full tensor, of which each process may hold a part."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def gather_state(state: Any, keep: bool = True) -> Any:
    """A nested dict with full tensors in place of the sharded ones; all processes must call it.

    Tensors are gathered one at a time and stored in CPU memory if `keep` is true, and replaced by None otherwise.
    """
    if isinstance(state, dict):
        return {name: gather_state(value, keep) for name, value in state.items()}
    if not is_sharded(state):
        return state
    tensor = state.full_tensor()
    return tensor.cpu() if keep else None


def placed_like(tensor: Any, like: Any) -> Any:
    """The full `tensor`, which all processes hold, with the device, sharding and memory layout of `like`.

    Returns tensors of another shape, and other objects, unchanged.
    """
    if not (isinstance(tensor, Tensor) and isinstance(like, Tensor) and tensor.shape == like.shape):
        return tensor
    if not is_sharded(like):
        return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor.to(like.device).contiguous(), like.device_mesh, like.placements)
