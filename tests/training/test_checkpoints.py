"""Resuming from a checkpoint reproduces the uninterrupted run, and checkpoints that are damaged or of another run are reported."""

import copy
import os
import re
import zipfile
from collections import OrderedDict, namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CONFIG, broken, run, start, tiny_dataset, tiny_denoiser, weights

import diffusion_lib as dl
from diffusion_lib import files
from diffusion_lib.training import checkpoints

PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("stop", [6, 8])
def test_interrupted_run_ends_with_bit_identical_weights(dataset, tmp_path, dropout, stop):
    whole = run(tiny_denoiser(dropout=dropout), dataset)
    run(tiny_denoiser(dropout=dropout), dataset, CONFIG, tmp_path, steps=stop)
    torch.manual_seed(99)  # another process: other random state, other first weights
    again = run(tiny_denoiser(dropout=dropout, seed=99), dataset, CONFIG, tmp_path)
    assert len(again[2]) == 6  # stopped at 6 or at 8, the last checkpoint is of step 6
    assert again[2] == whole[2][6:]
    for ours, theirs in zip(again[:2], whole[:2], strict=True):
        torch.testing.assert_close(ours, theirs[6:], rtol=0, atol=0)


class Restless(torch.nn.Module):
    """Random in ways that show in no module."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.attention = torch.nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
        self.out = torch.nn.Conv2d(8, 1, 1)

    def forward(self, xt, t, y=None):
        h = torch.nn.functional.dropout(self.conv(xt), 0.2, self.training)
        tokens = h.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0] + 0.1 * torch.randn_like(tokens)
        return self.out(tokens.transpose(1, 2).reshape(h.shape))


def test_network_with_functional_randomness_resumes_exactly(dataset, tmp_path):
    new = lambda: dl.Denoiser(Restless(), dl.linear_schedule(20))  # noqa: E731
    torch.manual_seed(0)
    whole = run(new(), dataset)
    torch.manual_seed(0)
    run(new(), dataset, CONFIG, tmp_path, steps=7)
    torch.manual_seed(99)
    again = run(new(), dataset, CONFIG, tmp_path)
    assert again[2] == whole[2][6:]
    torch.testing.assert_close(again[0], whole[0][6:], rtol=0, atol=0)


def test_finished_run_takes_no_more_steps(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path)
    assert list(dl.train(tiny_denoiser(seed=1), dataset, CONFIG, tmp_path)) == []


def test_finished_run_continues_to_more_steps_and_can_be_interrupted(dataset, tmp_path):
    for folder in ("whole", "interrupted"):
        run(tiny_denoiser(), dataset, CONFIG, tmp_path / folder)
    more = replace(CONFIG, steps=20)
    message = r"has made its 12 steps and continues to 20: its learning rate rises again and falls to 0"
    with pytest.warns(UserWarning, match=message) as warned:
        whole = run(tiny_denoiser(seed=1), dataset, more, tmp_path / "whole")
    assert [Path(each.filename).name for each in warned] == ["helpers.py"]  # where train was called
    with pytest.warns(UserWarning, match=message):
        run(tiny_denoiser(seed=1), dataset, more, tmp_path / "interrupted", steps=5)
    again = run(tiny_denoiser(seed=2), dataset, more, tmp_path / "interrupted")
    assert len(whole[2]) == 8
    assert again[2] == whole[2][3:]
    torch.testing.assert_close(again[0], whole[0][3:], rtol=0, atol=0)


def test_rejects_more_steps_for_an_unfinished_run_and_names_the_remedy(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=9)
    message = r"steps=12, this one has 20 \(the learning rate is planned for all of them; .+\).+ load_checkpoint with train"
    with pytest.raises(ValueError, match=message):
        dl.train(tiny_denoiser(), dataset, replace(CONFIG, steps=20), tmp_path)


def test_removes_old_checkpoints_and_writes_one_at_the_last_step(dataset, tmp_path):
    run(tiny_denoiser(), dataset, replace(CONFIG, checkpoint_every=5), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010.pt", "step-00000012.pt"]


def flip_a_bit_of_a_weight(path):
    """What a bad disk does: the file is as long as before, and only its content differs."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        weight = archive.read(max(archive.infolist(), key=lambda entry: entry.file_size))  # between the parts there is padding
    content[content.index(weight) + len(weight) // 2] ^= 1
    path.write_bytes(content)


def save_something_else(path):
    torch.save(dict(step=12, weights=torch.zeros(3)), path)


def change(path, **new):
    torch.save(torch.load(path, weights_only=True) | new, path)


def save_other_types(path):
    change(path, run=None, step="12")


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
    "something else": (save_something_else, "run, denoiser, ema, moments, scaler missing"),
    "other types": (save_other_types, "step, run missing"),
    "another step": (lambda path: change(path, step=10), "it belongs to step 10"),
    "a tensor in run": (lambda path: change(path, run=dict(lr=torch.zeros(2))), "its run contains something other than numbers"),
    "other keys in run": (lambda path: change(path, run={1: 2}), "its run contains something other than numbers"),
    "an object": (lambda path: change(path, run=dict(lr=Path("x"))), "torch.load cannot read it safely"),
    "compressed": (compress, "compressed data or file attributes, which torch.save does not write"),
    "a folder": (call_a_tensor_a_folder, "compressed data or file attributes, which torch.save does not write"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_reported_and_the_previous_one_used(dataset, tmp_path, damage):
    whole = run(tiny_denoiser(), dataset, CONFIG, tmp_path)
    do, reason = DAMAGES[damage]
    do(tmp_path / "step-00000012.pt")
    with pytest.warns(
        UserWarning, match=rf"step-00000012.pt is damaged \(.*{reason}.*\); resuming from the previous one, step-00000009.pt"
    ):
        again = run(tiny_denoiser(seed=1), dataset, CONFIG, tmp_path)
    assert again[2] == whole[2][9:]
    torch.testing.assert_close(again[0], whole[0][9:], rtol=0, atol=0)
    assert checkpoints.newest(tmp_path).content["step"] == 12  # written anew


def test_warns_if_all_checkpoints_are_damaged_and_starts_over(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=6)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged") as warned:
        assert next(dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)).step == 1
    assert [str(each.message).partition("); ")[2] for each in warned] == [
        "resuming from the previous one, step-00000003.pt",
        "there is no earlier one: starting at the first step",
    ]


def test_damaged_checkpoints_do_not_displace_later_ones(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"):
        run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=4)
    # set aside, not removed: nobody knows what somebody could still get out of them
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003.pt", "step-00000009.damaged", "step-00000012.damaged"]
    assert checkpoints.newest(tmp_path).content["step"] == 3


def test_unfinished_file_is_ignored_and_removed(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    (tmp_path / "step-00000004.pt.0123abcd.tmp").write_bytes(b"half")
    for name in ("step-6.pt", "step-notes.tmp", "step-٠٠٠٠٠٠٠٩.pt"):
        (tmp_path / name).write_bytes(b"someone else's")
    assert checkpoints.newest(tmp_path).content["step"] == 3
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    names = {"step-00000003.pt", "step-00000006.pt", "step-6.pt", "step-notes.tmp", "step-٠٠٠٠٠٠٠٩.pt"}
    assert {p.name for p in tmp_path.iterdir()} == names


def test_full_disk_is_reported_and_keeps_earlier_checkpoints(tmp_path):
    pytest.importorskip("resource", reason="this system cannot limit the size of a file")
    done = start(PROGRAMS / "full_disk.py", tmp_path)
    assert done.returncode == 1
    assert re.search(r"OSError: .+step-00000006.pt could not be written \(.+\); expected free space on the disk", done.stderr)
    assert "step-00000003.pt is still there: the same call resumes from it" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003.pt"]
    assert checkpoints.newest(tmp_path).content["step"] == 3


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error"), MemoryError()])
def test_temporarily_unreadable_checkpoint_is_not_marked_damaged(dataset, tmp_path, monkeypatch, error):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(self, mode):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", fail)
        with pytest.raises((OSError, MemoryError), match=r"step-00000003\.pt could not be read.+; expected"):
            dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_failed_allocation_does_not_mark_a_checkpoint_damaged(dataset, tmp_path, monkeypatch):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)

    def load(path, **options):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(MemoryError, match=r"step-00000003\.pt could not be read: out of memory; expected enough memory for it"):
        checkpoints.newest(tmp_path)


def test_unreadable_folder_is_not_treated_as_empty(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match=re.escape(str(tmp_path))):
        checkpoints.newest(tmp_path)


def test_path_blocking_a_checkpoint_is_reported(dataset, tmp_path):
    (tmp_path / "step-00000006.pt").mkdir()
    with pytest.raises(
        OSError, match=r"step-00000006\.pt could not be written \(Is a directory\); expected a writable place.*step-00000003\.pt is still"
    ):
        run(tiny_denoiser(), dataset, CONFIG, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003.pt", "step-00000006.pt"]


def test_two_runs_in_one_folder_are_detected_and_leave_a_valid_checkpoint(dataset, tmp_path):
    first, second = (dl.train(tiny_denoiser(seed=seed), dataset, CONFIG, tmp_path) for seed in (0, 1))
    for _ in range(3):
        step = next(first)
    next(second), next(second)
    with pytest.raises(
        OSError, match=r"contains step-00000003\.pt, which this run did not write; expected a folder that no other run writes to"
    ):
        next(second)
    torch.testing.assert_close(checkpoints.newest(tmp_path).content["denoiser"], weights(step.denoiser), rtol=0, atol=0)
    assert len(list(first)) == 9


def test_does_not_follow_link_in_place_of_a_temporary_file(tmp_path, monkeypatch):
    (tmp_path / "other").write_bytes(b"keep")
    (tmp_path / "weights.00.tmp").symlink_to(tmp_path / "other")
    monkeypatch.setattr(files, "token_hex", lambda n: "00")
    with pytest.raises(OSError, match=r"weights could not be written \(File exists\)"):
        files.write_whole({tmp_path / "weights": b"new"})
    assert (tmp_path / "other").read_bytes() == b"keep"


def test_interrupt_during_a_checkpoint_raises_keyboard_interrupt(tmp_path):
    done = start(PROGRAMS / "ctrl_c.py", tmp_path)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000003.pt"]


NAME = "network.stem.weight"  # of a parameter


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content["ema"].popitem(),
        lambda content: content["ema"].update({"network.head.2.bias": torch.zeros(2)}),
        lambda content: content["moments"].clear(),
        lambda content: content["moments"].update({"network.nothing": content["moments"][NAME]}),
        lambda content: content["moments"].update({NAME: None}),
        lambda content: content["moments"].update({0: content["moments"][NAME]}),
        lambda content: content["moments"][NAME].pop("exp_avg"),
        lambda content: content["moments"][NAME].update(exp_avg=torch.zeros(1)),
        lambda content: content["moments"][NAME].update(exp_avg_sq=content["moments"][NAME]["exp_avg_sq"].to(torch.int8)),
        pytest.param(
            lambda content: content["moments"][NAME].update(exp_avg=content["moments"][NAME]["exp_avg"].to_sparse()),
            marks=pytest.mark.filterwarnings("ignore:Validating sparse tensor"),
        ),
        lambda content: content["moments"][NAME].update(step=1),
        lambda content: content["moments"][NAME]["exp_avg"].fill_(float("nan")),
        lambda content: content["moments"][NAME]["exp_avg_sq"].fill_(-1.0),
        lambda content: content["scaler"].update(scale=1.0),
        lambda content: content["scaler"].update(scale=float("nan"), _growth_tracker=0),
        lambda content: content["scaler"].update(scale="1"),
    ],
)
def test_rejects_checkpoint_with_incomplete_state_before_using_it(dataset, tmp_path, spoil):
    """Among others: a moment of another shape than its weight is read past its end by the fused optimizer."""
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    path = tmp_path / "step-00000003.pt"
    content = torch.load(path, weights_only=True)
    spoil(content)
    torch.save(content, path)
    with pytest.raises(
        ValueError, match=r"step-00000003\.pt has no valid state of this run under '(ema|moments|scaler)'; expected what training wrote"
    ):
        dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)


def test_rejects_checkpoint_with_missing_weight(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    path = tmp_path / "step-00000003.pt"
    content = torch.load(path, weights_only=True)
    shape = tuple(content["denoiser"].pop("network.stem.bias").shape)
    content["run"]["network.stem.bias"] = shape
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"belongs to a run with network\.stem\.bias="):
        dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)


def test_rejects_checkpoint_with_a_number_among_the_weights(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    path = tmp_path / "step-00000003.pt"
    change(path, denoiser=torch.load(path)["denoiser"] | {"more": 1})
    denoiser = tiny_denoiser(seed=1)
    before = weights(denoiser)
    with pytest.raises(ValueError, match=r"belongs to a run with more=None, this one has None; expected the same run"):
        list(dl.train(denoiser, dataset, CONFIG, tmp_path))
    torch.testing.assert_close(weights(denoiser), before, rtol=0, atol=0)


def test_rejects_checkpoint_of_a_step_after_the_last_one(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    change(tmp_path / "step-00000003.pt", step=99)
    (tmp_path / "step-00000003.pt").rename(tmp_path / "step-00000099.pt")
    with pytest.raises(ValueError, match=r"has no valid state of this run under 'step'"):
        dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)


def test_rejects_archive_whose_entries_exceed_its_size(tmp_path):
    """A file whose table of contents names the same bytes again and again would be read again and again."""
    path = tmp_path / "step-00000001.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data/0", bytes(10_000))
        entry = archive.infolist()[0]
        entry.external_attr = 0
        for k in range(1, 100):
            again = copy.copy(entry)
            again.filename = f"a/data/{k}"
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    with pytest.warns(UserWarning, match=r"damaged \(its parts are larger than the file\)"):
        assert checkpoints.newest(tmp_path) is None


Sizes = namedtuple("Sizes", "width depth")


class Configured(torch.nn.Conv2d):
    """A network with that `config`."""

    def __init__(self, config):
        super().__init__(1, 1, 3, padding=1)
        self.config = config

    def forward(self, xt, t, y=None):
        return super().forward(xt)


@pytest.mark.parametrize(
    "value",
    [Sizes(1, 2), OrderedDict(a=1), {8: True}, torch.float32, Path("x"), float("nan"), (1, (2, None)), object()],
    ids=lambda value: type(value).__name__,
)
def test_run_resumes_for_any_value_in_the_network_config(dataset, tmp_path, value):
    new = lambda value: dl.Denoiser(Configured(dict(value=value)), dl.linear_schedule(20))  # noqa: E731
    run(new(value), dataset, CONFIG, tmp_path, steps=3)
    again = object() if type(value) is object else value  # at another place in memory
    assert next(dl.train(new(again), dataset, CONFIG, tmp_path)).step == 4
    with pytest.raises(ValueError, match=r"belongs to a run with network\.value="):
        dl.train(new("another"), dataset, CONFIG, tmp_path)


def test_rejects_unloadable_state_at_the_first_checkpoint(dataset, tmp_path):
    class Odd(Configured):
        def get_extra_state(self):
            return np.zeros(3)

        def set_extra_state(self, state):
            pass

    with pytest.raises(ValueError, match=r"step-00000003\.pt was written but cannot be read back; expected a network whose state_dict\(\)"):
        list(dl.train(dl.Denoiser(Odd({}), dl.linear_schedule(20)), dataset, CONFIG, tmp_path))


def test_undeletable_file_does_not_stop_the_cleanup(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=9)
    (tmp_path / "step-00000009.pt").write_bytes(b"second")
    (tmp_path / "step-00000009.damaged").write_bytes(b"first")
    (tmp_path / "step-00000006.pt.00.tmp").mkdir()
    (tmp_path / "step-00000007.pt.01.tmp").write_bytes(b"of a run that was killed")
    with pytest.warns(UserWarning, match="is damaged"):
        run(tiny_denoiser(), dataset, replace(CONFIG, checkpoint_every=1), tmp_path, steps=2)
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["step-00000007.pt", "step-00000008.pt"]
    assert sorted(path.read_bytes() for path in tmp_path.glob("*.damaged")) == [b"first", b"second"]
    assert not (tmp_path / "step-00000007.pt.01.tmp").exists()


def test_rejects_checkpoint_with_weights_of_another_dtype(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    path = tmp_path / "step-00000003.pt"
    change(path, denoiser={name: value.half() for name, value in torch.load(path)["denoiser"].items()})
    with pytest.raises(ValueError, match=r"with network\..+=\(\(.*\), 'torch.float16'\), this one has"):
        dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)


def test_optimizer_settings_come_from_the_code_not_the_checkpoint(dataset, tmp_path):
    whole = run(tiny_denoiser(), dataset)
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    path = tmp_path / "step-00000003.pt"
    content = torch.load(path, weights_only=True)
    assert content.keys() == checkpoints.CONTENT.keys()
    assert {name for entry in content["moments"].values() for name in entry} == checkpoints.MOMENTS
    change(path, param_groups=[dict(betas=(float("nan"), 2.0), weight_decay=1e9, maximize=True)])
    assert run(tiny_denoiser(), dataset, CONFIG, tmp_path)[2] == whole[2][3:]


def test_accepts_schedule_that_differs_by_rounding(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    path = tmp_path / "step-00000003.pt"
    content = torch.load(path, weights_only=True)
    noise = content["run"]["noise"]
    noise[5] *= 1 + 1e-14
    torch.save(content, path)
    assert next(dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)).step == 4
    noise[5] *= 1 + 1e-9
    torch.save(content, path)
    with pytest.raises(ValueError, match="belongs to a run with noise="):
        dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)


def test_config_of_numpy_numbers_makes_loadable_checkpoints(dataset, tmp_path):
    whole = run(tiny_denoiser(), dataset)
    numbers = {name: np.float64(value) if isinstance(value, float) else value for name, value in vars(CONFIG).items()}
    config = dl.TrainConfig(**numbers | dict(steps=np.int64(12), seed=np.uint8(0)))
    denoiser = tiny_denoiser()
    denoiser.network.config["dropout"] = np.float64(0)
    run(denoiser, dataset, config, tmp_path, steps=3)
    assert run(tiny_denoiser(), dataset, CONFIG, tmp_path)[2] == whole[2][3:]
    denoiser.network.config["dropout"] = torch.zeros(2)
    with pytest.raises(ValueError, match=r"with network\.dropout=0\.0, this one has 'tensor\(\[0\., 0\.\]\)'; expected the same run"):
        dl.train(denoiser, dataset, CONFIG, tmp_path)


def test_loading_a_checkpoint_executes_no_code(tmp_path):
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
        (
            dict(config=replace(CONFIG, lr=0.01)),
            r"belongs to a run with lr=0.002, this one has 0.01; expected the same run: use another folder",
        ),
        (dict(config=replace(CONFIG, steps=13)), r"steps=12, this one has 13"),
        (dict(config=replace(CONFIG, seed=1)), r"seed=0, this one has 1"),
        (dict(config=replace(CONFIG, timesteps="logit_normal")), r"timesteps='uniform', this one has 'logit_normal'"),
        (dict(denoiser=tiny_denoiser("v")), r"prediction='eps', this one has 'v'"),
        (dict(denoiser=tiny_denoiser(dropout=0.1)), r"network.dropout=0.0, this one has 0.1"),
        (dict(denoiser=dl.Denoiser(tiny_denoiser().network, dl.cosine_schedule(20))), r"with noise=\[0.0, 0.*… \(21 entries\)"),
        (dict(dataset=tiny_dataset(23)), r"dataset='24 images of \(1, 8, 8\), digest \w+', this one has '23 images of \(1, 8, 8\), dig"),
        (
            dict(dataset=tiny_dataset(seed=1)),
            r"dataset='24 images of \(1, 8, 8\), digest \w+', this one has '24 images of \(1, 8, 8\), dig",
        ),
    ],
    ids=["lr", "steps", "seed", "timesteps", "prediction", "network", "schedule", "number of images", "images"],
)
def test_rejects_checkpoint_of_another_run_and_changes_nothing(dataset, tmp_path, change, message):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    denoiser = change.get("denoiser", tiny_denoiser())
    before = weights(denoiser)
    with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path))}.*{message}"):
        dl.train(denoiser, change.get("dataset", dataset), change.get("config", CONFIG), tmp_path)
    torch.testing.assert_close(weights(denoiser), before, rtol=0, atol=0)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == files


def test_checkpoint_that_does_not_name_its_timesteps_is_of_a_uniform_run(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    (path,) = tmp_path.glob("*.pt")
    content = torch.load(path, weights_only=True)
    del content["run"]["timesteps"]
    torch.save(content, path)
    assert checkpoints.newest(tmp_path).content["run"]["timesteps"] == "uniform"
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=1)  # resumes
    with pytest.raises(ValueError, match="timesteps='uniform', this one has 'logit_normal'"):
        run(tiny_denoiser(), dataset, replace(CONFIG, timesteps="logit_normal"), tmp_path, steps=1)


def test_rejects_checkpoint_of_another_denoiser_class(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    with pytest.raises(
        ValueError, match=r"belongs to a run with denoiser='Denoiser', this one has 'helpers\.Broken'; expected the same run"
    ):
        dl.train(broken(()), dataset, CONFIG, tmp_path)
    namesake = type("Denoiser", (dl.Denoiser,), {})  # a class of the same name, whose loss may be another
    tiny = tiny_denoiser()
    with pytest.raises(ValueError, match=r"denoiser='Denoiser', this one has 'test_checkpoints\.Denoiser'; expected the same run"):
        dl.train(namesake(tiny.network, tiny.schedule, "eps", tiny.image_shape), dataset, CONFIG, tmp_path)
    assert next(dl.train(tiny_denoiser(), dataset, CONFIG, tmp_path)).step == 4


class OtherUNet(dl.UNet):
    """The same weights and the same config, and yet another network."""

    def forward(self, x, t, y=None):
        return -super().forward(x, t, y)


def test_rejects_checkpoint_of_another_network_class(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    denoiser = tiny_denoiser()
    denoiser.network = OtherUNet(**denoiser.network.config)
    with pytest.raises(ValueError, match=r"belongs to a run with network\.kind='UNet', this one has 'OtherUNet'; expected the same run"):
        dl.train(denoiser, dataset, CONFIG, tmp_path)


def test_network_without_config_is_identified_by_its_tensors(dataset, tmp_path):
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


def test_float16_run_resumes_with_its_loss_scale(dataset, tmp_path):
    config = replace(CONFIG, precision="float16")
    run(tiny_denoiser(), dataset, config, tmp_path / "whole")
    run(tiny_denoiser(), dataset, config, tmp_path / "resumed", steps=6)
    run(tiny_denoiser(), dataset, config, tmp_path / "resumed")
    whole, resumed = (checkpoints.newest(tmp_path / name).content["scaler"] for name in ("whole", "resumed"))
    assert whole == resumed
    assert whole["_growth_tracker"] > 6


def test_resuming_may_change_checkpoint_every(dataset, tmp_path):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    again = run(tiny_denoiser(seed=1), dataset, replace(CONFIG, checkpoint_every=100), tmp_path)
    assert len(again[2]) == 9
