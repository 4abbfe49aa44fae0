"""Several processes match one: the same gradients, weights and samples, also after resuming with another number of processes.

These are real processes, started as a reader would start them; they communicate through gloo.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import SEVERAL, start, tiny_dataset, tiny_denoiser

import diffusion_lib as dl
from diffusion_lib.training import checkpoints

PROGRAMS = Path(__file__).parent / "programs"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# as on several GPUs; with --cpu, it would start one process alone
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--main_process_port=0"]


def launch(how, *arguments):
    child = start(*how, *arguments, OMP_NUM_THREADS="1")
    assert child.returncode == 0, child.stderr[-3000:]
    return child


def whole_run(folder=None, steps=None):
    """The same run on one process: what was taken, and the last step."""
    taken = []
    for step in dl.train(tiny_denoiser(), tiny_dataset(), replace(SEVERAL, precision="float32", device="cpu", checkpoint_every=1), folder):
        taken.append((step.step, step.loss.item(), step.grad_norm.item()))
        if step.step == steps:
            break
    return taken, step


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found, each: plain, with accumulated gradients, and going on after one process's five steps."""
    folder = tmp_path_factory.mktemp("two")
    whole_run(folder / "resumed", steps=5)
    launch(TORCHRUN, PROGRAMS / "two_processes.py", folder)
    return [torch.load(folder / f"process-{i}.pt") for i in (0, 1)], folder


@pytest.mark.parametrize("name", ["plain", "accumulated"])
def test_two_processes_match_the_gradients_and_weights_of_one(two, tmp_path, name):
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


def test_accumulated_gradients_are_averaged_over_processes_once_per_step(two):
    for found in two[0]:
        plain, accumulated = found["messages"]
        assert accumulated == plain > 0


def test_weights_that_a_denoiser_has_beside_its_network_stay_the_same_in_both_processes(two):
    (first, second), _ = two
    assert first["a weight of its own"] == second["a weight of its own"]
    assert first["a weight of its own"][0] != 0


def test_run_resumes_with_another_number_of_processes(two, tmp_path):
    found, folder = two
    taken, step = whole_run()
    torch.testing.assert_close(found[0]["resumed"]["taken"], taken[5:], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0]["resumed"]["ema"], step.ema.state_dict(), rtol=1e-3, atol=1e-4)
    # and what two wrote, one goes on from
    (folder / "plain" / "step-00000010.pt").rename(tmp_path / "aside.pt")
    again, _ = whole_run(folder / "plain")
    torch.testing.assert_close(again, taken[9:], rtol=1e-5, atol=1e-6)


def test_process_group_leaves_no_threads(two):
    """One that does can abort a process at its very end, with its work done: seen in one of four on a busy machine."""
    for found in two[0]:
        assert not [name for name in found["threads"] if "gloo" in name]


def test_processes_agree_bit_for_bit(two):
    (first, second), _ = two
    for name in ("plain", "accumulated", "resumed"):
        assert first[name]["taken"] == second[name]["taken"]
        for what in ("denoiser", "ema"):
            torch.testing.assert_close(first[name][what], second[name][what], rtol=0, atol=0)


def test_samples_do_not_depend_on_the_number_of_processes(two):
    (first, second), _ = two
    ema = tiny_denoiser()
    ema.load_state_dict(first["resumed"]["ema"])
    ours = dl.sample(ema.eval(), 5, steps=3, y=[0, 1, 2, 0, 1])
    torch.testing.assert_close(first["samples"], ours, rtol=0, atol=1e-5)
    assert torch.equal(first["samples"], second["samples"])
    torch.testing.assert_close(first["one sample"], dl.sample(ema, 1, steps=3), rtol=0, atol=1e-5)


def test_failed_checkpoint_write_stops_both_processes(two):
    (first, second), _ = two
    assert first["not written"] == "no room"
    assert second["not written"] == "in the first process: no room"


def test_rejects_processes_that_see_different_checkpoints(two):
    for found in two[0]:
        assert found["not together"].startswith("the processes would resume after steps [10, 0]; expected one step: ")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """What two processes found between which the weights were sharded."""
    folder = tmp_path_factory.mktemp("sharded")
    whole_run(folder / "resumed", steps=5)
    launch(TORCHRUN, PROGRAMS / "sharded.py", folder)
    return [torch.load(folder / f"process-{i}.pt") for i in (0, 1)], folder


@pytest.mark.parametrize("name", ["plain", "accumulated", "resumed", "loaded"])
def test_sharded_training_matches_one_process(sharded, name):
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


def test_processes_with_sharded_weights_all_draw_every_sample(sharded):
    (first, second), _ = sharded
    ema = tiny_denoiser()
    ema.load_state_dict(first["loaded"]["ema"])
    torch.testing.assert_close(first["samples"], dl.sample(ema.eval(), 5, steps=3, y=[0, 1, 2, 0, 1]), rtol=0, atol=1e-5)
    assert torch.equal(first["samples"], second["samples"])
    for found in (first, second):
        assert "expected a denoiser with complete weights" in found["refused"]["sample"]


def test_rejects_training_or_saving_sharded_weights(sharded):
    (first, second), folder = sharded
    for found in (first, second):
        assert "expected a new denoiser, which resumes from the checkpoint" in found["refused"]["train"]
        assert "expected complete weights: diffusion_lib.load_checkpoint(folder)" in found["refused"]["save"]
    assert not (folder / "model").exists()


def test_full_weights_are_gathered_only_on_the_writing_process(sharded):
    (first, second), _ = sharded
    assert all(first["kept"])
    assert not any(second["kept"])


def test_nonfinite_loss_in_one_process_is_skipped_by_all(sharded):
    (first, second), _ = sharded
    assert first["unchanged"] == second["unchanged"] == [True, *[False] * 8]


COMMAND = "--dataset glyphs --images 64 --base-channels 16 --batch-size 8 --warmup-steps 1 --checkpoint-every 2 --steps 4"
if torch.accelerator.is_available():  # else not asked for, as a reader would not
    COMMAND += " --device cpu"


def test_command_gives_the_same_result_under_every_launcher(tmp_path):
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


def test_warns_if_the_launcher_starts_too_few_processes(tmp_path):
    launcher = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
    child = launch([*launcher, "-m", "diffusion_lib.training", *COMMAND.split(), "--out"], tmp_path)
    assert child.stdout.startswith("1 process on cpu, mixed precision: no\n")
    assert "was asked for several processes but started one" in child.stderr
    assert "Use torchrun for several processes" in child.stderr


def test_command_uses_the_precision_configured_in_accelerate(tmp_path):
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
