"""The C library's allocator, told to keep what one training step frees for the next one."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MMAP_THRESHOLD = 32 * 2**20  # bytes; the highest that glibc takes, and what it moves towards by itself
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # <malloc.h>


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Within, memory that is freed stays with the process, to be used again; afterwards it goes back to the system.

    A training step allocates and frees the same few hundred megabytes of feature maps as the step before. Left to itself, glibc
    hands them back to the system each time and is given them anew, page by page, each of them cleared: some 8,000 page faults
    a step of 64 images with the default network. (GPUs are not concerned: torch caches their memory.) The setting is the whole
    process's. Does nothing where there is no glibc.
    """
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(M_TOP_PAD, 64 * 2**20)
    try:
        yield
    finally:
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MMAP_THRESHOLD)  # glibc's own proportion
        libc.mallopt(M_TOP_PAD, 128 * 2**10)
        libc.malloc_trim(0)
