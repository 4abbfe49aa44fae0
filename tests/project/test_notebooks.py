"""The stored notebooks as other programs read them."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbconvert import HTMLExporter, MarkdownExporter, ScriptExporter

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LANGUAGE = {"codemirror_mode", "file_extension", "mimetype", "name", "nbconvert_exporter", "pygments_lexer"}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def script_of(path):
    script, resources = ScriptExporter().from_filename(str(path))
    assert resources["output_extension"] == ".py"
    return script


@pytest.fixture
def tool(monkeypatch):
    """tools/notebooks.py"""
    monkeypatch.syspath_prepend(ROOT / "tools")
    spec = importlib.util.spec_from_file_location("notebooks_tool", ROOT / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@each_notebook
def test_notebook_converts_to_a_python_script(path):
    script = script_of(path)
    assert "import diffusion_lib as dl" in script
    compile(script, path.stem, "exec")
    assert not re.search(r"(?m)^\s*[%!]", script)  # a magic that was left as it is


def test_script_runs_without_jupyter_in_any_folder(tmp_path):
    (tmp_path / "glossary.py").write_text(script_of(ROOT / "notebooks" / "99_glossary.ipynb"), encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    environment = os.environ | dict(MPLBACKEND="Agg")
    command = [sys.executable, "../glossary.py"]
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "1000" in done.stdout


@each_notebook
def test_notebook_converts_to_markdown_with_python_code(path):
    markdown, _ = MarkdownExporter().from_filename(str(path))
    cells = nbformat.read(path, as_version=4).cells
    fences = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines() if line == "```python"]
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len(code) > 1
    assert markdown.splitlines().count("```python") == len(fences) + len(code)


def test_notebook_converts_to_html():
    page, _ = HTMLExporter().from_filename(str(ROOT / "notebooks" / "99_glossary.ipynb"))
    assert 'class="highlight hl-ipython3"' in page


@each_notebook
def test_stored_notebook_omits_the_python_version(path):
    metadata = nbformat.read(path, as_version=4).metadata
    assert metadata.keys() - {"widgets"} == {"kernelspec", "language_info"}
    assert metadata.kernelspec.name == "python3"  # which VS Code, Colab and Kaggle take for whichever Python they have
    assert metadata.language_info.keys() == LANGUAGE
    nbformat.validate(nbformat.read(path, as_version=4))


@each_notebook
def test_notebook_becomes_its_text_and_back(path, tool):
    notebook = nbformat.read(path, as_version=4)
    text = (ROOT / "notebooks" / "text" / f"{path.stem}.md").read_text(encoding="utf-8")
    assert tool.as_text(notebook.cells) == text
    back = jupytext.reads(text, fmt="md:myst")  # as `jupytext --to ipynb` does
    assert {name: back.metadata[name] for name in ("kernelspec", "language_info")} == tool.KERNEL | tool.LANGUAGE
    assert [(cell.cell_type, cell.source) for cell in back.cells] == [(cell.cell_type, cell.source) for cell in notebook.cells]


def test_other_metadata_is_detected_and_restored(tmp_path, tool, monkeypatch, capsys):
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(tool, "TEXTS", tmp_path / "text")
    notebook, text = tmp_path / "99_glossary.ipynb", tmp_path / "text" / "99_glossary.md"
    text.parent.mkdir()
    for path in (notebook, text):
        shutil.copy(ROOT / "notebooks" / path.relative_to(tmp_path), path)
    before = [path.read_text(encoding="utf-8") for path in (notebook, text)]
    assert tool.check_one("99_glossary") == []
    notebook.write_text(before[0].replace('   "nbconvert_exporter": "python",\n', ""), encoding="utf-8")
    text.write_text(before[1].replace("  nbconvert_exporter: python\n", ""), encoding="utf-8")
    assert [problem.partition(":")[0] for problem in tool.check_one("99_glossary")] == ["99_glossary.ipynb", "text/99_glossary.md"]
    tool.set_metadata()
    assert "changed 99_glossary.ipynb" in capsys.readouterr().out
    assert [path.read_text(encoding="utf-8") for path in (notebook, text)] == before


def test_prose_is_taken_from_the_text_and_changed_code_is_not(tmp_path, tool, monkeypatch):
    monkeypatch.setattr(tool, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(tool, "TEXTS", tmp_path / "text")
    notebook, text = tmp_path / "00_start_here.ipynb", tmp_path / "text" / "00_start_here.md"
    text.parent.mkdir()
    for path in (notebook, text):
        shutil.copy(ROOT / "notebooks" / path.relative_to(tmp_path), path)
    before, prose = notebook.read_text(encoding="utf-8"), text.read_text(encoding="utf-8")
    tool.take_prose(["00"])
    assert notebook.read_text(encoding="utf-8") == before, "where nothing has changed, nothing changes"
    text.write_text(prose.replace("# 00 · Start here", "# 00 · Begin here"), encoding="utf-8")
    tool.take_prose(["00"])
    assert notebook.read_text(encoding="utf-8") == before.replace("# 00 · Start here", "# 00 · Begin here")
    text.write_text(prose.replace("import torch\n", "import torch as t\n"), encoding="utf-8")
    with pytest.raises(SystemExit, match="00_start_here: code has changed, too; run: make build-notebooks NAMES=00"):
        tool.take_prose(["00"])
