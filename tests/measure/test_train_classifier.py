"""The classifier trains on any object with images and labels, and the command trains and saves it."""

import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers import tiny_dataset

import diffusion_lib as dl
from diffusion_lib.measure import Classifier, accuracy
from diffusion_lib.measure.train_classifier import main, train_classifier


def test_learns_from_any_object_with_images_and_labels():
    bars = tiny_dataset(n=60)
    torch.manual_seed(0)
    classifier = Classifier(num_classes=3, width=8)
    losses = list(train_classifier(classifier, SimpleNamespace(images=bars.images, labels=bars.labels), steps=40, batch_size=16))
    assert len(losses) == 40
    assert losses[-1] < losses[0] / 2
    assert accuracy(classifier.eval(), bars.images, bars.labels).value == 1


def test_training_is_reproducible_from_its_seed():
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(0)
        classifier = Classifier(num_classes=3, width=8)
        runs.append(torch.stack(list(train_classifier(classifier, tiny_dataset(), steps=5, batch_size=4, seed=seed))))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_command_trains_and_saves_a_classifier(tmp_path, capsys, monkeypatch):
    options = ["--out", str(tmp_path), "--images", "200", "--steps", "3", "--batch-size", "16"]
    monkeypatch.setattr(sys, "argv", ["measure", *options])
    runpy.run_module("diffusion_lib.measure", run_name="__main__")
    assert capsys.readouterr().out.endswith(f"% of 4000 test images correctly; saved to {tmp_path}\n")
    classifier = Classifier.from_pretrained(tmp_path)
    assert not classifier.training
    assert classifier(dl.load_dataset("glyphs", n=2).images).shape == (2, 36)


def test_command_rejects_dataset_without_classes(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--dataset", "photo"])
    assert "--dataset photo has no classes; expected a dataset with classes" in capsys.readouterr().err
