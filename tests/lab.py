"""JupyterLab on one notebook of one's own, and that notebook's cells."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from servers import jupyter_server


@contextmanager
def jupyter_lab(folder: Path, cells: Sequence[str]) -> Iterator[str]:
    """Writes `cells` to folder/notebook.ipynb and serves it; gives the address at which it opens."""
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder}",
    ]
    settings = {f"JUPYTERLAB_{name}_DIR": str(folder / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    with jupyter_server(folder, cells, command, settings) as address:
        yield f"{address}/lab/tree/notebook.ipynb?reset"


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
