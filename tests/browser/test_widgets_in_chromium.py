"""The widgets' own JavaScript in a real browser, on a page without a kernel: what is drawn must be the formula's numbers."""

import base64
import json
import shutil

import numpy as np
import pytest
import torch

import diffusion_lib as dl

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

# a stand-in for the widget manager: anywidget's model interface over plain values
PAGE = """
<!doctype html><meta charset="utf-8"><div id="out" style="width: 700px"></div>
<script type="module">
const values = VALUES;
const revive = (v) => Array.isArray(v) ? v.map(revive)
  : v && v.base64 !== undefined ? new DataView(Uint8Array.from(atob(v.base64), (c) => c.charCodeAt(0)).buffer) : v;
for (const k in values) values[k] = revive(values[k]);
const listeners = {};
window.saved = 0;
window.model = {
  get: (k) => values[k],
  set: (k, v) => { values[k] = v; },
  save_changes: () => { window.saved++; },
  on: (event, f) => { listeners[event] = f; },
  off: (event) => { delete listeners[event]; },
  fromKernel: (k, v) => { values[k] = v; listeners[`change:${k}`]?.(); },
};
const source = new Blob([ESM], { type: "text/javascript" });
const widget = (await import(URL.createObjectURL(source))).default;
window.dispose = widget.render({ model: window.model, el: document.getElementById("out") });
window.ready = true;
</script>
"""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: install it (apt-get install chromium) to run the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_widget(browser):
    """Shows a widget on an empty page, and fails the test if the page reports any error."""
    pages, errors = [], []

    def show(widget):
        values = {name: jsonable(getattr(widget, name)) for name in widget.keys if not name.startswith("_") and name != "layout"}
        page = browser.new_page()
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.set_content(PAGE.replace("VALUES", json.dumps(values)).replace("ESM", json.dumps(widget._esm)))
        page.wait_for_function("window.ready")
        return page

    yield show
    for page in pages:
        page.close()
    assert errors == []


def jsonable(value):
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return [jsonable(v) for v in value] if isinstance(value, list) else value


def pixels(page, index=0):
    """The pixels of a canvas, uint8 (H, W, 4)."""
    script = """(i) => {
        const c = document.querySelectorAll("canvas")[i];
        return [c.height, c.width, ...c.getContext("2d").getImageData(0, 0, c.width, c.height).data];
    }"""
    height, width, *data = page.evaluate(script, index)
    return np.array(data, dtype=np.uint8).reshape(height, width, 4)


def move(page, value):
    script = "(v) => { const s = document.querySelector('input[type=range]'); s.value = v; s.dispatchEvent(new Event('input')); }"
    page.evaluate(script, value)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_noising_scrubber_draws_q_sample(open_widget, channels):
    random = torch.Generator().manual_seed(0)
    x0 = torch.rand(3, channels, 8, 8, generator=random) * 2 - 1
    eps = torch.randn(3, channels, 8, 8, generator=random)
    schedule = dl.cosine_schedule(100)
    page = open_widget(dl.widgets.noising(x0, schedule, eps=eps, columns=3))

    for t in (0, 1, 37, 100):
        move(page, t)
        xt = dl.to_uint8(dl.q_sample(schedule, x0, t, eps))  # (3, C, 8, 8)
        expected = xt.expand(3, 3, 8, 8).permute(2, 0, 3, 1).reshape(8, 24, 3).numpy()
        # eps travels in steps of 1/31: half a step is two grey levels; x0 is rounded once more
        assert np.abs(pixels(page)[..., :3].astype(int) - expected.astype(int)).max() <= 3
        assert f"t = {t} " in page.text_content("output")


def test_the_schedule_can_be_switched(open_widget):
    x0 = torch.zeros(1, 1, 8, 8)
    schedules = [dl.linear_schedule(100), dl.cosine_schedule(100)]
    page = open_widget(dl.widgets.noising(x0, schedules, t=50))
    before = page.text_content("output")
    page.select_option("select", "1")

    assert f"{schedules[0].alpha_bar[50]:.3g}" in before
    assert f"{schedules[1].alpha_bar[50]:.3g}" in page.text_content("output")


def test_the_frame_scrubber_draws_its_frames(open_widget):
    frames = torch.rand(7, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    widget = dl.widgets.scrub({"a": frames, "b": -frames}, [f"frame {i}" for i in range(7)], columns=2)
    page = open_widget(widget)

    for i in (0, 3, 6):
        move(page, i)
        page.wait_for_function("i => document.querySelector('output').textContent === `frame ${i}`", arg=i)
        for panel, images in enumerate((frames, -frames)):
            expected = dl.plots.image_grid(images[i], 2).numpy()
            assert np.array_equal(pixels(page, panel)[..., :3], expected)


def test_keys_move_the_slider_and_the_kernel_hears_of_it_once(open_widget):
    widget = dl.widgets.scrub({"a": torch.zeros(9, 1, 1, 8, 8)}, [str(i) for i in range(9)], start=4)
    page = open_widget(widget)
    page.evaluate("document.addEventListener('keydown', () => { window.leaked = true; })")
    page.focus("input[type=range]")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home", "ArrowRight"):
        page.keyboard.press(key)
    page.wait_for_timeout(400)

    assert page.evaluate("model.get('value')") == 1
    assert page.evaluate("saved") == 1
    assert page.evaluate("window.leaked") is None


def test_the_kernel_moves_the_slider(open_widget):
    page = open_widget(dl.widgets.scrub({"a": torch.zeros(9, 1, 1, 8, 8)}, [str(i) for i in range(9)]))
    page.evaluate("model.fromKernel('value', 2)")

    assert page.text_content("output") == "2"
    assert page.evaluate("saved") == 0


def test_play_runs_to_the_end_and_stops(open_widget):
    page = open_widget(dl.widgets.scrub({"a": torch.zeros(6, 1, 1, 8, 8)}, [str(i) for i in range(6)], start=0))
    page.click("button")
    assert page.get_attribute("button", "aria-label") == "pause"
    page.wait_for_function("document.querySelector('button').getAttribute('aria-label') === 'play'")

    assert page.text_content("output") == "5"
