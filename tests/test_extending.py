"""A custom target, schedule, sampler, network and dataset: each takes one definition and one line in a registry, and together they
can be trained, saved, loaded, resumed and sampled from."""

import json
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from helpers import CONFIG, noise, run, tiny_dataset, weights
from torch import nn

import diffusion_lib as dl
from diffusion_lib.data import DATASETS
from diffusion_lib.networks import NETWORKS
from diffusion_lib.process import TARGETS, solve, target_of
from diffusion_lib.sampling import SAMPLERS
from diffusion_lib.schedules import SCHEDULES
from diffusion_lib.training.__main__ import main

SHAPE = (1, 8, 8)


class Convolutions(nn.Module):
    """A network of the fewest words: no classes, no check of what comes in."""

    def __init__(self, width=4):
        super().__init__()
        self.config = dict(width=width)
        self.layers = nn.Sequential(nn.Conv2d(2, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, xt, t, y=None):
        return self.layers(torch.cat([xt, (t / 20).view(-1, 1, 1, 1).expand_as(xt)], dim=1))


def late_schedule(T=1000):
    """Noise that comes late, on a path that preserves no variance and ends without any image."""
    u = torch.arange(T + 1, dtype=torch.float64) / T
    return dl.Schedule(1 - u**2, u**2 + u / 10, "late")


def straight_there(denoiser, xT, *, steps=4, keep=1.0, y=None, generator=None):
    """A sampler: each time to the predicted image and back along the predicted noise, of which a fraction is kept."""
    schedule, xt = denoiser.schedule, xT
    for t, s in pairwise(dl.timestep_subset(schedule.T, steps)):
        with torch.no_grad():
            prediction = denoiser(xt, t, y)
            xt = dl.q_sample(schedule, prediction.x0.clamp(-1, 1), s, keep * prediction.eps)
        yield dl.Step(s, xt, prediction.x0, prediction.eps)


@pytest.fixture
def extended(monkeypatch):
    """The registries with one entry more each."""
    monkeypatch.setitem(TARGETS, "score-like", lambda signal, noise: (0.3, 0.7))
    monkeypatch.setitem(SCHEDULES, "late", late_schedule)
    monkeypatch.setitem(SAMPLERS, "straight there", straight_there)
    monkeypatch.setitem(NETWORKS, "convolutions", Convolutions)
    monkeypatch.setitem(DATASETS, "bars", lambda *, n=None, seed=0, **options: tiny_dataset(n or 24, seed=seed))


@pytest.fixture
def images():
    """A dataset: whatever has images and labels."""
    dataset = tiny_dataset()
    return SimpleNamespace(images=dataset.images, labels=dataset.labels)


def denoiser_of(seed=0, width=4):
    torch.manual_seed(seed)
    return dl.Denoiser(Convolutions(width), dl.make_schedule("late", 20), "score-like", SHAPE)


def test_custom_target_takes_one_line(extended):
    x0, eps = noise(3, *SHAPE), noise(3, *SHAPE, seed=1)
    schedule = dl.make_schedule("late", 20)
    for t in (1, 10, 20):
        xt, target = dl.q_sample(schedule, x0, t, eps), target_of(schedule, "score-like", x0, eps, t)
        torch.testing.assert_close(target, 0.3 * x0 + 0.7 * eps)
        torch.testing.assert_close(solve(schedule, "score-like", xt, target, t), (x0, eps), rtol=0, atol=1e-12)


def test_custom_components_train_resume_save_load_and_sample(extended, images, tmp_path):
    whole = run(denoiser_of(), images, directory=tmp_path / "whole" / "checkpoints")
    assert whole[2][-1] < whole[2][0]

    # resumed, to the same weights
    folder = tmp_path / "resumed"
    run(denoiser_of(), images, directory=folder / "checkpoints", steps=7)
    unfinished = dl.load_checkpoint(folder)
    torch.testing.assert_close(weights(unfinished), whole[1][5], rtol=0, atol=0)
    *_, end = dl.train(denoiser_of(seed=1), images, CONFIG, folder / "checkpoints")
    torch.testing.assert_close(weights(end.ema), whole[1][-1], rtol=0, atol=0)

    # saved and loaded, as what it was
    end.ema.save_pretrained(tmp_path / "model")
    again = dl.Denoiser.from_pretrained(tmp_path / "model")
    assert type(again.network) is Convolutions
    assert again.network.config == dict(width=4)
    assert (again.prediction, again.schedule.name, again.image_shape) == ("score-like", "late", SHAPE)
    torch.testing.assert_close(again.schedule.noise, late_schedule(20).noise, rtol=0, atol=0)

    # sampled from by the sampler of one's own, by every other, and through guidance's protocol
    ours = dl.sample(again, 3, sampler="straight there", steps=5, keep=0.5)
    torch.testing.assert_close(ours, dl.sample(end.ema, 3, sampler=straight_there, steps=5, keep=0.5), rtol=0, atol=0)
    assert not torch.equal(ours, dl.sample(again, 3, sampler="straight there", steps=5))
    for sampler in SAMPLERS:
        assert dl.sample(again, 2, sampler=sampler, steps=5).isfinite().all()


def test_custom_target_with_ideal_denoiser_recovers_the_images(extended, images):
    """The whole chain with a network that is never wrong: xT, on this path, holds no image at all."""
    ideal = dl.IdealDenoiser(images.images.double(), late_schedule(20))

    class Knows(nn.Module):
        def forward(self, xt, t, y=None):
            x0, eps, _ = ideal(xt, t)
            return target_of(ideal.schedule, "score-like", x0, eps, t)

    denoiser = dl.Denoiser(Knows(), ideal.schedule, "score-like")
    for chain in (dl.ddim_steps, dl.ddpm_steps):
        *_, end = chain(denoiser, noise(4, *SHAPE), steps=20, generator=torch.Generator().manual_seed(0))
        distances = (end.xt[:, None] - images.images).abs().amax(dim=(2, 3, 4))
        assert distances.amin(dim=1).max() < 0.01


def test_command_offers_custom_dataset_schedule_and_target(extended, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "cifar10, folder:PATH or bars" in " ".join(capsys.readouterr().out.split())
    options = "--dataset bars --images 16 --steps 2 --warmup-steps 0 --batch-size 4 --base-channels 8 --T 20 --device cpu"
    main([*options.split(), "--schedule", "late", "--prediction", "score-like", "--out", str(tmp_path)])
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["schedule"], config["prediction"], config["image_shape"]) == ("late", "score-like", [1, 8, 8])
    assert config["network"]["num_classes"] == 3
    with pytest.raises(ValueError, match=r"unknown dataset 'bar'.*Did you mean 'bars'"):
        dl.load_dataset("bar")


def test_unregistered_name_is_reported_with_the_registered_ones(images, tmp_path):
    run(dl.Denoiser(Convolutions(), dl.linear_schedule(20)), images, directory=tmp_path, steps=3)  # to train it, nothing need know it
    with pytest.raises(ValueError, match=r"unknown network 'Convolutions'; expected one of 'UNet'"):
        dl.load_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"the network is a Convolutions; expected one of UNet.*diffusion_lib\.networks\.NETWORKS"):
        dl.Denoiser(Convolutions(), dl.linear_schedule(20)).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"unknown prediction 'score-like'; expected one of 'eps', 'x0', 'v', 'flow'"):
        dl.Denoiser(Convolutions(), dl.linear_schedule(20), "score-like")
