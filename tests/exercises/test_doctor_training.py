"""The doctor names the mistake in training loops of known mistakes, and finds none in right ones."""

import copy
from itertools import count, cycle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import diffusion_lib as dl
from diffusion_lib.exercises import doctor

SCHEDULES = {"linear": dl.linear_schedule(), "cosine": dl.cosine_schedule()}


class Loop:
    """A student's training loop of parts; each patient replaces one."""

    def __init__(self, S, steps=None, batch=64, lr=1e-3):
        self.S, self.ab, self.steps, self.batch, self.lr = S, S.alpha_bar.float(), steps, batch, lr

    def data(self, images):
        return images

    def batch_of(self, images):
        return images[torch.randint(0, len(images), (self.batch,))]

    def t(self, n):
        return torch.randint(1, self.S.T + 1, (n,))

    def asked(self, t):
        return t

    def eps(self, x0):
        return torch.randn_like(x0)

    def noised(self, x0, t, eps):
        ab = self.ab[t].view(-1, 1, 1, 1)
        return ab.sqrt() * x0 + (1 - ab).sqrt() * eps

    def target(self, x0, t, eps):
        return eps

    def loss(self, output, target):
        return F.mse_loss(output, target)

    def backward(self, loss):
        loss.backward()

    def optimizer(self, network):
        return torch.optim.Adam(network.parameters(), lr=self.lr)

    def clear(self, optimizer):
        optimizer.zero_grad()

    def update(self, optimizer):
        optimizer.step()

    def begin(self, network):
        pass

    def average(self, network):
        pass

    def result(self, network, optimizer):
        pass

    def __call__(self, network, images):
        images, optimizer = self.data(images), self.optimizer(network)
        self.begin(network)
        for _ in range(self.steps) if self.steps else count():
            x0 = self.batch_of(images)
            t, eps = self.t(len(x0)), self.eps(x0)
            output = network(self.noised(x0, t, eps), self.asked(t))
            loss = self.loss(output, self.target(x0, t, eps))
            self.clear(optimizer)
            self.backward(loss)
            self.update(optimizer)
            self.average(network)
        return self.result(network, optimizer)


def factors(self, t):
    ab = self.ab[t].view(-1, 1, 1, 1)
    return ab.sqrt(), (1 - ab).sqrt()


def averaged(decay):
    """Parts of a loop with an average that is returned."""
    return dict(
        begin=lambda self, network: setattr(self, "ema", copy.deepcopy(network)),
        average=lambda self, network: _follow(self.ema, network, decay),
        result=lambda self, network, optimizer: self.ema,
    )


@torch.no_grad()
def _follow(ema, network, decay):
    for ours, theirs in zip(ema.parameters(), network.parameters(), strict=True):
        ours.mul_(decay).add_(theirs, alpha=1 - decay)


def other(schedule):
    return dict(noised=lambda self, x0, t, eps: dl.q_sample(schedule, x0, t, eps))


def clipped_step(optimizer):
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.1)
    optimizer.step()


def fp16(self, loss):
    (loss * 1024).backward()


SICK = {
    "variance for sd": (
        dict(noised=lambda self, x0, t, eps: factors(self, t)[0] * x0 + factors(self, t)[1] ** 2 * eps),
        "The noise's variance is used instead of its standard deviation",
        6,
    ),
    "alpha_bar without root": (
        dict(noised=lambda self, x0, t, eps: factors(self, t)[0] ** 2 * x0 + factors(self, t)[1] * eps),
        "The image's factor is alpha_bar, not its root",
        6,
    ),
    "no roots": (
        dict(noised=lambda self, x0, t, eps: factors(self, t)[0] ** 2 * x0 + factors(self, t)[1] ** 2 * eps),
        "Both factors of xt lack their root",
        6,
    ),
    "alpha for alpha_bar": (
        dict(
            noised=lambda self, x0, t, eps: (
                self.S.alpha.float()[t].view(-1, 1, 1, 1).sqrt() * x0 + self.S.beta.float()[t].view(-1, 1, 1, 1).sqrt() * eps
            )
        ),
        "alpha_t is used instead of alpha_bar_t",
        6,
    ),
    "swapped": (
        dict(noised=lambda self, x0, t, eps: factors(self, t)[1] * x0 + factors(self, t)[0] * eps),
        "The factors of image and noise are swapped",
        None,
    ),
    "noise unscaled": (
        dict(noised=lambda self, x0, t, eps: factors(self, t)[0] * x0 + eps),
        "The noise is not multiplied by sqrt(1 - alpha_bar_t)",
        None,
    ),
    "image unscaled": (
        dict(noised=lambda self, x0, t, eps: x0 + factors(self, t)[1] * eps),
        "The image is not multiplied by sqrt(alpha_bar_t)",
        None,
    ),
    "another schedule": (other(dl.sigmoid_schedule()), "The loop has another schedule: 'sigmoid'", 7),
    "counted from 0": (dict(asked=lambda self, t: t - 1), "Timesteps are counted from 0", 9),
    "asked at t + 1": (dict(asked=lambda self, t: (t + 1).clamp(max=1000)), "The network is given t + 1", 9),
    "data in [0, 1]": (dict(data=lambda self, images: (images + 1) / 2), "The images' range is changed", 2),
    "data normalised twice": (dict(data=lambda self, images: 2 * images - 1), "The images' range is changed", 2),
    "two ends of randint": (dict(t=lambda self, n: torch.randint(0, self.S.T - 1, (n,))), "Timesteps do not cover 1..T", 9),
    "last step never": (dict(t=lambda self, n: torch.randint(1, self.S.T, (n,))), "Timesteps do not cover 1..T", 9),
    "last steps never, numpy": (
        dict(t=lambda self, n: torch.from_numpy(np.random.randint(1, self.S.T - 4, n))),
        "Timesteps do not cover 1..T",
        9,
    ),
    "one t": (dict(t=lambda self, n: torch.full((n,), 500)), "t is always the same", 9),
    "the same noise for all": (dict(eps=lambda self, x0: torch.randn_like(x0[:1]).expand_as(x0)), "All images of a batch", None),
    "the same noise always": (
        dict(eps=lambda self, x0: torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))),
        "Every step has the same noise",
        None,
    ),
    "uniform noise": (dict(eps=lambda self, x0: torch.rand_like(x0)), "The noise is uniform", None),
    "x0 for eps": (dict(target=lambda self, x0, t, eps: x0), "The network learns another target", None),
    "minus eps": (dict(target=lambda self, x0, t, eps: -eps), "The network learns another target", None),
    "scaled eps": (dict(target=lambda self, x0, t, eps: factors(self, t)[1] * eps), "The network learns another target", None),
    "fresh noise for the target": (dict(target=lambda self, x0, t, eps: torch.randn_like(eps)), "The target is not the noise in xt", None),
    "backward of the loss": (
        dict(backward=lambda self, loss: loss.backward(loss)),
        "The gradient is multiplied by a power of the loss",
        10,
    ),
    "root of the loss": (dict(loss=lambda self, a, b: F.mse_loss(a, b).sqrt()), "The gradient is multiplied by a power of the loss", 10),
    "minus the loss": (dict(loss=lambda self, a, b: -F.mse_loss(a, b)), "The loss has the wrong sign", None),
    "no zero_grad": (dict(clear=lambda self, optimizer: None), "Gradients are not cleared", None),
    "no step": (dict(update=lambda self, optimizer: None), "The weights never change", None),
    "no backward": (dict(backward=lambda self, loss: None), "No gradient reaches the network", None),
    "detached": (
        dict(loss=lambda self, a, b: F.mse_loss(a.detach().requires_grad_(), b)),
        "No gradient reaches the network",
        None,
    ),
    "uphill": (
        dict(optimizer=lambda self, network: torch.optim.Adam(network.parameters(), lr=1e-3, maximize=True)),
        "Updates go uphill",
        None,
    ),
    "half of the weights": (
        dict(optimizer=lambda self, network: torch.optim.Adam(network.head.parameters(), lr=1e-3)),
        "A part of the weights never changes",
        None,
    ),
    "eval mode": (dict(begin=lambda self, network: network.eval()), "The network is trained in eval mode", None),
    "average never updated": (
        averaged(0.99) | dict(average=lambda self, network: None),
        "The average is never updated",
        11,
        dict(steps=200),
    ),
    "no optimizer in the checkpoint": (
        dict(result=lambda self, network, optimizer: dict(network=network.state_dict(), step=200)),
        "The checkpoint lacks the optimizer",
        12,
        dict(steps=200),
    ),
    "short of images": (
        dict(t=lambda self, n: torch.randint(1, self.S.T + 1, (n // 2,)), noised=lambda self, x0, t, eps: x0),
        "t does not fit",
        None,
    ),
}

HEALTHY = {
    "as it is": {},
    "x0": dict(predicts="x0", target=lambda self, x0, t, eps: x0),
    "v": dict(predicts="v", target=lambda self, x0, t, eps: factors(self, t)[0] * eps - factors(self, t)[1] * x0),
    "flow": dict(predicts="flow", target=lambda self, x0, t, eps: eps - x0),
    "L1": dict(loss=lambda self, a, b: F.l1_loss(a, b)),
    "Huber": dict(loss=lambda self, a, b: F.smooth_l1_loss(a, b)),
    "a sum": dict(loss=lambda self, a, b: F.mse_loss(a, b, reduction="sum")),
    "weighted": dict(loss=lambda self, a, b: (torch.rand(len(a)) * (a - b).square().mean(dim=(1, 2, 3))).mean()),
    "SGD": dict(optimizer=lambda self, network: torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.9)),
    "AdamW": dict(optimizer=lambda self, network: torch.optim.AdamW(network.parameters(), lr=1e-3)),
    "set to zero": dict(clear=lambda self, optimizer: optimizer.zero_grad(set_to_none=False)),
    "clipped": dict(
        update=lambda self, optimizer: (torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.1), optimizer.step())
    ),
    "flipped": dict(batch_of=lambda self, images: Loop.batch_of(self, images).flip(3)),
    "t by rand": dict(t=lambda self, n: (torch.rand(n) * self.S.T).long() + 1),
    "numpy": dict(
        t=lambda self, n: torch.from_numpy(np.random.randint(1, self.S.T + 1, n)),
        eps=lambda self, x0: torch.from_numpy(np.random.randn(*x0.shape).astype(np.float32)),
    ),
    "one t a batch": dict(t=lambda self, n: torch.randint(1, self.S.T + 1, (1,)).expand(n)),
    "average": averaged(0.95) | dict(options=dict(steps=200)),
    "slow average": averaged(0.9999) | dict(options=dict(steps=200)),
    "checkpoint": dict(
        result=lambda self, network, optimizer: dict(model=network.state_dict(), optimizer=optimizer.state_dict(), step=200),
        options=dict(steps=200),
    ),
    "weights": dict(result=lambda self, network, optimizer: network.state_dict(), options=dict(steps=200)),
    "the network": dict(result=lambda self, network, optimizer: network, options=dict(steps=200)),
    "small batches": dict(options=dict(batch=8)),
    "few steps": dict(options=dict(steps=30)),
    "one step": dict(options=dict(steps=1)),
    "scaled loss": dict(backward=fp16),
}


def examine(parts, schedule, options, **more):
    return doctor(training=type("Patient", (Loop,), parts)(schedule, **options), schedule=schedule, **more)


# each on one of the schedules, in turn
@pytest.mark.parametrize(("name", "schedule"), list(zip(SICK, cycle(SCHEDULES), strict=False)))
def test_names_the_mistake_of_a_training_loop(name, schedule):
    parts, said, exhibit, *options = SICK[name]
    report = examine(parts, SCHEDULES[schedule], options[0] if options else {}, predicts="eps")
    assert not report.healthy
    assert said in report.findings[0].name, report
    assert report.findings[0].exhibit == exhibit
    assert len(report.findings) == 1, report


@pytest.mark.parametrize(("name", "schedule"), list(zip(HEALTHY, cycle(SCHEDULES), strict=False)))
def test_finds_healthy_training_loops_healthy(name, schedule):
    parts = dict(HEALTHY[name])
    options, predicts = parts.pop("options", {}), parts.pop("predicts", "eps")
    report = examine(parts, SCHEDULES[schedule], options, predicts=predicts)
    assert report.healthy, report


def test_finds_accumulated_gradients_healthy():
    def training(network, images):
        S, optimizer = SCHEDULES["linear"], torch.optim.Adam(network.parameters())
        for step in count():
            x0 = images[torch.randint(0, len(images), (32,))]
            t, eps = torch.randint(1, S.T + 1, (32,)), torch.randn_like(x0)
            (F.mse_loss(network(dl.q_sample(S, x0, t, eps), t), eps) / 4).backward()
            if step % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()

    report = doctor(training=training, schedule=SCHEDULES["linear"])
    assert report.healthy, report


def test_finds_the_librarys_training_healthy():
    def training(network, images):
        denoiser = dl.Denoiser(network, SCHEDULES["cosine"], "v")
        optimizer = torch.optim.Adam(denoiser.parameters())
        for batch in torch.utils.data.DataLoader(images.repeat(20, 1, 1, 1), batch_size=64, shuffle=True):
            optimizer.zero_grad()
            denoiser.loss(batch).mean().backward()
            optimizer.step()
        return denoiser

    report = doctor(training=training, schedule=SCHEDULES["cosine"], predicts="v")
    assert report.healthy, report


@pytest.mark.parametrize("seed", range(6))
def test_healthy_loops_stay_healthy_whatever_the_noise(seed):
    def training(network, images):
        torch.manual_seed(seed)
        np.random.seed(seed)
        return Loop(SCHEDULES["linear"], batch=32)(network, images)

    report = doctor(training=training, schedule=SCHEDULES["linear"])
    assert report.healthy, report
