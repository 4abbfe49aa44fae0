"""The exported pages in a browser: no kernel, no other host, live widgets, typeset formulas, no dead link, nothing wider than a phone.

The API reference beside them, which pdoc writes: no other host, no dead link, a search that works, text that can be read.
"""

import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
WITHOUT_WIDGETS = {"05_photo_or_distribution", "99_glossary"}  # as few as can be
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
PAGES = ["index", *NOTEBOOKS]
API = ["api/diffusion_lib", "api/diffusion_lib/schedules", "api/diffusion_lib/training/loop", "api/diffusion_lib/widgets"]
VIEW = "application/vnd.jupyter.widget-view+json"

# text, its colour and the colour behind it, for all text that is on the page
COLOURS = """() => {
  const rgb = (css) => css.match(/[\\d.]+/g).map(Number);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const [r, g, b, a = 1] = rgb(getComputedStyle(node).backgroundColor);
      if (a === 1) return [r, g, b];
    }
  };
  const own = (node) => [...node.childNodes].filter((c) => c.nodeType === 3).map((c) => c.data).join("").trim();
  return [...document.querySelectorAll("body *")]
    .filter((n) => own(n) && n.checkVisibility() && !n.closest("script, .anchor-link, .dl-widget, mjx-container"))
    .map((n) => [own(n).slice(0, 40), rgb(getComputedStyle(n).color).slice(0, 3), behind(n)]);
}"""
# what reaches over the right edge, less what scrolls inside something
WIDE = """() => {
  const edge = document.documentElement.clientWidth;
  const scrolls = (node) => node !== document.body && (getComputedStyle(node).overflowX !== "visible" || scrolls(node.parentElement));
  return [...document.querySelectorAll("body *")].filter((n) => n.getBoundingClientRect().right > edge + 0.5 && !scrolls(n.parentElement))
    .map((n) => `${n.tagName} ${n.className} ${n.textContent.slice(0, 40)}`);
}"""
PICTURES = "(i) => [...document.querySelectorAll('.dl-widget')[i].querySelectorAll('canvas')].map((c) => c.toDataURL()).join()"

# whether all pictures are decoded, those of the widgets included
DRAWN = """() => [...document.images].every((image) => image.complete)
  && [...document.querySelectorAll(".dl-widget")].every((widget) => widget.querySelector("canvas"))
  && [...document.querySelectorAll(".dl-widget canvas")].every((c) => c.getContext("2d").getImageData(0, 0, 1, 1).data[3] > 0)"""
# until fonts, layout and colours are those that stay
AT_REST = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  await document.fonts.ready;
  await frame();
  await frame();
  const transitions = document.getAnimations().filter((animation) => animation instanceof CSSTransition);
  await Promise.allSettled(transitions.map((transition) => transition.finished));
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address():
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine: install Node.js to test the exported pages")
    subprocess.run([sys.executable, ROOT / "tools" / "export_site.py"], check=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def visit(browser, address):
    """Opens a page and waits for its formulas and widgets; fails the test for an error, and for a request that fails or leaves the site."""
    pages, wrong = [], []

    def show(name, **options):
        page = browser.new_page(**options)
        page.set_default_timeout(120_000)
        pages.append(page)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(f"console: {message.text}") if message.type == "error" else None)
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else wrong.append(f"other host: {r.url}"))
        page.goto(f"{address}{name}.html")
        if name in API:
            return page
        page.wait_for_function("() => MathJax.startup.promise")
        page.evaluate("() => MathJax.startup.promise")
        page.wait_for_function("n => document.querySelectorAll('.dl-widget').length >= n", arg=len(stored_widgets(name)))
        return page

    yield show
    for page in pages:
        page.close()
    assert wrong == []


def stored_widgets(name):
    if name == "index":
        return []
    cells = nbformat.read(NOTEBOOKS[name], as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", []) if VIEW in output.get("data", {})]


def wait_at_rest(page):
    """Waits until nothing on the page changes any more by itself."""
    page.wait_for_function(DRAWN)
    page.evaluate(AT_REST)


def formulas(name):
    """How many formulas a notebook's text has, those of code spans and blocks apart."""
    cells = nbformat.read(NOTEBOOKS[name], as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"(?s)```.*?```|`[^`]*`", "", text)
    return len(re.findall(r"(?s)\$\$.+?\$\$|\$[^$]+?\$", text))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_formulas_are_typeset(visit, name):
    page = visit(name)
    assert page.locator("mjx-container").count() == formulas(name)
    assert page.locator("mjx-merror").count() == 0
    prose = page.evaluate("() => [...document.querySelectorAll('.text_cell')].map((n) => n.innerText).join()")
    assert "$$" not in prose


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_widgets_are_live_and_respond_to_keys(visit, name):
    page = visit(name)
    widgets = page.locator(".dl-widget")
    assert widgets.count() == len(stored_widgets(name))
    assert (widgets.count() > 0) == (name not in WITHOUT_WIDGETS)
    wait_at_rest(page)  # pictures are decoded after the widget is there; a late one must not pass for an answer
    for i in range(widgets.count()):
        slider = widgets.nth(i).locator("input[type=range]").first
        for key in ("Home", "End", "Home", "ArrowRight"):
            before, value = page.evaluate(PICTURES, i), slider.input_value()
            slider.press(key)
            if slider.input_value() != value:  # it may have stood there
                page.wait_for_function(f"([i, before]) => ({PICTURES})(i) !== before", arg=[i, before], timeout=60_000)
        assert slider.input_value() != value


def test_no_link_is_broken(visit, address):
    links, ids = set(), {}
    for name in PAGES:
        page = visit(name)
        links.update(page.evaluate("() => [...document.querySelectorAll('a')].map((a) => a.href)"))
        ids[f"{name}.html"] = page.evaluate("() => [...document.querySelectorAll('[id]:not(mjx-container *)')].map((n) => n.id)")
        assert len(ids[f"{name}.html"]) == len(set(ids[f"{name}.html"]))
    inside = [link.removeprefix(address).partition("#") for link in links if link.startswith(address)]
    api = {page for page, _, _ in inside if page.startswith("api/")}
    assert api == {"api/diffusion_lib.html"}
    assert {page for page, _, _ in inside} - api == set(ids)
    assert [
        (page, anchor) for page, _, anchor in inside if anchor and page not in api and not {anchor, unquote(anchor)} & set(ids[page])
    ] == []
    assert [link for link in links if not link.startswith((address, "https://"))] == []


@pytest.mark.parametrize("name", PAGES)
def test_text_has_enough_contrast_in_both_colour_schemes(visit, name):
    page = visit(name)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        wait_at_rest(page)
        found = page.evaluate(COLOURS)
        assert len(found) > 20
        assert [(text, colour, behind) for text, colour, behind in found if contrast(colour, behind) < 4.5] == []
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (contrast((0, 0, 0), map(int, re.findall(r"\d+", background))) > 7) == (scheme == "light")


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_serious_violations(visit, name):
    page = visit(name)
    page.add_script_tag(path=ROOT / "site" / "node_modules" / "axe-core" / "axe.min.js")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        wait_at_rest(page)
        violations = page.evaluate("() => axe.run().then((found) => found.violations)")
        serious = [v for v in violations if v["impact"] in ("serious", "critical")]
        assert [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in serious] == []


def contrast(*colours):
    """WCAG's contrast ratio of two colours (R, G, B) in 0..255."""
    linear = [[c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour] for colour in colours]
    dark, light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_a_phone_screen(visit, name):
    page = visit(name, viewport=dict(width=390, height=844))
    wait_at_rest(page)
    assert page.evaluate(WIDE) == []
    assert page.evaluate("() => document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_api_reference_has_no_broken_links(address):
    pages = sorted((SITE / "api").rglob("*.html"))
    assert len(pages) > 25
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert str(ROOT) not in text
        text = re.sub(r"(?s)(<script\b[^>]*>).*?</script>", r"\1", text)
        for link in re.findall(r'<(?:a|link|script|img)\b[^>]* (?:href|src)="([^"]+)"', text):
            file = link.partition("#")[0]
            if file.startswith(("https://pdoc.dev", "data:")) or not file:
                continue
            assert (path.parent / file).is_file(), f"{path.relative_to(SITE)}: {link}"


@pytest.mark.parametrize("name", API)
def test_api_reference_has_enough_contrast_in_both_colour_schemes(visit, name):
    page = visit(name)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        wait_at_rest(page)  # its buttons change colour slowly
        found = page.evaluate(COLOURS)
        assert len(found) > 20
        assert [(text, colour, behind) for text, colour, behind in found if contrast(colour, behind) < 4.5] == []


def test_api_reference_search_needs_no_other_host(visit):
    page = visit("api/diffusion_lib")
    assert page.locator("section#train").count() == 1
    page.locator("input[type=search]").fill("ddim_steps")
    page.locator(".search-result").first.wait_for()
    assert "ddim_steps" in page.locator(".search-result").first.inner_text()


def test_api_reference_omits_exercise_solutions(address):
    assert (SITE / "api" / "diffusion_lib" / "exercises.html").is_file()
    assert not (SITE / "api" / "diffusion_lib" / "exercises").exists()
