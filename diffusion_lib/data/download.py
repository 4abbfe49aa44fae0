"""Downloads that are made once, by one process, and are in their place whole or not at all."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

TIMEOUT = 60.0  # seconds
FAILURES = (OSError, RuntimeError, HTTPException)  # of a network or a host, as Python and torchvision raise them


def cache_folder() -> Path:
    """Where downloads are kept: $DIFFUSION_LIB_CACHE if set, else ~/.cache/diffusion_lib."""
    return Path(os.environ.get("DIFFUSION_LIB_CACHE") or "~/.cache/diffusion_lib").expanduser()


def download(name: str, root: Path, fetch: Callable[[str], None], is_there: Callable[[], bool]) -> None:
    """Has `fetch` write files into a folder of their own, and then moves each to its place in `root`.

    One process at a time does so; the others wait, and find with `is_there` what it has left. Raises whatever `fetch` raises, and
    leaves nothing in `root` then.
    """
    from filelock import FileLock

    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"), connection_timeout(TIMEOUT):
        if is_there():
            return  # another process was faster
        for leftover in root.glob(f".{name}-*"):  # of a download that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as fresh:
            fetch(fresh)
            for file in sorted(path for path in Path(fresh).rglob("*") if path.is_file()):
                place = root / file.relative_to(fresh)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, place)


@contextmanager
def connection_timeout(seconds: float) -> Iterator[None]:
    """How long a host may send nothing; one that goes on sending is waited for. Torchvision sets no limit of its own; Python's applies to
    new connections of the whole process."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
