"""Run by each of two processes that train together: plainly, with accumulation, from a checkpoint, and in cases that must fail.

torchrun … two_processes.py FOLDER: writes what process k found into FOLDER/process-k.pt. FOLDER/resumed holds a run to resume.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from helpers import SEVERAL, tiny_dataset, tiny_denoiser

import diffusion_lib as dl
from diffusion_lib.training import checkpoints, sample_over_processes

folder, accelerator, found = Path(sys.argv[1]), Accelerator(cpu=True), {}


def threads():
    """The names of this process's threads, [] where the system does not list them."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def messages(parts):
    """How many gradients and losses this process averages with the other one's in one step."""
    accelerator.gradient_accumulation_steps = parts
    steps = dl.train(tiny_denoiser(), tiny_dataset(), SEVERAL, accelerator=accelerator)
    next(steps)  # in the first steps, torch's data parallelism still arranges itself
    next(steps)
    with torch.profiler.profile() as profile:
        next(steps)
    return sum("all_reduce" in event.name for event in profile.events())


class Scaled(dl.Denoiser):
    """It has a weight of its own, beside its network's, and its loss looks at the network."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.log_scale = torch.nn.Parameter(torch.zeros(()))

    def loss(self, *arguments, **options):
        assert self.network.num_classes == 3
        return super().loss(*arguments, **options) * self.log_scale.exp() + self.log_scale**2


def no_room(directory, content, seen):
    raise OSError("no room")


for name, parts in dict(plain=1, accumulated=5, resumed=1).items():
    accelerator.gradient_accumulation_steps = parts
    denoiser = tiny_denoiser(seed=accelerator.process_index)  # each process its own: the first one's count
    taken = []
    for step in dl.train(denoiser, tiny_dataset(), replace(SEVERAL, checkpoint_every=1), folder / name, accelerator):
        taken.append((step.step, step.loss.item(), step.grad_norm.item()))
        if step.step == 1 and accelerator.is_main_process:
            shutil.copy(folder / name / "step-00000001.pt", folder / f"{name}.pt")
    found[name] = dict(taken=taken, ema=step.ema.state_dict(), denoiser=denoiser.state_dict())
found["samples"] = sample_over_processes(step.ema, 5, accelerator, steps=3, y=[0, 1, 2, 0, 1], batch_size=2)
found["one sample"] = sample_over_processes(step.ema, 1, accelerator, steps=3)  # the other process has nothing to do

found["messages"] = [messages(parts) for parts in (1, 5)]

accelerator.gradient_accumulation_steps = 1
tiny = tiny_denoiser()
own = Scaled(tiny.network, tiny.schedule, "eps")
*_, step = dl.train(own, tiny_dataset(), SEVERAL, accelerator=accelerator)
found["a weight of its own"] = own.log_scale.detach(), step.grad_norm

checkpoints.write = no_room
try:
    next(dl.train(tiny_denoiser(), tiny_dataset(), replace(SEVERAL, checkpoint_every=1), folder / "no room", accelerator))
except OSError as error:
    found["not written"] = str(error)
try:  # each its own folder: only the first one finds a checkpoint in it
    dl.train(tiny_denoiser(), tiny_dataset(), SEVERAL, folder / ("plain" if accelerator.is_main_process else "another"), accelerator)
except ValueError as error:
    found["not together"] = str(error)
accelerator.end_training()
found["threads"] = threads()
torch.save(found, folder / f"process-{accelerator.process_index}.pt")
