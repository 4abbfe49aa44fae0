"""Schedules against the papers' formulas in plain floats, and against diffusers."""

import dataclasses

import pytest
import torch
from diffusers import DDPMScheduler
from helpers import alpha_bars_of, betas_of
from hypothesis import given
from hypothesis import strategies as st

import diffusion_lib as dl

NAMES = ("linear", "cosine", "sigmoid")


@pytest.mark.parametrize("T", [2, 10, 50, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_tables_follow_the_papers_formulas(name, T):
    schedule = dl.make_schedule(name, T)
    assert (schedule.T, schedule.name) == (T, name)
    torch.testing.assert_close(schedule.beta[1:], torch.tensor(betas_of(name, T), dtype=torch.float64), rtol=1e-10, atol=1e-12)
    # the relative tolerance matters: the last alpha_bar is as small as 1e-9. Its alpha of 0.001 is 1 - 0.999, good to 1e-13
    torch.testing.assert_close(schedule.alpha_bar, torch.tensor(alpha_bars_of(name, T), dtype=torch.float64), rtol=1e-10, atol=0)


@pytest.mark.parametrize("T", [50, 250, 1000])
@pytest.mark.parametrize(("name", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_tables_match_diffusers(name, theirs, T):
    # diffusers does not scale the betas with T; capping is not reached at these T
    oracle = DDPMScheduler(T, beta_start=0.1 / T, beta_end=20 / T, beta_schedule=theirs)
    schedule = dl.make_schedule(name, T)
    # their tables are float32: 1 - 0.999 keeps four digits, and a product of 1000 factors loses some
    torch.testing.assert_close(schedule.beta[1:].float(), oracle.betas, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(schedule.alpha_bar[1:].float(), oracle.alphas_cumprod, rtol=2e-4, atol=1e-7)


@given(name=st.sampled_from(NAMES), T=st.integers(2, 400))
def test_tables_are_consistent_with_each_other(name, T):
    schedule = dl.make_schedule(name, T)
    alpha_bar = schedule.alpha_bar
    assert all(getattr(schedule, n).dtype == torch.float64 for n in ("alpha_bar", "alpha", "beta", "signal", "noise", "snr", "log_snr"))
    assert alpha_bar.shape == (T + 1,)
    assert alpha_bar[0] == 1
    assert alpha_bar[-1] > 0
    assert (alpha_bar[1:] < alpha_bar[:-1]).all()
    assert ((schedule.beta[1:] > 0) & (schedule.beta[1:] < 1)).all()
    assert (schedule.alpha[0], schedule.beta[0], schedule.noise[0], schedule.snr[0]) == (1, 0, 0, torch.inf)
    close = dict(rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(schedule.alpha.cumprod(0), alpha_bar, **close)
    torch.testing.assert_close(schedule.alpha + schedule.beta, torch.ones(T + 1, dtype=torch.float64), **close)
    # noise is a standard deviation: its square is the variance
    torch.testing.assert_close(schedule.noise**2, 1 - alpha_bar, **close)
    torch.testing.assert_close(schedule.signal**2, alpha_bar, **close)
    torch.testing.assert_close(schedule.snr[1:], alpha_bar[1:] / schedule.noise[1:] ** 2, **close)
    torch.testing.assert_close(schedule.log_snr[1:].exp(), schedule.snr[1:], **close)


@given(T=st.integers(2, 2000))
def test_linear_schedule_ends_in_noise_for_every_T(T):
    # unscaled betas would leave sqrt(alpha_bar[T]) = 0.36 at T = 200 and 0.78 at T = 50
    assert dl.linear_schedule(T).alpha_bar[-1].sqrt() < 0.04


def test_linear_schedule_of_1000_steps_matches_the_paper():
    schedule = dl.linear_schedule()
    assert schedule.T == 1000
    torch.testing.assert_close(schedule.beta[[1, 1000]], torch.tensor([1e-4, 0.02], dtype=torch.float64), rtol=1e-10, atol=0)
    assert schedule.alpha_bar[-1].item() == pytest.approx(4.0358e-5, rel=1e-3)


@pytest.mark.parametrize("make", [dl.linear_schedule, dl.cosine_schedule, dl.sigmoid_schedule])
def test_schedules_have_1000_steps_by_default(make):
    assert make().T == dl.make_schedule(make().name).T == 1000


def test_tables_are_float64_for_any_input_dtype():
    alpha_bar = dl.Schedule.from_alpha_bar(torch.tensor([1.0, 0.5, 0.1], dtype=torch.float32), "mine").alpha_bar
    torch.testing.assert_close(alpha_bar, torch.tensor([1.0, 0.5, 0.1], dtype=torch.float32).double(), rtol=1e-15, atol=0)
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float32)
    from_float32, from_float64 = dl.Schedule.from_beta(beta), dl.Schedule.from_beta(beta.double())
    torch.testing.assert_close(from_float32.alpha_bar, from_float64.alpha_bar, rtol=0, atol=0)
    assert from_float32.name == "custom"


def test_betas_may_be_constant():
    torch.testing.assert_close(dl.linear_schedule(1000, 0.01, 0.01).beta[1:], torch.full((1000,), 0.01, dtype=torch.float64))


def test_cosine_offset_may_be_0():
    # alpha_bar[t] = cos^2(pi / 2 t / T), before the last beta is capped
    assert dl.cosine_schedule(100, s=0.0).alpha_bar[50].item() == pytest.approx(0.5)


def test_every_schedule_parameter_has_an_effect():
    assert dl.linear_schedule(100, beta_end=0.03).beta[-1].item() == pytest.approx(0.3)
    assert dl.cosine_schedule(100, s=0.1).alpha_bar[1] < dl.cosine_schedule(100).alpha_bar[1]
    # with start = -end the middle of the sigmoid is in the middle of the chain, whatever the temperature
    assert dl.sigmoid_schedule(100, tau=0.3).alpha_bar[50].item() == pytest.approx(0.5)
    assert dl.sigmoid_schedule(100, tau=0.3).alpha_bar[25] > dl.sigmoid_schedule(100).alpha_bar[25]


def test_repr_names_the_schedule():
    assert repr(dl.Schedule.from_alpha_bar(torch.tensor([1.0, 0.5, 0.125]), "mine")) == "Schedule('mine', T=2, alpha_bar[T]=0.125)"


def test_schedules_are_immutable():
    alpha_bar = torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    schedule = dl.Schedule.from_alpha_bar(alpha_bar)
    alpha_bar[1] = 0.9
    assert schedule.alpha_bar[1].item() == pytest.approx(0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.signal = alpha_bar


@pytest.mark.parametrize(
    ("alpha_bar", "message"),
    [
        ([0.9, 0.5], r"alpha_bar\[0\] is 0.9; expected exactly 1"),
        ([1.0, 0.5, 0.5], r"alpha_bar\[2\] = 0.5 after alpha_bar\[1\] = 0.5; expected a strictly decreasing"),
        ([1.0, 0.5, float("nan")], r"alpha_bar\[2\] = nan.*strictly decreasing"),
        ([1.0, 0.5, -0.1], r"alpha_bar\[T\] is -0.1; expected 0 or more.*cap"),
        ([1.0], r"shape \(1,\); expected \(T \+ 1,\)"),
        ([[1.0, 0.5]], r"shape \(1, 2\); expected \(T \+ 1,\)"),
    ],
)
def test_rejects_invalid_alpha_bar_table(alpha_bar, message):
    with pytest.raises(ValueError, match=message):
        dl.Schedule.from_alpha_bar(torch.tensor(alpha_bar))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dl.Schedule.from_beta(torch.tensor([0.1, 1.0])), r"betas range from 0.1 to 1; expected each above 0 and below 1"),
        (lambda: dl.Schedule.from_beta(torch.tensor([0.0, 0.5])), r"betas range from 0 to 0.5"),
        (lambda: dl.linear_schedule(beta_start=0.0), r"beta_start=0.0.*expected 0 < beta_start <= beta_end < 1"),
        (lambda: dl.linear_schedule(beta_start=0.03), r"beta_start=0.03, beta_end=0.02"),
        (lambda: dl.linear_schedule(beta_end=1.0), r"beta_end=1.0"),
        (lambda: dl.cosine_schedule(s=-0.1), r"s=-0.1; expected a number of 0 or more"),
        (lambda: dl.cosine_schedule(s=float("nan")), r"s=nan"),
        (lambda: dl.cosine_schedule(s=float("inf")), r"s=inf"),
        (lambda: dl.sigmoid_schedule(start=3.0), r"start=3.0, end=3.0.*expected start < end"),
        (lambda: dl.sigmoid_schedule(tau=0.0), r"tau=0.0"),
        (lambda: dl.cosine_schedule(1), r"T=1; expected an integer, 2..1000000"),
        (lambda: dl.linear_schedule(10.0), r"T=10.0; expected an integer"),
        (
            lambda: dl.make_schedule("cosin"),
            r"unknown schedule 'cosin'; expected one of 'linear', 'cosine', 'sigmoid', 'straight'. Did you mean 'cosine'",
        ),
    ],
)
def test_rejects_bad_parameters_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------------------------------------------- paths of any other form


@pytest.mark.parametrize("T", [2, 10, 1000])
def test_straight_schedule_interpolates_linearly_from_image_to_noise(T):
    schedule = dl.straight_schedule(T)
    assert (schedule.T, schedule.name) == (T, "straight")
    u = torch.tensor([t / T for t in range(T + 1)], dtype=torch.float64)
    torch.testing.assert_close(schedule.signal, 1 - u, rtol=0, atol=1e-15)
    torch.testing.assert_close(schedule.noise, u, rtol=0, atol=1e-15)
    # the ends exactly: clean data, and no image at all
    assert (schedule.signal[0], schedule.noise[0], schedule.signal[T], schedule.noise[T]) == (1, 0, 0, 1)
    assert (schedule.snr[0], schedule.snr[T], schedule.log_snr[T], schedule.alpha_bar[T], schedule.beta[T]) == (
        torch.inf,
        0,
        -torch.inf,
        0,
        1,
    )
    torch.testing.assert_close(schedule.snr[1:T], ((1 - u) / u)[1:T] ** 2)


def test_straight_schedule_ends_in_pure_noise():
    schedule, x0 = dl.straight_schedule(10), torch.full((2, 1, 3, 3), 0.7)
    eps = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dl.q_sample(schedule, x0, 10, eps), eps)
    torch.testing.assert_close(dl.q_sample(schedule, x0, 3, eps), 0.7 * x0 + 0.3 * eps)


def test_alpha_bar_of_any_path_matches_its_signal_to_noise_ratio():
    schedule = dl.straight_schedule(50)
    preserving = dl.Schedule.from_alpha_bar(schedule.alpha_bar)
    torch.testing.assert_close(preserving.snr, schedule.snr, rtol=1e-10, atol=0)
    torch.testing.assert_close(preserving.signal**2 + preserving.noise**2, torch.ones(51, dtype=torch.float64))
    # and a path of variance that explodes is one, too: its beta is what the step adds of the whole
    exploding = dl.Schedule(torch.ones(4), torch.tensor([0.0, 0.1, 1.0, 10.0]))
    torch.testing.assert_close(exploding.alpha_bar[1:], torch.tensor([1 / 1.01, 1 / 2, 1 / 101], dtype=torch.float64), rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("signal", "noise", "message"),
    [
        ([1.0, 0.5], [0.0, 0.5, 1.0], r"^signal has 2 entries and noise 3; expected T \+ 1 of each$"),
        ([0.9, 0.5], [0.0, 0.5], r"^at t = 0 signal is 0\.9 and noise 0; expected 1 and 0: clean data$"),
        ([1.0, 0.5], [0.1, 0.5], r"^at t = 0 signal is 1 and noise 0\.1; expected 1 and 0"),
        (
            [1.0, 0.5, 0.5],
            [0.0, 0.5, 0.5],
            r"^at t = 2 signal is 0\.5 and noise 0\.5, after 0\.5 and 0\.5; .* a rising ratio noise / signal",
        ),
        ([1.0, 0.5, 0.25], [0.0, 0.5, 0.2], r"^at t = 2 signal is 0\.25 and noise 0\.2"),
        ([1.0, 0.5, -0.1], [0.0, 0.5, 1.0], r"^at t = 2 signal is -0\.1 and noise 1.*expected signal >= 0"),
        ([1.0, 0.5], [0.0, 0.0], r"^at t = 1 signal is 0\.5 and noise 0, .*noise > 0"),
        ([1.0, 0.0, 0.0], [0.0, 1.0, 2.0], r"^at t = 2 signal is 0 and noise 2"),
        ([1.0, float("nan")], [0.0, 0.5], r"^at t = 1 signal is nan and noise 0\.5"),
        ([1.0, 0.5], [0.0, float("nan")], r"^at t = 1 signal is 0\.5 and noise nan"),
        ([1.0, 0.5], [0.0, float("inf")], r"^at t = 1 signal is 0\.5 and noise inf"),
        ([1.0], [0.0], r"^signal has shape \(1,\); expected \(T \+ 1,\) with T >= 1"),
        ([1.0, 0.5], [[0.0, 0.5]], r"^noise has shape \(1, 2\)"),
    ],
)
def test_rejects_invalid_signal_and_noise_tables(signal, noise, message):
    with pytest.raises(ValueError, match=message):
        dl.Schedule(torch.tensor(signal), torch.tensor(noise))


def test_schedule_may_end_in_pure_noise():
    schedule = dl.Schedule.from_alpha_bar([1, 0.5, 0])
    assert (schedule.signal[2], schedule.noise[2], schedule.snr[2]) == (0, 1, 0)
