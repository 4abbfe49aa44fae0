"""Datasets by name: adding another takes one line in the table."""

import inspect

import pytest
import torch

import diffusion_lib as dl
from diffusion_lib.data import DATASETS, dataset_names


def test_lists_dataset_names_for_error_messages():
    assert dataset_names() == "glyphs, photo, mnist, fashion_mnist, cifar10 or folder:PATH"


def test_rejects_unknown_name_and_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"unknown dataset 'glyph'; expected one of 'glyphs', 'photo', 'mnist'.*Did you mean 'glyphs'\?"):
        dl.load_dataset("glyph")
    with pytest.raises(ValueError, match=r"unknown dataset 'folder'; expected one of .*'folder:PATH'.*Did you mean 'folder:PATH'\?"):
        dl.load_dataset("folder")
    with pytest.raises(ValueError, match=r"unknown dataset 'glyphs:some'; expected one of 'glyphs', .*Did you mean 'glyphs'\?"):
        dl.load_dataset("glyphs:some")


def test_rejects_numbers_below_1():
    with pytest.raises(ValueError, match=r"^n=0; expected 1 or more, or None for the default$"):
        dl.load_dataset("glyphs", n=0)
    with pytest.raises(ValueError, match=r"^size=-5; expected 1 or more, or None for the default$"):
        dl.load_dataset("photo", size=-5)


def test_one_line_adds_a_dataset(monkeypatch):
    def load_stripes(*, n=None, seed=0, **options):
        assert options == dict(train=False, size=8, root=None)
        return dl.ImageDataset.without_classes(torch.full((n or 10, 1, 8, 8), float(seed)))

    monkeypatch.setitem(DATASETS, "stripes", load_stripes)
    stripes = dl.load_dataset("stripes", train=False, n=3, size=8, seed=1)
    assert torch.equal(stripes.images, torch.ones(3, 1, 8, 8))
    assert dataset_names().endswith("folder:PATH or stripes")
    with pytest.raises(ValueError, match=r"'folder:PATH', 'stripes'\. Did you mean 'stripes'\?"):
        dl.load_dataset("stripe")


def test_one_line_adds_a_dataset_with_a_path(monkeypatch):
    seen = []
    monkeypatch.setitem(DATASETS, "archive:PATH", lambda path, **options: seen.append(path))
    dl.load_dataset("archive:C:/images.zip")
    assert seen == ["C:/images.zip"]


def test_every_loader_accepts_the_options_of_load_dataset():
    options = dict.fromkeys(list(inspect.signature(dl.load_dataset).parameters)[1:])
    for name, loader in DATASETS.items():
        inspect.signature(loader).bind(*(["folder"] if name.endswith(":PATH") else []), **options)
