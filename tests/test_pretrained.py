"""Models on disk, on a hub and in the package: they load as they were saved, and damage is reported."""

import errno
import io
import json
import os
import re
import socket
import stat
import struct
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch
from helpers import CONFIG, SHARED, TESTS, as_if_sharded, noise, run, serve, start, tiny_denoiser, weights
from safetensors.torch import load_file, save_file

import diffusion_lib as dl
from diffusion_lib.data.captions import captions_of, random_numbers, vocabulary
from diffusion_lib.data.postcards import ATTRIBUTES
from diffusion_lib.measure.classifier import Classifier
from diffusion_lib.measure.distances import accuracy, attribute_accuracy, features, frechet_distance
from diffusion_lib.measure.train_classifier import main as train_classifier
from diffusion_lib.pretrained import load_model

X = noise(3, 1, 8, 8, dtype=torch.float32)


@pytest.fixture
def saved(tmp_path):
    """The folder of a saved model."""
    tiny_denoiser("v").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("num_classes", [None, 3])
def test_saved_denoiser_loads_unchanged(tmp_path, prediction, num_classes):
    denoiser = dl.Denoiser(
        tiny_denoiser(num_classes=num_classes, dropout=0.5).network, dl.cosine_schedule(20, s=0.1), prediction, image_shape=(1, 8, 8)
    )
    denoiser.save_pretrained(str(tmp_path / "new" / "folder"))
    again = dl.Denoiser.from_pretrained(str(tmp_path / "new" / "folder"))
    assert not again.training
    assert (again.prediction, again.image_shape, again.num_classes) == (prediction, (1, 8, 8), num_classes)
    # the schedule travels with the weights, bit for bit, parameters and all: sampling cannot use another one than training
    assert torch.equal(again.schedule.alpha_bar, denoiser.schedule.alpha_bar)
    assert again.schedule.name == "cosine"
    y = None if num_classes is None else torch.tensor([0, 1, -1])
    with torch.no_grad():
        torch.testing.assert_close(again(X, 7, y), denoiser.eval()(X, 7, y), rtol=0, atol=0)
    torch.testing.assert_close(dl.sample(again, 2, steps=3), dl.sample(denoiser, 2, steps=3), rtol=0, atol=0)


def test_half_precision_on_disk_halves_the_file_and_loads_as_float32(tmp_path):
    denoiser = dl.Denoiser(dl.UNet(1, 16), dl.cosine_schedule(20), "v")
    for half in (False, True):
        denoiser.save_pretrained(tmp_path / str(half), half=half)
    sizes = [(tmp_path / str(half) / "model.safetensors").stat().st_size for half in (False, True)]
    assert 0.45 < sizes[1] / sizes[0] < 0.6
    again = dl.Denoiser.from_pretrained(tmp_path / "True")
    assert {weight.dtype for weight in again.parameters()} == {torch.float32}
    assert torch.equal(again.schedule.signal, denoiser.schedule.signal)  # the tables keep all their digits
    for ours, theirs in zip(again.parameters(), denoiser.parameters(), strict=True):
        assert torch.equal(ours, theirs.half().float())


def test_saving_again_replaces_the_model(saved):
    tiny_denoiser("eps", T=5, seed=1).save_pretrained(saved)
    again = dl.Denoiser.from_pretrained(saved)
    assert (again.prediction, again.schedule.T) == ("eps", 5)
    assert sorted(p.name for p in saved.iterdir()) == ["config.json", "model.safetensors"]


def test_saved_files_have_default_permissions(saved):
    (saved / "other").touch()
    assert len({stat.S_IMODE(path.stat().st_mode) for path in saved.iterdir()}) == 1


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_full_disk_is_reported_and_keeps_the_old_model(saved, monkeypatch, file):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    written = []

    def no_room(number):
        written.append(number)
        if len(written) == 1 + (file == "config.json"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    message = rf"^{re.escape(str(saved / file))} could not be written \(No space left on device\); expected free space on the disk$"
    with pytest.raises(OSError, match=message):
        tiny_denoiser("eps").save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_kill_between_the_two_files_does_not_mix_models(saved, monkeypatch):
    class Killed(BaseException):
        pass

    def replace(source, target, rename=os.replace):
        if str(target).endswith("config.json"):
            raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(Killed):
        tiny_denoiser("eps").save_pretrained(saved)
    with pytest.raises(FileNotFoundError, match=r"config\.json does not exist; expected a folder written by save_pretrained"):
        dl.Denoiser.from_pretrained(saved)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_failed_replacement_keeps_the_old_model(saved, monkeypatch, file):
    """On Windows, for one, somebody may have it open."""
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def replace(source, target, rename=os.replace):
        if file == source.name or (file == target.name == "model.safetensors"):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match=rf"{file} could not be written \(Permission denied\); expected a writable place"):
        tiny_denoiser("eps").save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_next_save_removes_leftovers_of_a_killed_one(saved):
    (saved / "model.safetensors.01234567.tmp").write_bytes(b"half")
    tiny_denoiser("v").save_pretrained(saved)
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]


def test_rejects_saving_weights_that_could_not_be_loaded(tmp_path):
    denoiser = tiny_denoiser()
    denoiser.network.stem.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"network\.stem\.bias contains values that are not finite in float32; expected finite ones"):
        denoiser.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_denoiser_without_image_shape_can_be_saved(tmp_path):
    dl.Denoiser(tiny_denoiser().network, dl.linear_schedule(20)).save_pretrained(tmp_path)
    assert dl.Denoiser.from_pretrained(tmp_path).image_shape is None


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda denoiser: denoiser.to("meta"), "torch.float32 on 'meta'"),
        (lambda denoiser: setattr(denoiser.network.stem.bias, "data", denoiser.network.stem.bias.data.to(torch.complex64)), "complex64"),
    ],
    ids=["meta", "complex"],
)
def test_rejects_saving_weights_of_kinds_that_could_not_be_loaded(tmp_path, change, kind):
    denoiser = tiny_denoiser()
    change(denoiser)
    with pytest.raises(ValueError, match=rf"network\.\S+ is .*{kind}.*; expected a tensor of float64, float32, bfloat16, float16, int64"):
        denoiser.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("kind", ["float64", "float16", "bfloat16"])
def test_models_of_every_float_type_load_as_float32(tmp_path, kind):
    denoiser = tiny_denoiser().to(getattr(torch, kind))
    denoiser.save_pretrained(tmp_path)
    again = dl.Denoiser.from_pretrained(tmp_path)
    expected = {name: value.float() for name, value in weights(denoiser).items()}
    torch.testing.assert_close(weights(again), expected, rtol=0, atol=0)


@pytest.mark.parametrize("default", ["float64", "float16", "bfloat16", "meta"])
def test_session_defaults_do_not_change_a_loaded_model(saved, tmp_path, dataset, default):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path / "run", steps=3)
    expected = [dl.Denoiser.from_pretrained(saved), dl.load_checkpoint(tmp_path / "run"), dl.load_pretrained("glyphs-10")]
    before = torch.get_default_dtype()
    try:
        torch.set_default_device("meta") if default == "meta" else torch.set_default_dtype(getattr(torch, default))
        found = [dl.Denoiser.from_pretrained(saved), dl.load_checkpoint(tmp_path / "run"), dl.load_pretrained("glyphs-10")]
        found[0].save_pretrained(tmp_path / "again")
        found.append(dl.Denoiser.from_pretrained(tmp_path / "again"))
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(before)
    for ours, theirs in zip(found, [*expected, expected[0]], strict=True):
        torch.testing.assert_close(weights(ours), weights(theirs), rtol=0, atol=0)
        assert torch.equal(ours.schedule.signal, theirs.schedule.signal)


def test_rejects_saving_network_without_known_config(tmp_path):
    denoiser = dl.Denoiser(torch.nn.Identity(), dl.linear_schedule(20))
    with pytest.raises(
        ValueError,
        match=r"the network is a Identity; expected one of UNet, whose configs can be stored: ",
    ):
        denoiser.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# ------------------------------------------------------------------------------------------------------------------------ damage


def edit_config(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def edit_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def write_header(folder, **tensor):
    header = json.dumps({"network.stem.bias": tensor}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(tensor["data_offsets"][1]))


def truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


DAMAGES = {
    "weights truncated": (
        lambda f: truncate(f / "model.safetensors"),
        r"model\.safetensors is damaged \(.+\); expected a safetensors file: save or",
    ),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), r"model\.safetensors is damaged"),
    "weights pickled": (lambda f: torch.save({"a": X}, f / "model.safetensors"), r"model\.safetensors is damaged"),
    "config no JSON": (
        lambda f: (f / "config.json").write_text("{"),
        r"config\.json is damaged \(.+\); expected a JSON config: save or download",
    ),
    "config binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), r"config\.json is damaged"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), r"config\.json is damaged \(a list, not an object\)"),
    "config nested too deep": (lambda f: (f / "config.json").write_text("[" * 50_000), r"config\.json is damaged \(.*recursion"),
    "config of a gigabyte": (lambda f: os.truncate(f / "config.json", 10**9), r"config\.json is damaged \(1,000,000,000 bytes, at most"),
    "config without prediction": (lambda f: edit_config(f, lambda c: c.pop("prediction")), r"its config lacks \['prediction'\]"),
    "config with an unknown key": (
        lambda f: edit_config(f, lambda c: c.update(code="x")),
        r"has unknown \['code'\]; expected \['class_names', 'im",
    ),
    "config of absurd width": (
        lambda f: edit_config(f, lambda c: c["network"].update(base_channels=2**40)),
        r"size mismatch for|overflow|too large",
    ),
    "config of absurd depth": (
        lambda f: edit_config(f, lambda c: c["network"].update(blocks_per_level=10**9)),
        r"blocks_per_level=1000000000; expected an integer, 1..16",
    ),
    "config of absurdly many levels": (
        lambda f: edit_config(f, lambda c: c["network"].update(channel_mults=[1] * 20_000)),
        r"channel_mults has 20000 entries; expected 1\.\.8",
    ),
    "config of absurd images": (
        lambda f: edit_config(f, lambda c: c.update(image_shape=[1, 10**8, 10**8])),
        r"image_shape=\[1, 100000000, 100000000\]; expected \(C, H, W\)",
    ),
    "config of images that do not fit": (
        lambda f: edit_config(f, lambda c: c.update(image_shape=[3, 8, 8])),
        r"images have shape \(1, 3, 8, 8\); expected \(B, 1, H, W\)",
    ),
    "config of images that are text": (lambda f: edit_config(f, lambda c: c.update(image_shape="abc")), r"image_shape='abc'"),
    "a weight that is not a number": (
        lambda f: edit_tensors(f, lambda t: t["network.stem.bias"].fill_(float("nan"))),
        r"model\.safetensors is damaged \(network\.stem\.bias contains values that are not finite in float32\)",
    ),
    "a weight too large for float32": (
        lambda f: edit_tensors(f, lambda t: t.update({"network.stem.bias": t["network.stem.bias"].double() + 1e300})),
        r"model\.safetensors is damaged \(network\.stem\.bias contains values that are not finite in float32\)",
    ),
    "weights of a few bits": (
        lambda f: edit_tensors(f, lambda t: t.update({"network.stem.bias": t["network.stem.bias"].to(torch.float8_e4m3fn)})),
        r"model\.safetensors is damaged \(network\.stem\.bias is F8_E4M3, not one of F64, F32, BF16, F16, I64\)",
    ),
    "a tensor of 40,000 dimensions": (  # a minute to make, were it tried
        lambda f: write_header(f, dtype="F32", shape=[1] * 40_000, data_offsets=[0, 4]),
        r"model\.safetensors is damaged \(network\.stem\.bias has 40000 dimensions, at most 8 are read\)",
    ),
    "a tensor of nothing times too much": (
        lambda f: write_header(f, dtype="F32", shape=[0, 2**63 - 1, 2**63 - 1], data_offsets=[0, 0]),
        r"model\.safetensors is damaged \(.+\)",
    ),
    "a weight beside its place": (
        lambda f: edit_tensors(f, lambda t: t.update({"stem.weight": torch.zeros_like(t["network.stem.weight"])})),
        r"it holds a tensor 'stem\.weight'; expected only names that begin with 'network\.'",
    ),
    "config of far too many blocks": (
        lambda f: edit_config(f, lambda c: c["network"].update(channel_mults=[1] * 8, blocks_per_level=16)),
        r"^.{0,1500}$",
    ),
    "config of unknown prediction": (lambda f: edit_config(f, lambda c: c.update(prediction="w")), r"unknown prediction 'w'"),
    "config with unknown option": (
        lambda f: edit_config(f, lambda c: c["network"].update(depth=3)),
        r"unexpected keyword argument 'depth'",
    ),
    "config of another size": (
        lambda f: edit_config(f, lambda c: c["network"].update(base_channels=24)),
        r"size mismatch for stem\.weight",
    ),
    "config with bad size": (
        lambda f: edit_config(f, lambda c: c["network"].update(base_channels=6)),
        r"base_channels=6; expected a multiple",
    ),
    "a tensor missing": (lambda f: edit_tensors(f, lambda t: t.pop("network.stem.bias")), r"Missing key\(s\).*stem\.bias"),
    "a tensor of wrong shape": (lambda f: edit_tensors(f, lambda t: t.update({"network.stem.bias": X})), r"size mismatch for stem\.bias"),
    "a tensor too many": (lambda f: edit_tensors(f, lambda t: t.update({"network.other": X})), r"Unexpected key\(s\).*other"),
    "no schedule": (lambda f: edit_tensors(f, lambda t: t.pop("schedule.signal")), r"'schedule\.signal' is missing"),
    "a rising schedule": (
        lambda f: edit_tensors(f, lambda t: t["schedule.signal"][5:].mul_(2.0)),
        r"every step must add noise",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_rejects_damaged_model_with_the_reason(saved, damage):
    do, message = DAMAGES[damage]
    do(saved)
    with pytest.raises(ValueError, match=f"(?s){message}") as caught:
        dl.Denoiser.from_pretrained(saved)
    assert str(saved) in str(caught.value)


def test_missing_file_or_folder_is_reported_by_name(tmp_path, saved):
    (saved / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model/model\.safetensors does not exist; expected a folder written by save_pretrained"):
        dl.Denoiser.from_pretrained(saved)
    for nowhere in (tmp_path / "nowhere", str(tmp_path / "nowhere"), "nowhere"):
        with pytest.raises(
            FileNotFoundError, match=r"nowhere is not a folder; expected a folder written by save_pretrained, or a hub id 'owner/name'"
        ):
            dl.Denoiser.from_pretrained(nowhere)


@pytest.mark.parametrize("stop", [3, 8])
def test_folder_of_unfinished_run_loads_the_ema_of_its_newest_checkpoint(tmp_path, dataset, stop):
    _, averages, _ = run(tiny_denoiser("v"), dataset, CONFIG, tmp_path / "checkpoints", steps=stop)
    expected = averages[2 if stop == 3 else 5]  # the checkpoints are of steps 3 and 6
    for folder in (tmp_path, tmp_path / "checkpoints", str(tmp_path)):
        denoiser = dl.load_checkpoint(folder)
        torch.testing.assert_close(weights(denoiser), expected, rtol=0, atol=0)
        assert (denoiser.prediction, denoiser.image_shape, denoiser.training) == ("v", (1, 8, 8), False)
        assert denoiser.network.config == tiny_denoiser().network.config
        torch.testing.assert_close(denoiser.schedule.signal, dl.linear_schedule(20).signal, rtol=0, atol=0)


def test_saved_model_takes_precedence_over_checkpoints(tmp_path, dataset):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path / "checkpoints", steps=3)
    tiny_denoiser(seed=5).save_pretrained(tmp_path)
    torch.testing.assert_close(weights(dl.Denoiser.from_pretrained(tmp_path)), weights(tiny_denoiser(seed=5)), rtol=0, atol=0)


@pytest.mark.parametrize("place", [".", "checkpoints", "checkpoints/step-00000006.pt"])
def test_rejects_unfinished_run_and_names_its_newest_checkpoint_and_the_call_that_loads_it(tmp_path, dataset, place):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path / "checkpoints", steps=7)
    with pytest.raises(FileNotFoundError, match=r"here step-00000006\.pt: diffusion_lib\.load_checkpoint\('") as caught:
        dl.Denoiser.from_pretrained(tmp_path / place)
    call = str(caught.value).rpartition(": ")[2]
    loaded = eval(call, dict(diffusion_lib=dl))  # what it says can be typed as it stands
    torch.testing.assert_close(weights(loaded), weights(dl.load_checkpoint(tmp_path)), rtol=0, atol=0)


def test_a_single_checkpoint_loads_by_its_path(tmp_path, dataset):
    _, averages, _ = run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=7)
    for step in (3, 6):
        torch.testing.assert_close(weights(dl.load_checkpoint(tmp_path / f"step-0000000{step}.pt")), averages[step - 1], rtol=0, atol=0)
    truncate(tmp_path / "step-00000003.pt")
    with pytest.raises(
        ValueError, match=r"step-00000003\.pt is damaged \(.+\); expected a checkpoint that training wrote: use another one"
    ):
        dl.load_checkpoint(tmp_path / "step-00000003.pt")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"notes\.txt does not have a checkpoint's name; expected a file that training wrote"):
        dl.load_checkpoint(tmp_path / "notes.txt")


def test_load_checkpoint_rejects_a_finished_model_and_names_from_pretrained(saved):
    with pytest.raises(FileNotFoundError, match=r"expected the folder of a training run: Denoiser\.from_pretrained loads the model"):
        dl.load_checkpoint(saved)


def test_load_model_accepts_names_folders_runs_and_hub_ids(tmp_path, saved, dataset, monkeypatch):
    run(tiny_denoiser(seed=3), dataset, CONFIG, tmp_path / "run" / "checkpoints", steps=3)
    expected = {saved: dl.Denoiser.from_pretrained(saved), tmp_path / "run": dl.load_checkpoint(tmp_path / "run")}
    for source, one in expected.items():
        for each in (source, str(source)):
            torch.testing.assert_close(weights(load_model(each)), weights(one), rtol=0, atol=0)
    one = tmp_path / "run" / "checkpoints" / "step-00000003.pt"
    torch.testing.assert_close(weights(load_model(one)), weights(expected[tmp_path / "run"]), rtol=0, atol=0)
    monkeypatch.chdir(tmp_path)
    tiny_denoiser().save_pretrained("glyphs-10")
    assert load_model("glyphs-10").image_shape == (1, 28, 28)  # the one that ships
    assert load_model("./glyphs-10").image_shape == (1, 8, 8)


def test_models_save_and_load_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    tiny_denoiser().save_pretrained("~/model")
    assert (tmp_path / "model" / "config.json").is_file()
    assert dl.Denoiser.from_pretrained("~/model").image_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("model/config.json", ": model is one"),
        ("runs/mien", r" \(runs exists here, so this is read as a path\); .*\. Did you mean 'runs/mine'\?"),
        ("modell", r"\. Did you mean 'modell?'\?"),
        ("glyphs", r": diffusion_lib\.load_pretrained\('glyphs'\) loads the shipped denoiser"),
        ("glyhps", r": diffusion_lib\.load_pretrained\('glyphs'\) loads the shipped denoiser"),
    ],
)
def test_error_for_a_missing_folder_suggests_the_nearest_name(saved, tmp_path, monkeypatch, name, hint):
    monkeypatch.chdir(tmp_path)
    tiny_denoiser().save_pretrained("runs/mine")
    with pytest.raises(FileNotFoundError, match=f"^{name} is not a folder.*{hint}"):
        dl.Denoiser.from_pretrained(name)
    with pytest.raises(
        FileNotFoundError, match=r"runs/config\.json does not exist; expected a folder written by save_pretrained, such as runs/mine"
    ):
        dl.Denoiser.from_pretrained("runs")


@pytest.mark.parametrize("source", [None, 3, b"model", ["glyphs"]])
def test_rejects_values_that_are_not_paths(source):
    with pytest.raises(TypeError, match=r"is of type \w+; expected the path of a folder, or a hub id 'owner/name'"):
        dl.Denoiser.from_pretrained(source)


def test_load_pretrained_of_a_path_suggests_from_pretrained(tmp_path):
    for name in ("runs/mine", tmp_path):
        with pytest.raises(ValueError, match=r"unknown pretrained denoiser .+ Denoiser\.from_pretrained loads a model from a folder"):
            dl.load_pretrained(name)


@pytest.mark.parametrize("folder", [".", "checkpoints"])
def test_rejects_unfinished_run_as_model_and_suggests_a_remedy(tmp_path, dataset, folder):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path / "checkpoints", steps=3)
    message = (
        r"config\.json does not exist; .*: diffusion_lib\.load_checkpoint loads the averaged weights from the newest checkpoint of an "
    )
    with pytest.raises(FileNotFoundError, match=message):
        dl.Denoiser.from_pretrained(tmp_path / folder)


def test_rejects_folder_with_neither_model_nor_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(FileNotFoundError, match=r"contains no readable checkpoint; expected the folder of a training run"):
        dl.load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"config\.json does not exist; expected a folder written by save_pretrained"):
        dl.Denoiser.from_pretrained(tmp_path)


def test_rejects_unknown_network_class_and_suggests_the_nearest(saved, tmp_path, dataset):
    config = json.loads((saved / "config.json").read_text())
    assert config["network"]["kind"] == "UNet"
    config["network"]["kind"] = "Unet2"
    (saved / "config.json").write_text(json.dumps(config))
    message = r"does not fit this package \(unknown network 'Unet2'; expected one of 'UNet'.* Did you mean 'UNet'\?"
    with pytest.raises(ValueError, match=message):
        dl.Denoiser.from_pretrained(saved)
    run(tiny_denoiser(), dataset, CONFIG, tmp_path / "run", steps=3)
    path = tmp_path / "run" / "step-00000003.pt"
    content = torch.load(path, weights_only=True)
    content["run"]["network.kind"] = "Unet2"
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"step-00000003\.pt {message}"):
        dl.load_checkpoint(tmp_path / "run")


def huge(tensor):
    return torch.as_strided(torch.zeros(1), (1000, *tensor.shape), [0] * (tensor.ndim + 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weight: weight.fill_(torch.nan), "contains values that are not finite in float32"),
        (lambda weight: weight.to(torch.complex64), "is not a tensor of float64, float32, bfloat16, float16, int64"),
        (huge, "its tensors are larger than the file"),
    ],
    ids=["nan", "complex", "larger than the file"],
)
def test_rejects_averaged_weights_that_a_model_file_cannot_store(tmp_path, dataset, spoil, message):
    run(tiny_denoiser(), dataset, CONFIG, tmp_path, steps=3)
    path = tmp_path / "step-00000003.pt"
    content = torch.load(path, weights_only=True)
    content["ema"]["network.stem.weight"] = spoil(content["ema"]["network.stem.weight"])
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"step-00000003\.pt does not fit this package .*{message}"):
        dl.load_checkpoint(tmp_path)


def test_checkpoint_loads_as_the_denoiser_class_that_was_trained(tmp_path, dataset):
    class Other(dl.Denoiser):
        pass

    tiny = tiny_denoiser()
    run(Other(tiny.network, tiny.schedule, "eps", tiny.image_shape), dataset, CONFIG, tmp_path, steps=3)
    with pytest.raises(ValueError, match=r"its denoiser is of class .*Other, not Denoiser"):
        dl.load_checkpoint(tmp_path)
    assert type(dl.load_checkpoint(tmp_path, Other)) is Other


# ----------------------------------------------------------------------------------------------------------------------- the hub


def hub_of(files):
    """A web server's handler that answers like the Hugging Face hub for one repository."""
    asked = []

    class Hub(BaseHTTPRequestHandler):
        def answer(self):
            asked.append((self.command, self.path))
            prefix, _, name = self.path.partition("/resolve/main/")
            found = prefix == "/someone/glyph-model" and name in files
            body = files[name] if found else b'{"error":"Repository not found"}'
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            if found:
                self.send_header("ETag", f'"etag-of-{name}"')
                self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
            else:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = answer  # noqa: N815 - names that http.server asks for

        def log_message(self, *_):
            pass

    return Hub, asked


def from_hub(address, tmp_path, offline="0"):
    """from_pretrained in a process of its own, for the hub's address is read when its library is imported."""
    settings = dict(
        HF_ENDPOINT=address, HF_HOME=str(tmp_path / "home"), HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE=offline, no_proxy="127.0.0.1"
    )
    return start(TESTS / "programs" / "from_hub.py", tmp_path / "answer.pt", **settings)


def test_loads_model_from_hub_and_reports_a_missing_one(saved, tmp_path):
    Hub, asked = hub_of({path.name: path.read_bytes() for path in saved.iterdir()})
    with serve(Hub) as address:
        done = from_hub(address, tmp_path)
    assert done.returncode == 0, done.stderr
    expected = dl.Denoiser.from_pretrained(saved)
    alpha_bar, x0 = torch.load(tmp_path / "answer.pt")
    assert torch.equal(alpha_bar, expected.schedule.alpha_bar)
    with torch.no_grad():
        torch.testing.assert_close(x0, expected(torch.ones(2, 1, 8, 8), 5).x0, rtol=1e-5, atol=1e-5)
    assert ("GET", "/someone/glyph-model/resolve/main/model.safetensors") in asked
    not_found, invalid = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert (
        "'someone/other-model' is not a folder here, and config.json could not be downloaded from a hub repository of that name"
        in not_found
    )
    assert "expected a path or a public 'owner/name'" in invalid
    # with the hub away, what was downloaded still loads (set to be offline, its library does not wait and try again)
    (tmp_path / "answer.pt").unlink()
    done = from_hub(address, tmp_path, offline="1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "answer.pt").exists()
    assert "'someone/other-model' is not a folder here" in done.stdout


PATHS = [
    "runs/mine",
    "./x",
    "../x",
    "x/",
    "~/x",
    "/x",
    "C:\\x",
    "C:/x",
    "a\\b",
    "a/b/c",
    "x",
    "weights.pt",
    "x/model.safetensors",
    ".x/y",
    "",
]


@pytest.mark.parametrize("name", [*PATHS, Path("x/y")])
def test_paths_are_never_looked_up_on_the_hub(tmp_path, monkeypatch, name):
    import huggingface_hub

    def asked(*arguments, **options):
        pytest.fail("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", asked)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"is not a folder.*; expected a folder written by save_pretrained, or a hub id 'owner/name'"
    ):
        dl.Denoiser.from_pretrained(name)


def test_unreachable_hub_is_asked_once_and_reported_without_warnings(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # a port at which nobody answers
        done = from_hub(f"http://127.0.0.1:{probe.getsockname()[1]}", tmp_path)
    assert (
        "FileNotFoundError: 'someone/glyph-model' is not a folder here, and config.json could not be downloaded from a hub repository"
        in done.stderr
    )
    assert "refused" in done.stderr.splitlines()[-1]  # why, not only that it is in no cache
    assert "Retry" not in done.stderr


@pytest.mark.parametrize(("how", "reason"), [("half", "peer closed connection|IncompleteRead|not enough|Consistency"), ("no HTTP", "")])
def test_failing_hub_is_reported_like_a_missing_model(saved, tmp_path, how, reason):
    Hub, _ = hub_of({path.name: path.read_bytes() for path in saved.iterdir()})

    class Bad(Hub):
        def answer(self):
            if how == "no HTTP":
                self.wfile.write(b"\x00 this is no answer\r\n\r\n")
                return
            whole, self.wfile = self.wfile, io.BytesIO()
            super().answer()
            whole.write(self.wfile.getvalue()[: -10 if self.command == "GET" else None])
            self.wfile, self.close_connection = whole, True

        do_GET = do_HEAD = answer  # noqa: N815

    with serve(Bad) as address:
        done = from_hub(address, tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert re.match(
        r"FileNotFoundError: 'someone/glyph-model' is not a folder here, and config\.json could not be downloaded from a hub repository",
        last,
    )
    assert re.search(reason, last)


# ------------------------------------------------------------------------------------------------------------------- the package


def test_rejects_unknown_names_and_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"unknown pretrained denoiser 'glyhps'; expected one of 'glyphs', 'glyphs-1', .*'mnist'.*Did you mean 'glyphs'\?"
    ):
        dl.load_pretrained("glyhps")
    with pytest.raises(ValueError, match=r"unknown pretrained classifier 'cifar10'; expected one of 'glyphs', 'mnist'"):
        dl.load_classifier("cifar10")


def test_classifier_recognises_unseen_glyphs():
    held_out = dl.load_dataset("glyphs", train=False, n=1000)
    assert accuracy(dl.load_classifier("glyphs"), held_out.images, held_out.labels).value >= 0.99


def test_classifier_recognises_unseen_digits():
    if not SHARED.is_dir():
        pytest.skip("../shared/data, with the files of MNIST, is not here")
    held_out = dl.load_dataset("mnist", train=False, n=1000, root=SHARED)
    assert accuracy(dl.load_classifier("mnist"), held_out.images, held_out.labels).value >= 0.98


@pytest.mark.parametrize(("name", "num_classes", "channels"), [("glyphs", 36, 48), ("mnist", 10, 32)])
def test_denoiser_generates_varied_samples_of_the_requested_class(name, num_classes, channels):
    denoiser = dl.load_pretrained(name)
    assert (denoiser.image_shape, denoiser.num_classes, denoiser.training) == ((1, 28, 28), num_classes, False)
    assert denoiser.network.config == dl.UNet(base_channels=channels, num_classes=num_classes).config, "notebook 02 shows this network"
    y = torch.arange(72) % num_classes
    samples = dl.sample(denoiser, 72, steps=20, y=y)
    assert accuracy(dl.load_classifier(name), samples, y).value >= 0.9
    # and not one image for each class
    assert min((samples[i] - samples[j]).abs().mean() for i in range(72) for j in range(i) if y[i] == y[j]) > 0.02


@pytest.mark.parametrize(("held_out", "at_least"), [(False, 0.9), (True, 0.8)])
def test_postcards_are_drawn_as_their_captions_say(held_out, at_least):
    model, classifier = dl.load_pretrained("postcards"), dl.load_classifier("postcards")
    assert (model.image_shape, model.words, model.training) == ((3, 32, 32), vocabulary(ATTRIBUTES), False)
    cards = dl.load_dataset("postcards", train=False, n=72, held_out=held_out, seed=11)
    captions = captions_of(cards.attributes, cards.attribute_names, random_numbers(72, 11), complete=True)
    samples = dl.sample(dl.Guided(model, 2.0), 72, y=captions, steps=12)
    found = attribute_accuracy(classifier, samples, cards.attributes)
    assert found.pop("all").value >= at_least - 0.15
    assert min(each.value for each in found.values()) >= at_least


def test_one_caption_gives_varied_postcards():
    samples = dl.sample(dl.load_pretrained("postcards"), 48, steps=12, y="a red house")
    assert (dl.load_classifier("postcards").read(samples)["thing"] == ATTRIBUTES["thing"].index("house")).float().mean() > 0.8
    assert min((samples[i] - samples[j]).abs().mean() for i in range(48) for j in range(i)) > 0.05


def test_generated_postcards_are_as_bright_and_colourful_as_real_ones():
    cards = dl.load_dataset("postcards", train=False, n=100, seed=12)
    samples = dl.sample(dl.load_pretrained("postcards"), 100, steps=12, y=cards.captions)
    # on their own scale: nothing was stretched
    assert (samples.mean(dim=(0, 2, 3)) - cards.images.mean(dim=(0, 2, 3))).abs().max() < 0.1
    assert 0.85 < samples.std(dim=0).mean() / cards.images.std(dim=0).mean() < 1.1


@pytest.mark.parametrize(("n", "copies"), [(1, True), (10, True), (1000, False), (20_000, False)])
def test_models_memorise_small_training_sets_but_not_large_ones(n, copies):
    denoiser = dl.load_pretrained(f"glyphs-{n}")
    assert (denoiser.image_shape, denoiser.num_classes) == ((1, 28, 28), None)
    seen = dl.load_dataset("glyphs", n=n, seed=int(n == 20_000)).images.flatten(1)
    distances = torch.cdist(dl.sample(denoiser, 16, steps=20).flatten(1), seen).min(dim=1).values / 28
    assert (distances < 0.1).all() if copies else (distances > 0.1).float().mean() > 0.8


def test_generated_glyphs_are_as_black_and_white_as_the_data():
    samples = dl.sample(dl.load_pretrained("glyphs"), 72, steps=20, y=torch.arange(72) % 36)
    real = dl.load_dataset("glyphs", n=500).images
    # on its own scale: nothing was stretched
    assert abs(samples.mean() - real.mean()) < 0.1
    assert abs(samples.std() - real.std()) < 0.1


def test_bfloat16_samples_are_as_good_as_float32_ones():
    model, classifier = dl.load_pretrained("glyphs"), dl.load_classifier("glyphs")
    held_out = features(classifier, dl.load_dataset("glyphs", train=False, n=1000).images)
    y = torch.arange(108) % 36
    exact = dl.sample(model, 108, steps=10, y=y)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = dl.sample(model, 108, steps=10, y=y)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    for score in (lambda x: accuracy(classifier, x, y), lambda x: frechet_distance(held_out, features(classifier, x))):
        of_exact, of_rounded = score(exact), score(rounded)
        assert of_exact.low <= of_rounded.value <= of_exact.high


def test_classifier_can_be_trained_saved_and_loaded(tmp_path, capsys):
    train_classifier(["--out", str(tmp_path), "--images", "200", "--steps", "3", "--batch-size", "16"])
    assert "test images correctly; saved to" in capsys.readouterr().out
    classifier = Classifier.from_pretrained(tmp_path)
    assert not classifier.training
    assert classifier(dl.load_dataset("glyphs", n=2).images).shape == (2, 36)
    edit_tensors(tmp_path, lambda tensors: tensors.pop("to_logits.bias"))
    with pytest.raises(ValueError, match=r"(?s)does not fit this package .*to_logits\.bias"):
        Classifier.from_pretrained(tmp_path)


def test_rejects_saving_sharded_weights(tmp_path):
    message = (
        r"^the weights are sharded over processes; expected complete weights: diffusion_lib\.load_checkpoint\(folder\) loads the "
        r"averaged weights from the run's newest checkpoint$"
    )
    with pytest.raises(ValueError, match=message):
        as_if_sharded(tiny_denoiser()).save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
