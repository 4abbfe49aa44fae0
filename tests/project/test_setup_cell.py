"""The first code cell of every notebook: if the package is missing, it installs a wheel or the project, or explains what to do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_packaging import load_address

address = load_address(Path(__file__).parents[2])
ADDRESS = "https://github.com/some-owner/some-name"
# IPython with a pip that only notes what it is asked for, after which the package (a stand-in) can be imported
RUN = """
import json, sys, types
from IPython.core.interactiveshell import InteractiveShell

source, missing, modules = json.load(sys.stdin)
asked, stand_in = [], types.ModuleType("diffusion_lib")

class Missing:
    def find_spec(self, name, path=None, target=None):
        if missing and name == "diffusion_lib":
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

def pip(line):
    asked.append(line)
    sys.modules["diffusion_lib"] = stand_in

if not missing:
    sys.modules["diffusion_lib"] = stand_in
sys.meta_path.insert(0, Missing())
sys.modules.update({name: types.ModuleType(name) for name in modules})
shell = InteractiveShell.instance()
shell.register_magic_function(pip, "line", "pip")
error = shell.run_cell(source).error_in_exec
imported = shell.user_ns.get("dl") is stand_in
print("\\n" + json.dumps(dict(asked=asked, imported=imported, error=error and f"{type(error).__name__}: {error}")))
"""


def run(folder, repository=None, missing="diffusion_lib", modules=()):
    """What the cell of a project with that address does in a kernel that starts in `folder`."""
    source = address.setup_cell(repository).replace("/kaggle/input", str(folder / "kaggle" / "input"))
    command = [sys.executable, "-c", RUN]
    answer = json.dumps([source, missing, modules])
    done = subprocess.run(command, cwd=folder, input=answer, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def installs(source):
    return dict(asked=[f'install --quiet "{source}"'], imported=True, error=None)


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


def test_missing_package_without_address_prints_instructions(tmp_path):
    result = run(tmp_path, modules=["google.colab"])
    assert (result["asked"], result["imported"]) == ([], False)
    assert result["error"].startswith(
        "ModuleNotFoundError: diffusion_lib is not installed in this kernel: put its wheel beside this notebook"
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


def test_installs_missing_dependencies_of_the_project(clone):
    assert run(clone, missing="anywidget") == installs(clone)


@pytest.mark.parametrize("modules", [["google.colab"], []])
def test_installs_from_the_address_on_colab_and_elsewhere(tmp_path, modules):
    assert run(tmp_path, ADDRESS, modules=modules) == installs(f"git+{ADDRESS}")
