"""Classic Notebook on one notebook of one's own, and that notebook's cells: tests/browser/lab.py's counterpart."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat


@contextmanager
def classic_notebook(python: str, folder: Path, cells: Sequence[str]) -> Iterator[str]:
    """Writes `cells` to folder/notebook.ipynb and serves it with the Notebook of the interpreter `python`; gives its address."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = dict(name="python3", display_name="Python 3", language="python")
    nbformat.write(notebook, folder / "notebook.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # neither the user's settings and extensions nor those of the environment that runs the tests
    places = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")} | {"JUPYTER_PATH": ""}
    command = [python, "-m", "notebook", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--NotebookApp.port_retries=0", "--NotebookApp.token=", f"--notebook-dir={folder}"]
    log = folder / "server.log"
    with open(log, "w") as file:
        server = subprocess.Popen(command, env=os.environ | places, stdout=file, stderr=file)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status", server, log)
        yield f"http://127.0.0.1:{port}/notebooks/notebook.ipynb"
    finally:
        server.terminate()  # which also ends its kernels
        server.wait(timeout=30)


def open_notebook(page, address: str) -> None:
    """Opens the notebook and waits for its kernel, and for the widget manager: widgets made before it is there are not shown."""
    page.goto(address)
    page.wait_for_function("() => window.Jupyter?.notebook?.kernel?.widget_manager", timeout=60_000)
    page.locator("#kernel_indicator_icon.kernel_idle_icon").wait_for(timeout=60_000)


def run_cell(page, index: int, wait: bool = True) -> str:
    """Runs cell `index` and gives what it printed, or does not wait for that."""
    page.locator(".code_cell").nth(index).locator(".prompt_container").click()
    page.keyboard.press("Control+Enter")
    return finished(page, index) if wait else ""


def finished(page, index: int) -> str:
    """Waits until cell `index` is done and gives what it printed."""
    done = "i => /[0-9]/.test(document.querySelectorAll('.code_cell .input_prompt')[i].textContent)"
    page.wait_for_function(done, arg=index, timeout=120_000)
    return "".join(page.locator(".code_cell").nth(index).locator(".output_stdout").all_inner_texts()).strip()


def _wait_for(address: str, server: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"no answer from {address} within {seconds:.0f} s; the server's log ends with:\n{log.read_text()[-2000:]}")
