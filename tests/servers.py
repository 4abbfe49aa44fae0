"""Chromium's path and flags, and a Jupyter server that serves one notebook. Used by tests and by benchmarks/widget_latency.py."""

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@contextmanager
def jupyter_server(folder: Path, cells: Sequence[str], command: Sequence[str], settings: dict[str, str]) -> Iterator[str]:
    """Writes `cells` to folder/notebook.ipynb and starts `command` on it, with the environment variables `settings`; gives its address.

    The server's own settings and runtime files stay in the folder. Raises `TimeoutError` if it does not answer within five minutes.
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = dict(name="python3", display_name="Python 3", language="python")
    nbformat.write(notebook, folder / "notebook.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    log = folder / "server.log"
    with open(log, "w") as file:
        server = subprocess.Popen([*command, *options], env=os.environ | places | settings, stdout=file, stderr=file)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()  # which also ends its kernels
        try:
            server.wait(timeout=120)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"no answer from {address} within {seconds:.0f} s; the server's log ends with:\n{log.read_text()[-2000:]}")
