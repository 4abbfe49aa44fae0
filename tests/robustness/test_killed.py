"""Training that is killed repeatedly ends exactly as uninterrupted training does, bit for bit.

A real process is killed by SIGKILL, which it cannot catch, and started again. It pauses at a point chosen beforehand, reports it and
waits there to be killed, so no kill depends on the machine's speed. For a longer run by hand:
`pytest tests/robustness/test_killed.py --kills 100`.
"""

import multiprocessing
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import CONFIG, tiny_dataset, tiny_denoiser
from torch.optim.optimizer import register_optimizer_step_post_hook

import diffusion_lib as dl
from diffusion_lib import files
from diffusion_lib.training import checkpoints

# Where a process may be killed, and what it leaves: an unfinished file or none, and the checkpoint that it was about to write or not
PHASES = dict(
    forward=(False, False),  # in the middle of a step: the network has answered
    update=(False, False),  # in the middle of a step: the weights are changed, their average is not
    before_writing=(False, False),
    half_written=(True, False),
    before_renaming=(True, False),
    after_renaming=(False, True),
)
PATIENCE = 300  # seconds until a process that says nothing is taken to hang


def train_until(folder, config, connection, seed, phase, times):
    """What the process does: it trains until it is in `phase` for the `times`-th time, says so, and waits to be killed."""
    left = times

    def reached(here):
        nonlocal left
        left -= here == phase
        if left == 0:
            connection.send(here)
            connection.recv()  # nothing comes: the process ends here

    def write_whole(contents):
        reached("before_writing")
        whole(contents)
        reached("after_renaming")

    def save_in_halves(content, path):
        save(content, path)
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[: len(content) // 2])
        reached("half_written")
        Path(path).write_bytes(content)

    def replace(source, target):
        reached("before_renaming")
        rename(source, target)

    whole, save, rename = checkpoints.write_whole, torch.save, files.os.replace
    checkpoints.write_whole, torch.save = write_whole, save_in_halves
    files.os = SimpleNamespace(**{**vars(files.os), "replace": replace})
    register_optimizer_step_post_hook(lambda *_: reached("update"))
    denoiser = tiny_denoiser(dropout=0.2, seed=seed)
    denoiser.network.register_forward_hook(lambda *_: reached("forward"))
    for _ in dl.train(denoiser, tiny_dataset(), config, folder):
        pass


def newest_step(folder):
    return max((int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.pt")), default=0)


def assert_same(ours, theirs, where="checkpoint"):
    if isinstance(ours, torch.Tensor):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=lambda text: f"{where}: {text}")
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for key in ours:
            assert_same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    else:
        assert ours == theirs, where


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="needs a system with SIGKILL and forks")
def test_training_killed_at_any_point_ends_in_the_same_state(tmp_path, kills):
    # only every second step writes a checkpoint: a kill loses steps, and they must be taken again as they were
    config = dl.TrainConfig(**{**vars(CONFIG), "steps": 4 * kills + 4, "checkpoint_every": 2, "seed": 7})
    folder, draw, seen = tmp_path / "killed", random.Random(0), []
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["diffusion_lib.training", "helpers"])

    for number in range(kills):
        phase = list(PHASES)[number % len(PHASES)]
        times = draw.randint(1, 4 if phase in ("forward", "update") else 2)  # four steps or two checkpoints at most
        before = newest_step(folder)
        ours, theirs = context.Pipe()
        # where there is a checkpoint, other first weights each time: it must overwrite them all
        arguments = (folder, config, theirs, number if before else 0, phase, times)
        process = context.Process(target=train_until, args=arguments)
        process.start()
        theirs.close()
        try:
            assert ours.poll(PATIENCE), f"the process has not come to {phase!r} within {PATIENCE} s"
            seen.append(ours.recv())  # EOFError: the process ended before it got there
        finally:
            process.kill()
            process.join()
        assert process.exitcode < 0
        written = (times - 1) // 2 if phase in ("forward", "update") else times - 1
        unfinished, done = PHASES[phase]
        assert newest_step(folder) == before + 2 * (written + done)
        assert any(folder.glob("*.tmp")) == unfinished
    assert set(seen) == set(list(PHASES)[:kills])

    assert newest_step(folder) < config.steps
    for end in (folder, tmp_path / "whole"):
        for _ in dl.train(tiny_denoiser(dropout=0.2), tiny_dataset(), config, end):
            pass
    killed, whole = checkpoints.newest(folder), checkpoints.newest(tmp_path / "whole")
    assert_same(killed.content, whole.content)
    assert killed.content["step"] == config.steps
    assert not list(folder.glob("*.tmp"))
