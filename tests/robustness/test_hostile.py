"""Untrusted files: whatever they contain, they load or are rejected by name, and nothing else happens.

Each test damages a good file at random, a fixed number of times. For a longer run by hand:
`pytest tests/robustness/test_hostile.py --fuzz 20000`.
"""

import copy
import io
import json
import random
import warnings
from contextlib import suppress

import pytest
import torch
from helpers import CONFIG, run, tiny_dataset, tiny_denoiser
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.training import checkpoints

STRANGE = [
    None,
    True,
    -1,
    0,
    1,
    3,
    10**9,
    2**70,
    0.5,
    float("nan"),
    "",
    "eps",
    "../../etc/passwd",
    "x" * 1000,
    [],
    [1] * 50,
    [[1]],
    {},
    {"a": 1},
]


def damaged(content, draw):
    """The bytes with some flipped, cut out, inserted, repeated or cut off."""
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5, 20])):
        at, n = draw.randrange(len(content) + 1), draw.choice([1, 2, 8, 100])
        how = draw.choice(["flip", "flip", "set", "cut", "insert", "repeat", "truncate"])
        if how == "flip" and at < len(content):
            content[at] ^= 1 << draw.randrange(8)
        elif how == "set":
            content[at : at + n] = draw.choice([b"\x00", b"\xff", b"\x7f"]) * len(content[at : at + n])
        elif how == "cut":
            del content[at : at + n]
        elif how == "insert":
            content[at:at] = draw.randbytes(n)
        elif how == "repeat":
            content[at:at] = content[at : at + n]
        elif how == "truncate" and draw.random() < 0.3:
            del content[at:]
    return bytes(content)


def some_value(config, draw):
    """The place of one value of a config, at any depth: its container and its key."""
    key = draw.choice(list(config) if isinstance(config, dict) else range(len(config)))
    inside = config[key]
    return some_value(inside, draw) if isinstance(inside, dict | list) and inside and draw.random() < 0.7 else (config, key)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "model"
    tiny_denoiser("v").save_pretrained(folder)
    return folder


def attempt(call):
    """What the call gives, and the text of the `ValueError` that it raises instead; any other error fails the test."""
    try:
        return call(), ""
    except ValueError as error:
        return None, str(error)


def load(folder):
    """True if it loads, False if it is refused as it should be."""
    denoiser, refusal = attempt(lambda: dl.Denoiser.from_pretrained(folder))
    if denoiser is None:
        assert str(folder) in refusal
        return False
    with suppress(FloatingPointError):  # weights of any size are weights: what they make of noise is told
        dl.sample(denoiser, 1, steps=1, shape=(denoiser.network.in_channels, *[denoiser.network.size_multiple] * 2))
    return True


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_damaged_model_files_load_or_are_rejected(model, tmp_path, name, fuzz):
    draw, loaded = random.Random(0), 0
    files = {path.name: path.read_bytes() for path in model.iterdir()}
    for _ in range(fuzz):
        for other, content in files.items():
            (tmp_path / other).write_bytes(damaged(content, draw) if other == name else content)
        loaded += load(tmp_path)
    assert loaded < 0.9 * fuzz  # or the damage did not hit


def test_unusual_configs_load_or_are_rejected(model, tmp_path, fuzz):
    draw, loaded = random.Random(0), 0
    (tmp_path / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes())
    for _ in range(fuzz):
        config = json.loads((model / "config.json").read_text())
        for _ in range(draw.choice([1, 1, 2])):
            container, key = some_value(config, draw)
            container[key] = copy.deepcopy(draw.choice(STRANGE))
        (tmp_path / "config.json").write_text(json.dumps(config))
        loaded += load(tmp_path)
    assert loaded < 0.5 * fuzz


def test_damaged_checkpoints_are_skipped_or_load_unchanged(tmp_path, fuzz):
    run(tiny_denoiser(), tiny_dataset(), CONFIG, tmp_path, steps=3)
    path = tmp_path / "step-00000003.pt"
    content, good = path.read_bytes(), checkpoints.newest(tmp_path).content
    draw, passed_over = random.Random(0), 0
    for _ in range(fuzz):
        path.write_bytes(damaged(content, draw))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = checkpoints.newest(tmp_path)
        if state is None:
            passed_over += 1
            continue
        # what the damage hit held no content
        for part in ("denoiser", "ema"):
            assert all(torch.equal(state.content[part][name], value) for name, value in good[part].items())
    assert passed_over > 0.5 * fuzz


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_images_load_or_are_reported_by_name(tmp_path, kind, fuzz):
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((40, 30)).convert("RGB").save(buffer, kind)
    draw, refused = random.Random(0), 0
    path = tmp_path / f"image.{kind.lower()}"
    for _ in range(fuzz):
        path.write_bytes(damaged(buffer.getvalue(), draw))
        dataset, refusal = attempt(lambda: dl.load_dataset(f"folder:{tmp_path}", size=16))
        assert dataset is None or dataset.images.shape == (1, 3, 16, 16)
        assert dataset is not None or str(path) in refusal
        refused += dataset is None
    assert refused > 0


def test_rejects_small_file_that_decompresses_to_gigabytes(tmp_path):
    Image.new("1", (30_000, 30_000)).save(tmp_path / "bomb.png")
    Image.new("1", (12_000, 12_000)).save(tmp_path / "small_bomb.png")
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 200_000
    for _ in range(2):
        with pytest.raises(ValueError, match=r"bomb\.png cannot be read as an image \(Image size .+ exceeds limit"):
            dl.load_dataset(f"folder:{tmp_path}")
        (tmp_path / "bomb.png").unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["../glyphs", "glyphs/../mnist", "/etc/passwd", "..", ""])
def test_rejects_model_names_outside_the_package(name):
    for load_it in (dl.load_pretrained, dl.load_classifier):
        with pytest.raises(ValueError, match="unknown pretrained"):
            load_it(name)
