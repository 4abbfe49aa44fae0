"""Starts JupyterLab on a notebook made from given cells, and runs those cells."""

import re
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


CELL = "document.querySelectorAll('.jp-Notebook .jp-CodeCell')[i]"
PROMPT = f"{CELL}.querySelector('.jp-InputPrompt').textContent.trim()"


def run_cell(page, index: int, wait: bool = True) -> None:
    """Runs cell `index` of the notebook that `page` shows, and waits until it is done, or only until it has begun.

    Raises `RuntimeError` if the cell does not begin, with the text of a dialog that covers it.
    """
    from playwright.sync_api import TimeoutError

    before = page.evaluate(f"i => {PROMPT}", index)
    for _ in range(5):
        try:
            page.locator(".jp-Notebook .jp-CodeCell").nth(index).locator(".cm-content").click()
        except TimeoutError:
            dialogs = page.locator(".jp-Dialog").all_inner_texts()
            raise RuntimeError(f"cell {index} cannot be clicked; dialogs in the way: {dialogs}") from None
        page.wait_for_function(f"i => {CELL}.contains(document.activeElement)", arg=index, timeout=120_000)
        page.keyboard.press("Shift+Enter")
        try:  # the first key after opening is lost now and then; pressed again too soon, it would run the cell twice
            page.wait_for_function(f"([i, before]) => {PROMPT} !== before", arg=[index, before], timeout=30_000)
            break
        except TimeoutError:
            pass
    else:
        raise RuntimeError(f"cell {index} does not run: its prompt is still {before!r} after pressing Shift+Enter five times")
    if wait:
        page.wait_for_function(f"i => /[0-9]/.test({PROMPT})", arg=index, timeout=300_000)


def open_notebook(page, address: str) -> None:
    """Opens the notebook and waits for its kernel."""
    page.goto(address, timeout=300_000)
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=300_000)
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for(timeout=300_000)


def output_of(page, index: int) -> str:
    """The text of the last output of cell `index`, as soon as there is any."""
    output = page.locator(".jp-Notebook .jp-CodeCell").nth(index).locator(".jp-OutputArea-output").filter(has_text=re.compile(r"\S")).last
    return output.inner_text(timeout=120_000)
