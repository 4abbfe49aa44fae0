"""Allocates and frees as a training step does, within a context: `nullcontext` or `keep_freed_memory`.

freed_memory.py CONTEXT: prints the fewest and the most page faults of a round, once memory use is stable, and the megabytes that the
process releases when it leaves the context. Each context needs a process of its own: glibc's settings apply to the whole process.
"""

import resource
import sys
from contextlib import nullcontext
from pathlib import Path

import torch

from diffusion_lib.training.memory import keep_freed_memory


def faults_of_a_round():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(100_000 * (1 + k % 8)) for k in range(72)]  # 130 MB, as a step's feature maps: many, of all sizes
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


context = dict(nullcontext=nullcontext, keep_freed_memory=keep_freed_memory)[sys.argv[1]]
with context():
    rounds = [faults_of_a_round() for _ in range(8)]
    inside = resident()
print(min(rounds[4:]), max(rounds[4:]), round(inside - resident()))
