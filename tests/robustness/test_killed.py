"""Training that is killed again and again ends as training that is left alone does, bit for bit.

A real process is killed (SIGKILL, which it cannot see coming) at random moments, many of them while it writes a checkpoint, and
started again. By hand, longer: `pytest tests/test_killed.py --kills 100`.
"""

import multiprocessing
import random
import time

import pytest
import torch
from helpers import CONFIG, tiny_dataset, tiny_denoiser

import diffusion_lib as dl
from diffusion_lib.training import checkpoints

STEPS_A_KILL = 4  # at most, on the average of many


def train_on(folder, config):
    """What the process does. Where there is a checkpoint, other first weights each time: it must overwrite them all."""
    seed = time.monotonic_ns() % 1000 if newest_step(folder) else 0
    for _ in dl.train(tiny_denoiser(dropout=0.2, seed=seed), tiny_dataset(), config, folder):
        pass


def newest_step(folder):
    return max((int(path.stem.removeprefix("step-")) for path in folder.glob("step-*.pt")), default=0)


def wait_until(reached, process):
    end = time.monotonic() + 60
    while not reached():
        assert process.is_alive(), "the process ended before it was to be killed"
        assert time.monotonic() < end, "the process made no progress within a minute"
        time.sleep(0.0005)


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
def test_killed_at_random_moments_training_ends_in_the_same_state(tmp_path, kills):
    # only every second step writes a checkpoint: a kill loses steps, and they must be taken again as they were
    config = dl.TrainConfig(**{**vars(CONFIG), "steps": (STEPS_A_KILL + 4) * kills, "checkpoint_every": 2, "seed": 7})
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["diffusion_lib.training", "helpers"])
    draw = random.Random(0)

    killed_while_writing = 0
    for _ in range(kills):
        process = context.Process(target=train_on, args=(tmp_path / "killed", config))
        process.start()
        (tmp_path / "killed").mkdir(exist_ok=True)
        before, ahead = newest_step(tmp_path / "killed"), draw.choice([0, 2, 4])
        if draw.random() < 0.5:  # in the middle of writing a checkpoint
            wait_until(lambda: newest_step(tmp_path / "killed") >= before + ahead, process)  # noqa: B023
            wait_until(lambda: any((tmp_path / "killed").glob("*.tmp")), process)
        else:  # at any moment
            wait_until(lambda: newest_step(tmp_path / "killed") >= before + ahead, process)  # noqa: B023
            time.sleep(draw.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode < 0
        killed_while_writing += any((tmp_path / "killed").glob("*.tmp"))
    assert killed_while_writing >= kills / 10

    assert newest_step(tmp_path / "killed") < config.steps
    train_on(tmp_path / "killed", config)
    train_on(tmp_path / "whole", config)
    assert_same(checkpoints.newest(tmp_path / "killed").content, checkpoints.newest(tmp_path / "whole").content)
    assert checkpoints.newest(tmp_path / "killed").content["step"] == config.steps
    assert not list((tmp_path / "killed").glob("*.tmp"))
