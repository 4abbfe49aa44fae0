"""Mistakes found in public diffusion code that no single file's tests would catch, because they lie between modules.

The others are caught where they would be made: the last step and its noise, sigma and clipping in test_sampling; variances, targets and
posterior in test_process; products and scaling in test_schedules; timesteps, loss and guidance in test_denoiser; gradient and EMA in
training/test_loop, resuming in training/test_checkpoints; intervals in measure/test_distances; pixels in data/test_dataset and test_plots.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import torch
from helpers import tiny_dataset, tiny_denoiser

import diffusion_lib as dl

PACKAGE = Path(dl.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
# the method, in the order in which it is read, and what it stands on
SUPPORT = {"errors", "checks", "words", "devices", "seeds", "files", "saving", "progress"}
METHOD = ["schedules", "process", "text", "unet", "networks", "denoiser", "guidance", "sampling", "solvers", "likelihood"]


def module_of(path):
    """The name of a source file within the package, "" for that of the package itself."""
    return path.removesuffix(".py").removesuffix("__init__").rstrip("/").replace("/", ".")


MODULES = {module_of(path): tree for path, tree in SOURCES.items()}


def imports_of(tree):
    """The package's modules that a module imports at its top level (what a function imports for itself closes no circle)."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute in this package"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".")[1:] for name in names if name.split(".")[0] == "diffusion_lib"]
    # of diffusion_lib.data.load_dataset the module is diffusion_lib.data
    return {next(module for k in range(len(each), -1, -1) if (module := ".".join(each[:k])) in MODULES) for each in parts}


def test_imports_are_acyclic():
    graph = {module: imports_of(tree) for module, tree in MODULES.items() if module}
    assert graph["sampling"] >= {"process", "denoiser"}  # it is looked at all right
    for module, needed in graph.items():
        # who imports data.glyphs runs data/__init__.py first
        packages = {".".join(each.split(".")[:k]) for each in needed for k in range(1, each.count(".") + 1)}
        needed |= {each for each in packages if each != module and not module.startswith(f"{each}.")}
        assert "" not in needed, f"{module} imports from diffusion_lib itself, which imports it"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", [name for name in METHOD if name in MODULES])
def test_method_modules_import_only_earlier_ones_in_reading_order(module):
    before = METHOD[: METHOD.index(module)]
    assert imports_of(MODULES[module]) <= SUPPORT.union(before)


@pytest.mark.parametrize("module", sorted(SUPPORT))
def test_support_modules_import_no_method_modules(module):
    assert imports_of(MODULES[module]) <= SUPPORT


def test_alpha_bar_is_computed_in_one_module_only():
    # two owners are how training comes to use one schedule and sampling another
    makers = {
        path
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("cumprod", "prod") and not path.startswith("exercises/")  # the reader's own
    }
    assert makers == {"schedules.py"}


def test_trained_model_samples_with_its_training_schedule(tmp_path):
    denoiser = dl.Denoiser(tiny_denoiser().network, dl.cosine_schedule(10, s=0.05), "x0")
    config = dl.TrainConfig(steps=2, warmup_steps=0, batch_size=4, device="cpu", precision="float32")
    *_, end = dl.train(denoiser, tiny_dataset(), config)
    end.ema.save_pretrained(tmp_path)
    again = dl.Denoiser.from_pretrained(tmp_path)
    for one in (end.ema, end.denoiser, again, dl.Guided(again, 2.0)):
        assert torch.equal(one.schedule.alpha_bar, dl.cosine_schedule(10, s=0.05).alpha_bar)
    torch.testing.assert_close(dl.sample(again, 3, steps=5, y=1), dl.sample(end.ema, 3, steps=5, y=1), rtol=0, atol=0)


def test_generators_leave_gradients_enabled_between_steps():
    # a yield inside no_grad switches the caller's gradients off; training must also leave them on for what the caller computes
    modes = [torch.is_grad_enabled()]
    for _ in dl.train(
        tiny_denoiser(), tiny_dataset(), dl.TrainConfig(steps=2, warmup_steps=0, batch_size=4, device="cpu", precision="float32")
    ):
        modes.append(torch.is_grad_enabled())
    assert modes == [True] * 3
