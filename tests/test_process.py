"""The forward process, its posterior and the conversions: closed forms in float64, properties, and diffusers."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from helpers import alpha_bars_of, noise
from hypothesis import given
from hypothesis import strategies as st

import diffusion_lib as dl
from diffusion_lib.process import TARGETS, posterior, randn_like, solve, target_of

EXACT = dict(rtol=1e-10, atol=1e-10)
SHAPE = (5, 1, 3, 4)
X0, EPS = noise(*SHAPE, seed=1).clamp(-1, 1), noise(*SHAPE, seed=2)

schedules = st.builds(dl.make_schedule, st.sampled_from(["linear", "cosine", "sigmoid"]), st.integers(2, 200))
# and such as do not preserve variance: a straight path, one whose noise grows without end, and one that keeps half the image
paths = schedules | st.one_of(
    st.builds(dl.straight_schedule, st.integers(2, 200)),
    st.builds(lambda T: dl.Schedule(torch.ones(T + 1), torch.arange(T + 1) / 7, "exploding"), st.integers(2, 200)),
    st.builds(lambda T: dl.Schedule(1 - torch.arange(T + 1) / (2 * T), torch.arange(T + 1) / T, "half"), st.integers(2, 200)),
)


def oracle_of(schedule):
    """diffusers' scheduler on our table in float64: theirs is float32. Their timestep 0 is our 1."""
    oracle = DDPMScheduler(schedule.T)
    oracle.alphas_cumprod = schedule.alpha_bar[1:]
    return oracle


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_q_sample_matches_equation_4_and_diffusers_add_noise(name):
    schedule = dl.make_schedule(name, 50)
    alpha_bar = alpha_bars_of(name, 50)
    t = torch.tensor([1, 2, 25, 49, 50])
    xt = dl.q_sample(schedule, X0, t, EPS)
    for i, ti in enumerate(t.tolist()):
        torch.testing.assert_close(xt[i], math.sqrt(alpha_bar[ti]) * X0[i] + math.sqrt(1 - alpha_bar[ti]) * EPS[i], **EXACT)
        torch.testing.assert_close(dl.q_sample(schedule, X0, ti, EPS)[i], xt[i], rtol=0, atol=0)
    torch.testing.assert_close(xt, oracle_of(schedule).add_noise(X0, EPS, t - 1), **EXACT)
    # and with their own tables, as far as float32 goes
    theirs = DDPMScheduler(50, beta_start=0.002, beta_end=0.4, beta_schedule={"linear": "linear", "cosine": "squaredcos_cap_v2"}[name])
    torch.testing.assert_close(xt.float(), theirs.add_noise(X0.float(), EPS.float(), t - 1), rtol=1e-4, atol=1e-4)


def test_q_sample_at_0_returns_the_image():
    assert torch.equal(dl.q_sample(dl.cosine_schedule(10), X0, 0, EPS), X0)


def test_q_sample_draws_noise_of_the_right_standard_deviation():
    schedule = dl.linear_schedule(50)
    x0 = torch.full((64, 1, 16, 16), 0.5)
    xt = dl.q_sample(schedule, x0, 10, generator=torch.Generator().manual_seed(0))
    # 16384 draws: the mean is good to sigma / 128, the standard deviation to 0.6 %
    assert xt.mean().item() == pytest.approx(0.5 * schedule.alpha_bar[10].sqrt().item(), abs=0.02)
    assert xt.std().item() == pytest.approx(schedule.noise[10].item(), rel=0.03)
    assert torch.equal(xt, dl.q_sample(schedule, x0, 10, generator=torch.Generator().manual_seed(0)))
    assert not torch.equal(xt, dl.q_sample(schedule, x0, 10, generator=torch.Generator().manual_seed(1)))


@given(schedule=paths, data=st.data())
def test_posterior_matches_bayes_rule(schedule, data):
    t = data.draw(st.integers(2, schedule.T))
    s = data.draw(st.integers(1, t - 1))
    (signal_s, signal_t), (noise_s, noise_t) = (table[[s, t]].tolist() for table in (schedule.signal, schedule.noise))
    xt = noise(*SHAPE, seed=3)
    # prior q(xs | x0) = N(signal_s x0, noise_s^2), likelihood q(xt | xs) = N(ratio xs, added): precisions add up
    ratio = signal_t / signal_s
    added = noise_t**2 - ratio**2 * noise_s**2
    precision = 1 / noise_s**2 + ratio**2 / added
    mean = (signal_s * X0 / noise_s**2 + ratio * xt / added) / precision
    ours = dl.q_posterior(schedule, X0, xt, t, s)
    torch.testing.assert_close(ours.mean, mean, **EXACT)
    torch.testing.assert_close(ours.variance, torch.full((1, 1, 1, 1), 1 / precision, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(posterior(schedule, X0, xt, t, s), ours, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_posterior_of_one_step_matches_equation_7_and_diffusers(name):
    schedule = dl.make_schedule(name, 50)
    ab, beta = schedule.alpha_bar, schedule.beta
    oracle = oracle_of(schedule)
    xt = noise(*SHAPE, seed=3)
    for t in (1, 2, 25, 50):
        ours = dl.q_posterior(schedule, X0, xt, t)
        from_x0 = ab[t - 1].sqrt() * beta[t] / (1 - ab[t])
        from_xt = (1 - beta[t]).sqrt() * (1 - ab[t - 1]) / (1 - ab[t])
        torch.testing.assert_close(ours.mean, from_x0 * X0 + from_xt * xt, **EXACT)
        # beta_tilde, not beta
        torch.testing.assert_close(ours.variance.squeeze(), (1 - ab[t - 1]) / (1 - ab[t]) * beta[t], **EXACT)
        torch.testing.assert_close(ours.variance.squeeze(), oracle._get_variance(t - 1), **EXACT)
        # what they step to from the true noise, without the noise they add
        eps = dl.eps_from_x0(schedule, xt, t, X0)
        oracle.config.clip_sample = False
        mean = oracle.step(eps, t - 1, xt, generator=torch.Generator().manual_seed(0)).prev_sample
        z = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64) if t > 1 else 0
        torch.testing.assert_close(ours.mean + ours.variance.sqrt() * z, mean, **EXACT)


def test_posterior_at_0_has_zero_variance():
    schedule = dl.cosine_schedule(20)
    for t in (1, 7, 20):
        mean, variance = dl.q_posterior(schedule, X0, EPS, t, 0)
        torch.testing.assert_close(mean, X0, rtol=0, atol=1e-14)
        assert variance.item() == 0


def test_posterior_accepts_t_and_s_per_image():
    schedule = dl.cosine_schedule(20)
    t, s = torch.tensor([1, 5, 20, 9, 2]), torch.tensor([0, 2, 19, 1, 1])
    mean, variance = dl.q_posterior(schedule, X0, EPS, t, s)
    for i in range(5):
        one = dl.q_posterior(schedule, X0[i : i + 1], EPS[i : i + 1], t[i].item(), s[i].item())
        torch.testing.assert_close(mean[i], one.mean[0], **EXACT)
        torch.testing.assert_close(variance[i], one.variance[0], **EXACT)
    torch.testing.assert_close(
        dl.q_posterior(schedule, X0, EPS, t), dl.Gaussian(*dl.q_posterior(schedule, X0, EPS, t, t - 1)), rtol=0, atol=0
    )


def test_posterior_in_float32_avoids_cancellation():
    schedule = dl.linear_schedule(1000)
    for t in (1, 2, 500):
        exact, ours = dl.q_posterior(schedule, X0, EPS, t), dl.q_posterior(schedule, X0.float(), EPS.float(), t)
        torch.testing.assert_close(ours.mean, exact.mean.float(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ours.variance, exact.variance.float(), rtol=1e-6, atol=0)


@given(schedule=schedules, data=st.data(), seed=st.integers(0, 1000))
def test_conversions_are_inverses_of_each_other(schedule, data, seed):
    t = torch.tensor(data.draw(st.lists(st.integers(1, schedule.T), min_size=3, max_size=3)))
    x0, eps = noise(3, 1, 2, 2, seed=seed).clamp(-1, 1), noise(3, 1, 2, 2, seed=seed + 1)
    xt = dl.q_sample(schedule, x0, t, eps)
    v = dl.v_from(schedule, x0, eps, t)
    # x0 from eps divides by sqrt(alpha_bar), which is as small as 3e-5; eps from x0 divides by sigma
    torch.testing.assert_close(dl.x0_from_eps(schedule, xt, t, eps), x0, rtol=0, atol=1e-9)
    torch.testing.assert_close(dl.eps_from_x0(schedule, xt, t, x0), eps, rtol=0, atol=1e-10)
    torch.testing.assert_close(dl.x0_from_v(schedule, xt, t, v), x0, rtol=0, atol=1e-12)
    torch.testing.assert_close(dl.eps_from_v(schedule, xt, t, v), eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("prediction", TARGETS)
@given(schedule=paths, data=st.data(), seed=st.integers(0, 1000))
def test_every_target_determines_the_image_and_the_noise(prediction, schedule, data, seed):
    last = schedule.T - int(prediction == "eps" and schedule.signal[-1] == 0)  # where nothing is left, eps identifies no image
    t = torch.tensor(data.draw(st.lists(st.integers(1, last), min_size=3, max_size=3)))
    x0, eps = noise(3, 1, 2, 2, seed=seed).clamp(-1, 1), noise(3, 1, 2, 2, seed=seed + 1)
    target = target_of(schedule, prediction, x0, eps, t)
    ours = solve(schedule, prediction, dl.q_sample(schedule, x0, t, eps), target, t)
    torch.testing.assert_close(ours, (x0, eps), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "T"),
    [("linear", 1000), ("cosine", 1000), ("sigmoid", 1000), ("straight", 1000), ("cosine", 4000)],  # the last: 1 / signal is 80,000
)
@pytest.mark.parametrize("prediction", TARGETS)
def test_inverting_targets_in_half_precision_at_the_last_timestep_is_finite(prediction, name, T, dtype):
    schedule = dl.make_schedule(name, T)
    if prediction == "eps" and schedule.signal[-1] == 0:
        return  # which a Denoiser rejects
    for t in (T, torch.tensor([1, T // 2, T - 2, T - 1, T])):
        xt = dl.q_sample(schedule, X0.to(dtype), t, EPS.to(dtype))
        x0, eps = solve(schedule, prediction, xt, target_of(schedule, prediction, X0.to(dtype), EPS.to(dtype), t), t)
        assert x0.dtype == eps.dtype == dtype
        assert x0.isfinite().all()
        assert eps.isfinite().all()
        if prediction != "eps":  # of which the image is 20,000 times the error
            torch.testing.assert_close(x0.double()[-1], X0[-1], rtol=0, atol=0.05)


def test_flow_is_the_velocity_of_the_straight_path():
    schedule = dl.straight_schedule(50)
    for t in (1, 25, 50):
        flow = target_of(schedule, "flow", X0, EPS, t)
        torch.testing.assert_close(flow, EPS - X0, **EXACT)
        # d xt / du: the path from one timestep to the one before it
        moved = dl.q_sample(schedule, X0, t, EPS) - dl.q_sample(schedule, X0, t - 1, EPS)
        torch.testing.assert_close(50 * moved, flow, **EXACT)
        xt, u = dl.q_sample(schedule, X0, t, EPS), t / 50
        torch.testing.assert_close(solve(schedule, "flow", xt, flow, t), (xt - u * flow, xt + (1 - u) * flow), **EXACT)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_inverting_targets_matches_the_papers_formulas(name):
    """Also where image and answer do not belong together, as from a network that errs."""
    schedule, alpha_bar = dl.make_schedule(name, 50), alpha_bars_of(name, 50)
    xt, answer = noise(*SHAPE, seed=5), noise(*SHAPE, seed=6)
    for t in (1, 25, 50):
        signal, sigma = math.sqrt(alpha_bar[t]), math.sqrt(1 - alpha_bar[t])
        expected = dict(
            eps=((xt - sigma * answer) / signal, answer),  # Ho et al. 2020, equation 15
            x0=(answer, (xt - signal * answer) / sigma),
            v=(signal * xt - sigma * answer, sigma * xt + signal * answer),  # Salimans & Ho 2022, appendix D
        )
        for prediction, pair in expected.items():
            torch.testing.assert_close(solve(schedule, prediction, xt, answer, t), pair, rtol=1e-9, atol=1e-9)
        assert torch.equal(solve(schedule, "x0", xt, answer, t)[0], answer)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_v_matches_salimans_and_ho_and_diffusers(name):
    schedule = dl.make_schedule(name, 50)
    alpha_bar = alpha_bars_of(name, 50)
    t = torch.tensor([1, 2, 25, 49, 50])
    v = dl.v_from(schedule, X0, EPS, t)
    for i, ti in enumerate(t.tolist()):
        torch.testing.assert_close(v[i], math.sqrt(alpha_bar[ti]) * EPS[i] - math.sqrt(1 - alpha_bar[ti]) * X0[i], **EXACT)
    torch.testing.assert_close(v, oracle_of(schedule).get_velocity(X0, EPS, t - 1), **EXACT)


def test_x0_at_timestep_0_is_the_image():
    schedule = dl.cosine_schedule(10)
    assert torch.equal(dl.x0_from_eps(schedule, X0, 0, EPS), X0)
    assert torch.equal(dl.v_from(schedule, X0, EPS, 0), EPS)


def test_noise_of_an_image_does_not_depend_on_the_batch():
    generators = lambda: [torch.Generator().manual_seed(k) for k in range(5)]  # noqa: E731
    whole = randn_like(X0, generators())
    assert torch.equal(randn_like(X0[3:4], generators()[3:4]), whole[3:4])
    with pytest.raises(ValueError, match="generator has 2 entries for 5 images; expected one per image"):
        randn_like(X0, generators()[:2])


def test_results_keep_dtype():
    schedule = dl.cosine_schedule(10)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x0, eps, t = X0.to(dtype), EPS.to(dtype), torch.tensor([1, 2, 3, 4, 10])
        assert {
            f.dtype for f in (dl.q_sample(schedule, x0, t), *dl.q_posterior(schedule, x0, eps, t), dl.v_from(schedule, x0, eps, t))
        } == {dtype}


def test_coefficients_are_rounded_once_to_the_dtype_of_the_images():
    # the cosine schedule ends at alpha_bar = 2.4e-9, which float16 cannot tell from 0; its root it can
    schedule, t = dl.cosine_schedule(1000), 1000
    xt, eps = X0.half(), EPS.half()
    coefficient = schedule.alpha_bar[t].sqrt().half()
    assert torch.equal(dl.x0_from_eps(schedule, xt, t, eps), (xt - eps) / coefficient)  # sigma rounds to 1
    assert coefficient > 0
    torch.testing.assert_close(dl.q_sample(schedule, 1000 * xt, t, eps), coefficient * 1000 * xt + eps, rtol=0, atol=1e-2)
    assert dl.x0_from_eps(schedule, xt, t, eps).isfinite().all()


FUNCTIONS = {
    "q_sample": dl.q_sample,
    "q_posterior": lambda schedule, a, t, b: dl.q_posterior(schedule, a, b, t),
    "eps_from_x0": dl.eps_from_x0,
    "x0_from_eps": dl.x0_from_eps,
    "v_from": lambda schedule, a, t, b: dl.v_from(schedule, a, b, t),
    "x0_from_v": dl.x0_from_v,
    "eps_from_v": dl.eps_from_v,
}
LOWEST = dict.fromkeys(FUNCTIONS, 0) | {"q_posterior": 1, "eps_from_x0": 1}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_rejects_bad_arguments(name):
    call, schedule, low = FUNCTIONS[name], dl.cosine_schedule(10), LOWEST[name]
    for outside, t in [(n, t) for n in (low - 1, 11) for t in (n, torch.tensor([1, 1, n, 1, 1]))]:
        with pytest.raises(ValueError, match=rf"^t={outside} is out of range; expected {low}\.\.10 for this schedule of T=10$"):
            call(schedule, X0, t, EPS)
    with pytest.raises(ValueError, match=r"t has shape \(3,\); expected \(5,\): one timestep per image"):
        call(schedule, X0, torch.tensor([1, 2, 3]), EPS)
    with pytest.raises(ValueError, match=r"t has dtype torch.float32; expected torch.long.*t.long\(\)"):
        call(schedule, X0, torch.ones(5), EPS)
    for t in (2.5, "3", True):
        with pytest.raises(ValueError, match=r"t is of type (float|str|bool); expected an int or a LongTensor of shape \(5,\)"):
            call(schedule, X0, t, EPS)
    with pytest.raises(ValueError, match=r"has shape \(4, 1, 3, 4\).*expected the same shape"):
        call(schedule, X0, 1, EPS[:4])
    with pytest.raises(ValueError, match=r"has dtype torch.float32.*expected the same dtype"):
        call(schedule, X0, 1, EPS.float())
    with pytest.raises(ValueError, match=r"has device meta.*expected the same device"):
        call(schedule, X0, 1, EPS.to("meta"))
    with pytest.raises(ValueError, match=r"has dtype torch.uint8; expected floats in \[-1, 1\]: use diffusion_lib.to_float"):
        call(schedule, X0.to(torch.uint8), 1, EPS.to(torch.uint8))
    with pytest.raises(ValueError, match=r"has shape \(1, 3, 4\); expected \(B, C, H, W\): add a batch dimension"):
        call(schedule, X0[0], 1, EPS[0])
    with pytest.raises(ValueError, match=r"^\w+ is of type list; expected a tensor of shape \(B, C, H, W\): see torch.as_tensor"):
        call(schedule, X0.tolist(), 1, EPS.tolist())


def test_posterior_rejects_s_not_below_t():
    with pytest.raises(ValueError, match=r"^s=5 with t=5; expected s < t"):
        dl.q_posterior(dl.cosine_schedule(10), X0, EPS, 5, 5)
    t, s = torch.tensor([5, 5, 5, 5, 5]), torch.tensor([4, 3, 6, 2, 1])
    with pytest.raises(ValueError, match=r"^s=\[4, 3, 6, 2, 1\] with t=\[5, 5, 5, 5, 5\]; expected s < t"):
        dl.q_posterior(dl.cosine_schedule(10), X0, EPS, t, s)


def test_rejects_eps_where_there_is_no_image_to_find():
    with pytest.raises(
        ValueError, match=r"^schedule 'straight' has signal 0 at t=10, where eps does not determine x0; expected a smaller t$"
    ):
        dl.x0_from_eps(dl.straight_schedule(10), X0, torch.tensor([1, 2, 3, 4, 10]), EPS)
    assert dl.x0_from_eps(dl.straight_schedule(10), X0, 9, EPS).isfinite().all()
