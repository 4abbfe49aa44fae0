"""How long from starting JupyterLab to the first slider that a reader has moved, in notebook 00? And how long does the import take?

    python benchmarks/first_slider.py --rounds 5

Once all is installed: the server starts (the command of `make lab`), Chromium opens a copy of the notebook, its kernel starts, all cells
up to the first widget run, and a key moves that widget's slider until its picture has changed. Needs Chromium.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lab import jupyter_lab, open_notebook  # noqa: E402
from servers import CHROMIUM, FLAGS  # noqa: E402

PIXELS = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.join()"


def cells() -> list[str]:
    """The code of notebook 00, as far as its first widget."""
    notebook = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return code[: next(i for i, source in enumerate(code) if "dl.widgets." in source) + 1]


def first_slider(browser, folder: Path) -> dict[str, float]:
    """Seconds since the server was started."""
    code, start, seconds = cells(), time.perf_counter(), {}
    with jupyter_lab(folder, code) as address:
        seconds["server answers"] = time.perf_counter() - start
        page = browser.new_page(viewport=dict(width=1200, height=1000))
        open_notebook(page, address)
        seconds["notebook open, kernel ready"] = time.perf_counter() - start
        run_all(page, len(code))
        canvas = page.locator(".dl-widget canvas").first
        canvas.wait_for()
        seconds["widget shown"] = time.perf_counter() - start
        before = canvas.evaluate(PIXELS)
        page.locator(".dl-widget input[type=range]").first.press("ArrowRight")
        wait_until(page, lambda: canvas.evaluate(PIXELS) != before, "the widget's picture to change")
        seconds["slider moved"] = time.perf_counter() - start
        page.close()
    return seconds


def run_all(page, cells: int) -> None:
    """Shift+Enter, once for each cell, as a reader in a hurry does."""
    prompt = "document.querySelector('.jp-Notebook .jp-CodeCell .jp-InputPrompt').textContent.trim()"

    def started():  # now and then the first key after opening moves on to the next cell and runs nothing: back, and again
        page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(200)
        return page.evaluate(prompt) != "[ ]:"

    wait_until(page, started, "the first cell to start")
    for _ in range(cells - 1):
        page.keyboard.press("Shift+Enter")


def wait_until(page, reached, what: str, patience: float = 60.0) -> None:
    """Asks every few milliseconds; exits after `patience` seconds rather than waiting for ever."""
    start = time.perf_counter()
    while not reached():
        if time.perf_counter() - start > patience:
            sys.exit(f"waited {patience:.0f} s for {what}; the page: {page.url}")
        page.wait_for_timeout(5)


def import_seconds(module: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("no Chromium found; expected `chromium` on the path: apt-get install chromium")
    rounds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for _ in range(options.rounds):
            imports = {f"import {name}": import_seconds(name) for name in ("torch", "diffusion_lib")}
            with tempfile.TemporaryDirectory() as folder:
                rounds.append(imports | first_slider(browser, Path(folder)))
        browser.close()
    for name in rounds[0]:
        values = sorted(each[name] for each in rounds)
        print(f"{name:28}{statistics.median(values):6.1f} s   ({values[0]:.1f} to {values[-1]:.1f})")


if __name__ == "__main__":
    main()
