"""pyproject.toml, constraints.txt, environment.yml and the repository's address are consistent."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import diffusion_lib as dl

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for lines in (PROJECT["dependencies"], *EXTRAS.values()) for line in lines]
PINS = {
    canonicalize_name(pin.name): pin
    for pin in (
        Requirement(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line.strip()[:1] not in "#"
    )
}


def load_address(root):
    """tools/address.py of the project, or of a copy of it."""
    spec = importlib.util.spec_from_file_location(f"address_of_{root.name}", root / "tools" / "address.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ----------------------------------------------------------------------------------------------------------------- dependencies


@pytest.mark.parametrize("requirement", [r for r in REQUIREMENTS if r.name != PROJECT["name"]], ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    ((operator, version),) = ((s.operator, s.version) for s in pin.specifier)
    assert operator == "=="
    assert requirement.specifier, f"{requirement} admits every version"
    assert requirement.specifier.contains(version)


def test_extras_refer_to_existing_extras():
    own = [r for r in REQUIREMENTS if r.name == PROJECT["name"]]
    assert own
    assert all(extra in EXTRAS for r in own for extra in r.extras)


def test_every_import_of_the_package_is_a_declared_dependency():
    imported = set()
    for path in (ROOT / "diffusion_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.partition(".")[0])
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    # what the widget libraries are written in is theirs to require
    declared |= {canonicalize_name(Requirement(line).name) for line in metadata.requires("ipywidgets")}
    providers = metadata.packages_distributions()
    third_party = imported - set(sys.stdlib_module_names) - {"diffusion_lib"}
    assert "torch" in third_party
    undeclared = {name for name in third_party if not declared & {canonicalize_name(p) for p in providers[name]}}
    assert undeclared == set()


def test_conda_environment_matches_the_pip_installation():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = next(line.partition("=")[2] for line in environment["dependencies"] if str(line).startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    (pip,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    assert "-c constraints.txt" in pip
    (editable,) = (line for line in pip if line.startswith("-e "))
    extra = re.fullmatch(r"-e \.\[(\w+)\]", editable)[1]
    assert extra in EXTRAS
    assert any(Requirement(line).name == "jupyterlab" for line in EXTRAS[extra])
    assert len(pip) == 2  # nothing else that pyproject.toml does not know of


def test_python_versions_agree():
    required = SpecifierSet(PROJECT["requires-python"])
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    lowest = min(named, key=Version)
    assert all(required.contains(version) for version in named)
    major, minor = (int(part) for part in lowest.split("."))
    assert not required.contains(f"{major}.{minor - 1}")
    assert f"sys.version_info < ({major}, {minor})" in (ROOT / "Makefile").read_text(encoding="utf-8")
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]
    assert ruff["target-version"] == f"py{major}{minor}"


# ------------------------------------------------------------------------------------------------------------ what is published


def test_licence_is_mit_in_name_and_text():
    assert PROJECT["license"] == "MIT"
    assert PROJECT["license-files"] == ["LICENSE"]
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License")
    assert "Permission is hereby granted, free of charge" in text


def test_metadata_is_complete():
    assert any(c.startswith("Intended Audience :: Education") for c in PROJECT["classifiers"])
    assert any(c.startswith("Development Status ::") for c in PROJECT["classifiers"])
    assert PROJECT["description"]
    assert (ROOT / PROJECT["readme"]).is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", dl.__version__)


def test_data_files_are_packaged():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["diffusion_lib"]
    packaged = {path for pattern in patterns for path in (ROOT / "diffusion_lib").glob(pattern) if path.is_file()}
    others = {p for p in (ROOT / "diffusion_lib").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert others == packaged
    assert {path.suffix for path in packaged} == {".js", ".css", ".json", ".safetensors", ".typed"}


def test_every_public_name_exists():
    assert len(set(dl.__all__)) == len(dl.__all__)
    for name in dl.__all__:
        assert getattr(dl, name) is not None
        assert name in dir(dl)
    with pytest.raises(AttributeError, match="module 'diffusion_lib' has no attribute 'trane'"):
        dl.trane  # noqa: B018


# ------------------------------------------------------------------------------------------------------- the repository's address


def published(root):
    """The text of each file that may name an address."""
    patterns = ["*.md", "*.toml", "*.yml", "*.cff", "Makefile", "docs/*.md", "notebooks/text/*.md", "notebooks/*.ipynb"]
    patterns += [".github/**/*.*", "diffusion_lib/**/*.py", "site/*.*"]
    return {path: path.read_text(encoding="utf-8") for pattern in patterns for path in root.glob(pattern)}


def addresses(root, owner_name):
    """Every mention of OWNER/NAME in the project, as (file, whole address)."""
    found = []
    for path, text in published(root).items():
        for match in re.finditer(re.escape(owner_name) + r"(?:\.git)?(?![\w-])", text):
            # a search in all of it would never end: stored pictures are long words
            before = text[max(0, match.start() - 80) : match.start()]
            found.append((path, re.search(r"[\w./:+-]*$", before)[0] + match[0]))
    return found


@pytest.fixture
def copy(tmp_path):
    """The files that may name the address, and the tools."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "notebooks", root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CITATION.cff"):
        shutil.copy(ROOT / name, root / name)
    return root


def run_tool(root, *command):
    return subprocess.run([sys.executable, *command], cwd=root, capture_output=True, text=True, timeout=300, check=False)


def test_all_files_use_the_configured_address():
    assert load_address(ROOT).disagreements() == []


def test_no_file_names_an_address_before_one_is_set(copy):
    address = load_address(copy)
    for path, content in address.everywhere(copy, None).items():
        path.write_text(content, encoding="utf-8")
    assert address.repository() is None
    assert address.disagreements(copy) == []
    for path, text in published(copy).items():
        assert "git+http" not in text, path
        assert "https://colab.research.google.com" not in text, path
        assert "Open in Colab" not in text, path
    assert tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"] == {}


def test_repository_address_can_be_changed(copy):
    address = load_address(copy)
    problems = run_tool(copy, "tools/notebooks.py", "check").stderr
    old = None
    # the second name is a part of the third
    for new in ("https://github.com/owner/name", "https://github.com/new-owner.x/name", "https://github.com/new-owner.x/name-2"):
        done = run_tool(copy, "tools/notebooks.py", "set-repository", new)
        assert done.returncode == 0, done.stderr
        assert address.repository() == new
        assert old is None or addresses(copy, old.removeprefix("https://github.com/")) == []
        assert run_tool(copy, "tools/notebooks.py", "check").stderr == problems  # all else as well as it was
        names = addresses(copy, new.removeprefix("https://github.com/"))
        colab = new.replace("https://github.com/", "https://colab.research.google.com/github/")
        assert {text for _, text in names} == {new, f"git+{new}", colab}
        assert {path.name for path, _ in names} == {path.name for path in address.everywhere(copy, new)}
        urls = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
        assert {"Repository", "Issues"} <= urls.keys()
        assert all(url.startswith(new) for url in urls.values())
        old = new

    for path in (copy / "notebooks" / "text").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert address.setup_cell(new) in text
        assert (
            text.count(
                f"[Open in Colab](https://colab.research.google.com/github/new-owner.x/name-2/blob/main/notebooks/{path.stem}.ipynb)"
            )
            == 1
        )
        readme = (copy / "README.md").read_text(encoding="utf-8")
        assert f"[page](https://new-owner.x.github.io/name-2/{path.stem}.html)" in readme
    assert yaml.safe_load((copy / "CITATION.cff").read_text(encoding="utf-8"))["repository-code"] == new
    # and back: not a letter is lost
    for path, content in address.everywhere(copy, address.repository(ROOT)).items():
        assert content == (ROOT / path.relative_to(copy)).read_text(encoding="utf-8"), path

    for bad in ("github.com/a/b", "https://github.com/a", f"{new}.git", "https://example.org/a/b", f"{new}/tree/main"):
        with pytest.raises(SystemExit, match=r"is no repository address; expected https://github.com/OWNER/NAME"):
            address.set_repository(bad)
    assert address.repository() == new


def test_changed_setup_cell_is_detected_and_restored(copy):
    path = copy / "notebooks" / "text" / "00_start_here.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("import diffusion_lib as dl\n```", "import os\n    import diffusion_lib as dl\n```", 1), encoding="utf-8")
    address = load_address(copy)
    (problem,) = address.disagreements(copy)
    assert problem.startswith("notebooks/text/00_start_here.md: its links")
    assert run_tool(copy, "tools/notebooks.py", "set-repository").returncode == 0
    assert path.read_text(encoding="utf-8") == text
    path.write_text(text.replace("import diffusion_lib as dl", "import diffusion_lib"), encoding="utf-8")
    assert address.disagreements(copy) == ["00_start_here: the first code cell is no setup cell; expected that of tools/address.py"]


def test_address_check_fails_in_a_repository_at_another_address(copy):
    here = "https://github.com/owner/name"
    stopped = run_tool(copy, "tools/address.py", here)
    assert stopped.returncode == 1
    assert stopped.stderr.rstrip().endswith(f"Run: python tools/notebooks.py set-repository {here}")
    assert run_tool(copy, "tools/notebooks.py", "set-repository", here).returncode == 0
    assert run_tool(copy, "tools/address.py", here).returncode == 0
