"""Checkpoints make an interrupted run the uninterrupted one, and damage or another run's checkpoint is named."""

import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import CONFIG, run, tiny_dataset, tiny_denoiser, weights

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


def flip_a_bit_of_a_weight(path):
    """What a bad disk does: the file is as long as before, and only its content differs."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def save_something_else(path):
    torch.save(dict(step=12, weights=torch.zeros(3)), path)


def save_other_types(path):
    content = torch.load(path, weights_only=True)
    torch.save(content | dict(run=None, step="12"), path)


def call_a_tensor_a_folder(path):
    """One bit of the file's table of contents, which no checksum covers."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith("/data/0"))
    at = content.rindex(entry.filename.encode()) - 8  # the attributes, four bytes; then the place of the entry, four more
    assert content[at : at + 4] == bytes(4)
    path.write_bytes(content[:at] + bytes([0x10]) + content[at + 1 :])


def compress(path):
    with zipfile.ZipFile(path) as stored:
        entries = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as compressed:
        for name, content in entries.items():
            compressed.writestr(name, content)


DAMAGES = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "not a zip file"),
    "empty": (lambda path: path.write_bytes(b""), "not a zip file"),
    "text": (lambda path: path.write_bytes(b"not a checkpoint"), "not a zip file"),
    "a bit": (flip_a_bit_of_a_weight, "the checksum of .+ is wrong"),
    "something else": (save_something_else, "run, denoiser, ema, optimizer, scaler missing"),
    "other types": (save_other_types, "step, run missing"),
    "compressed": (compress, "compressed data or file attributes, which torch.save does not write"),
    "a folder": (call_a_tensor_a_folder, "compressed data or file attributes, which torch.save does not write"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(dataset, tmp_path, damage):
    whole = run(tiny_denoiser(), dataset, CONFIG, tmp_path)
    do, reason = DAMAGES[damage]
    do(tmp_path / "step-00000012.pt")
    with pytest.warns(UserWarning, match=rf"step-00000012.pt is damaged \(.*{reason}.*\); going on from step-00000009.pt"):
        again = run(tiny_denoiser(seed=1), dataset, CONFIG, tmp_path)
    assert again[2] == whole[2][9:]
    torch.testing.assert_close(again[0], whole[0][9:], rtol=0, atol=0)
    assert checkpoints.newest(tmp_path).content["step"] == 12  # written anew


def test_when_all_are_damaged_training_says_so_and_starts_at_the_first_step(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=6)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged") as told:
        assert next(dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)).step == 1
    assert [str(each.message).partition("); ")[2] for each in told] == [
        "going on from step-00000003.pt, the one before it",
        "there is none before it: starting at the first step",
    ]


def test_damaged_checkpoints_do_not_push_out_those_written_after_them(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"):
        run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=4)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003.pt"]
    assert checkpoints.newest(tmp_path).content["step"] == 3


def test_an_unfinished_file_is_not_taken_for_a_checkpoint_and_is_removed(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    (tmp_path / "step-00000004.tmp").write_bytes(b"half")
    (tmp_path / "step-6.pt").write_bytes(b"someone else's")
    assert checkpoints.newest(tmp_path).content["step"] == 3
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003.pt", "step-00000006.pt", "step-6.pt"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from helpers import CONFIG, tiny_dataset, tiny_denoiser
import diffusion_lib as dl

folder = Path(sys.argv[1])
steps = dl.train(tiny_denoiser(), tiny_dataset(), CONFIG, folder)
for step in steps:
    if step.step == 3:  # from here on, no file may become larger than half a checkpoint
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        half = (folder / "step-00000003.pt").stat().st_size // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))
"""


def test_a_full_disk_is_told_and_costs_no_checkpoint(tmp_path):
    pytest.importorskip("resource", reason="this system cannot limit the size of a file")
    tests = str(Path(__file__).parent)
    line = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    child = subprocess.run(line, env=os.environ | dict(PYTHONPATH=tests), capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 1
    assert re.search(r"OSError: .+step-00000006.pt could not be written \(.+\); expected room for it on the disk", child.stderr)
    assert "step-00000003.pt is still there: the same call goes on from it" in child.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003.pt"]
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
        (dict(dataset=tiny_dataset(23)), r"dataset='24 images of \(1, 8, 8\), digest \w+', this one has '23 images of \(1, 8, 8\), dig"),
        (
            dict(dataset=tiny_dataset(seed=1)),
            r"dataset='24 images of \(1, 8, 8\), digest \w+', this one has '24 images of \(1, 8, 8\), dig",
        ),
    ],
    ids=["lr", "steps", "seed", "prediction", "network", "schedule", "number of images", "images"],
)
def test_the_checkpoint_of_another_run_is_refused_and_nothing_changed(dataset, tmp_path, change, message):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    denoiser = change.get("denoiser", tiny_denoiser())
    before = weights(denoiser)
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}.*{message}"):
        dl.train(denoiser, change.get("dataset", dataset), change.get("config", CONFIG), tmp_path)
    torch.testing.assert_close(weights(denoiser), before, rtol=0, atol=0)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == files


def test_a_network_without_a_config_is_known_by_its_tensors(dataset, tmp_path):
    class Pixelwise(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Conv2d(1, width, 1), torch.nn.Conv2d(width, 1, 1))

        def forward(self, xt, t, y=None):
            return self.layers(xt)

    of_width = lambda width: dl.Denoiser(Pixelwise(width), dl.linear_schedule(20))  # noqa: E731
    run(of_width(2), dataset, CONFIG, tmp_path, steps=3)
    with pytest.raises(ValueError, match=r"network\.layers\.0\.bias=\(2,\), this one has \(3,\); expected the same run"):
        dl.train(of_width(3), dataset, CONFIG, tmp_path)
    assert next(dl.train(of_width(2), dataset, CONFIG, tmp_path)).step == 4


def test_a_float16_run_goes_on_with_the_scale_it_had(dataset, tmp_path):
    config = replace(CONFIG, precision="float16")
    run(tiny_denoiser(), dataset, config, tmp_path / "whole")
    run(tiny_denoiser(), dataset, config, tmp_path / "resumed", steps=6)
    run(tiny_denoiser(), dataset, config, tmp_path / "resumed")
    whole, resumed = (checkpoints.newest(tmp_path / name).content["scaler"] for name in ("whole", "resumed"))
    assert whole == resumed
    assert whole["_growth_tracker"] > 6


def test_how_often_checkpoints_are_written_may_change(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    again = run(tiny_denoiser(seed=1), dataset, replace(CONFIG, checkpoint_every=100), tmp_path)
    assert len(again[2]) == 9
