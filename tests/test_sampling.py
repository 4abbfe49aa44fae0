"""Samplers: whole chains against formulas in float64 and against diffusers, the statistics of their samples, and `sample`."""

import math
import weakref
from collections import Counter, deque
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from helpers import CONFIG, Curved, GaussianData, alpha_bars_of, noise, tiny_dataset, tiny_denoiser
from hypothesis import given
from hypothesis import strategies as st

import diffusion_lib as dl
from diffusion_lib import checks, process, sampling, unet
from diffusion_lib import denoiser as denoisers
from diffusion_lib.process import target_of
from diffusion_lib.sampling import SAMPLERS, ddim_transition, ddpm_transition, device_of

EXACT = dict(rtol=1e-10, atol=1e-10)
T = 100
STEPS = (1, 2, 10, 50, T)
IMAGES = noise(5, 1, 2, 2, seed=9).clamp(-1, 1)
XT = noise(3, 1, 2, 2, seed=10)
DENOISERS = {"ideal": lambda schedule: dl.IdealDenoiser(IMAGES, schedule), "curved": Curved}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(random):
    """Noise as the samplers draw it: float32, then the images' dtype."""
    return torch.randn(XT.shape, generator=random).double()


def last(chain):
    return deque(chain, maxlen=1).pop()


def assert_same_chain(ours, theirs, atol=1e-10):
    ours = list(ours)
    assert len(ours) == len(theirs)
    for step, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(step.xt, expected, rtol=1e-10, atol=atol)


# ------------------------------------------------------------------------------------------------------------ written out in full


def written_out(kind, name, denoise, steps, clip, eta=None):
    """DDPM ("small", "large") or DDIM with eta, as plain formulas on plain floats: the images after each step."""
    alpha_bar, random, x, chain = alpha_bars_of(name, T), generator(), XT, []
    for i in range(steps):
        t, s = T * (steps - i) // steps, T * (steps - i - 1) // steps
        at, as_ = alpha_bar[t], alpha_bar[s]
        x0, eps, _ = denoise(x, t)
        if clip:
            x0 = x0.clamp(-1, 1)
            eps = (x - math.sqrt(at) * x0) / math.sqrt(1 - at)
        beta = 1 - at / as_
        beta_tilde = (1 - as_) / (1 - at) * beta
        if kind == "ddim":
            # Song et al. 2021, equation 12: sqrt(1 - alpha_bar - sigma^2) goes along eps, sigma is the new noise
            sigma = eta * math.sqrt(beta_tilde)
            x = math.sqrt(as_) * x0 + math.sqrt(1 - as_ - sigma**2) * eps
        else:
            # Ho et al. 2020, equation 7, for a stride from t to s
            x = math.sqrt(as_) * beta / (1 - at) * x0 + math.sqrt(at / as_) * (1 - as_) / (1 - at) * x
            sigma = math.sqrt(beta_tilde if kind == "small" else beta)
        if s > 0 and sigma > 0:
            x = x + sigma * draw(random)
        chain.append(x)
    return chain


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("make", DENOISERS.values(), ids=DENOISERS)
def test_ddim_matches_its_formula(make, name, eta, steps, clip):
    denoiser = make(dl.make_schedule(name, T))
    ours = dl.ddim_steps(denoiser, XT, steps=steps, eta=eta, clip=clip, generator=generator())
    assert_same_chain(ours, written_out("ddim", name, denoiser, steps, clip, eta))


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("make", DENOISERS.values(), ids=DENOISERS)
def test_ddpm_matches_its_formula(make, name, variance, steps, clip):
    denoiser = make(dl.make_schedule(name, T))
    ours = dl.ddpm_steps(denoiser, XT, steps=steps, variance=variance, clip=clip, generator=generator())
    assert_same_chain(ours, written_out(variance, name, denoiser, steps, clip))


# --------------------------------------------------------------------------------------------------------------------- diffusers

THEIR_NAMES = dict(linear="linear", cosine="squaredcos_cap_v2")


def oracle(kind, schedule, exact, **options):
    """A diffusers scheduler for T steps, with its own float32 tables or, `exact`, with ours of float64. Its timestep is our t - 1."""
    name = THEIR_NAMES[schedule.name]
    scheduler = kind(
        T, beta_start=0.1 / T, beta_end=20 / T, beta_schedule=name, timestep_spacing="trailing", clip_sample_range=1.0, **options
    )
    if exact:
        scheduler.alphas_cumprod, scheduler.betas = schedule.alpha_bar[1:], schedule.beta[1:]
    return scheduler


def their_ddim(scheduler, denoiser, x, steps, eta, clip):
    """The images after each step of diffusers' DDIM."""
    random, chain = generator(), []
    scheduler.set_timesteps(steps)
    assert [t + 1 for t in scheduler.timesteps.tolist()] == dl.timestep_subset(T, steps)[:-1]
    for timestep in scheduler.timesteps.tolist():
        t = timestep + 1
        z = draw(random).to(x) if eta > 0 and t > T // steps else torch.zeros_like(x)
        # they recompute eps from the clipped x0 only when asked to
        x = scheduler.step(denoiser(x, t).eps, timestep, x, eta=eta, use_clipped_model_output=clip, variance_noise=z).prev_sample
        chain.append(x)
    return chain


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("make", DENOISERS.values(), ids=DENOISERS)
def test_ddim_matches_diffusers(make, name, eta, steps, clip):
    denoiser = make(dl.make_schedule(name, T))
    scheduler = oracle(DDIMScheduler, denoiser.schedule, True, set_alpha_to_one=True, clip_sample=clip)
    ours = dl.ddim_steps(denoiser, XT, steps=steps, eta=eta, clip=clip, generator=generator())
    assert_same_chain(ours, their_ddim(scheduler, denoiser, XT, steps, eta, clip))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_ddim_matches_diffusers_on_their_own_tables(name, eta, steps):
    denoiser = dl.IdealDenoiser(IMAGES, dl.make_schedule(name, T))
    scheduler = oracle(DDIMScheduler, denoiser.schedule, False, set_alpha_to_one=True, clip_sample=True)
    ours = dl.ddim_steps(denoiser, XT, steps=steps, eta=eta, generator=generator())
    assert_same_chain(ours, their_ddim(scheduler, denoiser, XT, steps, eta, True), atol=2e-3)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [*STEPS, 7])
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("make", DENOISERS.values(), ids=DENOISERS)
def test_ddpm_matches_diffusers(make, name, variance, steps, clip, monkeypatch):
    # their noise is float64 for float64 images, ours float32 and then converted: give them ours
    monkeypatch.setattr(
        "diffusers.schedulers.scheduling_ddpm.randn_tensor",
        lambda shape, generator, device, dtype: torch.randn(shape, generator=generator).to(dtype),
    )
    schedule = dl.make_schedule(name, T)
    denoiser, random, x, theirs = make(schedule), generator(), XT, []
    scheduler = oracle(DDPMScheduler, schedule, True, variance_type=f"fixed_{variance}", clip_sample=clip)
    scheduler.set_timesteps(timesteps=[t - 1 for t in dl.timestep_subset(T, steps)[:-1]])
    for timestep in scheduler.timesteps.tolist():
        x = scheduler.step(denoiser(x, timestep + 1).eps, timestep, x, generator=random).prev_sample
        theirs.append(x)
    ours = list(dl.ddpm_steps(denoiser, XT, steps=steps, variance=variance, clip=clip, generator=generator()))
    if steps < T:
        # on a stride they add noise in the last step too (for "small" of deviation 1e-10, their floor): we never do
        assert_same_chain(ours[:-1], theirs[:-1])
        if variance == "small":
            torch.testing.assert_close(ours[-1].xt, theirs[-1], rtol=0, atol=1e-8)
    else:
        assert_same_chain(ours, theirs)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_ddpm_matches_diffusers_on_their_own_tables(name, variance):
    schedule = dl.make_schedule(name, T)
    denoiser, ours_random, theirs_random, x = dl.IdealDenoiser(IMAGES.float(), schedule), generator(), generator(), XT.float()
    scheduler = oracle(DDPMScheduler, schedule, False, variance_type=f"fixed_{variance}")
    chain = dl.ddpm_steps(denoiser, x, variance=variance, generator=ours_random)
    for timestep, ours in zip(scheduler.timesteps.tolist(), chain, strict=True):
        x = scheduler.step(denoiser(x, timestep + 1).eps, timestep, x, generator=theirs_random).prev_sample
        torch.testing.assert_close(ours.xt, x, rtol=0, atol=5e-3)


# ------------------------------------------------------------------------------------------------------------------------ theory


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
def test_ddim_at_eta_1_matches_the_posterior(name):
    schedule = dl.make_schedule(name, T)
    x0 = noise(3, 1, 2, 2, seed=11).clamp(-1, 1)
    for t in range(1, T + 1):
        eps = dl.eps_from_x0(schedule, XT, t, x0)
        posterior, ddim = dl.q_posterior(schedule, x0, XT, t), ddim_transition(schedule, dl.Prediction(x0, eps), t, t - 1, eta=1.0)
        torch.testing.assert_close(ddim, posterior, rtol=1e-12, atol=1e-12)
    chains = (
        dl.ddim_steps(Curved(schedule), XT, steps=T, eta=1.0, generator=generator()),
        dl.ddpm_steps(Curved(schedule), XT, generator=generator()),
    )
    for a, b in zip(*chains, strict=True):
        torch.testing.assert_close(a.xt, b.xt, **EXACT)


def test_ddpm_variances_are_beta_tilde_and_beta():
    schedule = dl.linear_schedule(T)
    for t in range(2, T + 1):
        small, large = (ddpm_transition(schedule, XT, dl.Prediction(XT, XT), t, t - 1, v) for v in ("small", "large"))
        torch.testing.assert_close(large.variance.squeeze(), schedule.beta[t], rtol=1e-10, atol=0)
        ratio = (1 - schedule.alpha_bar[t - 1]) / (1 - schedule.alpha_bar[t])
        torch.testing.assert_close(small.variance.squeeze(), ratio * schedule.beta[t], rtol=1e-10, atol=0)
        assert torch.equal(small.mean, large.mean)


def chains_of(denoiser, xT, steps, seed=0, **options):
    """Every sampler there is, by name."""
    return {
        "ddim": dl.ddim_steps(denoiser, xT, steps=steps, generator=generator(seed), **options),
        "ddim eta=1": dl.ddim_steps(denoiser, xT, steps=steps, eta=1.0, generator=generator(seed), **options),
        "ddpm small": dl.ddpm_steps(denoiser, xT, steps=steps, generator=generator(seed), **options),
        "ddpm large": dl.ddpm_steps(denoiser, xT, steps=steps, variance="large", generator=generator(seed), **options),
    }


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [1, 3, T])
def test_chains_with_a_single_image_end_exactly_at_it(steps, clip):
    # a last step to alpha_bar[1] instead of 1, or noise added in it, would leave about 1 % of noise
    for name in ("linear", "cosine"):
        denoiser = dl.IdealDenoiser(IMAGES[:1], dl.make_schedule(name, T))
        for chain in chains_of(denoiser, XT, steps, clip=clip).values():
            end = last(chain)
            assert end.t == 0
            torch.testing.assert_close(end.xt, IMAGES[:1].expand(3, -1, -1, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 7, T])
def test_last_step_returns_x0_hat(steps):
    for chain in chains_of(Curved(dl.cosine_schedule(T)), XT, steps).values():
        end = last(chain)
        torch.testing.assert_close(end.xt, end.x0_hat, rtol=0, atol=1e-12)


def test_chains_with_the_ideal_denoiser_end_at_dataset_images():
    denoiser = dl.IdealDenoiser(IMAGES, dl.cosine_schedule(T))
    xT = noise(40, 1, 2, 2, seed=12)
    for chain in chains_of(denoiser, xT, T).values():
        nearest = (last(chain).xt[:, None] - IMAGES).abs().amax(dim=(2, 3, 4))
        assert nearest.amin(dim=1).max() < 0.02
        assert len(nearest.argmin(dim=1).unique()) == 5  # all of them, not one


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_samples_have_the_variance_of_the_data(variance):
    # "large" is exact for data N(0, 1), "small" for a single point (Ho et al. 2020, section 3.2); in between both are good at many steps
    schedule, s = dl.linear_schedule(300), 0.4
    xT = noise(64, 1, 16, 16)
    end = last(dl.ddpm_steps(GaussianData(schedule, s), xT, variance=variance, clip=False, generator=generator(1)))
    # 16384 pixels: a standard deviation is good to 0.6 %; twice the noise, or none, is far outside
    assert end.xt.std().item() == pytest.approx(s, rel=0.04)
    assert abs(end.xt.mean().item()) < 0.02


def test_ddpm_with_large_variance_is_exact_for_normal_data():
    schedule = dl.cosine_schedule(T)
    steps = list(
        dl.ddpm_steps(GaussianData(schedule, 1.0), noise(64, 1, 16, 16), steps=10, variance="large", clip=False, generator=generator(1))
    )
    for step in steps[:-1]:
        assert step.xt.std().item() == pytest.approx(1.0, rel=0.03)


def test_ddim_converges_to_the_probability_flow_ode():
    # for N(0, s^2) data the deterministic flow is known: xt / sqrt(alpha_bar s^2 + 1 - alpha_bar) never changes
    schedule, s = dl.linear_schedule(1000), 0.4
    xT = noise(4, 1, 2, 2)
    start = math.sqrt(schedule.alpha_bar[-1].item() * (s**2 - 1) + 1)
    errors = []
    for steps in (10, 100, 1000):
        end = last(dl.ddim_steps(GaussianData(schedule, s), xT, steps=steps, clip=False)).xt
        errors.append((end / xT * start / s - 1).abs().max().item())
    assert errors[2] < 0.01
    assert errors[2] < errors[1] / 3 < errors[0] / 9


def test_ddim_at_eta_0_draws_no_noise():
    schedule = dl.cosine_schedule(T)
    random = generator()
    before = random.get_state()
    a = last(dl.ddim_steps(Curved(schedule), XT, steps=5, generator=random)).xt
    assert torch.equal(random.get_state(), before)
    assert torch.equal(a, last(dl.ddim_steps(Curved(schedule), XT, steps=5, generator=generator(1))).xt)
    b, c = (last(dl.ddim_steps(Curved(schedule), XT, steps=5, eta=0.5, generator=generator(i))).xt for i in (0, 1))
    assert not torch.equal(b, c)


def test_ddim_inverts_the_encoding():
    denoiser = GaussianData(dl.linear_schedule(T), 0.4)
    errors = []
    for iterations in (1, 3, 30):
        steps = list(dl.ddim_encode_steps(denoiser, IMAGES, steps=50, iterations=iterations))
        assert [step.t for step in steps] == list(range(2, T + 1, 2))
        back = last(dl.ddim_steps(denoiser, steps[-1].xt, steps=50, clip=False)).xt
        errors.append((back - IMAGES).abs().max())
    # one evaluation is inexact; at the fixed point it is exact
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-9
    with pytest.raises(ValueError, match="iterations=0; expected an integer, 1 or more"):
        dl.ddim_encode_steps(denoiser, IMAGES, iterations=0)


# ------------------------------------------------------------------------------------------------------------------ what is yielded


@given(T=st.integers(1, 1000), data=st.data())
def test_timestep_subset_is_evenly_spaced_and_descends_from_T_to_0(T, data):
    steps = data.draw(st.integers(1, T))
    subset = dl.timestep_subset(T, steps)
    assert len(subset) == steps + 1
    assert (subset[0], subset[-1]) == (T, 0)
    assert all(type(t) is int for t in subset)
    gaps = {a - b for a, b in pairwise(subset)}
    assert gaps <= {T // steps, -(-T // steps)}
    assert min(gaps) >= 1
    # nowhere further than one from the even spacing
    assert all(abs(t - T * (steps - i) / steps) < 1 for i, t in enumerate(subset))


def test_steps_contain_the_timestep_and_the_prediction():
    schedule = dl.cosine_schedule(T)
    for chain in chains_of(Curved(schedule), XT, 7).values():
        steps, x = list(chain), XT
        assert [step.t for step in steps] == dl.timestep_subset(T, 7)[1:]
        for t, step in zip(dl.timestep_subset(T, 7), steps, strict=False):
            assert step.x0_hat.abs().max() <= 1
            # clipped or not, the two make up the image they were predicted from
            torch.testing.assert_close(dl.q_sample(schedule, step.x0_hat, t, step.eps_hat), x, **EXACT)
            x = step.xt
    unclipped = next(dl.ddim_steps(Curved(schedule), XT, clip=False))
    assert torch.equal(unclipped.x0_hat, Curved(schedule)(XT, T).x0)
    assert unclipped.x0_hat.abs().max() > 1


def test_ddpm_visits_every_timestep_by_default():
    assert [step.t for step in dl.ddpm_steps(Curved(dl.cosine_schedule(20)), XT)] == list(range(19, -1, -1))


def test_samplers_do_not_modify_the_callers_noise():
    xT = XT.clone()
    for chain in chains_of(Curved(dl.cosine_schedule(20)), xT, 20).values():
        last(chain)
    assert torch.equal(xT, XT)


def test_samplers_preserve_the_callers_gradient_mode(denoiser):
    x = noise(2, 1, 8, 8, dtype=torch.float32)
    for make in (
        lambda: dl.ddim_steps(denoiser, x, steps=3),
        lambda: dl.ddpm_steps(denoiser, x, steps=3),
        lambda: dl.ddim_encode_steps(denoiser, x, steps=3),
    ):
        modes = []
        for step in make():
            modes.append(torch.is_grad_enabled())
            assert not step.xt.requires_grad
        with torch.no_grad():
            modes += [not torch.is_grad_enabled() for _ in make()]
        assert modes == [True] * 6
        assert torch.is_grad_enabled()
        chain = make()
        next(chain)
        chain.close()  # a reader who stops early
        assert torch.is_grad_enabled()


def test_class_is_passed_to_the_denoiser():
    dataset = tiny_dataset()
    ideal = dl.IdealDenoiser(dataset, dl.cosine_schedule(T))
    y = torch.tensor([0, 1, 2])
    for chain in chains_of(ideal, noise(3, 1, 8, 8, dtype=torch.float32), 10, y=y).values():
        end = last(chain).xt
        nearest = (end[:, None] - dataset.images).square().sum(dim=(2, 3, 4)).argmin(dim=1)
        assert torch.equal(dataset.labels[nearest], y)


BAD_CALLS = [
    (lambda d, x: dl.ddim_steps(d, x, steps=0), r"steps=0; expected an integer, 1\.\.20 for a schedule of T=20"),
    (dl.ddim_steps, r"steps=50; expected an integer, 1\.\.20"),
    (lambda d, x: dl.ddpm_steps(d, x, steps=21), r"steps=21; expected"),
    (lambda d, x: dl.ddpm_steps(d, x, steps=2.0), r"steps=2.0; expected an integer"),
    (lambda d, x: dl.ddim_encode_steps(d, x, steps=21), r"steps=21; expected"),
    (lambda d, x: dl.ddim_steps(d, x, steps=5, eta=1.1), r"eta=1.1; expected 0 \(deterministic\) to 1"),
    (lambda d, x: dl.ddim_steps(d, x, steps=5, eta=float("nan")), r"eta=nan"),
    (lambda d, x: dl.ddpm_steps(d, x, variance="learned"), r"unknown variance 'learned'; expected one of 'small', 'large'"),
    (lambda d, x: dl.ddpm_steps(d, x, variance="larg"), r"Did you mean 'large'"),
    (lambda d, x: dl.ddpm_steps(d, x[0]), r"xT has shape \(1, 8, 8\); expected \(B, C, H, W\)"),
    (lambda d, x: dl.ddim_steps(d, x.long(), steps=5), r"xT has dtype torch.int64; expected floats"),
    (lambda d, x: dl.ddim_encode_steps(d, x.long(), steps=5), r"x0 has dtype torch.int64; expected floats"),
    (lambda d, x: dl.sample(d, 0), r"n=0; expected an integer, 1 or more"),
    (lambda d, x: dl.sample(d, 2.0), r"n=2.0"),
    (lambda d, x: dl.sample(d, 2, batch_size=0), r"batch_size=0"),
    (lambda d, x: dl.sample(d, 2, sampler="dimm"), r"unknown sampler 'dimm'; expected one of 'ddim', 'ddpm'. Did you mean 'ddim'"),
    (lambda d, x: dl.sample(d, 2, steps=5, y=[0, 1, 2]), r"y has 3 entries for 2 images; expected one per image, or one class for all"),
    (lambda d, x: dl.sample(d, 2, steps=5, y=0.5), r"dtype torch.float32; expected integers"),
    (lambda d, x: dl.sample(d, 2, steps=5, y=3), r"y=3 is out of range; expected classes 0\.\.2"),
    (lambda d, x: dl.sample(d, 2, steps=5, shape=(1, 6, 6)), r"images are 6x6; expected multiples of 4"),
    (
        lambda d, x: dl.sample(dl.Denoiser(d.network, d.schedule), 2),
        r"^this denoiser does not know the shape of its images; .*=\(C, H, W\)$",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD_CALLS)
def test_bad_input_raises_immediately(denoiser, call, message):
    # not at the first next(), which may be far from the mistake
    with pytest.raises(ValueError, match=message):
        call(denoiser, noise(2, 1, 8, 8, dtype=torch.float32))


# ------------------------------------------------------------------------------------------------------------------------- sample


@pytest.mark.parametrize("options", [dict(), dict(eta=1.0), dict(sampler="ddpm")], ids=str)
def test_sample_k_depends_only_on_the_seed_and_k(denoiser, options):
    options |= dict(steps=5)
    five = dl.sample(denoiser, 5, **options)
    assert five.shape == (5, 1, 8, 8)
    torch.testing.assert_close(dl.sample(denoiser, 3, **options), five[:3], rtol=0, atol=1e-4)
    torch.testing.assert_close(dl.sample(denoiser, 5, batch_size=2, **options), five, rtol=0, atol=1e-4)
    # nor is it another sample of another seed
    assert torch.pdist(torch.cat([five, dl.sample(denoiser, 5, seed=1, **options)]).flatten(1)).min() > 0.01


def test_sample_preserves_the_global_random_state(denoiser):
    before = torch.get_rng_state()
    dl.sample(denoiser, 2, steps=3, eta=1.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_sample_returns_the_end_of_the_chain(denoiser):
    y = torch.tensor([2, 0])
    moved = dl.sample_generators(7, range(2))
    xT = torch.stack([torch.randn(1, 8, 8, generator=g) for g in moved])
    torch.testing.assert_close(
        dl.sample(denoiser, 2, steps=5, seed=7, y=y), last(dl.ddim_steps(denoiser, xT, steps=5, y=y)).xt, rtol=0, atol=0
    )
    # the noise of the steps comes after that of the start, from the same generators
    ddpm = last(dl.ddpm_steps(denoiser, xT, steps=5, y=y, generator=moved)).xt
    torch.testing.assert_close(dl.sample(denoiser, 2, sampler="ddpm", steps=5, seed=7, y=y), ddpm, rtol=0, atol=0)


def test_every_sampler_starts_from_the_same_noise():
    # so that samplers can be compared on the same noise: towards one step, all of them give x0_hat(xT)
    denoiser = Curved(dl.linear_schedule(20))
    torch.testing.assert_close(dl.sample(denoiser, 3, steps=1), dl.sample(denoiser, 3, steps=1, sampler="ddpm"), rtol=0, atol=1e-6)


def test_y_may_be_one_class_a_list_or_a_tensor(denoiser):
    one = dl.sample(denoiser, 3, steps=3, y=1)
    for y in ([1, 1, 1], torch.tensor([1, 1, 1]), torch.tensor(1), torch.tensor([1, 1, 1], dtype=torch.int32)):
        torch.testing.assert_close(dl.sample(denoiser, 3, steps=3, y=y), one, rtol=0, atol=0)
    two = dl.sample(denoiser, 3, steps=3, y=2)
    assert (two - one).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    # each image its own class, also where the batch is not the first
    mixed = dl.sample(denoiser, 3, steps=3, y=[1, 2, 2], batch_size=2)
    torch.testing.assert_close(mixed, torch.stack([one[0], two[1], two[2]]), rtol=0, atol=1e-4)
    assert (dl.sample(denoiser, 3, steps=3) - one).abs().max() > 1e-3


def test_guided_samples_show_the_class_more_strongly():
    # two pixels, each class one of them lit, the unconditional mean in between: guidance overshoots towards the class asked for
    images = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).view(2, 1, 1, 2)
    ideal = dl.IdealDenoiser(dl.ImageDataset(images, torch.tensor([0, 1]), ("left", "right")), dl.cosine_schedule(T))
    xt, y = torch.zeros(1, 1, 1, 2), torch.tensor([0])
    lit = [dl.Guided(ideal, scale)(xt, T // 2, y).x0[0, 0, 0, 0].item() for scale in (0.0, 0.5, 1.0, 2.0)]
    assert lit == pytest.approx([0.0, 0.5, 1.0, 2.0], abs=1e-5)
    samples = dl.sample(dl.Guided(ideal, 2.0), 8, steps=10, y=1)
    torch.testing.assert_close(samples, images[1:].expand(8, -1, -1, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sampler", [dl.ddpm_steps, dl.ddim_steps])
def test_rejects_wrong_number_of_labels_or_generators_immediately(sampler):
    denoiser = dl.IdealDenoiser(IMAGES, dl.linear_schedule(T))
    with pytest.raises(ValueError, match=r"y has 2 entries for 3 images; expected one per image"):
        sampler(denoiser, XT, y=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"generator has 2 entries for 3 images; expected one per image"):
        sampler(denoiser, XT, generator=dl.sample_generators(0, range(2)))


def test_samples_are_on_the_device_of_the_weights():
    on_meta = tiny_denoiser().to("meta")  # a device that every machine has
    assert device_of(on_meta) == device_of(dl.Guided(on_meta, 2.0)) == torch.device("meta")
    assert device_of(tiny_denoiser()) == device_of(Curved(dl.cosine_schedule(T))) == torch.device("cpu")


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (dl.ddim_steps, dict(eta=0.7)),
        (dl.ddim_steps, dict(clip=False)),
        (dl.ddpm_steps, dict(variance="large")),
        (dl.ddpm_steps, dict(variance="large", clip=False)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),  # the same in every process
)
def test_sample_forwards_the_samplers_options(denoiser, sampler, options):
    moved = dl.sample_generators(7, range(2))
    xT = torch.stack([torch.randn(1, 8, 8, generator=g) for g in moved])
    expected = last(sampler(denoiser, xT, steps=5, generator=moved, **options)).xt
    ours = dl.sample(denoiser, 2, sampler=sampler, steps=5, seed=7, **options)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    assert not torch.equal(ours, dl.sample(denoiser, 2, sampler=sampler, steps=5, seed=7))


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampler_can_be_a_name_or_a_function(denoiser, name):
    ours, theirs = (dl.sample(denoiser, 2, sampler=sampler, steps=5) for sampler in (name, SAMPLERS[name]))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("sampler", [*SAMPLERS, dl.ddim_steps])
def test_rejects_option_the_sampler_does_not_have(denoiser, sampler):
    with pytest.raises(TypeError, match="'etta'"):
        dl.sample(denoiser, 2, sampler=sampler, steps=5, etta=0.5)


@pytest.mark.parametrize("options", [dict(), dict(sampler="ddpm"), dict(y=[0, 1, 2])], ids=str)
def test_first_continues_the_sequence_of_samples(denoiser, options):
    five = dl.sample(denoiser, 5, steps=5, **options | (dict(y=[2, 2, 0, 1, 2]) if "y" in options else {}))
    later = dl.sample(denoiser, 3, steps=5, first=2, batch_size=2, **options)
    torch.testing.assert_close(later, five[2:], rtol=0, atol=1e-4)


def test_each_input_is_validated_once(denoiser, monkeypatch):
    """A step of a chain calls the network; what was looked at where the user came in is not looked at again."""
    calls = Counter()

    def counted(place, check):
        def count(*given, **named):
            calls[place] += 1
            return check(*given, **named)

        return count

    for module in (denoisers, process, sampling, unet):
        for name, check in list(vars(module).items()):
            if getattr(check, "__module__", None) == checks.__name__:
                monkeypatch.setattr(module, name, counted(f"{module.__name__.rpartition('.')[2]}.{name}", check))
    x, y = noise(2, 1, 8, 8, dtype=torch.float32), torch.tensor([0, 1])
    for sampler, options in ((dl.ddim_steps, dict(eta=0.5)), (dl.ddpm_steps, {})):
        chain = sampler(denoiser, x, steps=5, y=y, generator=generator(), **options)
        looked_at = ("check_denoiser", "check_images", "check_generator", "labels_for")
        assert [calls[f"sampling.{check}"] for check in looked_at] == [1, 1, 1, 1]
        for _ in range(5):
            calls.clear()
            next(chain)
            assert {place for place in calls if place.startswith("denoiser.")} == {
                "denoiser.check_images",
                "denoiser.check_like",
                "denoiser.labels_for",
                "denoiser.check_t",
                "denoiser.check_condition",
            }
            assert not [place for place in calls if place.startswith(("process.", "sampling."))]
            assert max(calls.values()) == 1, calls
        calls.clear()


# -------------------------------------------------------------------------------------------------------------- the straight path


STRAIGHT = dl.straight_schedule(T)
EXPLODING = dl.Schedule(torch.ones(T + 1), torch.arange(T + 1) / 7, "exploding")


@pytest.mark.parametrize("schedule", [STRAIGHT, EXPLODING], ids=lambda schedule: schedule.name)
def test_ddim_at_eta_1_matches_the_posterior_on_paths_that_do_not_preserve_variance(schedule):
    x0 = noise(3, 1, 2, 2, seed=11).clamp(-1, 1)
    for t in range(1, T + 1):
        eps = dl.eps_from_x0(schedule, XT, t, x0)
        ours = ddim_transition(schedule, dl.Prediction(x0, eps), t, t - 1, eta=1.0)
        torch.testing.assert_close(ours, dl.q_posterior(schedule, x0, XT, t), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", [STRAIGHT, EXPLODING], ids=lambda schedule: schedule.name)
def test_ddim_has_the_noise_level_of_its_timestep_for_every_eta(schedule):
    # xs = signal_s x0 + noise of deviation noise_s in all: what is drawn afresh and what goes along eps make it up together
    for t, s in ((T, T - 1), (60, 20), (5, 1)):
        for eta in (0.0, 0.4, 1.0):
            zero, one = torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.float64)
            mean, variance = ddim_transition(schedule, dl.Prediction(zero, one), t, s, eta)
            assert (mean**2 + variance).item() == pytest.approx(schedule.noise[s].item() ** 2)


class Knows(torch.nn.Module):
    """A network that answers what the exact denoiser would."""

    def __init__(self, ideal, prediction):
        super().__init__()
        self.ideal, self.prediction = ideal, prediction

    def forward(self, xt, t, y=None):
        x0, eps, _ = self.ideal(xt, t)
        return target_of(self.ideal.schedule, self.prediction, x0, eps, t)


@pytest.mark.parametrize("prediction", ["exact", "x0", "v", "flow"])
def test_chains_on_the_straight_path_end_at_dataset_images(prediction):
    ideal = dl.IdealDenoiser(IMAGES, STRAIGHT)
    denoiser = ideal if prediction == "exact" else dl.Denoiser(Knows(ideal, prediction), STRAIGHT, prediction)
    xT = noise(40, 1, 2, 2, seed=12)
    for chain in chains_of(denoiser, xT, T).values():
        nearest = (last(chain).xt[:, None] - IMAGES).abs().amax(dim=(2, 3, 4))
        assert nearest.amin(dim=1).max() < 0.02
        assert len(nearest.argmin(dim=1).unique()) == 5  # all of them, not one


@pytest.mark.parametrize("prediction", ["x0", "v", "flow"])
def test_straight_path_can_be_trained_on_and_sampled_from(prediction):
    denoiser = dl.Denoiser(tiny_denoiser().network, dl.straight_schedule(20), prediction)
    *_, step = dl.train(denoiser, tiny_dataset(), CONFIG)
    assert step.skipped == 0
    for sampler in SAMPLERS:
        assert dl.sample(step.ema, 2, sampler=sampler, steps=10, y=1).isfinite().all()


def test_draws_one_sample_in_a_batch_of_one(denoiser):
    assert dl.sample(denoiser, 1, steps=2, batch_size=1).shape == (1, 1, 8, 8)


def test_sample_generators_are_seeded_by_numpy_seed_sequences():
    # what makes stored results reproducible by anyone: SeedSequence([seed, k]), its first 64 bits without the last
    for seed, k in [(0, 0), (0, 1), (1, 0), (12345, 678)]:
        (first,) = np.random.SeedSequence([seed, k]).generate_state(1, dtype=np.uint64).tolist()
        assert dl.sample_generators(seed, [k])[0].initial_seed() == first // 2


def test_sampling_frees_earlier_steps():
    class Watching(Curved):
        seen, most = (), 0

        def __call__(self, xt, t, y=None):
            self.seen = [*self.seen, weakref.ref(xt)]
            self.most = max(self.most, sum(ref() is not None for ref in self.seen))
            return super().__call__(xt, t, y)

    watching = Watching(dl.cosine_schedule(T))
    dl.sample(watching, 2, steps=10)
    assert watching.most <= 2  # the step being taken and the noise that all began with


def test_defaults_match_the_readme_and_the_notebooks():
    data = GaussianData(dl.linear_schedule(T), 0.7)  # some of it outside [-1, 1], where clipping shows
    same = dict(rtol=0, atol=0)
    asked = dict(sampler=dl.ddim_steps, steps=50, eta=0.0, clip=True, seed=0, first=0)
    torch.testing.assert_close(dl.sample(data, 2), dl.sample(data, 2, **asked), **same)
    # and each of them matters
    for other in (dict(sampler="ddpm"), dict(steps=49), dict(eta=0.1), dict(clip=False), dict(seed=1), dict(first=1)):
        assert not torch.equal(dl.sample(data, 2), dl.sample(data, 2, **other)), other
    assert len(list(dl.ddim_steps(data, XT))) == 50
    ddpm = last(dl.ddpm_steps(data, XT, generator=generator())).xt
    torch.testing.assert_close(ddpm, last(dl.ddpm_steps(data, XT, steps=T, variance="small", clip=True, generator=generator())).xt, **same)
    encoded, asked = list(dl.ddim_encode_steps(data, IMAGES)), list(dl.ddim_encode_steps(data, IMAGES, steps=50, iterations=3))
    assert len(encoded) == len(asked)
    torch.testing.assert_close(encoded[-1].xt, asked[-1].xt, **same)
    assert not torch.equal(encoded[-1].xt, last(dl.ddim_encode_steps(data, IMAGES, iterations=2)).xt)


def test_encoding_forwards_the_class_and_returns_the_prediction():
    dataset, schedule = tiny_dataset(), dl.cosine_schedule(T)
    x0, y = dataset.images[:3].double(), dataset.labels[:3]
    ideal = dl.IdealDenoiser(dataset, schedule)
    steps = list(dl.ddim_encode_steps(ideal, x0, steps=5, iterations=1, y=y))
    for before, step in pairwise(steps):  # one iteration: the prediction for the level before, at its noise
        x0_hat, eps_hat, _ = ideal(before.xt, step.t, y)
        torch.testing.assert_close(step.x0_hat, x0_hat, **EXACT)
        torch.testing.assert_close(step.eps_hat, eps_hat, **EXACT)
    conditional, unconditional = (last(dl.ddim_encode_steps(ideal, x0, steps=5, y=labels)).xt for labels in (y, None))
    assert (conditional - unconditional).abs().max() > 1e-3


@pytest.mark.parametrize("T", [20, 100])
def test_rounding_at_eta_1_does_not_make_samples_nan(T):
    u = torch.arange(T + 1, dtype=torch.float64) / T
    ideal = dl.IdealDenoiser(tiny_dataset(), dl.Schedule(1 - u**2, u**2 + u / 10))  # a path that ends without any image
    assert dl.sample(ideal, 2, steps=20, eta=1.0).isfinite().all()


def test_rejects_an_encoding_in_one_step_to_pure_noise():
    ideal = dl.IdealDenoiser(tiny_dataset(), dl.straight_schedule(20))
    with pytest.raises(ValueError, match=r"steps=1 on a schedule whose signal\[T\] is 0; expected 2 or more"):
        dl.ddim_encode_steps(ideal, tiny_dataset().images[:1], steps=1)
    *_, end = dl.ddim_encode_steps(ideal, tiny_dataset().images[:1], steps=2)
    assert end.xt.isfinite().all()


def test_denoiser_may_return_a_plain_pair():
    class Pair(Curved):
        def __call__(self, xt, t, y=None):
            return tuple(super().__call__(xt, t, y))[:2]

    schedule = dl.cosine_schedule(20)
    assert torch.equal(dl.sample(Pair(schedule), 2, steps=5), dl.sample(Curved(schedule), 2, steps=5))
