"""Notebooks and their texts: `build` runs the texts and stores the outputs, `check` tells whether all agrees.

The pairs are made by jupytext, but not kept in step by its JupyterLab extension: that would refuse to open a notebook, or
undo a reader's changes to it, whenever the text is the older or the newer file, as it is at random in a fresh clone.

    python tools/notebooks.py build [01 03 …]
    python tools/notebooks.py to-text [01 03 …]        after editing a notebook in JupyterLab
    python tools/notebooks.py take-prose [01 03 …]     from texts whose code is as it was; the outputs stay as they are
    python tools/notebooks.py check
    python tools/notebooks.py set-metadata             kernel and language, in both; the outputs stay as they are
    python tools/notebooks.py set-repository https://github.com/OWNER/NAME

`set-repository` writes the repository's address wherever it is named, see tools/address.py; without an address, it writes the
setup cells and links again for the one that is set.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from address import ROOT, disagreements, set_repository

NOTEBOOKS = ROOT / "notebooks"
TEXTS = NOTEBOOKS / "text"
MAX_BYTES, MAX_WIDGET_BYTES = 1_500_000, 500_000
WIDGET_STATE, WIDGET_VIEW = "application/vnd.jupyter.widget-state+json", "application/vnd.jupyter.widget-view+json"
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
# what tools need to write a notebook as a script, less what depends on the version of Python that ran it
LANGUAGE = {
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    }
}


def texts(names: list[str]) -> list[Path]:
    """The text pairs whose names start with one of `names`; all without any."""
    return [path for path in sorted(TEXTS.glob("*.md")) if not names or any(path.name.startswith(name) for name in names)]


def build(names: list[str]) -> None:
    """Executes the texts, in notebooks/ as the reader's kernel would, and writes notebooks with outputs and widget state."""
    from nbclient import NotebookClient

    for path in texts(names):
        notebook = read_text(path)
        started = time.perf_counter()
        NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times of day
        notebook.metadata.update(nbformat.from_dict(LANGUAGE))
        target = NOTEBOOKS / f"{path.stem}.ipynb"
        nbformat.write(notebook, target)
        print(f"{target.relative_to(ROOT)}: {time.perf_counter() - started:.0f} s, {target.stat().st_size / 1e6:.2f} MB")


def to_text(names: list[str]) -> None:
    """Writes the texts of notebooks that were edited as notebooks."""
    for path in texts(names):
        notebook = nbformat.read(NOTEBOOKS / f"{path.stem}.ipynb", as_version=4)
        path.write_text(as_text(notebook.cells), encoding="utf-8")


def as_text(cells: list[nbformat.NotebookNode]) -> str:
    """The text pair of a notebook with these cells."""
    header = {"notebook_metadata_filter": "language_info", "text_representation": {"extension": ".md", "format_name": "myst"}}
    metadata = nbformat.from_dict({"jupytext": header} | KERNEL | LANGUAGE)
    text = jupytext.writes(nbformat.v4.new_notebook(cells=cells, metadata=metadata), fmt="md:myst")
    return re.sub(r"(?m)^    (format|jupytext)_version: .*\n", "", text, count=2)  # those of whoever wrote it last


def take_prose(names: list[str]) -> None:
    """Writes the texts' prose into notebooks whose code is the texts': no output can change, so nothing has to run."""
    for path in texts(names):
        target, ours = NOTEBOOKS / f"{path.stem}.ipynb", read_text(path)
        stored = nbformat.read(target, as_version=4)
        code, kept = ([cell for cell in notebook.cells if cell.cell_type == "code"] for notebook in (ours, stored))
        if [cell.source.rstrip() for cell in code] != [cell.source.rstrip() for cell in kept]:
            sys.exit(f"{path.stem}: code has changed, too; run: make build-notebooks NAMES={path.stem[:2]}")
        for cell, before in zip(code, kept, strict=True):
            cell.outputs, cell.execution_count = before.outputs, before.execution_count
        stored.cells = ours.cells
        nbformat.write(stored, target)


def set_metadata() -> None:
    """Writes the kernel's and the language's metadata into notebooks and texts; all else stays as it is, to the letter."""
    for path in [*texts([]), *sorted(NOTEBOOKS.glob("*.ipynb"))]:
        before = path.read_text(encoding="utf-8")
        after = in_text(before) if path.suffix == ".md" else in_notebook(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"changed {path.relative_to(ROOT)}")


def in_text(text: str) -> str:
    """A text pair with the front matter as it is to be."""
    return as_text([]).rstrip() + text[text.index("\n---\n") + len("\n---") :]


def in_notebook(text: str) -> str:
    """A notebook's JSON with the metadata as they are to be."""
    notebook = json.loads(text)
    notebook["metadata"] = KERNEL | LANGUAGE | {name: value for name, value in notebook["metadata"].items() if name == "widgets"}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def read_text(path: Path) -> nbformat.NotebookNode:
    """A text pair as a notebook without outputs, its cells named by their position (names do not live in the text)."""
    notebook = jupytext.read(path)
    notebook.metadata = nbformat.from_dict(KERNEL)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i:03d}"
    notebook.nbformat_minor = 5
    return notebook


def check() -> list[str]:
    """What is wrong with the notebooks, a line each; empty if nothing is."""
    problems = []
    names = {path.stem for path in texts([])}
    if names != {path.stem for path in NOTEBOOKS.glob("*.ipynb")}:
        problems.append(f"notebooks/ and notebooks/text/ do not hold the same names: expected {sorted(names)}")
    for name in sorted(names):
        problems += check_one(name)
    problems += check_exemptions(names)
    return problems + disagreements()


def check_exemptions(names: set[str]) -> list[str]:
    """Cells whose outputs are times or progress bars may be exempt from comparison: under one in ten of those with outputs."""
    notebooks = [nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4) for name in names if (NOTEBOOKS / f"{name}.ipynb").exists()]
    with_output = [cell for notebook in notebooks for cell in notebook.cells if cell.get("outputs")]
    exempt = [cell for cell in with_output if "nbval-ignore-output" in cell.metadata.get("tags", [])]
    if len(exempt) * 10 >= len(with_output):
        return [f"{len(exempt)} of {len(with_output)} cells with output are exempt from comparison; expected under one in ten"]
    return []


def check_one(name: str) -> list[str]:
    text, target = read_text(TEXTS / f"{name}.md"), NOTEBOOKS / f"{name}.ipynb"
    if not target.exists():
        return [f"{name}: not built; run: make build-notebooks NAMES={name[:2]}"]
    stored = nbformat.read(target, as_version=4)
    problems = []
    ours, theirs = ([(c.cell_type, c.source.rstrip(), dict(c.metadata)) for c in nb.cells] for nb in (text, stored))
    for i, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a != b:
            problems.append(f"{name}: cell {i} differs between text and notebook:\n  text:     {a}\n  notebook: {b}")
    if len(ours) != len(theirs):
        problems.append(f"{name}: {len(ours)} cells in the text, {len(theirs)} in the notebook")
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        problems.append(f"{name}: not run from top to bottom in one go; run: make build-notebooks NAMES={name[:2]}")
    for path, change in ((target, in_notebook), (TEXTS / f"{name}.md", in_text)):
        if (content := path.read_text(encoding="utf-8")) != change(content):
            problems.append(
                f"{path.relative_to(ROOT)}: other metadata than tools/notebooks.py writes; run: python tools/notebooks.py set-metadata"
            )
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        problems.append(f"{name}: a stored output is an error")
    if target.stat().st_size > MAX_BYTES:
        problems.append(f"{name}: {target.stat().st_size / 1e6:.2f} MB; expected under {MAX_BYTES / 1e6} MB")
    return problems + check_widgets(name, stored)


def check_widgets(name: str, notebook: nbformat.NotebookNode) -> list[str]:
    """Every widget that is shown has its state in the notebook, or it would be an error box until it is run; and none is large."""
    states = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = {output.data[WIDGET_VIEW]["model_id"] for output in outputs if WIDGET_VIEW in output.get("data", {})}
    sizes = {model_id: len(json.dumps(state)) for model_id, state in states.items()}
    problems = [f"{name}: a widget is shown whose state is not stored; build again" for _ in shown - sizes.keys()]
    large = [size for size in sizes.values() if size > MAX_WIDGET_BYTES]
    return problems + [f"{name}: a widget of {size / 1e6:.2f} MB; expected under {MAX_WIDGET_BYTES / 1e6} MB" for size in large]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("names", nargs="*")
    commands.add_parser("to-text").add_argument("names", nargs="*")
    commands.add_parser("take-prose").add_argument("names", nargs="*")
    commands.add_parser("check")
    commands.add_parser("set-metadata")
    commands.add_parser("set-repository").add_argument("address", nargs="?")
    options = parser.parse_args()
    if options.command == "build":
        build(options.names)
    elif options.command == "to-text":
        to_text(options.names)
    elif options.command == "take-prose":
        take_prose(options.names)
    elif options.command == "set-metadata":
        set_metadata()
    elif options.command == "set-repository":
        set_repository(options.address)
    elif problems := check():
        sys.exit("\n".join(problems))
    else:
        print("notebooks, texts, setup cells and links agree")


if __name__ == "__main__":
    main()
