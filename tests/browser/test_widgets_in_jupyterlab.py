"""The widgets in JupyterLab with a kernel: they respond to keys at once, update the kernel, and can stop a training run."""

import shutil
from pathlib import Path

import nbformat
import pytest
from lab import jupyter_lab, open_notebook, output_of, run_cell
from nbformat.sign import NotebookNotary

STORED = Path(__file__).resolve().parents[2] / "notebooks" / "00_start_here.ipynb"
WIDGETS = """
import torch, diffusion_lib as dl
from ipywidgets import jslink
x0 = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
schedules = [dl.linear_schedule(), dl.cosine_schedule()]
"""
CELLS = [
    WIDGETS,
    'scrubber = dl.widgets.noising(x0, schedules, t=500, title="scrubber"); scrubber',
    """
explorer = dl.widgets.explore_schedules(schedules, x0, t=500, title="explorer")
jslink((explorer, "t"), (scrubber, "t"))
explorer
""",
    "print(scrubber.t, explorer.t)",
    "scrubber.t = 123",
    # a run of unhurried steps, more than any machine takes before the test stops it
    """
import time
def steps():
    for n in range(1, 100_000):
        time.sleep(0.02)
        yield dl.TrainStep(n, torch.tensor(1 / n), torch.tensor(1.0), 0.1, None, None, torch.tensor(0))
run = steps()
view = dl.widgets.live_training(100_000, ["samples"], (8, 1, 28, 28), title="live")
""",
    """
display(view)
for step in view.watch(run, lambda step: {"samples": x0 * (-1) ** (step.step // 25)}, at=range(25, 100_000, 25)):
    pass
print("stopped after", step.step)
""",
    "print(next(run).step - step.step)",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(STORED, folder)
    return folder


@pytest.fixture(scope="module")
def lab(browser, folder):
    with jupyter_lab(folder, CELLS) as address:
        page = browser.new_page(viewport=dict(width=1200, height=1400))
        page.set_default_timeout(120_000)
        open_notebook(page, address)
        run_cell(page, 0)
        yield page
        page.close()


def widget(page, title):
    found = page.locator(f'.dl-widget[aria-label="{title}"]').first
    found.wait_for(timeout=120_000)
    return found


def picture(found):
    return found.locator("canvas").first.evaluate("c => c.toDataURL()")


def printed(page, cell, expected):
    """What a cell prints, as soon as it is what is expected: a widget waits a little before it sends its state to the kernel."""
    for _ in range(120):
        run_cell(page, cell)
        if (found := output_of(page, cell).strip()) == expected:
            break
        page.wait_for_timeout(500)
    return found


def test_keys_change_the_picture_and_reach_the_kernel(lab):
    run_cell(lab, 1)
    run_cell(lab, 2)
    scrubber, explorer = widget(lab, "scrubber"), widget(lab, "explorer")
    before = picture(scrubber), picture(explorer)
    explorer.locator("input").focus()
    for _ in range(3):
        lab.keyboard.press("ArrowRight")
    # the cell is still selected, not the next one: JupyterLab did not take the keys
    assert explorer.locator(".dl-value").inner_text() == "t = 503"
    # and the linked widget followed in the page
    assert scrubber.locator(".dl-value").inner_text() == "t = 503"
    assert picture(scrubber) != before[0]
    assert picture(explorer) != before[1]
    assert printed(lab, 3, "503 503") == "503 503"


def test_kernel_moves_the_widgets(lab):
    run_cell(lab, 4)
    lab.wait_for_function(
        """() => [...document.querySelectorAll('.dl-widget .dl-value')].filter(v => v.textContent === 't = 123').length >= 2"""
    )


def test_stop_button_stops_a_live_run_that_can_resume(lab):
    run_cell(lab, 5)
    run_cell(lab, 6, wait=False)
    view = widget(lab, "live")
    lab.wait_for_function("() => document.querySelectorAll('.dl-widget[aria-label=live] input')[0].max >= 2")
    assert view.locator("[role=status]").inner_text() == "training"
    view.locator(".dl-stop").click()
    lab.wait_for_function("() => /stopped after \\d+ steps/.test(document.querySelector('.dl-widget[aria-label=live]').textContent)")
    assert "stopped after" in output_of(lab, 6)
    run_cell(lab, 7)
    assert output_of(lab, 7).strip() == "1"  # the next step: nothing is lost
    # and the reader can look back, once the last picture is decoded
    lab.wait_for_function(
        """() => {
            const view = document.querySelector('.dl-widget[aria-label=live]');
            const [step] = view.querySelector('.dl-value').textContent.match(/after \\d+/);
            return view.querySelector('canvas').getAttribute('aria-label') === `samples ${step} steps`;
        }"""
    )
    last = picture(view)
    view.locator("input[type=range]").focus()
    lab.keyboard.press("ArrowLeft")
    assert picture(view) != last


def test_notebook_shows_no_error(lab):
    assert (
        lab.locator(".jp-OutputArea-output[data-mime-type*=stderr], .jp-RenderedWidget-error, .jupyter-widgets-error-widget").count() == 0
    )


@pytest.mark.parametrize("trusted", [False, True])
def test_stored_notebook_shows_widget_or_still_before_any_cell_runs(lab, browser, folder, trusted):
    if trusted:
        NotebookNotary(data_dir=str(folder / "data")).sign(nbformat.read(folder / STORED.name, as_version=4))
    page = browser.new_page(viewport=dict(width=1200, height=3000))
    open_notebook(page, lab.url.replace("notebook.ipynb", f"{STORED.name}?reset"))
    page.locator(".dl-widget canvas" if trusted else ".jp-OutputArea-output img").first.wait_for(timeout=300_000)
    assert page.get_by_text("Error displaying widget").count() == 0
    page.close()
