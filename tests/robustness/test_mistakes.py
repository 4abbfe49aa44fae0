"""Mistakes of public diffusion code that no single file's tests would notice: they lie between the parts.

The others are caught where they would be made: the last step and its noise, sigma and clipping in test_sampling; variances, v and
posterior in test_process; products and scaling in test_schedules; timesteps, loss and guidance in test_denoiser; gradient, EMA and
resume in test_training; intervals in test_metrics; pixels in test_datasets and test_plots.
"""

import ast
from pathlib import Path

import torch
from helpers import tiny_dataset, tiny_denoiser

import diffusion_lib as dl

PACKAGE = Path(dl.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
# imports run downwards only: each may import those before it
LAYERS = [
    *("errors", "files", "devices", "sharding", "results", "schedules", "process", "unet", "batches", "saving", "denoiser"),
    *(
        "sampling",
        "glyphs",
        "datasets",
        "checkpoints",
        "memory",
        "training",
        "classifier",
        "pretrained",
        "metrics",
        "plots",
        "widgets",
        "exercises",
    ),
]


def imports_of(tree):
    """The package's modules that a module imports at its top level (what a `main` imports for itself closes no circle)."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "diffusion_lib":
            parts = node.module.split(".")[1:]
            names |= {parts[0]} if parts else {alias.name for alias in node.names}
    return names


def test_imports_run_downwards_only():
    for path, tree in SOURCES.items():
        module = path.removesuffix(".py").partition("/")[0]
        if module != "__init__":
            above = {name for name in imports_of(tree) if LAYERS.index(name) > LAYERS.index(module)}
            assert above == set(), f"{path} imports {above}"


def test_alpha_bar_has_one_owner():
    # two owners are how training comes to use one schedule and sampling another
    makers = {
        path
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("cumprod", "prod") and not path.startswith("exercises/")  # the reader's own
    }
    assert makers == {"schedules.py"}


def test_a_trained_model_samples_with_the_schedule_it_was_trained_with(tmp_path):
    denoiser = dl.Denoiser(tiny_denoiser().network, dl.cosine_schedule(10, s=0.05), "x0")
    config = dl.TrainConfig(steps=2, warmup_steps=0, batch_size=4, device="cpu", precision="float32")
    *_, end = dl.train(denoiser, tiny_dataset(), config)
    end.ema.save_pretrained(tmp_path)
    again = dl.Denoiser.from_pretrained(tmp_path)
    for one in (end.ema, end.denoiser, again, dl.Guided(again, 2.0)):
        assert torch.equal(one.schedule.alpha_bar, dl.cosine_schedule(10, s=0.05).alpha_bar)
    torch.testing.assert_close(dl.sample(again, 3, steps=5, y=1), dl.sample(end.ema, 3, steps=5, y=1), rtol=0, atol=0)


def test_generators_leave_gradients_on_while_they_wait():
    # a yield inside no_grad switches the caller's gradients off; training must also leave them on for what the caller computes
    modes = [torch.is_grad_enabled()]
    for _ in dl.train(
        tiny_denoiser(), tiny_dataset(), dl.TrainConfig(steps=2, warmup_steps=0, batch_size=4, device="cpu", precision="float32")
    ):
        modes.append(torch.is_grad_enabled())
    assert modes == [True] * 3
