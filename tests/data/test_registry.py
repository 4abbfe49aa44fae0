"""Datasets by name: adding another takes one line in the table."""

import inspect
import re

import numpy as np
import pytest
import torch
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.data import DATASETS, dataset_names, size_from_text


def test_lists_dataset_names_for_error_messages():
    assert dataset_names() == "glyphs, postcards, photo, mnist, fashion_mnist, cifar10 or folder:PATH"


def test_rejects_unknown_name_and_suggests_the_nearest():
    with pytest.raises(
        ValueError, match=r"unknown dataset 'glyph'; expected one of 'glyphs', 'postcards', 'photo', 'mnist'.*Did you mean 'glyphs'\?"
    ):
        dl.load_dataset("glyph")
    with pytest.raises(ValueError, match=r"unknown dataset 'folder'; expected one of .*'folder:PATH'.*Did you mean 'folder:PATH'\?"):
        dl.load_dataset("folder")
    with pytest.raises(ValueError, match=r"unknown dataset 'glyphs:some'; expected one of 'glyphs', .*Did you mean 'glyphs'\?"):
        dl.load_dataset("glyphs:some")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("MNIST", "mnist"), ("fashion-mnist", "fashion_mnist"), ("CIFAR-10", "cifar10"), ("Fashion MNIST", "fashion_mnist")],
)
def test_suggests_a_differently_spelled_name(name, meant):
    with pytest.raises(ValueError, match=rf"unknown dataset '{name}'; expected one of .* Did you mean '{meant}'\?$"):
        dl.load_dataset(name)


@pytest.mark.parametrize("name", ["./pics", "/data/pics", "C:\\pics", "~/pics"])
def test_rejects_a_bare_path_and_shows_how_to_write_it(name):
    with pytest.raises(ValueError, match=rf"expected one of .* A folder of images is written 'folder:{re.escape(name)}'\.$"):
        dl.load_dataset(name)


def test_path_of_a_folder_is_part_of_its_name(tmp_path):
    with pytest.raises(ValueError, match=r"unknown dataset 'folder'.* The path is part of the name: 'folder:pics'\.$"):
        dl.load_dataset("folder", root="pics")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for name in (tmp_path, f"folder:{tmp_path}"):
        assert len(dl.load_dataset(name, channels=3)) == 1


@pytest.mark.parametrize("name", [None, 3, b"glyphs", ["glyphs"]])
def test_rejects_a_name_that_is_not_a_string(name):
    with pytest.raises(ValueError, match=r"^name=.*; expected a dataset's name, glyphs, .*, or a Path$"):
        dl.load_dataset(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(n=0), "n=0; expected an integer, 1 or more, or None for all"),
        (dict(n=2.0), "n=2.0; expected an integer, 1 or more, or None for all"),
        (dict(size=-5), "size=-5; expected an integer, 1..16384, or a pair of them: (height, width)"),
        (dict(size=32.0), "size=32.0; expected an integer, 1..16384, or a pair of them: (height, width)"),
        (dict(size="32"), "size='32'; expected an integer, 1..16384, or a pair of them: (height, width)"),
        (dict(size=True), "size=True; expected an integer, 1..16384, or a pair of them: (height, width)"),
        (dict(size=10**9), "size=1000000000; expected an integer, 1..16384, or a pair of them: (height, width)"),
        (dict(size=(8, 0)), "size[1]=0; expected an integer, 1..16384"),
        (dict(size=(1, 2, 3)), "size=(1, 2, 3); expected one integer, or two: (height, width)"),
        (dict(size=()), "size=(); expected one integer, or two: (height, width)"),
        (dict(channels=4), "channels=4; expected 3 (RGB) or 1 (grey)"),
        (dict(channels="L"), "channels='L'; expected an integer, 1 or more"),
        (dict(flip="yes"), "flip='yes'; expected True or False"),
        (dict(train="test"), "train='test'; expected True or False"),
        (dict(seed=-1), "seed=-1; expected an integer, 0..4611686018427387904"),
        (dict(root=""), "root=''; expected a folder, or None for the cache folder"),
    ],
)
def test_rejects_options_by_name(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dl.load_dataset("photo", **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "glyphs",
            dict(size=32),
            r"size=32 does not apply to the dataset 'glyphs'; .*: train, n, seed \(size applies to postcards, photo, folder:PATH\)",
        ),
        (
            "mnist",
            dict(channels=1),
            r"channels=1 does not apply to the dataset 'mnist'; it takes: train, n, root ",
        ),
        ("photo", dict(seed=1), r"seed=1 does not apply to the dataset 'photo'; .* \(seed applies to glyphs, postcards\)"),
        ("photo", dict(skip_broken=True), r"skip_broken=True does not apply to the dataset 'photo'"),
        (
            "folder:x",
            dict(root="y"),
            r"root='y' does not apply to the dataset 'folder:x'; .* \(root applies to mnist, fashion_mnist, cifar10\)",
        ),
    ],
)
def test_rejects_options_that_a_dataset_does_not_use(name, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        dl.load_dataset(name, **options)


@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor])
def test_accepts_integers_of_any_type(number):
    assert torch.equal(dl.load_dataset("glyphs", n=number(3), seed=number(1)).images, dl.load_dataset("glyphs", n=3, seed=1).images)
    assert dl.load_dataset("photo", size=number(8), channels=number(1)).image_shape == (1, 8, 8)


@pytest.mark.parametrize("size", [(8, 16), [8, 16], np.array([8, 16]), torch.tensor([8, 16]), torch.Size([8, 16])])
def test_size_may_be_any_pair_of_height_and_width(size):
    assert dl.load_dataset("photo", size=size).image_shape == (3, 8, 16)


def test_flip_adds_mirror_images():
    dataset, flipped = (dl.load_dataset("glyphs", n=70, flip=flip) for flip in (False, True))
    assert torch.equal(flipped.images, torch.cat([dataset.images, dataset.images.flip(3)]))
    assert torch.equal(flipped.labels, torch.cat([dataset.labels, dataset.labels]))
    assert flipped.class_names == dataset.class_names


@pytest.mark.parametrize(
    ("text", "size"), [("32", 32), (" 32x48 ", (32, 48)), ("32×48", (32, 48)), ("32 x 48", (32, 48)), ("32,48", (32, 48))]
)
def test_size_from_text(text, size):
    assert size_from_text(text) == size


@pytest.mark.parametrize("text", ["", "32x", "x", "32.0", "-3", "1x2x3", "0", "32x0", "big"])
def test_rejects_strings_that_are_not_sizes(text):
    with pytest.raises(ValueError, match=r"^size.*; expected"):
        size_from_text(text)


def test_one_line_adds_a_dataset(monkeypatch):
    def load_stripes(*, n=None, seed=0, **options):
        assert options == dict(train=False, size=8)
        return dl.ImageDataset.without_classes(torch.full((n or 10, 1, 8, 8), float(seed)))

    monkeypatch.setitem(DATASETS, "stripes", load_stripes)
    stripes = dl.load_dataset("stripes", train=False, n=3, size=8, seed=1)
    assert torch.equal(stripes.images, torch.ones(3, 1, 8, 8))
    assert dataset_names().endswith("folder:PATH or stripes")
    with pytest.raises(ValueError, match=r"'folder:PATH', 'stripes'\. Did you mean 'stripes'\?"):
        dl.load_dataset("stripe")


def test_dataset_without_a_test_set_says_so(monkeypatch):
    monkeypatch.setitem(DATASETS, "dots", lambda *, n=None: dl.ImageDataset.without_classes(torch.zeros(2, 1, 8, 8)))
    assert len(dl.load_dataset("dots")) == 2
    with pytest.raises(ValueError, match="train=False with 'dots', which has no test set; expected train=True"):
        dl.load_dataset("dots", train=False)


def test_one_line_adds_a_dataset_with_a_path(monkeypatch):
    seen = []
    monkeypatch.setitem(DATASETS, "archive:PATH", lambda path, **options: seen.append(path))
    dl.load_dataset("archive:C:/images.zip")
    assert seen == ["C:/images.zip"]


def test_loaders_take_only_options_of_load_dataset():
    options = inspect.signature(dl.load_dataset).parameters
    for name, loader in DATASETS.items():
        parameters = list(inspect.signature(loader).parameters.values())[1 if name.endswith(":PATH") else 0 :]
        named = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
        assert named - {"name"} <= options.keys(), name
