"""The random draws of a training step: every image once per epoch, and no random stream used twice."""

from collections import Counter

import pytest
import torch
from helpers import noise, tiny_denoiser
from hypothesis import given
from hypothesis import strategies as st

import diffusion_lib as dl
from diffusion_lib.denoiser import logit_normal_timesteps
from diffusion_lib.seeds import derived_seed
from diffusion_lib.training.batches import batch_indices, draw_batch, drop_labels, seeded_dropout, step_seed


@given(n=st.integers(1, 40), batch_size=st.integers(1, 100), seed=st.integers(0, 5))
def test_batches_contain_every_image_once_per_epoch(n, batch_size, seed):
    steps = 2 * n // batch_size + 2
    batches = [batch_indices(n, batch_size, step, seed) for step in range(1, steps + 1)]
    assert all(len(batch) == batch_size for batch in batches)
    shown = torch.cat(batches).tolist()
    for start in range(0, len(shown) - n + 1, n):
        assert sorted(shown[start : start + n]) == list(range(n))


def test_every_image_is_used_equally_often(dataset):
    # with the config's numbers: 12 steps of 10 are 5 epochs of 24
    counts = Counter(i for step in range(1, 13) for i in batch_indices(24, 10, step, 0).tolist())
    assert set(counts.values()) == {5}


def test_epochs_and_seeds_have_different_orders():
    orders = [tuple(batch_indices(30, 30, step, seed).tolist()) for step in (1, 2, 3) for seed in (0, 1)]
    assert len(set(orders)) == 6


def test_shuffling_shares_no_random_stream_with_training_steps():
    orders = [batch_indices(100, 100, epoch, seed=seed).tolist() for seed in (0, 1) for epoch in range(1, 13)]
    steps = [
        torch.randperm(100, generator=torch.Generator().manual_seed(seed * 1_000_003 + step)).tolist()
        for seed in (0, 1)
        for step in range(13)
    ]
    assert not [order for order in orders if order in steps]
    assert len({tuple(order) for order in orders}) == len(orders)


def test_cond_drop_prob_drops_that_fraction_of_the_labels():
    labels = torch.arange(10_000) % 3
    kept = drop_labels(labels, 0.2, torch.Generator().manual_seed(0))
    assert ((kept == labels) | (kept == -1)).all()
    assert (kept == -1).float().mean().item() == pytest.approx(0.2, abs=0.02)  # 5 standard deviations
    assert torch.equal(drop_labels(labels, 0.0, torch.Generator()), labels)
    assert torch.equal(labels, torch.arange(10_000) % 3)


def test_logit_normal_timesteps_have_that_distribution(dataset):
    T, n = 1000, 20_000
    t = logit_normal_timesteps(T, n, torch.Generator().manual_seed(0))
    assert t.dtype == torch.long
    assert t.min() >= 1
    assert t.max() <= T
    normal = torch.distributions.Normal(0.3, 1.2)
    for level in (50, 200, 500, 574, 900):
        # the fraction of t <= level is that of z <= logit(level / T); 4 standard deviations
        expected = normal.cdf(torch.tensor(level / T).logit()).item()
        assert (t <= level).float().mean().item() == pytest.approx(expected, abs=4 * (expected * (1 - expected) / n) ** 0.5)
    assert set(logit_normal_timesteps(3, 1000, torch.Generator().manual_seed(0)).tolist()) == {1, 2, 3}


def test_a_run_draws_its_timesteps_from_the_distribution_of_its_config(dataset):
    means = {}
    for timesteps in ("uniform", "logit_normal"):
        config = dl.TrainConfig(batch_size=2000, timesteps=timesteps)
        t = draw_batch(dataset.images, dataset.labels, tiny_denoiser(), config, 1).t
        means[timesteps] = (t / tiny_denoiser().schedule.T).mean().item()
    assert means["uniform"] == pytest.approx(0.5, abs=0.03)
    assert means["logit_normal"] == pytest.approx(0.56, abs=0.03)  # E[sigmoid(z)]
    with pytest.raises(ValueError, match=r"unknown timesteps 'unifrom'; expected one of.*Did you mean 'uniform'"):
        dl.TrainConfig(timesteps="unifrom")


class Dropped(torch.nn.Module):
    """A network that is nothing but dropout of whole channels."""

    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout2d(0.5)

    def forward(self, xt, t, y=None):
        return self.dropout(xt)


@pytest.mark.parametrize("denoiser", [tiny_denoiser(dropout=0.5), dl.Denoiser(Dropped(), dl.linear_schedule(20))])
def test_seeded_dropout_restores_the_callers_random_state(denoiser):
    denoiser.train()
    x = noise(32, 1, 8, 8, dtype=torch.float32)

    def draw(seed):
        with seeded_dropout(denoiser.network, seed), torch.no_grad():
            return denoiser(x, 3).eps

    before = torch.get_rng_state()
    assert torch.equal(draw(5), draw(5))
    assert not torch.equal(draw(5), draw(6))
    assert torch.equal(torch.get_rng_state(), before)


def test_random_draws_of_a_step_are_stable_between_releases():
    """Else a run would not go on as it began when the package is updated in its middle."""
    assert step_seed(2, 5) == 2_000_011
    assert derived_seed(2, 5, 16) == 5223572094381560740
    assert batch_indices(10, 4, 3, seed=2).tolist() == [1, 7, 6, 5]


def test_dropout_seeds_differ_between_micro_batches():
    def first_numbers(seed):
        return tuple(torch.rand(4, generator=torch.Generator().manual_seed(seed)).tolist())

    seeds = [derived_seed(seed, step, image) for seed in (0, 1) for step in range(1, 20) for image in (0, 16, 32, 48)]
    of_noise = [step_seed(seed, step) for seed in (0, 1) for step in range(1, 20)]
    assert len({first_numbers(seed) for seed in seeds + of_noise}) == len(seeds) + len(of_noise)
