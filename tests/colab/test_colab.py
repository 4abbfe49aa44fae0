"""With Colab's versions the notebooks run, and the widgets work in classic Notebook. Run by `make test-colab`."""

import json
import os
import subprocess
from pathlib import Path

import nbformat
import pytest
from classic import classic_notebook, finished, open_notebook, run_cell
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.version import Version

if "COLAB_PYTHON" not in os.environ:
    pytest.skip("COLAB_PYTHON, the interpreter with Colab's versions, is not set; run: make test-colab", allow_module_level=True)

PYTHON = os.path.abspath(os.environ["COLAB_PYTHON"])  # not resolved: in a virtual environment it is a link
ROOT = Path(__file__).parents[2]
PINS = [Requirement(line) for line in (ROOT / "constraints-colab.txt").read_text(encoding="utf-8").splitlines() if line[:1] not in "#"]
VIEW = "application/vnd.jupyter.widget-view+json"
WITHOUT_WIDGETS = {"05", "99"}


def in_colab(code: str):
    """What `code`, run by Colab's interpreter, leaves in `answer`."""
    command = [PYTHON, "-c", f"{code}\nimport json\nprint(json.dumps(answer))"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_installed_versions_match_the_pins():
    names = [pin.name for pin in PINS]
    installed = in_colab(f"from importlib.metadata import version\nanswer = {{name: version(name) for name in {names}}}")
    # 2.11.0+cpu is 2.11.0
    assert {name: f"=={Version(version).public}" for name, version in installed.items()} == {p.name: str(p.specifier) for p in PINS}


IN_COLAB = """
import sys
from types import SimpleNamespace as Module
manager = Module(_installed_url=None)
enable = lambda: setattr(manager, "_installed_url", "MANAGER")
sys.modules["google.colab"] = Module()
sys.modules["google.colab.output"] = Module(enable_custom_widget_manager=enable, _widgets=manager)
import torch, diffusion_lib as dl
from IPython.core.interactiveshell import InteractiveShell
answer = InteractiveShell.instance().display_formatter.format(dl.widgets.noising(torch.zeros(1, 1, 8, 8), dl.linear_schedule(20)))
"""


def test_colab_output_has_widget_and_manager_url_but_no_still():
    data, metadata = in_colab(IN_COLAB)
    assert sorted(data) == [VIEW, "text/plain"]
    assert metadata == {VIEW: {"colab": {"custom_widget_manager": {"url": "MANAGER"}}}}


# ------------------------------------------------------------------------------------------------------------------- notebooks


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """The name of a kernel that Colab's interpreter runs."""
    folder = tmp_path_factory.mktemp("jupyter")
    (folder / "kernels" / "colab").mkdir(parents=True)
    spec = dict(display_name="Colab", language="python", argv=[PYTHON, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    (folder / "kernels" / "colab" / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        yield "colab"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_and_stores_its_widgets(path, kernel):
    notebook = nbformat.read(path, as_version=4)
    stored = widgets_of(notebook)
    # raises at the first cell that raises
    NotebookClient(notebook, kernel_name=kernel, timeout=1800, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert widgets_of(notebook) == stored
    assert bool(stored) != (path.stem[:2] in WITHOUT_WIDGETS)


def widgets_of(notebook) -> list[tuple[int, str, list[str]]]:
    """Of each output that is one of our widgets: its cell, its text and its forms."""
    outputs = [(i, output.get("data", {})) for i, cell in enumerate(notebook.cells) for output in cell.get("outputs", [])]
    return [(i, data["text/plain"], sorted(data)) for i, data in outputs if VIEW in data]


# ------------------------------------------------------------------------------------------------------------ classic Notebook

CELLS = [
    """
import torch, diffusion_lib as dl
from ipywidgets import jslink
x0 = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
schedules = [dl.linear_schedule(), dl.cosine_schedule()]
steps = [dl.Step(t, x0 * t / 1000, x0 * (1000 - t) / 1000, None) for t in range(1000, -1, -100)]
""",
    'scrubber = dl.widgets.noising(x0, schedules, t=500, title="scrubber"); scrubber',
    'chain = dl.widgets.chains({"": steps}, t=500, title="chain"); chain',
    'explorer = dl.widgets.explore_schedules(schedules, x0, t=500, title="explorer"); explorer',
    "print(scrubber.t, chain.t, explorer.t)",
    'link = jslink((scrubber, "t"), (explorer, "t"))',
    """
import time
def unhurried():
    for n in range(1, 100_000):  # longer than any test needs to interrupt it
        time.sleep(0.02)
        yield dl.TrainStep(n, torch.tensor(1 / n), torch.tensor(1.0), 0.1, None, None, torch.tensor(0))
run = unhurried()
view = dl.widgets.live_training(100_000, ["samples"], (8, 1, 28, 28), title="live")
display(view)
for step in view.watch(run, lambda step: {"samples": x0 * (-1) ** (step.step // 25)}, at=range(25, 100_000, 25)):
    pass
print("next:", next(run).step - step.step)
""",
]
PRINT, LINK, LIVE = 4, 5, 6


@pytest.fixture(scope="module")
def classic(browser, tmp_path_factory):
    with classic_notebook(PYTHON, tmp_path_factory.mktemp("classic"), CELLS) as address:
        page = browser.new_page(viewport=dict(width=1200, height=1400))
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
        open_notebook(page, address)
        for i in range(PRINT):
            run_cell(page, i)
        yield page
        page.close()


def widget(page, title):
    found = page.locator(f'.dl-widget[aria-label="{title}"]')
    found.wait_for(timeout=120_000)
    return found


def pixels(found):
    """Every canvas of a widget, as a list of its different values of red."""
    return found.locator("canvas").evaluate_all(
        "cs => cs.map(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 === 0).join())"
    )


def kernels_view(page, expected):
    """What the kernel prints of its widgets, as soon as it is what is expected: a widget waits a little before it tells the kernel."""
    for _ in range(120):
        if (seen := run_cell(page, PRINT)) == expected:
            break
        page.wait_for_timeout(500)
    return seen


def test_widget_responds_to_keys_and_updates_the_kernel(classic):
    for title, after in (("scrubber", 501), ("chain", 400), ("explorer", 501)):
        found = widget(classic, title)
        before = pixels(found)
        assert before
        assert all(len(set(canvas.split(","))) > 2 for canvas in before)
        found.locator("input[type=range]").focus()
        classic.keyboard.press("ArrowRight")
        assert found.locator(".dl-value").inner_text().split(",")[0] == f"t = {after}"
        assert all(a != b for a, b in zip(before, pixels(found), strict=True))
    assert kernels_view(classic, "501 400 501") == "501 400 501"


def test_linked_widgets_follow_each_other(classic):
    run_cell(classic, LINK)
    for moved, follower, t in (("scrubber", "explorer", 502), ("explorer", "scrubber", 503)):
        before = pixels(widget(classic, follower))
        widget(classic, moved).locator("input[type=range]").focus()
        classic.keyboard.press("ArrowRight")
        assert widget(classic, follower).locator(".dl-value").inner_text() == f"t = {t}"
        assert pixels(widget(classic, follower)) != before
    assert kernels_view(classic, "503 400 503") == "503 400 503"


def test_interrupt_stops_a_live_run(classic):
    run_cell(classic, LIVE, wait=False)
    view = widget(classic, "live")
    classic.wait_for_function("() => document.querySelector('.dl-widget[aria-label=live] input[type=range]').max >= 2")
    classic.evaluate("Jupyter.notebook.kernel.interrupt()")
    assert finished(classic, LIVE) == "next: 1"  # nothing is lost
    assert "stopped after" in view.inner_text()
    last = pixels(view)
    view.locator("input[type=range]").focus()
    classic.keyboard.press("ArrowLeft")
    assert pixels(view) != last


def test_page_reports_no_errors(classic):
    assert classic.errors == []
    assert classic.locator(".output_stderr, .output_error").count() == 0
