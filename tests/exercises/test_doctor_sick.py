"""The doctor names the mistake in samplers of known mistakes, and only that."""

from itertools import pairwise

import pytest
import torch

import diffusion_lib as dl
from diffusion_lib.exercises import doctor

SCHEDULES = {"linear": dl.linear_schedule(), "cosine": dl.cosine_schedule()}


class Parts:
    """A student's DDIM or DDPM sampler of parts; each patient replaces one."""

    def __init__(self, S, steps=20, eta=0.0):
        self.S, self.steps, self.eta, self.ab = S, steps, eta, S.alpha_bar.float()

    def levels(self):
        return dl.timestep_subset(self.S.T, self.steps)

    def start(self, xT):
        return xT

    def asked(self, t):
        return t

    def x0(self, xt, t, eps):
        return (xt - (1 - self.ab[t]).sqrt() * eps) / self.ab[t].sqrt()

    def clip(self, x0):
        return x0.clamp(-1, 1)

    def sigma(self, t, s):
        return self.eta * ((1 - self.ab[s]) / (1 - self.ab[t]) * (1 - self.ab[t] / self.ab[s])).sqrt()

    def z(self, xt):
        return torch.randn_like(xt)

    def step(self, xt, x0, eps, t, s):
        sigma = self.sigma(t, s)
        along = (1 - self.ab[s] - sigma**2).clamp(min=0).sqrt()
        return self.ab[s].sqrt() * x0 + along * eps + sigma * self.z(xt)

    def end(self, x):
        return x

    @torch.no_grad()
    def __call__(self, network, xT):
        xt = self.start(xT)
        for t, s in pairwise(self.levels()):
            x0 = self.clip(self.x0(xt, t, network(xt, torch.full((len(xt),), self.asked(t)))))
            eps = (xt - self.ab[t].sqrt() * x0) / (1 - self.ab[t]).sqrt()
            xt = self.step(xt, x0, eps, t, s)
        return self.end(xt)


def beta(self, t, s):
    return 1 - self.ab[t] / self.ab[s]


def posterior(self, xt, x0, t, s):
    b = beta(self, t, s)
    return self.ab[s].sqrt() * b / (1 - self.ab[t]) * x0 + (1 - b).sqrt() * (1 - self.ab[s]) / (1 - self.ab[t]) * xt


def from_eps(self, xt, eps, t, s, size=None, divisor=None):
    b = beta(self, t, s)
    return (xt - (b / (1 - self.ab[t]).sqrt() if size is None else size) * eps) / ((1 - b).sqrt() if divisor is None else divisor)


def with_noise(self, mean, t, s, sd=None):
    sd = (beta(self, t, s) * (1 - self.ab[s]) / (1 - self.ab[t])).sqrt() if sd is None else sd
    return mean + (sd * torch.randn_like(mean) if s else 0)


def ddpm(mean):
    return dict(step=lambda self, xt, x0, eps, t, s: with_noise(self, mean(self, xt, x0, eps, t, s), t, s))


def ddim(function):
    return dict(step=function)


def other(make):
    return dict(__init__=lambda self, S, **options: (Parts.__init__(self, S, **options), setattr(self, "ab", make.alpha_bar.float()))[0])


def stretched(x):
    return (x - x.min()) / (x.max() - x.min())


# name of the patient: (what is replaced, the finding's name, its exhibit, options of Parts)
SICK = {
    "levels end above 0": (dict(levels=lambda self: [1000 * (10 - i) // 10 for i in range(10)]), "The last level is not 0", 1),
    "all levels but 0": (dict(levels=lambda self: list(range(1000, 0, -1))), "The last level is not 0", 1),
    "levels begin below T": (dict(levels=lambda self: list(range(600, -1, -50))), "The chain starts below T", 1),
    "clip to [0, 1]": (dict(clip=lambda self, x0: x0.clamp(0, 1)), "x0_hat is clipped to [0, 1]", 2),
    "clip at the end": (dict(end=lambda self, x: x.clamp(0, 1)), "x0_hat is clipped to [0, 1]", 2),
    "xt is clipped": (
        ddim(lambda self, xt, x0, eps, t, s: Parts.step(self, xt, x0, eps, t, s).clamp(-1, 1)),
        "xt itself is clipped",
        2,
    ),
    "range changed in the loop": (dict(clip=lambda self, x0: (x0.clamp(-1, 1) + 1) / 2), "A constant is added in the steps", 2),
    "sigma for eps, eta 0": (
        ddim(lambda self, xt, x0, eps, t, s: self.ab[s].sqrt() * x0 + self.sigma(t, s) * (eps + self.z(xt))),
        "The noise is thrown away",
        3,
    ),
    "sigma for eps, eta 1": (
        ddim(lambda self, xt, x0, eps, t, s: self.ab[s].sqrt() * x0 + self.sigma(t, s) * (eps + self.z(xt))),
        "eps_hat is multiplied by sigma",
        3,
        dict(eta=1.0),
    ),
    "all of eps and fresh noise": (
        ddim(lambda self, xt, x0, eps, t, s: self.ab[s].sqrt() * x0 + (1 - self.ab[s]).sqrt() * eps + self.sigma(t, s) * self.z(xt)),
        "Fresh noise comes on top of all of eps_hat",
        3,
        dict(eta=1.0),
    ),
    "no root of eps's factor": (
        ddim(lambda self, xt, x0, eps, t, s: self.ab[s].sqrt() * x0 + (1 - self.ab[s]) * eps),
        "The root of eps_hat's factor is missing",
        6,
    ),
    "no root of alpha_bar": (
        ddim(lambda self, xt, x0, eps, t, s: self.ab[s] * x0 + (1 - self.ab[s]).sqrt() * eps),
        "The image's factor is alpha_bar, not its root",
        6,
    ),
    "no roots": (ddim(lambda self, xt, x0, eps, t, s: self.ab[s] * x0 + (1 - self.ab[s]) * eps), "Both factors lack their root", 6),
    "back to t": (
        ddim(lambda self, xt, x0, eps, t, s: self.ab[t].sqrt() * x0 + (1 - self.ab[t]).sqrt() * eps if s else x0),
        "The step ends where it began",
        None,
    ),
    "minus eps": (
        ddim(lambda self, xt, x0, eps, t, s: self.ab[s].sqrt() * x0 - (1 - self.ab[s]).sqrt() * eps),
        "The sign of eps_hat is flipped",
        None,
    ),
    "noise in the last step": (
        ddim(lambda self, xt, x0, eps, t, s: posterior(self, xt, x0, t, s) + beta(self, t, s).sqrt() * self.z(xt)),
        "Noise is added in the last step",
        4,
    ),
    "noise in the last of 1000 steps": (
        ddim(lambda self, xt, x0, eps, t, s: posterior(self, xt, x0, t, s) + beta(self, t, s).sqrt() * self.z(xt)),
        "Noise is added in the last step",
        4,
        dict(steps=1000),
    ),
    "variance for sd": (
        ddim(lambda self, xt, x0, eps, t, s: with_noise(self, posterior(self, xt, x0, t, s), t, s, beta(self, t, s))),
        "The noise's variance is used instead of its standard deviation",
        6,
        dict(steps=100),
    ),
    "beta_tilde for its root": (
        ddim(
            lambda self, xt, x0, eps, t, s: with_noise(
                self, posterior(self, xt, x0, t, s), t, s, beta(self, t, s) * (1 - self.ab[s]) / (1 - self.ab[t])
            )
        ),
        "The noise's variance is used instead of its standard deviation",
        6,
        dict(steps=1000),
    ),
    "no noise": (ddim(lambda self, xt, x0, eps, t, s: posterior(self, xt, x0, t, s)), "DDPM without its noise", 3, dict(steps=100)),
    "x0 for the mean": (ddpm(lambda self, xt, x0, eps, t, s: x0), "x0_hat is used instead of the posterior mean", None),
    "swapped factors": (
        ddpm(
            lambda self, xt, x0, eps, t, s: (
                self.ab[s].sqrt() * beta(self, t, s) / (1 - self.ab[t]) * xt
                + (1 - beta(self, t, s)).sqrt() * (1 - self.ab[s]) / (1 - self.ab[t]) * x0
            )
        ),
        "The posterior mean's two factors are swapped",
        None,
    ),
    "no division": (
        ddpm(lambda self, xt, x0, eps, t, s: from_eps(self, xt, eps, t, s, divisor=1)),
        "The mean is not divided by sqrt(alpha_t)",
        None,
        dict(steps=1000),
    ),
    "beta for beta over its root": (
        ddpm(lambda self, xt, x0, eps, t, s: from_eps(self, xt, eps, t, s, size=beta(self, t, s))),
        "eps_hat's factor in the mean lacks its divisor",
        None,
        dict(steps=1000),
    ),
    "noise without sigma": (
        ddim(lambda self, xt, x0, eps, t, s: with_noise(self, posterior(self, xt, x0, t, s), t, s, 1.0)),
        "Fresh noise is not multiplied by sigma",
        None,
    ),
    "one step down while skipping": (
        ddim(lambda self, xt, x0, eps, t, s: with_noise(self, posterior(self, xt, x0, t, t - 1), t, t - 1)),
        "Timesteps are skipped, but each step goes down by one",
        8,
    ),
    "x0 not divided": (
        dict(x0=lambda self, xt, t, eps: xt - (1 - self.ab[t]).sqrt() * eps, clip=lambda self, x0: x0)
        | ddim(lambda self, xt, x0, eps, t, s: self.ab[s].sqrt() * x0 + (1 - self.ab[s]).sqrt() * (xt - x0) / (1 - self.ab[t]).sqrt()),
        "x0_hat is not divided by sqrt(alpha_bar_t)",
        None,
    ),
    "asked at t - 1": (dict(asked=lambda self, t: max(t - 1, 1), levels=lambda self: [*range(1000, 0, -20), 0]), "one timestep off", 9),
    "asked at t + 1": (dict(asked=lambda self, t: min(t + 1, 1000), levels=lambda self: [*range(999, -1, -1)]), "one timestep off", 9),
    "counted from 0": (dict(asked=lambda self, t: t - 1), "Timesteps are counted from 0", 9, dict(steps=1000)),
    "counted from 0, eta 1": (dict(asked=lambda self, t: t - 1), "Timesteps are counted from 0", 9, dict(steps=1000, eta=1.0)),
    "a fraction of T": (dict(asked=lambda self, t: t / 1000), "t is given as a fraction", None),
    "ascending": (
        dict(levels=lambda self: [*range(0, 1001, 20)], x0=lambda self, xt, t, eps: Parts.x0(self, xt, max(t, 1), eps)),
        "The timesteps ascend",
        None,
    ),
    "another schedule": (other(dl.sigmoid_schedule()), "The sampler has another schedule than the model", 7),
    "another schedule, eta 1": (other(dl.sigmoid_schedule()), "The sampler has another schedule than the model", 7, dict(eta=1.0)),
    "xT is scaled": (dict(start=lambda self, xT: 0.5 * xT), "The chain does not start from standard normal noise", None),
    "uniform start": (dict(start=lambda self, xT: torch.rand_like(xT)), "The chain does not start from standard normal noise", None),
    "one noise for the batch": (dict(z=lambda self, xt: torch.randn(xt.shape[1:])), "same noise", None, dict(eta=1.0)),
    "one number an image": (dict(z=lambda self, xt: torch.randn(len(xt), 1, 1, 1)), "All pixels of an image", None, dict(eta=1.0)),
    "uniform noise": (dict(z=lambda self, xt: torch.rand_like(xt)), "The noise is uniform", None, dict(eta=1.0)),
    "a seed in the loop": (
        dict(z=lambda self, xt: torch.randn(xt.shape, generator=torch.Generator().manual_seed(0))),
        "Every step adds the same noise",
        None,
        dict(eta=1.0),
    ),
    "noise from before the loop": (
        dict(start=lambda self, xT: (setattr(self, "old", torch.randn_like(xT)), xT)[1], z=lambda self, xt: self.old),
        "Every step adds the same noise",
        None,
        dict(eta=1.0),
    ),
    "bytes wrap": (dict(clip=lambda self, x0: x0, end=lambda self, x: ((x + 1) * 127.5).round().int().to(torch.uint8)), "Bytes wrap", 13),
    "stretched": (dict(end=lambda self, x: stretched(x)), "stretched by its minimum and maximum", 14),
    "nan": (dict(end=lambda self, x: (x - 2).sqrt()), "The result is not finite", None),
    "another shape": (dict(end=lambda self, x: x[:3]), "The result has another shape", None),
    "nothing returned": (dict(end=lambda self, x: None), "The sampler returns no images", None),
    "scaled at the end": (dict(end=lambda self, x: 0.5 * x), "The chain does not end at the predicted image", 14),
    "training mode": (dict(start=lambda self, xT: (self.network.train(), xT)[1]), "The network is put into training mode", None),
}


def patient(name, S):
    replaced, _, _, *options = SICK[name]
    parts = type("Patient", (Parts,), replaced)(S, **(options[0] if options else {}))

    def sampler(network, xT):
        parts.network = network
        return parts(network, xT)

    return sampler


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SICK)
def test_names_the_mistake_of_a_sampler(name, schedule):
    _, said, exhibit, *_ = SICK[name]
    report = doctor(sampler=patient(name, SCHEDULES[schedule]), schedule=SCHEDULES[schedule], predicts="eps")
    assert not report.healthy
    assert said in report.findings[0].name, report
    assert report.findings[0].exhibit == exhibit
    assert len(report.findings) == 1, report
    assert all(each.measured and each.expected and each.line for each in report.findings)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_parts_as_they_are_make_a_healthy_sampler(schedule):
    for options in ({}, dict(eta=1.0), dict(steps=1000), dict(steps=7, eta=0.3)):
        report = doctor(sampler=Parts(SCHEDULES[schedule], **options), schedule=SCHEDULES[schedule], predicts="eps")
        assert report.healthy, report
