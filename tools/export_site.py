"""Exports the notebooks, as they are stored, to static pages, with the API reference beside them.

The widgets work without a kernel, and no other host is asked for anything.

    python tools/export_site.py        writes build/site

Node's npm fetches the scripts that the pages need, pinned by site/package-lock.json; nothing is fetched again until that changes.
"""

import json
import re
import shutil
import struct
import subprocess
import sys
from base64 import b64decode
from functools import partial
from pathlib import Path

import anywidget
import nbformat
from address import ROOT, repository
from export_api import FIRST, write_api
from jinja2 import Environment, FileSystemLoader
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from nbconvert.preprocessors import ExtractOutputPreprocessor

from notebooks import NOTEBOOKS

SOURCES = ROOT / "site"
TARGET = ROOT / "build" / "site"
MODULES = SOURCES / "node_modules"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
COPIES = {
    "style.css": SOURCES / "style.css",
    "settings.js": SOURCES / "settings.js",
    "icon.svg": SOURCES / "icon.svg",
    "lib/require.js": MODULES / "requirejs" / "require.js",
    "lib/embed-amd.js": MODULES / "@jupyter-widgets" / "html-manager" / "dist" / "embed-amd.js",
    "lib/anywidget.js": Path(anywidget.__file__).parent / "nbextension" / "index.js",
    "lib/mathjax/tex-chtml.js": MODULES / "mathjax" / "es5" / "tex-chtml.js",
    "lib/mathjax/LICENSE": MODULES / "mathjax" / "LICENSE",
    "lib/mathjax/output/chtml/fonts/woff-v2": MODULES / "mathjax" / "es5" / "output" / "chtml" / "fonts" / "woff-v2",
}


def install() -> None:
    """Runs npm if site/package-lock.json is not what is installed. Exits if there is no npm, or if it fails."""
    lock, mark = (SOURCES / "package-lock.json").read_bytes(), MODULES / ".installed-lock.json"
    if mark.exists() and mark.read_bytes() == lock:
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is not on PATH; expected Node.js 18 or newer with its npm, for the pages' scripts. Install Node.js and try again.")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    if subprocess.run(command, cwd=SOURCES, check=False).returncode != 0:
        sys.exit("npm ci failed in site/, see above; expected to fetch what site/package-lock.json names. Check the network and try again.")
    mark.write_bytes(lock)


def read(path: Path) -> dict:
    """A stored notebook, with its name, its title, and its goals: the text under "What you will be able to do".

    Raises `ValueError` if the first cell has no title or no such text.
    """
    notebook = nbformat.read(path, as_version=4)
    opening = re.match(
        r"# (?P<title>.+?)\n.*?\*\*What you will be able to do:?\*\*(?P<goals>.+?)\n\n\*\*", notebook.cells[0].source, flags=re.DOTALL
    )
    if opening is None:
        raise ValueError(
            f"{path.name}: first cell {notebook.cells[0].source[:60]!r}…; expected '# TITLE', then '**What you will be able to do:** …' "
            "and another paragraph that begins in bold. Change notebooks/text and build."
        )
    return dict(name=path.stem, title=opening["title"], goals=opening["goals"].strip(), notebook=notebook)


def with_links(markdown: str) -> str:
    """Links between notebooks as links between pages."""
    return re.sub(r"\]\(([\w-]+)\.ipynb\b", r"](\1.html", markdown)


def size_of_png(picture: bytes) -> dict:
    """Its width and height; where a page names them, nothing moves when the picture arrives."""
    return dict(zip(("width", "height"), struct.unpack(">II", picture[16:24]), strict=True))


def prepare(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with links to pages, sizes and words for its pictures, and no stills of widgets."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_links(cell.source)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if WIDGET_VIEW in data:
                data.pop("image/png", None)
            if "image/png" in data:
                size = size_of_png(b64decode(data["image/png"]))
                output.metadata["image/png"] = dict(**size, alt="Picture drawn by the code above")
    return notebook


def plain(markdown: str) -> str:
    """Markdown, a paragraph or a list, as one line of text, less the items of the list that hold formulas."""
    items = [" ".join(item.split()) for item in re.split(r"(?m)^- ", markdown)]
    return "; ".join(item.strip(".;").replace("`", "") for item in items if item and "$" not in item)


def credits() -> str:
    """What the site holds of others, a line each."""
    packages = [
        json.loads((MODULES / name / "package.json").read_text()) for name in ("requirejs", "@jupyter-widgets/html-manager", "mathjax")
    ]
    lines = [f"{package['name']} {package['version']}, {package['license']}" for package in packages]
    return "\n".join([*lines, f"anywidget {anywidget.__version__}, MIT", ""])


def title(readme: str) -> str:
    """Of the series: the README's first line."""
    return readme.splitlines()[0].removeprefix("# ")


def pages() -> dict[str, str | bytes]:
    """Every file that is made, by name. Raises `ValueError` for a notebook that does not begin as expected."""
    notebooks = [read(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[0]  # down to its first section
    series = title(readme)
    templates = Environment(loader=FileSystemLoader(SOURCES), autoescape=True)
    page = partial(
        templates.get_template("page.html.j2").render, series=series, notebooks=notebooks, repository=repository(), api=f"api/{FIRST}"
    )
    exporter = HTMLExporter(
        template_name="template",
        extra_template_basedirs=[str(SOURCES)],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        preprocessors=[ExtractOutputPreprocessor(extract_output_types={"image/png"})],
    )
    files: dict[str, str | bytes] = {}
    for before, notebook, after in zip([None, *notebooks], notebooks, [*notebooks[1:], None], strict=False):
        name = notebook["name"]
        resources = dict(unique_key=name, output_files_dir="pictures")
        body, resources = exporter.from_notebook_node(prepare(notebook["notebook"]), resources)
        body = re.sub(r"<pre\b", '<pre tabindex="0"', body)  # code that is wider than the page is scrolled by keys, too
        heading, description = f"{notebook['title']} – {series}", plain(notebook["goals"])
        around = dict(here=name, previous=before, next=after, widgets=WIDGET_VIEW in body)
        files |= resources["outputs"] | {f"{name}.html": page(title=heading, description=description, body=body, **around)}

    introduction = markdown2html(readme)
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", readme):
        content = (ROOT / picture).read_bytes()
        files[picture] = content
        size = "width={width} height={height}".format(**size_of_png(content))
        introduction = introduction.replace(f'src="{picture}"', f'src="{picture}" {size}')
    goals = [notebook | dict(goals=markdown2html(with_links(notebook["goals"]))) for notebook in notebooks]
    body = templates.get_template("index.html.j2").render(introduction=introduction, notebooks=goals, api=f"api/{FIRST}")
    return files | {"index.html": page(title=series, description=plain(readme.split("\n\n")[1]), body=body)}


def write(files: dict[str, str | bytes]) -> None:
    """Writes a new build/site: `files`, and those that are copied."""
    shutil.rmtree(TARGET, ignore_errors=True)
    for name, source in COPIES.items():
        (TARGET / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, TARGET / name)
    for name, content in files.items():
        (TARGET / name).parent.mkdir(exist_ok=True)
        (TARGET / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    write_api(TARGET / "api", title((ROOT / "README.md").read_text(encoding="utf-8")))
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{TARGET.relative_to(ROOT)}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    install()
    write(pages() | {"lib/credits.txt": credits()})
