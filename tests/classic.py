"""Starts classic Notebook on a notebook made from given cells, and runs those cells."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from servers import jupyter_server


@contextmanager
def classic_notebook(python: str, folder: Path, cells: Sequence[str]) -> Iterator[str]:
    """Writes `cells` to folder/notebook.ipynb and serves it with the Notebook of the interpreter `python`; gives its address."""
    command = [python, "-m", "notebook", "--NotebookApp.port_retries=0", "--NotebookApp.token=", f"--notebook-dir={folder}"]
    # without JUPYTER_PATH: no extensions of the environment that runs the tests
    with jupyter_server(folder, cells, command, {"JUPYTER_PATH": ""}) as address:
        yield f"{address}/notebooks/notebook.ipynb"


def open_notebook(page, address: str) -> None:
    """Opens the notebook and waits for its kernel, and for the widget manager: widgets made before it is there are not shown."""
    page.goto(address, timeout=300_000)
    page.wait_for_function("() => window.Jupyter?.notebook?.kernel?.widget_manager", timeout=300_000)
    page.locator("#kernel_indicator_icon.kernel_idle_icon").wait_for(timeout=300_000)


def run_cell(page, index: int, wait: bool = True) -> str:
    """Runs cell `index` and gives what it printed, or does not wait for that."""
    page.locator(".code_cell").nth(index).locator(".prompt_container").click()
    page.keyboard.press("Control+Enter")
    return finished(page, index) if wait else ""


def finished(page, index: int) -> str:
    """Waits until cell `index` is done and gives what it printed."""
    done = "i => /[0-9]/.test(document.querySelectorAll('.code_cell .input_prompt')[i].textContent)"
    page.wait_for_function(done, arg=index, timeout=300_000)
    return "".join(page.locator(".code_cell").nth(index).locator(".output_stdout").all_inner_texts()).strip()
