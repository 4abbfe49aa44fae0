"""Memory that training frees is kept for its next step, and given back when training is over."""

import ctypes
import os
import subprocess
import sys

import pytest

from diffusion_lib.training import memory

# one process each, since glibc's settings are the process's: page faults and resident megabytes, round by round
SCRIPT = """
import resource, torch
from contextlib import nullcontext
from diffusion_lib.training.memory import keep_freed_memory

def faults_of_a_round():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(100_000 * (1 + k % 8)) for k in range(72)]  # 130 MB, as a step's feature maps: many, of all sizes
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20

with {context}():
    rounds = [faults_of_a_round() for _ in range(8)]
    inside = resident()
print(min(rounds[4:]), max(rounds[4:]), round(inside - resident()))
"""


def measure(context):
    # as glibc starts out: left to adapt, it comes to keep memory or not by what happens to lie at the end of the heap
    environment = os.environ | dict(MALLOC_MMAP_THRESHOLD_="131072", MALLOC_TRIM_THRESHOLD_="131072")
    command = [sys.executable, "-c", SCRIPT.format(context=context)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return [int(word) for word in output.split()]


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt: nothing to test"
)
def test_freed_memory_is_used_again_and_given_back_at_the_end():
    fewest, _, _ = measure("nullcontext")
    assert fewest > 10_000
    _, most, given_back = measure("keep_freed_memory")
    assert most < fewest / 10
    assert given_back > 100  # of the 130 MB


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)  # calling it would fail
    with memory.keep_freed_memory():
        pass
