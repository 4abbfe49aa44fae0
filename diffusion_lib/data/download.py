"""Atomic downloads, made once and by one process at a time."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

TIMEOUT = 60.0  # seconds
FAILURES = (OSError, RuntimeError, HTTPException)  # raised by Python and torchvision for failing networks and hosts


def cache_folder() -> Path:
    """The folder for downloads: $DIFFUSION_LIB_CACHE if set, else ~/.cache/diffusion_lib."""
    return Path(os.environ.get("DIFFUSION_LIB_CACHE") or "~/.cache/diffusion_lib").expanduser()


def download(name: str, root: Path, fetch: Callable[[str], None], is_there: Callable[[], bool]) -> None:
    """Calls `fetch` to write files into a temporary folder, then moves each file to its place in `root`.

    One process at a time does so; the others wait, and `is_there` tells them that it is done. Raises whatever `fetch` raises, and then
    leaves nothing in `root`.
    """
    from filelock import FileLock

    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"), connection_timeout(TIMEOUT):
        if is_there():
            return  # another process was faster
        for leftover in root.glob(f".{name}-*"):  # of a killed download
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as fresh:
            fetch(fresh)
            for file in sorted(path for path in Path(fresh).rglob("*") if path.is_file()):
                place = root / file.relative_to(fresh)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, place)


@contextmanager
def connection_timeout(seconds: float) -> Iterator[None]:
    """Limits how long a host may stay silent; a slow but active host is waited for. Torchvision sets no limit. This one applies to all
    new connections of the process."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
