"""Checkpoints make an interrupted run the uninterrupted one, and damage or another run's checkpoint is named."""

import os
from dataclasses import replace

import pytest
import torch
from helpers import CONFIG, run, tiny_denoiser, weights

import diffusion_lib as dl
from diffusion_lib import checkpoints


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("stop", [6, 8])
def test_an_interrupted_run_ends_in_the_same_weights_bit_for_bit(dataset, tmp_path, dropout, stop):
    whole = run(tiny_denoiser(dropout=dropout), dataset)
    run(tiny_denoiser(dropout=dropout), dataset, CONFIG, tmp_path, steps=stop)
    torch.manual_seed(99)  # another process: other random state, other first weights
    again = run(tiny_denoiser(dropout=dropout, seed=99), dataset, CONFIG, tmp_path)
    assert len(again[2]) == 6  # stopped at 6 or at 8, the last checkpoint is of step 6
    assert again[2] == whole[2][6:]
    for ours, theirs in zip(again[:2], whole[:2], strict=True):
        torch.testing.assert_close(ours, theirs[6:], rtol=0, atol=0)


def test_a_finished_run_has_nothing_left_to_do(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path)
    assert list(dl.train(tiny_denoiser(seed=1), dataset, CONFIG, tmp_path)) == []


def test_old_checkpoints_are_removed_and_the_last_step_has_one(dataset, tmp_path):
    run(tiny_denoiser(), dataset, replace(CONFIG, checkpoint_every=5), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010.pt", "step-00000012.pt"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(dataset, tmp_path, damage):
    whole = run(tiny_denoiser(), dataset, CONFIG, tmp_path)
    newest = tmp_path / "step-00000012.pt"
    content = newest.read_bytes()
    newest.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"not a checkpoint"}[damage])
    with pytest.warns(UserWarning, match=r"step-00000012.pt is damaged \(.+\); going on from the checkpoint before it"):
        again = run(tiny_denoiser(seed=1), dataset, CONFIG, tmp_path)
    assert again[2] == whole[2][9:]
    torch.testing.assert_close(again[0], whole[0][9:], rtol=0, atol=0)
    assert checkpoints.newest(tmp_path).content["step"] == 12  # written anew


def test_an_unfinished_file_is_not_taken_for_a_checkpoint(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    (tmp_path / "step-00000006.tmp").write_bytes(b"half")
    (tmp_path / "step-6.pt").write_bytes(b"someone else's")
    assert checkpoints.newest(tmp_path).content["step"] == 3


def test_checkpoints_execute_nothing(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save(dict(step=1, trap=Trap()), tmp_path / "step-00000001.pt")
    with pytest.warns(UserWarning, match="is damaged"):
        assert checkpoints.newest(tmp_path) is None
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(config=replace(CONFIG, lr=0.01)), r"is of a run with lr=0.002, this one has 0.01; expected the same run: use another folder"),
        (dict(config=replace(CONFIG, steps=13)), r"steps=12, this one has 13"),
        (dict(config=replace(CONFIG, seed=1)), r"seed=0, this one has 1"),
        (dict(denoiser=tiny_denoiser("v")), r"prediction='eps', this one has 'v'"),
        (dict(denoiser=tiny_denoiser(dropout=0.1)), r"network.dropout=0.0, this one has 0.1"),
        (dict(denoiser=dl.Denoiser(tiny_denoiser().network, dl.cosine_schedule(20))), r"with alpha_bar=\[1.0, 0.*… \(21 entries\)"),
    ],
    ids=["lr", "steps", "seed", "prediction", "network", "schedule"],
)
def test_the_checkpoint_of_another_run_is_refused_and_nothing_changed(dataset, tmp_path, change, message):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    denoiser = change.get("denoiser", tiny_denoiser())
    before = weights(denoiser)
    with pytest.raises(ValueError, match=message):
        dl.train(denoiser, dataset, change.get("config", CONFIG), tmp_path)
    torch.testing.assert_close(weights(denoiser), before, rtol=0, atol=0)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == files


def test_how_often_checkpoints_are_written_may_change(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    again = run(tiny_denoiser(seed=1), dataset, replace(CONFIG, checkpoint_every=100), tmp_path)
    assert len(again[2]) == 9
