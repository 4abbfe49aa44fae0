"""Run by each of two processes over which the weights are sharded.

torchrun … sharded.py FOLDER: writes what process k found into FOLDER/process-k.pt. FOLDER/resumed holds a run to resume.
"""

import os
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from helpers import SEVERAL, broken, tiny_dataset, tiny_denoiser
from torch.distributed.fsdp import FSDPModule

import diffusion_lib as dl
from diffusion_lib.training import sample_over_processes
from diffusion_lib.training.sharding import gather_state, is_sharded

folder, accelerator, found = Path(sys.argv[1]), Accelerator(cpu=True), {}
# accelerate takes FSDP's settings on GPUs alone, though torch's FSDP runs on CPUs too
AcceleratorState._shared_state["distributed_type"] = DistributedType.FSDP
for name, options in dict(plain={}, accumulated={}, resumed={}, loaded=dict(cpu_ram_efficient_loading=True)).items():
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap", **options)
    AcceleratorState._shared_state["fsdp_plugin"] = plugin
    accelerator.gradient_accumulation_steps = 5 if name == "accumulated" else 1
    denoiser = tiny_denoiser(seed=accelerator.process_index)  # each process its own: the first one's count
    taken = []
    for step in dl.train(denoiser, tiny_dataset(), replace(SEVERAL, checkpoint_every=5), folder / name, accelerator):
        taken.append((step.step, step.loss.item(), step.grad_norm.item()))
        for model in (step.ema, step.denoiser):  # looking at them while they are trained disturbs nothing
            dl.sample(model, 1, steps=1)
    models = dict(ema=step.ema, denoiser=denoiser)
    found[name] = dict(taken=taken, **{key: gather_state(model.state_dict()) for key, model in models.items()})
    for model in models.values():
        units = [path for path, module in model.named_modules() if isinstance(module, FSDPModule)]
        assert {"network", "network.middle"} <= set(units), units
        assert len(units) == 6, units
        assert all(is_sharded(p) and p.to_local().numel() < p.numel() for p in model.parameters() if len(p) > 1)
found["samples"] = dl.sample(step.ema, 5, steps=3, y=[0, 1, 2, 0, 1], batch_size=2)
found["kept"] = [value is not None for value in gather_state(step.ema.state_dict(), keep=accelerator.is_main_process).values()]

found["refused"] = {}
for name, action in dict(
    sample=lambda: sample_over_processes(step.ema, 5, accelerator, steps=3),
    train=lambda: dl.train(denoiser, tiny_dataset(), SEVERAL, accelerator=accelerator),
    save=lambda: step.ema.save_pretrained(folder / "model"),
).items():
    try:
        action()
    except ValueError as error:
        found["refused"][name] = str(error)
denoiser = broken({2} if accelerator.process_index == 1 else ())  # one process alone meets a loss that is not finite
weights = [gather_state(denoiser.state_dict()) for _ in dl.train(denoiser, tiny_dataset(), SEVERAL, accelerator=accelerator)]
found["unchanged"] = [all(torch.equal(a[key], b[key]) for key in a) for a, b in pairwise(weights)]
torch.save(found, folder / f"process-{accelerator.process_index}.pt")
accelerator.end_training()
# torch's caches of sharded tensors keep gloo's threads, which now and then abort a process while Python ends; on GPUs there is no gloo
os._exit(0)
