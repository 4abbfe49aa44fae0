"""Memory that training frees is reused in the next step, and released when training ends."""

import ctypes
import sys
from pathlib import Path

import pytest
from helpers import start

from diffusion_lib.training import memory

PROGRAM = Path(__file__).parent / "programs" / "freed_memory.py"


def measure(context):
    # as glibc starts out: left to adapt, it comes to keep memory or not by what happens to lie at the end of the heap
    done = start(PROGRAM, context, MALLOC_MMAP_THRESHOLD_="131072", MALLOC_TRIM_THRESHOLD_="131072")
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt: nothing to test"
)
def test_freed_memory_is_reused_and_released_at_the_end():
    fewest, _, _ = measure("nullcontext")
    assert fewest > 10_000
    _, most, given_back = measure("keep_freed_memory")
    assert most < fewest / 10
    assert given_back > 100  # of the 130 MB


def test_memory_settings_change_only_on_linux(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)  # calling it would fail
    with memory.keep_freed_memory():
        pass
