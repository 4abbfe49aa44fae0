"""How soon do the widgets answer? Key press to changed picture, frames seen in a drag, time until a widget is shown, and bytes.

    make site && python benchmarks/widget_latency.py         in JupyterLab with a kernel, and on the static pages

Needs Chromium (apt-get install chromium). A picture counts as changed in the first animation frame in which its pixels differ;
the screen shows it at the end of that frame. One frame is 16.7 ms. Measured are a frame scrubber of 50 frames and a noising
scrubber with its histogram, which computes every picture anew: of 32 glyphs in JupyterLab, those of notebooks 00 and 01 on the pages.
"""

import argparse
import functools
import http.server
import json
import statistics
import sys
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
sys.path.insert(0, str(ROOT / "tests"))
from lab import jupyter_lab, open_notebook, run_cell  # noqa: E402
from servers import CHROMIUM, FLAGS  # noqa: E402

SETUP = """
import torch, diffusion_lib as dl, diffusion_lib.widgets
x0 = dl.load_dataset("glyphs", train=False, n=32).images
dl.plots.image_grid(x0)  # imports torchvision, once a session
frames = torch.stack([dl.q_sample(dl.cosine_schedule(49), x0, t, torch.randn(x0.shape)) for t in range(50)])
"""
CELLS = {
    "frame scrubber": 'dl.widgets.scrub({"xt": frames}, [f"t = {t}" for t in range(50)], columns=8, start=0, title="frame scrubber")',
    "noising scrubber": 'dl.widgets.noising(x0, [dl.linear_schedule(50), dl.cosine_schedule(50)], title="noising scrubber")',
}
# notes the time of each key press, and of the first animation frame after it in which the picture has changed
WATCH = """
(canvas) => {
  const context = canvas.getContext("2d");
  const look = () => context.getImageData(0, 0, canvas.width, canvas.height).data.reduce((h, v, i) => (h * 31 + v * (i % 97)) | 0, 7);
  const state = { times: [], seen: new Set(), pressed: null, last: look(), stop: false };
  const slider = canvas.closest(".dl-widget").querySelector("input[type=range]");
  slider.addEventListener("keydown", (event) => { state.pressed = event.timeStamp; }, true);
  const frame = () => {
    if (state.stop) return;
    const now = look();
    if (now !== state.last) {
      if (state.pressed !== null) state.times.push(performance.now() - state.pressed);
      state.pressed = null;
      state.last = now;
      state.seen.add(now);
    }
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  window.watched = state;
}
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def measure(page, widget) -> dict:
    """Latency of 80 key presses, and the distinct pictures of a drag over 50 places of the slider in two seconds."""
    widget.scroll_into_view_if_needed()
    canvas, slider = widget.locator("canvas").first, widget.locator("input[type=range]")
    page.wait_for_timeout(500)
    canvas.evaluate(WATCH)
    slider.focus()
    slider.press("Home")
    page.wait_for_timeout(200)
    page.evaluate("watched.times.length = 0")
    for i in range(80):
        page.keyboard.press("ArrowRight" if i < 40 else "ArrowLeft")
        page.wait_for_timeout(43 + 7 * (i % 5))  # not in step with the screen
    times = page.evaluate("watched.times")

    slider.press("Home")
    page.wait_for_timeout(200)
    box = slider.bounding_box()
    y, left, width = box["y"] + box["height"] / 2, box["x"] + 8, box["width"] - 16
    page.mouse.move(left, y)
    page.mouse.down()
    page.evaluate("watched.seen.clear()")
    for i in range(1, 50):
        page.mouse.move(left + width * i / 49, y)
        page.wait_for_timeout(2000 / 49 - 8)  # a move takes some time itself
    page.mouse.up()
    page.wait_for_timeout(200)
    seen = page.evaluate("watched.seen.size")
    page.evaluate("watched.stop = true")
    return dict(
        presses=len(times),
        median_ms=round(statistics.median(times), 1),
        p95_ms=round(statistics.quantiles(times, n=20)[18], 1),
        distinct=f"{seen} of 49",
    )


def in_jupyterlab(browser, folder: Path) -> dict:
    results = {}
    with jupyter_lab(folder, [SETUP, *CELLS.values()]) as address:
        page = browser.new_page(viewport=dict(width=1200, height=1200))
        open_notebook(page, address)
        run_cell(page, 0)
        for i, title in enumerate(CELLS, start=1):
            page.evaluate(
                """(title) => {
                    window.shown = window.ran = null;
                    document.addEventListener("keydown", (event) => (window.ran ??= event.timeStamp), { capture: true });
                    const look = () => {
                        const c = document.querySelector(`.dl-widget[aria-label="${title}"] canvas`);
                        if (c && c.getContext("2d").getImageData(0, 0, 1, 1).data[3]) window.shown = performance.now() - window.ran;
                        else requestAnimationFrame(look);
                    };
                    look();
                }""",
                title,
            )
            run_cell(page, i)
            page.wait_for_function("window.shown !== null")
            shown = page.evaluate("window.shown")
            results[title] = measure(page, page.locator(f'.dl-widget[aria-label="{title}"]').first) | dict(shown_after_ms=round(shown))
        page.close()
    return results


def on_static_pages(browser, folder: Path) -> dict:
    """The first widget of notebook 00 and the last one of notebook 01, on the pages that `make site` has made."""
    if not (SITE / "index.html").exists():
        sys.exit(f"no {SITE.relative_to(ROOT)}/index.html; expected the exported pages: make site")
    handler = functools.partial(Quiet, directory=str(SITE))
    results = {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, index in (("00_start_here", 0), ("01_forward_noising", -1)):
            page = browser.new_page(viewport=dict(width=1200, height=1200))
            page.goto(f"http://127.0.0.1:{server.server_port}/{name}.html")
            page.locator(".dl-widget canvas").first.wait_for()
            page.wait_for_timeout(2000)
            results[name] = measure(page, page.locator(".dl-widget").nth(index))
            page.close()
        server.shutdown()
    return results


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if CHROMIUM is None:
        sys.exit("no Chromium found; expected `chromium` on the path: apt-get install chromium")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, place in (("JupyterLab", in_jupyterlab), ("static page", on_static_pages)):
            (Path(folder) / name).mkdir()
            for title, result in place(browser, Path(folder) / name).items():
                print(f"{name:12} {title:17} {json.dumps(result)}", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
