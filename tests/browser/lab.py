"""Chromium, and a JupyterLab of one's own with a notebook whose cells can be run. Used by tests and by benchmarks/widget_latency.py."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
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
def jupyter_lab(folder: Path, cells: Sequence[str]) -> Iterator[str]:
    """Writes `cells` to folder/notebook.ipynb and serves it; gives the address at which it opens. Raises `TimeoutError` after a minute."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = dict(name="python3", display_name="Python 3", language="python")
    nbformat.write(notebook, folder / "notebook.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # its settings, workspaces and runtime files stay in the folder
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    places |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--allow-root"]
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(command, env=os.environ | places, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status", server, folder / "server.log")
        yield f"http://127.0.0.1:{port}/lab/tree/notebook.ipynb?reset"
    finally:
        server.terminate()  # which also ends its kernels
        server.wait(timeout=30)


def run_cell(page, index: int, wait: bool = True) -> None:
    """Runs cell `index`, which has not been run yet, of the notebook that `page` shows, and waits until it is done."""
    prompt = "i => document.querySelectorAll('.jp-Notebook .jp-CodeCell')[i].querySelector('.jp-InputPrompt').textContent"
    for _ in range(10):
        page.locator(".jp-Notebook .jp-CodeCell").nth(index).locator(".cm-content").click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(1000)
        if page.evaluate(prompt, index).strip() != "[ ]:":  # the first key after opening is lost now and then
            break
    if wait:
        page.wait_for_function(f"i => /[0-9]/.test(({prompt})(i))", arg=index, timeout=120_000)


def open_notebook(page, address: str) -> None:
    """Opens the notebook and waits for its kernel."""
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=90_000)
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(timeout=90_000)


def output_of(page, index: int) -> str:
    return page.locator(".jp-Notebook .jp-CodeCell").nth(index).locator(".jp-OutputArea-output").last.inner_text()


def _wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                json.load(answer)
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if server.poll() is not None:
                break
            time.sleep(0.2)
    raise TimeoutError(f"no answer from {address} within {seconds:.0f} s; the server's log ends with:\n{log.read_text()[-2000:]}")
