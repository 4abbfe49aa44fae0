"""Several processes do what one does: the same gradients, weights and samples, resumed on another number, and refused where it cannot be.

Real processes, started as a reader would start them, which talk through gloo.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import CONFIG, tiny_dataset, tiny_denoiser

import diffusion_lib as dl
from diffusion_lib.training import checkpoints

TESTS = Path(__file__).parents[1]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# as on several GPUs; with --cpu, it would start one process alone
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--main_process_port=0"]
AUTO = replace(CONFIG, steps=10, device="auto", precision="auto")

CHILD = """
import shutil, sys
from pathlib import Path
import torch
from accelerate import Accelerator
import diffusion_lib as dl
folder, accelerator = Path(sys.argv[1]), Accelerator(cpu=True)  # before anything else of the package is imported
from helpers import tiny_dataset, tiny_denoiser
from test_distributed import AUTO, replace, threads
from diffusion_lib.training import checkpoints, sample_over_processes

found = {}
for name, parts in dict(plain=1, accumulated=5, resumed=1).items():
    accelerator.gradient_accumulation_steps = parts
    denoiser = tiny_denoiser(seed=accelerator.process_index)  # each process its own: the first one's count
    steps = dl.train(denoiser, tiny_dataset(), replace(AUTO, checkpoint_every=1), folder / name, accelerator)
    taken = []
    for step in steps:
        taken.append((step.step, step.loss.item(), step.grad_norm.item()))
        if step.step == 1 and accelerator.is_main_process:
            shutil.copy(folder / name / "step-00000001.pt", folder / f"{name}.pt")
    found[name] = dict(taken=taken, ema=step.ema.state_dict(), denoiser=denoiser.state_dict())
found["samples"] = sample_over_processes(step.ema, 5, accelerator, steps=3, y=[0, 1, 2, 0, 1], batch_size=2)
found["one sample"] = sample_over_processes(step.ema, 1, accelerator, steps=3)  # the other process has nothing to do


def no_room(directory, content, seen):
    raise OSError("no room")


checkpoints.write = no_room
try:
    next(dl.train(tiny_denoiser(), tiny_dataset(), replace(AUTO, checkpoint_every=1), folder / "no room", accelerator))
except OSError as error:
    found["not written"] = str(error)
try:  # each its own folder: only the first one finds a checkpoint in it
    dl.train(tiny_denoiser(), tiny_dataset(), AUTO, folder / ("plain" if accelerator.is_main_process else "another"), accelerator)
except ValueError as error:
    found["not together"] = str(error)
accelerator.end_training()
found["threads"] = threads()
torch.save(found, folder / f"process-{accelerator.process_index}.pt")
"""


SHARDED = """
import os, sys
from itertools import pairwise
from pathlib import Path
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from helpers import tiny_dataset, tiny_denoiser
from test_distributed import AUTO, replace
from test_training import broken
import diffusion_lib as dl
from diffusion_lib.training import sample_over_processes
from diffusion_lib.training.sharding import gather_state, is_sharded

folder, accelerator = Path(sys.argv[1]), Accelerator(cpu=True)
# accelerate takes FSDP's settings on GPUs alone, though torch's FSDP runs on CPUs too
AcceleratorState._shared_state["distributed_type"] = DistributedType.FSDP
found = {}
for name, options in dict(plain={}, accumulated={}, resumed={}, loaded=dict(cpu_ram_efficient_loading=True)).items():
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap", **options)
    AcceleratorState._shared_state["fsdp_plugin"] = plugin
    accelerator.gradient_accumulation_steps = 5 if name == "accumulated" else 1
    denoiser = tiny_denoiser(seed=accelerator.process_index)  # each process its own: the first one's count
    taken = []
    for step in dl.train(denoiser, tiny_dataset(), replace(AUTO, checkpoint_every=5), folder / name, accelerator):
        taken.append((step.step, step.loss.item(), step.grad_norm.item()))
        for model in (step.ema, step.denoiser):  # looking at them while they are trained disturbs nothing
            dl.sample(model, 1, steps=1)
    models = dict(ema=step.ema, denoiser=denoiser)
    found[name] = dict(taken=taken, **{key: gather_state(model.state_dict()) for key, model in models.items()})
    for model in models.values():
        units = [path for path, module in model.named_modules() if isinstance(module, FSDPModule)]
        assert "network" in units and "network.middle" in units and len(units) == 6, units
        assert all(is_sharded(p) and p.to_local().numel() < p.numel() for p in model.parameters() if len(p) > 1)
found["samples"] = dl.sample(step.ema, 5, steps=3, y=[0, 1, 2, 0, 1], batch_size=2)
found["kept"] = [value is not None for value in gather_state(step.ema.state_dict(), keep=accelerator.is_main_process).values()]
found["refused"] = {}
for name, action in dict(
    sample=lambda: sample_over_processes(step.ema, 5, accelerator, steps=3),
    train=lambda: dl.train(denoiser, tiny_dataset(), AUTO, accelerator=accelerator),
    save=lambda: step.ema.save_pretrained(folder / "model"),
).items():
    try:
        action()
    except ValueError as error:
        found["refused"][name] = str(error)
denoiser = broken({2} if accelerator.process_index == 1 else ())  # one process alone meets a loss that is not finite
weights = [gather_state(denoiser.state_dict()) for _ in dl.train(denoiser, tiny_dataset(), AUTO, accelerator=accelerator)]
found["unchanged"] = [all(torch.equal(a[key], b[key]) for key in a) for a, b in pairwise(weights)]
torch.save(found, folder / f"process-{accelerator.process_index}.pt")
accelerator.end_training()
# torch's caches of sharded tensors keep gloo's threads, which now and then abort a process while Python ends; on GPUs there is no gloo
os._exit(0)
"""


def threads():
    """The names of this process's threads, [] where the system does not tell them."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def launch(how, *arguments, cwd=None):
    environment = os.environ | dict(PYTHONPATH=str(TESTS), OMP_NUM_THREADS="1")
    line = [sys.executable, *how, *map(str, arguments)]
    child = subprocess.run(line, env=environment, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 0, child.stderr[-3000:]
    return child


def whole_run(folder=None, steps=None):
    """The same run on one process: what was taken, and the last step."""
    taken = []
    for step in dl.train(tiny_denoiser(), tiny_dataset(), replace(AUTO, precision="float32", device="cpu", checkpoint_every=1), folder):
        taken.append((step.step, step.loss.item(), step.grad_norm.item()))
        if step.step == steps:
            break
    return taken, step


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found, each: plain, with accumulated gradients, and going on after one process's five steps."""
    folder = tmp_path_factory.mktemp("two")
    whole_run(folder / "resumed", steps=5)
    (folder / "child.py").write_text(CHILD)
    launch(TORCHRUN, folder / "child.py", folder)
    return [torch.load(folder / f"process-{i}.pt") for i in (0, 1)], folder


@pytest.mark.parametrize("name", ["plain", "accumulated"])
def test_two_processes_have_the_gradients_and_weights_of_one(two, tmp_path, name):
    found, folder = two
    taken, step = whole_run(tmp_path)
    assert len(taken) == 10
    torch.testing.assert_close(found[0][name]["taken"], taken, rtol=1e-5, atol=1e-6)
    # Adam's first moment after one step is a tenth of the gradient
    whole_run(tmp_path / "one", steps=1)
    theirs = torch.load(folder / f"{name}.pt", weights_only=True)["moments"]
    ours = checkpoints.newest(tmp_path / "one").content["moments"]
    for k in ours:
        torch.testing.assert_close(theirs[k]["exp_avg"], ours[k]["exp_avg"], rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(found[0][name]["denoiser"], step.denoiser.state_dict(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[0][name]["ema"], step.ema.state_dict(), rtol=1e-3, atol=1e-4)


def test_a_run_of_one_process_goes_on_with_two_and_back(two, tmp_path):
    found, folder = two
    taken, step = whole_run()
    torch.testing.assert_close(found[0]["resumed"]["taken"], taken[5:], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0]["resumed"]["ema"], step.ema.state_dict(), rtol=1e-3, atol=1e-4)
    # and what two wrote, one goes on from
    (folder / "plain" / "step-00000010.pt").rename(tmp_path / "aside.pt")
    again, _ = whole_run(folder / "plain")
    torch.testing.assert_close(again, taken[9:], rtol=1e-5, atol=1e-6)


def test_no_thread_of_the_process_group_outlives_it(two):
    """One that does can abort a process at its very end, with its work done: seen in one of four on a busy machine."""
    for found in two[0]:
        assert not [name for name in found["threads"] if "gloo" in name]


def test_the_processes_agree_bit_for_bit(two):
    (first, second), _ = two
    for name in ("plain", "accumulated", "resumed"):
        assert first[name]["taken"] == second[name]["taken"]
        for what in ("denoiser", "ema"):
            torch.testing.assert_close(first[name][what], second[name][what], rtol=0, atol=0)


def test_a_sample_does_not_depend_on_the_number_of_processes(two):
    (first, second), _ = two
    ema = tiny_denoiser()
    ema.load_state_dict(first["resumed"]["ema"])
    ours = dl.sample(ema.eval(), 5, steps=3, y=[0, 1, 2, 0, 1])
    torch.testing.assert_close(first["samples"], ours, rtol=0, atol=1e-5)
    assert torch.equal(first["samples"], second["samples"])
    torch.testing.assert_close(first["one sample"], dl.sample(ema, 1, steps=3), rtol=0, atol=1e-5)


def test_a_checkpoint_that_cannot_be_written_stops_both_processes(two):
    (first, second), _ = two
    assert first["not written"] == "no room"
    assert second["not written"] == "in the first process: no room"


def test_processes_that_see_other_checkpoints_are_refused(two):
    for found in two[0]:
        assert found["not together"].startswith("the processes would go on after steps [10, 0]; expected the same for all: ")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """What two processes found between which the weights were spread."""
    folder = tmp_path_factory.mktemp("sharded")
    whole_run(folder / "resumed", steps=5)
    (folder / "child.py").write_text(SHARDED)
    launch(TORCHRUN, folder / "child.py", folder)
    return [torch.load(folder / f"process-{i}.pt") for i in (0, 1)], folder


@pytest.mark.parametrize("name", ["plain", "accumulated", "resumed", "loaded"])
def test_spread_weights_become_those_of_one_process(sharded, name):
    (first, second), folder = sharded
    taken, step = whole_run()
    for found in (first, second):
        torch.testing.assert_close(found[name]["taken"], taken[5:] if name == "resumed" else taken, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[name]["denoiser"], dict(step.denoiser.state_dict()), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found[name]["ema"], dict(step.ema.state_dict()), rtol=1e-3, atol=1e-4)
    # the checkpoint is one process's, and one process goes on from it
    state = checkpoints.newest(folder / name)
    torch.testing.assert_close(state.content["ema"], first[name]["ema"], rtol=0, atol=0)
    (folder / name / "step-00000010.pt").unlink()
    again, _ = whole_run(folder / name)
    torch.testing.assert_close(again, taken[5:], rtol=1e-5, atol=1e-6)


def test_spread_weights_draw_the_same_samples_and_split_none(sharded):
    (first, second), _ = sharded
    ema = tiny_denoiser()
    ema.load_state_dict(first["loaded"]["ema"])
    torch.testing.assert_close(first["samples"], dl.sample(ema.eval(), 5, steps=3, y=[0, 1, 2, 0, 1]), rtol=0, atol=1e-5)
    assert torch.equal(first["samples"], second["samples"])
    for found in (first, second):
        assert "expected a denoiser with whole weights" in found["refused"]["sample"]


def test_spread_weights_are_neither_trained_anew_nor_saved(sharded):
    (first, second), folder = sharded
    for found in (first, second):
        assert "expected a new one, which goes on from the checkpoint" in found["refused"]["train"]
        assert "expected whole ones: Denoiser.from_pretrained(folder)" in found["refused"]["save"]
    assert not (folder / "model").exists()


def test_whole_weights_are_held_only_where_they_are_written(sharded):
    (first, second), _ = sharded
    assert all(first["kept"])
    assert not any(second["kept"])


def test_a_loss_that_is_not_finite_in_one_process_is_skipped_by_all(sharded):
    (first, second), _ = sharded
    assert first["unchanged"] == second["unchanged"] == [True, *[False] * 8]


COMMAND = "--dataset glyphs --images 64 --base-channels 16 --batch-size 8 --warmup-steps 1 --checkpoint-every 2 --steps 4"
if torch.accelerator.is_available():  # else not asked for, as a reader would not
    COMMAND += " --device cpu"


def test_the_command_is_the_same_under_every_launcher(tmp_path):
    train, models = ["-m", "diffusion_lib.training", *COMMAND.split(), "--out"], {}
    plain = launch(train, tmp_path / "one", "--precision", "float32")
    for name, launcher in dict(torchrun=TORCHRUN, accelerate=[*ACCELERATE, "--mixed_precision=no"]).items():
        arguments = ["--precision", "float32"] if name == "torchrun" else []
        child = launch([*launcher, *train], tmp_path / name, *arguments)
        assert child.stdout.count("saved to") == plain.stdout.count("saved to") == 1
        assert child.stdout.startswith("2 processes on cpu, mixed precision: no\n")
        models[name] = dl.Denoiser.from_pretrained(tmp_path / name).state_dict()
        assert sorted(p.name for p in (tmp_path / name / "checkpoints").iterdir()) == ["step-00000002.pt", "step-00000004.pt"]
    for model in models.values():
        torch.testing.assert_close(model, dl.Denoiser.from_pretrained(tmp_path / "one").state_dict(), rtol=1e-3, atol=1e-4)


def test_a_launcher_that_starts_fewer_processes_than_it_was_asked_for_is_told_on(tmp_path):
    launcher = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
    child = launch([*launcher, "-m", "diffusion_lib.training", *COMMAND.split(), "--out"], tmp_path)
    assert child.stdout.startswith("1 process on cpu, mixed precision: no\n")
    assert "was asked for several processes and has started one" in child.stderr
    assert "For several, use torchrun" in child.stderr


def test_the_command_computes_as_accelerate_is_told(tmp_path):
    train = ["-m", "diffusion_lib.training", *COMMAND.split(), "--out"]
    launch(train, tmp_path / "one", "--precision", "bfloat16")
    child = launch([*ACCELERATE, "--mixed_precision=bf16", "--gradient_accumulation_steps=2", *train], tmp_path / "two")
    assert child.stdout.startswith("2 processes on cpu, mixed precision: bf16\n")
    one, two = (checkpoints.newest(tmp_path / name / "checkpoints").content["denoiser"] for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-2, atol=2e-3)
    launch(train, tmp_path / "other", "--precision", "float32")
    other = checkpoints.newest(tmp_path / "other" / "checkpoints").content["denoiser"]
    distances = [sum((model[key] - one[key]).norm() for key in one) for model in (two, other)]
    assert distances[0] < 0.5 * distances[1], distances  # in float32 the same steps lead elsewhere
