"""pyproject.toml, constraints.txt, environment.yml and the repository's address tell one story."""

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


def load_tool(root):
    """tools/notebooks.py of a copy of the project."""
    spec = importlib.util.spec_from_file_location(f"notebooks_of_{root.name}", root / "tools" / "notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ----------------------------------------------------------------------------------------------------------------- dependencies


@pytest.mark.parametrize("requirement", [r for r in REQUIREMENTS if r.name != PROJECT["name"]], ids=str)
def test_every_dependency_is_pinned_to_a_version_that_its_range_admits(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    ((operator, version),) = ((s.operator, s.version) for s in pin.specifier)
    assert operator == "=="
    assert requirement.specifier, f"{requirement} admits every version"
    assert requirement.specifier.contains(version)


def test_extras_refer_to_extras_that_exist():
    own = [r for r in REQUIREMENTS if r.name == PROJECT["name"]]
    assert own
    assert all(extra in EXTRAS for r in own for extra in r.extras)


def test_what_the_package_imports_is_declared():
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


def test_conda_environment_is_the_same_installation():
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
    assert {"Repository", "Issues"} <= PROJECT["urls"].keys()
    assert all(url.startswith(PROJECT["urls"]["Repository"]) for url in PROJECT["urls"].values())
    assert any(c.startswith("Intended Audience :: Education") for c in PROJECT["classifiers"])
    assert any(c.startswith("Development Status ::") for c in PROJECT["classifiers"])
    assert PROJECT["description"]
    assert (ROOT / PROJECT["readme"]).is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+", dl.__version__)


def test_files_that_are_no_code_are_packaged():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]["diffusion_lib"]
    packaged = {path for pattern in patterns for path in (ROOT / "diffusion_lib").glob(pattern) if path.is_file()}
    others = {p for p in (ROOT / "diffusion_lib").rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert others == packaged
    assert {path.suffix for path in packaged} == {".js", ".css", ".json", ".safetensors"}


def test_every_public_name_is_there():
    assert len(set(dl.__all__)) == len(dl.__all__)
    for name in dl.__all__:
        assert getattr(dl, name) is not None
        assert name in dir(dl)
    with pytest.raises(AttributeError, match="module 'diffusion_lib' has no attribute 'trane'"):
        dl.trane  # noqa: B018


# ------------------------------------------------------------------------------------------------------- the repository's address


def published(root):
    """The files that may hold the address."""
    patterns = (
        "*.md",
        "*.toml",
        "*.yml",
        "*.cff",
        "Makefile",
        "notebooks/**/*.md",
        "notebooks/*.ipynb",
        "diffusion_lib/**/*.py",
        "tools/*.py",
    )
    return [path for pattern in patterns for path in root.glob(pattern)]


def addresses(root, owner_name):
    """Every mention of OWNER/NAME in the project, as (file, whole address)."""
    found = []
    for path in published(root):
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(re.escape(owner_name) + r"(?:\.git)?(?![\w-])", text):
            before = text[
                max(0, match.start() - 80) : match.start()
            ]  # a search in all of it would never end: stored pictures are long words
            found.append((path, re.search(r"[\w./:+-]*$", before)[0] + match[0]))
    return found


def test_the_repository_has_one_address():
    tool = load_tool(ROOT)
    address = tool.repository()
    assert re.fullmatch(tool.GITHUB, address)
    colab = address.replace("https://github.com/", "https://colab.research.google.com/github/")
    found = addresses(ROOT, address.removeprefix("https://github.com/"))
    assert found
    assert {text.removeprefix("git+") for _, text in found} <= {address, colab}
    assert f"git+{address}" in tool.setup_cell()
    for path in tool.texts([]):
        text = path.read_text(encoding="utf-8")
        assert tool.badge(path.stem) in text
        assert tool.setup_cell() in text


def test_the_repository_can_move(tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(ROOT / "notebooks", copy / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (copy / "tools").mkdir()
    for name in ("pyproject.toml", "README.md", "tools/notebooks.py"):
        shutil.copy(ROOT / name, copy / name)
    before = load_tool(copy)
    old, problems = before.repository(), before.check()

    new = "https://github.com/new-owner.x/" + old.rpartition("/")[2] + "-2"  # the old name is a part of the new one
    line = [sys.executable, "tools/notebooks.py", "set-repository", new]
    done = subprocess.run(line, cwd=copy, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr

    tool = load_tool(copy)
    assert tool.repository() == new
    assert addresses(copy, old.removeprefix("https://github.com/")) == []
    # setup cells and badges agree, and all else as well as it did
    problems_now = tool.check()
    assert [p.replace(new.removeprefix("https://github.com/"), old.removeprefix("https://github.com/")) for p in problems_now] == problems
    assert not [p for p in problems_now if "setup cell" in p or "first cell has no badge" in p]
    moved = tomllib.loads((copy / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert moved == {name: url.replace(old, new) for name, url in PROJECT["urls"].items()}

    for bad in ("github.com/a/b", "https://github.com/a", f"{new}.git", "https://example.org/a/b", f"{new}/tree/main"):
        with pytest.raises(SystemExit, match=r"is no repository address; expected https://github.com/OWNER/NAME"):
            tool.set_repository(bad)
    assert tool.repository() == new
