"""README, docs and the community files: links resolve, prose wraps, and every list in them is complete."""

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import diffusion_lib as dl

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / ".github").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]


def without_code(text):
    return re.sub(r"`[^`\n]+`", "", re.sub(r"(?ms)^ *```.*?^ *```", "", text))


def links(text):
    return re.findall(r"\]\(<?([^)\s>]+)>?\)", without_code(text))


def anchors(text):
    """The anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^ *```.*?^ *```", "", text))
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings]
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain]


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name):
    path = ROOT / name
    text = path.read_text(encoding="utf-8")
    for link in links(text):
        if re.match(r"https://|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / unquote(file)).resolve() if file else path
        assert target.exists(), f"{name}: {link}"
        assert target.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{name}: {link}"


@pytest.mark.parametrize("name", NAMES)
def test_headings_have_unique_anchors(name):
    found = anchors((ROOT / name).read_text(encoding="utf-8"))
    repeated = {anchor for anchor in found if found.count(anchor) > 1}
    assert repeated == set() or name == "CHANGELOG.md"


def test_link_checker_finds_links():
    assert links("[a](b.md#c) `[no](x)` ![d](e.png)\n```sh\n[no](y)\n```\n") == ["b.md#c", "e.png"]
    assert anchors("# Options of `make lab`\n```sh\n# no\n```\n## Colab's versions\n") == ["options-of-make-lab", "colabs-versions"]


def test_readme_links_every_page_of_docs():
    """Directly, or from a page that is."""
    seen, new = set(), {ROOT / "README.md"}
    while new:
        seen |= new
        found = {(path.parent / link.partition("#")[0]).resolve() for path in new for link in links(path.read_text(encoding="utf-8"))}
        new = {path for path in found if path.suffix == ".md" and path.is_file()} - seen
    documents = {path for path in DOCUMENTS if ".github" not in path.parts}
    assert documents - seen == set()


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 110
    assert [line for line in lines if len(line) > 120 and "[Colab]" not in line] == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("docs/") or name == "CONTRIBUTING.md"])
def test_prose_wraps_at_100_columns(name):
    """Tables, code and what benchmarks/report.py writes apart."""
    text = re.sub(r"(?s)<!-- (\w+) -->.*?<!-- end of \1 -->", "", (ROOT / name).read_text(encoding="utf-8"))
    prose = re.sub(r"(?ms)^ *```.*?^ *```", "", text).splitlines()
    assert [line for line in prose if len(line) > 100 and not line.startswith("|")] == []


def test_readme_lists_every_notebook():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (\d\d) \| \[(.+?)\]\(notebooks/([\w-]+)\.ipynb\)", readme)
    titles = {}
    for path in (ROOT / "notebooks" / "text").glob("*.md"):
        titles[path.stem] = re.search(r"(?m)^# (\d\d) · (.+)$", path.read_text(encoding="utf-8")).groups()
    assert {name: (number, title) for number, title, name in rows} == titles
    assert [number for number, _, _ in rows] == sorted(number for number, _ in titles.values())


def test_changelog_and_citation_name_the_newest_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"(?m)^## \[?([\w.]+)\]?", changelog)
    assert versions[:2] == ["Unreleased", dl.__version__]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == dl.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    assert {"cff-version", "message", "title", "type", "abstract"} <= citation.keys()
