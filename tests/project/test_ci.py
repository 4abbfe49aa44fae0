"""CI and the commit hooks run what the project's documents say they run."""

import ast
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FORMS = [path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def load(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


CI = load(".github/workflows/ci.yml")
JOBS = CI["jobs"]


def commands(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_pushes_and_pull_requests_are_tested_on_the_oldest_and_the_newest_python():
    assert {"push", "pull_request"} <= CI[True].keys()  # YAML reads "on" as true
    assert commands(JOBS["test"])[-1] == ".ci/run"
    named = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert JOBS["test"]["strategy"]["matrix"]["python-version"] == [min(named, key=Version), max(named, key=Version)]
    used = {step["uses"].partition("@")[0]: step.get("with", {}) for step in JOBS["test"]["steps"] if "uses" in step}
    assert used["actions/setup-python"]["python-version"] == "${{ matrix.python-version }}"
    assert "actions/setup-node" in used


def test_pages_are_published_only_after_the_tests_pass():
    assert JOBS["publish"]["needs"] == "site"
    assert set(JOBS["site"]["needs"]) == {"address", "test"}
    assert "github.ref == 'refs/heads/main'" in JOBS["site"]["if"]
    publishing = [
        path.name for path in (ROOT / ".github" / "workflows").glob("*.yml") if "deploy-pages" in path.read_text(encoding="utf-8")
    ]
    assert publishing == ["ci.yml"]
    others = [job for name, job in JOBS.items() if name != "publish"]
    assert CI["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in others)


def test_repository_address_is_checked_except_in_forks():
    assert commands(JOBS["address"]) == ['python tools/address.py "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY"']
    assert JOBS["address"]["if"] == "${{ !github.event.repository.fork }}"


def test_ci_script_is_executable_and_runs_make_test():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert subprocess.run(["bash", "-n", ".ci/run"], cwd=ROOT, check=False).returncode == 0
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1] == "make test"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_is_valid(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids)) > 1
    for field in form["body"]:
        assert field["type"] in ("input", "textarea", "dropdown")
        assert field["attributes"]["label"]
        assert ("options" in field["attributes"]) == (field["type"] == "dropdown")
    assert any(field.get("validations", {}).get("required") for field in form["body"])


def test_issue_forms_exist_for_bugs_notebooks_and_ideas():
    assert {path.stem for path in FORMS} == {"bug", "feature", "notebook"}


def test_hooks_run_the_projects_own_tools():
    """Those that `make lint` runs, in the versions of constraints.txt."""
    (repo,) = load(".pre-commit-config.yaml")["repos"]
    assert repo["repo"] == "local"
    entries = {hook["id"]: hook["entry"].split() for hook in repo["hooks"]}
    assert entries.keys() == {"ruff", "ruff-format", "notebooks"}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for command in entries.values():
        program = command[0].removeprefix(".venv/bin/")
        assert program == "python" or f"\n{program}==" in pins
    assert (ROOT / entries["notebooks"][1]).is_file()


def test_paths_marked_as_slow_exist():
    conftest = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    (value,) = (node.value for node in ast.parse(conftest).body if isinstance(node, ast.Assign) and node.targets[0].id == "SLOW")
    names = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant)]
    assert "browser" in names
    assert [name for name in names if not (ROOT / "tests" / name).exists()] == []


def test_mutation_config_names_existing_tests():
    mutmut = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    assert [name for name in mutmut["pytest_add_cli_args_test_selection"] if not (ROOT / name).is_file()] == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_targets_match_contributing():
    table = re.findall(r"(?m)^\| `make ([\w-]+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert {"test-fast", "lint", "test", "site", "wheel", "test-colab", "build-notebooks"} == set(table)
    assert "CI" in subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    def plan(target):
        return subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for target in table:
        assert plan(target)
    assert 'pytest tests -m "not slow"' in plan("test-fast")
    for tool in ("ruff check .", "ruff format --check .", "mypy", "tools/notebooks.py check", "pytest tests", "--nbval"):
        assert tool in plan("test")
