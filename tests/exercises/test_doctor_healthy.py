"""The doctor finds nothing in samplers that are right, however they are written."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import diffusion_lib as dl
from diffusion_lib.exercises import doctor

SCHEDULES = {"linear": dl.linear_schedule(), "cosine": dl.cosine_schedule(), "sigmoid": dl.sigmoid_schedule()}


@torch.no_grad()
def ddim(model, xT, S, steps=20, eta=0.0, clip=True, direction=None):
    ab, xt = S.alpha_bar.float(), xT
    for t, s in pairwise(dl.timestep_subset(S.T, steps)):
        x0 = model(xt, t).x0
        x0 = x0.clamp(-1, 1) if clip else x0
        eps = (xt - ab[t].sqrt() * x0) / (1 - ab[t]).sqrt()
        sigma = eta * ((1 - ab[s]) / (1 - ab[t]) * (1 - ab[t] / ab[s])).sqrt()
        xt = ab[s].sqrt() * x0 + (1 - ab[s] - sigma**2).clamp(min=0).sqrt() * eps + sigma * torch.randn_like(xt)
    return xt


@torch.no_grad()
def algorithm_2(model, xT, S, large=True):
    """Ho et al. 2020, algorithm 2, with tables of length T, index t - 1, and a network that is given 1..T."""
    betas = S.beta[1:].float()
    alphas = 1 - betas
    alphas_bar = torch.cumprod(alphas, 0)
    before = F.pad(alphas_bar[:-1], (1, 0), value=1.0)
    variance = betas if large else betas * (1 - before) / (1 - alphas_bar)
    x = xT
    for i in reversed(range(S.T)):
        eps = model(x, torch.full((len(x),), i + 1))
        z = torch.randn_like(x) if i > 0 else 0
        x = (x - betas[i] / (1 - alphas_bar[i]).sqrt() * eps) / alphas[i].sqrt() + variance[i].sqrt() * z
    return x


@torch.no_grad()
def posterior_mean(model, xT, S, steps=10, large=False):
    ab, x = S.alpha_bar, xT
    for t, s in pairwise(dl.timestep_subset(S.T, steps)):
        x0 = model(x, torch.tensor(t)).x0.clamp(-1, 1)
        beta = 1 - ab[t] / ab[s]
        mean = ab[s].sqrt() * beta / (1 - ab[t]) * x0 + (ab[t] / ab[s]).sqrt() * (1 - ab[s]) / (1 - ab[t]) * x
        variance = beta if large else beta * (1 - ab[s]) / (1 - ab[t])
        x = (mean + (variance.sqrt() * torch.randn(x.shape) if s else 0)).float()
    return x


@torch.no_grad()
def euler(model, xT, S, steps=30, heun=False):
    """The probability-flow ODE in sigma = noise / signal: d(x / signal) / d sigma = eps."""
    x = (xT / S.signal[-1]).float()
    times = dl.timestep_subset(S.T, steps)
    for t, s in pairwise(times):
        now, then = S.noise[t] / S.signal[t], S.noise[s] / S.signal[s]
        slope = model((x * S.signal[t]).float(), t).eps
        trial = (x + (then - now) * slope).float()
        if heun and s > 0:
            slope = (slope + model((trial * S.signal[s]).float(), s).eps) / 2
            trial = (x + (then - now) * slope).float()
        x = trial
    return x


@torch.no_grad()
def euler_in_t(model, xT, S):
    """The same ODE by Euler steps of one timestep: x <- x + beta / 2 (x - eps / noise)."""
    x = xT
    for t in range(S.T, 0, -1):
        beta = S.beta[t].float()
        x = x + beta / 2 * (x - model(x, t).eps / S.noise[t].float())
    return x


@torch.no_grad()
def numpy_noise(model, xT, S, steps=50):
    ab, x = S.alpha_bar.numpy(), xT
    random = np.random.default_rng()
    for t, s in pairwise(dl.timestep_subset(S.T, steps)):
        eps = model(x, t)
        x0 = (x - (1 - ab[t]) ** 0.5 * eps) / ab[t] ** 0.5
        sigma = ((1 - ab[s]) / (1 - ab[t]) * (1 - ab[t] / ab[s])) ** 0.5
        z = torch.from_numpy(random.standard_normal(x.shape).astype(np.float32))
        x = ab[s] ** 0.5 * x0 + max(1 - ab[s] - sigma**2, 0) ** 0.5 * eps + sigma * z
    return x


def generator(model, xT, S):
    x, ab = xT, S.alpha_bar.float()
    for t, s in pairwise(dl.timestep_subset(S.T, 10)):
        with torch.no_grad():
            x0, eps = model(x, t)[:2]
        x = ab[s].sqrt() * x0 + (1 - ab[s]).sqrt() * eps
        yield x


@torch.no_grad()
def churned(model, xT, S, steps=25):
    """Noise is added before each step (Karras et al. 2022, algorithm 2), so that timesteps go up in between."""
    x, ab = xT, S.alpha_bar.float()
    for t, s in pairwise(dl.timestep_subset(S.T, steps)):
        up = min(S.T, t + 10)
        ratio = ab[up] / ab[t]
        x = ratio.sqrt() * x + (1 - ratio).clamp(min=0).sqrt() * torch.randn_like(x)
        x0 = model(x, up).x0
        eps = (x - ab[up].sqrt() * x0) / (1 - ab[up]).sqrt()
        x = ab[s].sqrt() * x0 + (1 - ab[s]).sqrt() * eps
    return x


@torch.no_grad()
def guided(model, xT, S, scale=3.0, steps=20, batched=False):
    x, ab = xT, S.alpha_bar.float()
    y = torch.arange(len(x)) % 10
    for t, s in pairwise(dl.timestep_subset(S.T, steps)):
        if batched:
            c, u = model(torch.cat([x, x]), t, torch.cat([y, torch.full_like(y, -1)])).eps.chunk(2)
        else:
            c, u = model(x, t, y).eps, model(x, t).eps
        eps = u + scale * (c - u)
        x0 = (x - (1 - ab[t]).sqrt() * eps) / ab[t].sqrt()
        x = ab[s].sqrt() * x0 + (1 - ab[s]).sqrt() * eps
    return x


HEALTHY = {
    "DDIM": (ddim, {}),
    "DDIM, unclipped": (lambda m, x, S: ddim(m, x, S, clip=False), {}),
    "DDIM, 5 steps": (lambda m, x, S: ddim(m, x, S, steps=5), {}),
    "DDIM, eta 0.5": (lambda m, x, S: ddim(m, x, S, eta=0.5), {}),
    "DDIM, eta 1, 100 steps": (lambda m, x, S: ddim(m, x, S, eta=1.0, steps=100), {}),
    "DDIM, 1 step": (lambda m, x, S: ddim(m, x, S, steps=1), {}),
    "algorithm 2, large variance": (algorithm_2, dict(predicts="eps")),
    "algorithm 2, small variance": (lambda m, x, S: algorithm_2(m, x, S, large=False), dict(predicts="eps")),
    "posterior, few steps": (posterior_mean, {}),
    "posterior, few steps, large": (lambda m, x, S: posterior_mean(m, x, S, large=True), {}),
    "posterior, 100 steps, large": (lambda m, x, S: posterior_mean(m, x, S, 100, large=True), {}),
    "Euler": (euler, {}),
    "Heun": (lambda m, x, S: euler(m, x, S, heun=True), {}),
    "numpy's noise": (numpy_noise, dict(predicts="eps")),
    "a generator of tensors": (generator, {}),
    "a list of states": (lambda m, x, S: [step.xt for step in dl.ddim_steps(m, x, steps=20)], {}),
    "churned": (churned, {}),
    "guided": (guided, {}),
    "guided, one batch": (lambda m, x, S: guided(m, x, S, batched=True), {}),
    "guided a little": (lambda m, x, S: guided(m, x, S, scale=0.5), {}),
    "the library's DDIM": (lambda m, x, S: dl.ddim_steps(m, x, steps=50, eta=0.3), {}),
    "the library's DDPM": (lambda m, x, S: dl.ddpm_steps(m, x, steps=50), {}),
    "the library's DDPM, large": (lambda m, x, S: dl.ddpm_steps(m, x, steps=20, variance="large", clip=False), {}),
    "for a plot": (lambda m, x, S: (ddim(m, x, S).clamp(-1, 1) + 1) / 2, {}),
    "for a file": (lambda m, x, S: dl.to_uint8(ddim(m, x, S)), {}),
    "of its own noise": (lambda m, x, S: ddim(m, torch.randn(8, 1, 16, 16), S), {}),
    "with a seed": (lambda m, x, S: torch.manual_seed(1) and ddim(m, x, S, eta=1.0), {}),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", HEALTHY)
def test_finds_healthy_samplers_healthy(name, schedule):
    program, options = HEALTHY[name]
    S = SCHEDULES[schedule]
    report = doctor(sampler=lambda model, xT: program(model, xT, S), schedule=S, **options)
    assert report.healthy, report
    assert bool(report)
    assert len(report.passed) >= 4


@pytest.mark.parametrize("T", [10, 50, 200, 4000])
def test_finds_library_samplers_healthy_on_schedules_of_any_length(T):
    for make in (dl.linear_schedule, dl.cosine_schedule, dl.sigmoid_schedule):
        for walk in (lambda m, x: dl.ddim_steps(m, x, steps=10), lambda m, x: dl.ddpm_steps(m, x, steps=min(m.schedule.T, 50))):
            assert doctor(sampler=walk, schedule=make(T)).healthy, doctor(sampler=walk, schedule=make(T))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_accepts_an_integrator_of_its_own_that_is_nearly_exact(schedule):
    report = doctor(sampler=lambda m, x: euler_in_t(m, x, SCHEDULES[schedule]), schedule=SCHEDULES[schedule])
    assert report.healthy, report
    assert "not exactly those of DDPM or DDIM" in repr(report)
    assert "is left in the result" in repr(report)


@pytest.mark.parametrize("predicts", ["x0", "v", "flow"])
def test_takes_networks_of_any_prediction(predicts):
    S = SCHEDULES["cosine"]

    @torch.no_grad()
    def walk(network, xT):
        x = xT
        for t, s in pairwise(dl.timestep_subset(S.T, 20)):
            answer = network(x, torch.full((len(x),), t))
            if predicts == "x0":
                x0 = answer
            elif predicts == "v":
                x0 = dl.x0_from_v(S, x, t, answer)
            else:  # flow = eps - x0 and x = signal x0 + noise eps
                x0 = ((x - S.noise[t] * answer) / (S.signal[t] + S.noise[t])).float()
            eps = ((x - S.signal[t] * x0) / S.noise[t]).float()
            x = (S.signal[s] * x0 + S.noise[s] * eps).float()
        return x

    assert doctor(sampler=walk, schedule=S, predicts=predicts).healthy


def test_accepts_the_straight_path():
    S = dl.straight_schedule()

    @torch.no_grad()
    def flow(network, xT, steps=20):
        x = xT
        for t, s in pairwise(dl.timestep_subset(S.T, steps)):
            x = x + (s - t) / S.T * network(x, torch.full((len(x),), t))
        return x

    report = doctor(sampler=flow, schedule=S, predicts="flow")
    assert report.healthy, report


def test_reports_the_scale_of_guidance():
    S = SCHEDULES["cosine"]
    assert "guidance has scale 3" in repr(doctor(sampler=lambda m, x: guided(m, x, S, 3.0), schedule=S))
