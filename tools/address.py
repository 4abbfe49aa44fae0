"""The repository's public address, and all that names it: pyproject.toml, README, CITATION.cff, and the first cells of the notebooks.

    python tools/notebooks.py set-repository https://github.com/OWNER/NAME      writes it everywhere
    python tools/address.py https://github.com/OWNER/NAME                       fails if pyproject.toml has another one, or none

Its one home is [project.urls] in pyproject.toml. Until it is set there, nothing names an address, no link leads to one, and no
setup cell installs from one: a name that we have not registered could be registered by a stranger, whose code readers would run.
This file needs nothing but Python, so that CI can run it before anything is installed.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GITHUB = r"https://github\.com/[\w.-]+/[\w.-]+?"
SETTER = "python tools/notebooks.py set-repository"

# the first code cell of every notebook, to the letter. It has no magics, so a notebook that was saved as a script can run it, too. pip
# leaves Colab's and Kaggle's own torch as it is, since the package's range admits it. Its first line is its title in Colab
SETUP = """\
# @title Setup (run this cell first)
try:
    import diffusion_lib as dl

    dl.widgets  # noqa: B018 - fails if what the widgets need is missing
except ModuleNotFoundError as missing:  # never after `make lab`; elsewhere, this installs it
    import subprocess
    import sys
    from importlib import invalidate_caches, metadata, util
    from pathlib import Path

    near, wheel = [Path.cwd(), *Path.cwd().parents], "diffusion_lib-*.whl"
    found = sorted([*near[0].glob(wheel), *Path("/kaggle/input").rglob(wheel)], reverse=True)
    found += [p for p in near if (p / "pyproject.toml").exists() and (p / "diffusion_lib").exists()]
    hint = "On Kaggle, switch Internet on in the settings. docs/install.md has other ways"
    LAST_RESORT
    print(f"installing {found[0]}; this can take minutes")
    before = {n: metadata.version(n) for n in ("ipywidgets", "numpy", "torch") if n in sys.modules}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", str(found[0])]
    ran = subprocess.run(pip, capture_output=True, text=True, check=False)
    if ran.returncode:
        reason = ran.stderr[-2000:]
        raise RuntimeError(f"pip could not install {found[0]}. {hint}\\n{reason}") from None
    invalidate_caches()
    if before != {n: metadata.version(n) for n in before} or not util.find_spec("diffusion_lib"):
        raise RuntimeError("installed: now restart the kernel and run this cell again") from None
    import diffusion_lib as dl"""
WITHOUT_ADDRESS = """\
if not found:
        fix = "put diffusion_lib's wheel beside this notebook (Kaggle: upload it under Add Input)"
        raise ModuleNotFoundError(f"{missing} in {sys.prefix}: {fix}. {hint}") from None"""
SETUP_PATTERN = re.compile(r"\A(?:# @title[^\n]*\n)?(?:import importlib|try:\n).*?\n *import diffusion_lib as dl(?=\n```|\Z)", re.DOTALL)
# the cell is folded: in JupyterLab, and in Colab, which then shows its title
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}
FOLDED_IN_TEXT = " ipython3\n---\ncellView: form\njupyter:\n  source_hidden: true\n---\n"
CELL_HEAD = re.compile(r"\A ipython3\n(?:---\n.*?\n---\n|(?::[^\n]*\n)*)", re.DOTALL)
# a plain link: a picture of a badge would be a request to another host whenever the notebook is opened
BADGE = "[Open in Colab]({colab})"
BADGE_PATTERN = re.compile(r"(\A|\n)(# [^\n]+\n\n)\[Open in Colab\]\([^)\n]*\)\n\n")


def repository(root: Path = ROOT) -> str | None:
    """The project's public address, from pyproject.toml; None until it is set."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository")


def setup_cell(address: str | None) -> str:
    """The source of every notebook's first code cell."""
    return SETUP.replace("LAST_RESORT", f'found += ["git+{address}"]' if address else WITHOUT_ADDRESS)


def colab(address: str, name: str) -> str:
    """Where Colab shows one notebook of a repository on GitHub."""
    return f"https://colab.research.google.com/github/{address.removeprefix('https://github.com/')}/blob/main/notebooks/{name}.ipynb"


def pages(address: str) -> str:
    """Where GitHub Pages publishes the repository's site."""
    owner, name = address.removeprefix("https://github.com/").split("/")
    return f"https://{owner.lower()}.github.io/{'' if name.lower() == f'{owner.lower()}.github.io' else f'{name}/'}"


def badge(address: str | None, name: str) -> str | None:
    """The line below a notebook's title; None without an address."""
    return BADGE.format(colab=colab(address, name)) if address else None


def row_links(address: str | None, name: str) -> str:
    """What follows a notebook's link in the README's table."""
    return f" · [Colab]({colab(address, name)}) · [page]({pages(address)}{name}.html)" if address else ""


def in_notebook(text: str, address: str | None, name: str) -> str:
    """Markdown with a title, with the badge below it or without."""
    text = BADGE_PATTERN.sub(r"\1\2", text)
    line = badge(address, name)
    return re.sub(r"(?m)^(# .+\n\n)", lambda match: f"{match[1]}{line}\n\n", text, count=1) if line else text


def with_setup_cell(text: str, address: str | None, name: str) -> str:
    """Text or code that contains a setup cell, of now or of then. Raises `ValueError` if it contains none."""
    text, count = SETUP_PATTERN.subn(lambda _: setup_cell(address), text, count=1)
    if count == 0:
        raise ValueError(f"{name}: the first code cell is no setup cell; expected that of tools/address.py")
    return text


def in_text_pair(text: str, address: str | None, name: str) -> str:
    """A notebook's text: badge and setup cell, folded."""
    before, fence, cells = text.partition("```{code-cell}")
    head = CELL_HEAD.match(cells)
    code = cells[head.end() :] if head else cells
    return in_notebook(before, address, name) + fence + FOLDED_IN_TEXT + with_setup_cell(code, address, name)


def in_stored_notebook(text: str, address: str | None, name: str) -> str:
    """A notebook's JSON: badge and setup cell, folded; outputs and all else stay as they are, to the letter."""
    notebook = json.loads(text)
    first = notebook["cells"][0]
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first["source"] = in_notebook("".join(first["source"]), address, name).splitlines(keepends=True)
    code["metadata"] = {**code["metadata"], **FOLDED}
    code["source"] = with_setup_cell("".join(code["source"]), address, name).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def in_readme(text: str, address: str | None) -> str:
    """The links after each notebook in the README's table."""
    row = r"(?m)^(\| \d\d \| \[[^\]]+\]\(notebooks/([\w-]+)\.ipynb\))(?: · \[Colab\]\([^)]*\) · \[page\]\([^)]*\))?(?= \|)"
    return re.sub(row, lambda match: match[1] + row_links(address, match[2]), text)


def in_pyproject(text: str, address: str | None) -> str:
    """[project.urls], after its comment."""
    urls = {"Repository": "", "Issues": "/issues", "Changelog": "/blob/main/CHANGELOG.md"} if address else {}
    lines = "".join(f'{name} = "{address}{path}"\n' for name, path in urls.items())
    return re.sub(r"(?m)^(\[project\.urls\]\n(?:#.*\n)*)(?:\w+ = .*\n)*", lambda match: match[1] + lines, text)


def in_citation(text: str, address: str | None) -> str:
    """The last line of CITATION.cff."""
    text = re.sub(r"(?m)^repository-code: .*\n", "", text)
    return text + (f"repository-code: {address}\n" if address else "")


def everywhere(root: Path, address: str | None) -> dict[Path, str]:
    """Each file that names the address, with its content as it is to be."""
    one_each = {"pyproject.toml": in_pyproject, "README.md": in_readme, "CITATION.cff": in_citation}
    found = {root / name: change((root / name).read_text(encoding="utf-8"), address) for name, change in one_each.items()}
    for pattern, change in (("text/*.md", in_text_pair), ("*.ipynb", in_stored_notebook)):
        for path in sorted((root / "notebooks").glob(pattern)):
            found[path] = change(path.read_text(encoding="utf-8"), address, path.stem)
    return found


def set_repository(address: str | None = None, root: Path = ROOT) -> None:
    """Writes the address, or again the one that is set, into every file that names it. Exits if it is no address."""
    address = address or repository(root)
    if address and (not re.fullmatch(GITHUB, address) or address.endswith(".git")):
        sys.exit(f"{address!r} is no repository address; expected https://github.com/OWNER/NAME")
    for path, content in everywhere(root, address).items():
        if path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
            print(f"changed {path.relative_to(root)}")


def disagreements(root: Path = ROOT) -> list[str]:
    """The files whose links or setup cell are not those of pyproject.toml's address; a line each."""
    try:
        expected = everywhere(root, repository(root))
    except ValueError as error:
        return [str(error)]
    wrong = [path.relative_to(root) for path, content in expected.items() if path.read_text(encoding="utf-8") != content]
    return [f"{path}: its links, its badge or its setup cell is not what tools/address.py writes; run: {SETTER}" for path in wrong]


def main(here: str) -> None:
    if repository() != here:
        sys.exit(f"pyproject.toml has {repository() or 'no address'} as the repository's address; this is {here}. Run: {SETTER} {here}")
    print(f"pyproject.toml names this repository: {here}")


if __name__ == "__main__":
    main(*sys.argv[1:])
