"""The first code cell of every notebook, in a kernel or a script: if the package is missing, it installs a wheel or the project, or
explains what to do."""

import importlib.util
import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from test_packaging import load_address

address = load_address(Path(__file__).parents[2])
ADDRESS = "https://github.com/some-owner/some-name"
# Python, as of a script, or IPython, with a pip that only notes what it is asked for, after which the package (a stand-in) can be imported
RUN = """
import contextlib, io, json, subprocess, sys, types
from importlib import machinery, metadata

source, shell, missing, pip_error, upgraded, hidden = json.load(sys.stdin)
asked, installed = [], dict(torch="2.9.0")
sys.modules["torch"] = types.ModuleType("torch")
metadata.version = installed.__getitem__
stand_in = types.ModuleType("diffusion_lib")
stand_in.__spec__ = machinery.ModuleSpec("diffusion_lib", None)

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "diffusion_lib" and not asked:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

def widgets(name):  # as the package does it: what they need is imported at the first use
    if missing == "anywidget" and not asked:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

def run(command, **options):
    asked.append(command[1:])
    if upgraded:
        installed["torch"] = "2.9.1"
    if not pip_error:
        sys.modules["diffusion_lib"] = None if hidden else stand_in  # None: it is not found
    return subprocess.CompletedProcess(command, int(bool(pip_error)), "", pip_error)

subprocess.run = run
stand_in.__getattr__ = widgets
if missing != "diffusion_lib":
    sys.modules["diffusion_lib"] = stand_in
sys.meta_path.insert(0, Missing())
error, names, printed = None, {}, io.StringIO()
with contextlib.redirect_stdout(printed):
    if shell:
        from IPython.core.interactiveshell import InteractiveShell
        ip = InteractiveShell.instance()
        error, names = ip.run_cell(source).error_in_exec, ip.user_ns
    else:
        try:
            exec(compile(source, "notebook.py", "exec"), names)
        except Exception as raised:
            error = raised
print("\\n" + json.dumps(dict(asked=asked, imported=names.get("dl") is stand_in, error=error and f"{type(error).__name__}: {error}")))
"""


def run(folder, repository=None, shell=True, missing="diffusion_lib", pip_error="", upgraded=False, hidden=False):
    """What the cell of a project with that address does in a kernel, or a script, that starts in `folder`.

    missing: the module that cannot be imported. pip_error: what pip says when it fails. upgraded: pip replaces a library that is loaded.
    hidden: what pip installs is not found before a restart.
    """
    source = address.setup_cell(repository).replace("/kaggle/input", str(folder / "kaggle" / "input"))
    answer = json.dumps([source, shell, missing, pip_error, upgraded, hidden])
    done = subprocess.run([sys.executable, "-c", RUN], cwd=folder, input=answer, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def installs(source):
    return dict(asked=[["-m", "pip", "install", "--quiet", str(source)]], imported=True, error=None)


@pytest.fixture
def clone(tmp_path):
    """A folder that looks like the project, its name with a space."""
    folder = tmp_path / "my project"
    for below in ("diffusion_lib", "notebooks"):
        (folder / below).mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    return folder


@pytest.mark.parametrize("repository", [None, ADDRESS])
def test_installed_package_is_only_imported(clone, repository):
    (clone / "diffusion_lib-0.1.0-py3-none-any.whl").touch()
    assert run(clone, repository, missing=None) == dict(asked=[], imported=True, error=None)


@pytest.mark.parametrize("missing", ["diffusion_lib", "anywidget"])
def test_missing_package_without_address_prints_instructions(tmp_path, missing):
    result = run(tmp_path, missing=missing)
    assert result["asked"] == []
    assert result["error"].startswith(
        f"ModuleNotFoundError: No module named '{missing}' in {sys.prefix}: put diffusion_lib's wheel beside this notebook (Kaggle: "
        "upload it under Add Input). On Kaggle, switch Internet on in the settings. docs/install.md has other ways"
    )
    assert (Path(address.ROOT) / "docs" / "install.md").is_file()
    assert "docs/install.md" in result["error"]


@pytest.mark.parametrize("repository", [None, ADDRESS])
def test_installs_the_newest_wheel_beside_the_notebook(tmp_path, repository):
    for version in ("0.1.0", "0.2.0"):
        (tmp_path / f"diffusion_lib-{version}-py3-none-any.whl").touch()
    assert run(tmp_path, repository) == installs(tmp_path / "diffusion_lib-0.2.0-py3-none-any.whl")


def test_installs_a_wheel_from_kaggle_inputs(tmp_path):
    wheel = tmp_path / "kaggle" / "input" / "diffusion-lib" / "diffusion_lib-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    assert run(tmp_path) == installs(wheel)


@pytest.mark.parametrize("repository", [None, ADDRESS])
def test_installs_the_project_around_the_notebook(clone, repository):
    assert run(clone / "notebooks", repository) == installs(clone)


def test_installs_what_the_widgets_need(clone):
    assert run(clone, missing="anywidget") == installs(clone)


def test_installs_from_the_address_where_there_is_nothing_nearer(tmp_path):
    assert run(tmp_path, ADDRESS) == installs(f"git+{ADDRESS}")


def test_script_of_a_notebook_installs_too(clone):
    assert run(clone, shell=False) == installs(clone)


def test_failed_installation_shows_the_reason_and_the_remedy(clone):
    result = run(clone, pip_error="ERROR: No matching distribution found for anywidget>=0.9.13\n")
    assert not result["imported"]
    assert result["error"].startswith(f"RuntimeError: pip could not install {clone}")
    assert "On Kaggle, switch Internet on in the settings. docs/install.md has other ways" in result["error"]
    assert "No matching distribution found for anywidget" in result["error"]


@pytest.mark.parametrize("reason", ["upgraded", "hidden"])
def test_asks_for_a_restart_where_one_is_needed(clone, reason):
    result = run(clone, **{reason: True})
    assert result == dict(asked=[["-m", "pip", "install", "--quiet", str(clone)]], imported=False, error=result["error"])
    assert result["error"] == "RuntimeError: installed: now restart the kernel and run this cell again"


# ------------------------------------------------------------------------------------------------------------------------ its looks


@pytest.fixture(scope="module")
def tool():
    """tools/notebooks.py, which imports tools/address.py as its neighbour."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(address.ROOT / "tools"))
        spec = importlib.util.spec_from_file_location("notebooks_tool", address.ROOT / "tools" / "notebooks.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def test_setup_cell_is_short_and_has_a_title():
    for repository in (None, ADDRESS):
        first, *code = address.setup_cell(repository).splitlines()
        assert first == "# @title Setup (run this cell first)"  # Colab shows it instead of the code
        assert len(code) < 30
        assert max(map(len, code)) <= 100


@pytest.mark.parametrize("path", sorted((address.ROOT / "notebooks" / "text").glob("*.md")), ids=lambda path: path.stem)
def test_setup_cell_is_the_same_and_folded_in_every_text(tool, path):
    first = next(cell for cell in tool.read_text(path).cells if cell.cell_type == "code")
    assert first.source == address.setup_cell(address.repository())
    assert first.metadata == address.FOLDED


def test_tools_keep_the_setup_cell_folded(tool, tmp_path, monkeypatch):
    """From the text to the notebook, with its prose alone, and back."""
    notebooks, texts = tmp_path / "notebooks", tmp_path / "notebooks" / "text"
    texts.mkdir(parents=True)
    for name, value in dict(ROOT=tmp_path, NOTEBOOKS=notebooks, TEXTS=texts).items():
        monkeypatch.setattr(tool, name, value)
    setup = f"# Title\n\nGoals.\n\n```{{code-cell}}{address.FOLDED_IN_TEXT}{address.setup_cell(None)}\n```\n\n"
    text = tool.as_text([]) + "\n" + setup + '```{code-cell} ipython3\n:tags: [nbval-ignore-output]\n\nprint("shown")\n```\n'
    (texts / "00_a.md").write_text(text)
    tool.build([])
    stored = nbformat.read(notebooks / "00_a.ipynb", as_version=4)
    assert [cell.metadata for cell in stored.cells] == [{}, address.FOLDED, {"tags": ["nbval-ignore-output"]}]
    assert stored.cells[2].outputs[0].text == "shown\n"
    assert tool.check_one("00_a") == []
    (texts / "00_a.md").write_text(text.replace("Goals.", "Other goals."))
    tool.take_prose([])
    stored = nbformat.read(notebooks / "00_a.ipynb", as_version=4)
    assert (stored.cells[0].source, stored.cells[1].metadata) == ("# Title\n\nOther goals.", address.FOLDED)
    assert stored.cells[2].outputs[0].text == "shown\n"
    tool.to_text([])
    assert (texts / "00_a.md").read_text() == text.replace("Goals.", "Other goals.")
    # and a notebook whose cell is not folded does not agree with its text
    stored.cells[1].metadata = {}
    nbformat.write(stored, notebooks / "00_a.ipynb")
    assert tool.check_one("00_a")[0].startswith("00_a: cell 1 differs between text and notebook")


@pytest.mark.parametrize("head", [" ipython3\n", " ipython3\n:tags: [a]\n", " ipython3\n---\ncellView: form\n---\n"])
def test_setup_cell_is_folded_whatever_stands_there(head):
    before = f"# Title\n\n```{{code-cell}}{head}try:\n    old\nexcept Error:\n    import diffusion_lib as dl\n```\n\nmore\n"
    after = f"# Title\n\n```{{code-cell}}{address.FOLDED_IN_TEXT}{address.setup_cell(None)}\n```\n\nmore\n"
    assert address.in_text_pair(before, None, "00_a") == address.in_text_pair(after, None, "00_a") == after


# ----------------------------------------------------------------------------------------- a real environment, a real pip and kernel


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that has what ours has, but for the package."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    ours = Path(sysconfig.get_path("purelib"))
    theirs = folder / ours.relative_to(sys.prefix)
    for path in ours.iterdir():
        if "diffusion_lib" not in path.name:
            (theirs / path.name).symlink_to(path)
    return folder / "bin" / "python"


def write_wheel(folder):
    """A wheel of a package that has the name of ours, and no more."""
    info = "diffusion_lib-0.0.1.dist-info"
    files = {
        "diffusion_lib/__init__.py": "widgets = None\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: diffusion_lib\nVersion: 0.0.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / "diffusion_lib-0.0.1-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))


def run_in_kernel(python, folder):
    """Runs the setup cell, and a cell that shows the package, in a kernel of that interpreter that starts in `folder`."""
    spec = dict(display_name="other", language="python", argv=[str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    (folder / "kernels" / "other").mkdir(parents=True)
    (folder / "kernels" / "other" / "kernel.json").write_text(json.dumps(spec))
    notebook = new_notebook(cells=[new_code_cell(address.setup_cell(None)), new_code_cell("print(dl.__file__)")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        patch.setenv("PIP_NO_INDEX", "1")  # no network
        patch.delenv("PYTHONPATH", raising=False)
        NotebookClient(notebook, kernel_name="other", timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in notebook.cells for output in cell.outputs]


def test_kernel_without_the_package_explains_then_installs_a_wheel(python, tmp_path):
    for case in ("nothing", "wheel"):
        (tmp_path / case).mkdir()
    with pytest.raises(CellExecutionError) as stopped:
        run_in_kernel(python, tmp_path / "nothing")
    assert stopped.value.ename == "ModuleNotFoundError"
    assert stopped.value.evalue.startswith(f"No module named 'diffusion_lib' in {python.parents[1]}: put diffusion_lib's wheel")
    write_wheel(tmp_path / "wheel")
    said, shown = run_in_kernel(python, tmp_path / "wheel")
    assert said.text.startswith(f"installing {tmp_path / 'wheel' / 'diffusion_lib-0.0.1-py3-none-any.whl'}")
    assert str(python.parents[1]) in shown.text
