"""Answers to the exhibits of notebook 06."""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F

import diffusion_lib as dl

RIGHT, WRONG = {}, {}

# ------------------------------------------------------------------------------------------------------------ 1: levels


def levels_in_a_loop(T, steps):
    levels = []
    for i in range(steps, -1, -1):
        levels.append(T * i // steps)
    return levels


RIGHT["check_exhibit_1"] = [
    levels_in_a_loop,
    dl.timestep_subset,
    lambda T, steps: [T * (steps - i) // steps for i in range(steps)] + [0],
    lambda T, steps: tuple(T * i // steps for i in reversed(range(steps + 1))),
    lambda T, steps: torch.arange(steps, -1, -1) * T // steps,
    lambda T, steps: np.arange(steps, -1, -1) * T // steps,
    lambda T, steps: (T * i // steps for i in range(steps, -1, -1)),
    lambda T, steps: [int(T * (steps - i) / steps) for i in range(steps + 1)],
]
WRONG["check_exhibit_1"] = [
    (lambda T, steps: [T * (steps - i) // steps for i in range(steps)], "as it stands"),
    (lambda T, steps: [T * (steps - i) // steps for i in range(steps + 1)][::-1], "ascends"),
    (lambda T, steps: [T * (steps - i) // steps for i in range(1, steps + 1)], "T is missing"),
    (lambda T, steps: [max(1, T * (steps - i) // steps) for i in range(steps + 1)], "ends at 1"),
    (lambda T, steps: [T * (steps - i) // steps for i in range(steps + 2)], "12"),
    (lambda T, steps: [T * (steps - i) / steps for i in range(steps + 1)], ""),
    (lambda T, steps: [T - i * (T // steps) for i in range(steps + 1)], ""),
    (lambda T, steps: list(range(T, -1, -(T // steps))), ""),
    (lambda T, steps: list(range(T, -1, -1)), "1001"),
    (lambda T, steps: [T, 0], "it returns 2"),
    (lambda T, steps: torch.linspace(T, 0, steps + 1), ""),
    (lambda T, steps: [1000 * (steps - i) // steps for i in range(steps + 1)], "1000"),
    (lambda T, steps: [T * (10 - i) // 10 for i in range(11)], ""),
    (lambda T, steps: steps + 1, "11 values"),
    (lambda T, steps: (torch.arange(steps, -1, -1) * T // steps).to(torch.uint8), "232"),
]

# -------------------------------------------------------------------------------------------------------------- 2: clip


def clip_by_loop(x0_hat):
    clipped = x0_hat.clone()
    for pixel in clipped.view(-1, 1):
        pixel[0] = min(1.0, max(-1.0, float(pixel[0])))
    return clipped


def clip_in_place(x0_hat):
    return x0_hat.clamp_(-1, 1)


def clip_of_a_copy(x0_hat):
    x0_hat = x0_hat.clone()
    x0_hat[x0_hat > 1] = 1
    x0_hat[x0_hat < -1] = -1
    return x0_hat


def dynamic_threshold(x0_hat):
    s = torch.quantile(x0_hat.flatten(1).abs(), 0.995, dim=1).clamp(min=1).view(-1, 1, 1, 1)
    return torch.minimum(torch.maximum(x0_hat, -s), s) / s


RIGHT["check_exhibit_2"] = [
    clip_by_loop,
    clip_of_a_copy,
    lambda x0_hat: x0_hat.clamp(min=-1).clamp(max=1),
    lambda x0_hat: torch.clip(x0_hat, -1.0, 1.0),
    lambda x0_hat: x0_hat.clone().clamp_(-1, 1),
    F.hardtanh,
    lambda x0_hat: x0_hat.double().clamp(-1, 1),
    lambda x0_hat: np.clip(x0_hat.numpy(), -1, 1),
    lambda x0_hat: torch.where(x0_hat.abs() <= 1, x0_hat, x0_hat.sign()),
    lambda x0_hat: torch.minimum(torch.maximum(x0_hat, -torch.ones_like(x0_hat)), torch.ones_like(x0_hat)),
    lambda x0_hat: ((x0_hat + 1).abs() - (x0_hat - 1).abs()) / 2,
    lambda x0_hat: 2 * ((x0_hat + 1) / 2).clamp(0, 1) - 1,
    lambda x0_hat: torch.stack([image.clamp(-1, 1) for image in x0_hat]),
]
WRONG["check_exhibit_2"] = [
    (lambda x0_hat: x0_hat.clamp(0, 1), "as it stands"),
    (lambda x0_hat: x0_hat, "nothing is clipped"),
    (lambda x0_hat: x0_hat.clone(), "nothing is clipped"),
    (lambda x0_hat: x0_hat.clamp(-100, 100), "nothing is clipped"),
    (clip_in_place, "it changes the tensors it is given"),
    (lambda x0_hat: x0_hat.clamp(0, 1) * 2 - 1, "then stretched"),
    (lambda x0_hat: x0_hat.clamp(-1, 1) / 2 + 0.5, "another range"),
    (lambda x0_hat: (x0_hat / 2 + 0.5).clamp(0, 1), "another range"),
    (lambda x0_hat: (x0_hat + 1).clamp(0, 1), "1 is added"),
    (torch.tanh, "tanh bends"),
    (lambda x0_hat: 2 * torch.sigmoid(x0_hat) - 1, "a sigmoid bends"),
    (F.softsign, "values inside [-1, 1] change"),
    (torch.erf, "values inside [-1, 1] change"),
    (lambda x0_hat: (x0_hat / 1.5).tanh(), "values inside [-1, 1] change"),
    (lambda x0_hat: x0_hat.clamp(max=1), "the dark end is open"),
    (lambda x0_hat: x0_hat.clamp(min=-1), "the bright end is open"),
    (F.relu, "cannot be 0"),
    (lambda x0_hat: x0_hat.clamp(0, 255), "cannot be 0"),
    (lambda x0_hat: x0_hat.clamp(-1, 0), "nothing can be brighter than mid-grey"),
    (lambda x0_hat: x0_hat.clamp(-2, 2), "values above 1 become"),
    (lambda x0_hat: x0_hat.clamp(-0.5, 0.5), "values inside [-1, 1] change"),
    (lambda x0_hat: x0_hat.clamp(-1, 0.999), "values above 1 become 0.999"),
    (lambda x0_hat: x0_hat.clamp(-1.01, 1), "values below -1 become -1.01"),
    (lambda x0_hat: x0_hat.clamp(-1, 2), "values above 1 become"),
    (lambda x0_hat: x0_hat.clamp(-0.9, 1), "values inside [-1, 1] change"),
    (lambda x0_hat: -x0_hat.clamp(-1, 1), "values inside [-1, 1] change"),
    (lambda x0_hat: 0.5 * x0_hat.clamp(-1, 1), "values inside [-1, 1] change"),
    (lambda x0_hat: x0_hat.abs().clamp(max=1), "the sign is lost"),
    (torch.sign, "only black and white"),
    (lambda x0_hat: torch.where(x0_hat > 0, 1.0, -1.0), "only black and white"),
    (lambda x0_hat: x0_hat / x0_hat.abs().max(), "one bright pixel"),
    (lambda x0_hat: x0_hat / max(1, x0_hat.abs().max()), "one bright pixel"),
    (lambda x0_hat: x0_hat / x0_hat.abs().amax(dim=(1, 2, 3), keepdim=True), "one bright pixel"),
    (lambda x0_hat: x0_hat / x0_hat.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1), "one bright pixel"),
    (lambda x0_hat: 2 * (x0_hat - x0_hat.min()) / (x0_hat.max() - x0_hat.min()) - 1, "their own extremes"),
    (dynamic_threshold, "values inside [-1, 1] change"),
    (lambda x0_hat: torch.where(x0_hat.abs() > 1, 0, x0_hat), "become 0, mid-grey"),
    (lambda x0_hat: torch.where(x0_hat.abs() > 1, torch.nan, x0_hat), "not finite"),
    (lambda x0_hat: (x0_hat + 1) % 2 - 1, "values above 1 become"),
    (lambda x0_hat: x0_hat.clamp(-1, 1).round(), "values inside [-1, 1] change"),
    (lambda x0_hat: (x0_hat.clamp(-1, 1) * 127.5).round() / 127.5, "values inside [-1, 1] change"),
    (lambda x0_hat: x0_hat.clamp(-1, 1).bfloat16(), "in torch.bfloat16"),
    (lambda x0_hat: x0_hat.clamp(-1, 1).half(), "in torch.float16"),
    (lambda x0_hat: x0_hat.clamp(-1, 1).bfloat16().float(), "values inside [-1, 1] change"),
    (lambda x0_hat: x0_hat.clamp(-1, 1).int(), "expected floats"),
    (lambda x0_hat: x0_hat.clamp(-1, 1).squeeze(), "it returns shape"),
    (lambda x0_hat: x0_hat.clamp(-1, 1).view(-1, 1, 8, 8), "it raised RuntimeError"),
    (lambda x0_hat: x0_hat.clamp(-1, 1)[:, :1], "it returns shape"),
    (lambda x0_hat: x0_hat.clamp(-1, 1)[0], "it returns shape"),
    (lambda x0_hat: x0_hat.clamp(-1, 1).mean(), "it returns shape"),
    (lambda x0_hat: (x0_hat.clamp(-1, 1), x0_hat), "it returns 2 values"),
    (lambda x0_hat: x0_hat.clamp(-1, 1) + 1e-3 * torch.randn_like(x0_hat), "draw no random numbers"),
    (lambda x0_hat: (-1, 1), ""),
]

# -------------------------------------------------------------------------------------------------------------- 3: step


def step_with(along, predict=lambda xt, eps_hat, t: (xt - (1 - t).sqrt() * eps_hat) / t.sqrt(), fresh=lambda sigma: sigma):
    def step(xt, eps_hat, z, alpha_bar_s, alpha_bar_t, eta):
        sigma = eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)).sqrt()
        x0_hat = predict(xt, eps_hat, alpha_bar_t)
        return alpha_bar_s.sqrt() * x0_hat + along(alpha_bar_s, sigma) * eps_hat + fresh(sigma) * z

    return step


def left(s, sigma):
    return (1 - s - sigma**2).clamp(min=0).sqrt()


def step_by_the_mean(xt, eps_hat, z, alpha_bar_s, alpha_bar_t, eta):
    s, t = alpha_bar_s.double(), alpha_bar_t.double()
    variance = eta**2 * (1 - s) / (1 - t) * (1 - t / s)
    factor = (1 - s - variance).clamp(min=0).sqrt() - (s * (1 - t) / t).sqrt()
    return (s / t).sqrt() * xt + factor * eps_hat + variance.sqrt() * z


RIGHT["check_exhibit_3"] = [step_with(left), step_by_the_mean]
WRONG["check_exhibit_3"] = [
    (step_with(lambda s, sigma: sigma), "as it stands"),
    (step_with(lambda s, sigma: (1 - s).sqrt()), "make room for sigma^2"),
    (step_with(lambda s, sigma: (1 - s).sqrt() - sigma), "standard deviations are subtracted"),
    (step_with(lambda s, sigma: (1 - s - sigma).clamp(min=0).sqrt()), "sigma is not squared"),
    (step_with(lambda s, sigma: 1 - s - sigma**2), ""),
    (step_with(lambda s, sigma: (1 - s + sigma**2).sqrt()), ""),
    (step_with(lambda s, sigma: (1 - sigma**2).clamp(min=0).sqrt()), ""),
    (step_with(lambda s, sigma: 0), ""),
    (step_with(left, fresh=lambda sigma: 0), ""),
    (step_with(left, fresh=lambda sigma: 1), ""),
    (step_with(left, fresh=lambda sigma: sigma**2), "z is multiplied by the variance"),
    (step_with(left, fresh=lambda sigma: -sigma), ""),
    (step_with(left, predict=lambda xt, eps_hat, t: xt - (1 - t).sqrt() * eps_hat), "x0_hat is not divided"),
    (step_with(left, predict=lambda xt, eps_hat, t: ((xt - (1 - t).sqrt() * eps_hat) / t.sqrt()).clamp(-1, 1)), "x0_hat is clamped"),
    (lambda xt, eps_hat, z, s, t, eta: step_with(left)(xt, eps_hat, z, s, t, 1.0), "eta = 1"),
    (lambda xt, eps_hat, z, s, t, eta: step_with(left)(xt, eps_hat, z, s, t, 0.0), "eta = 0"),
    (lambda xt, eps_hat, z, s, t, eta: step_with(left)(xt, eps_hat, z, t, s, eta), ""),
    (lambda xt, eps_hat, z, s, t, eta: step_with(left)(xt, eps_hat, z, s, t, 0.7), ""),
    (lambda xt, eps_hat, z, s, t, eta: step_with(left)(xt, eps_hat, torch.randn_like(z), s, t, eta), "draw no random numbers"),
]

# -------------------------------------------------------------------------------------------------------------- 4: draw


def draw_with_if(mean, variance, z, s):
    if s == 0:
        return mean
    return mean + torch.sqrt(variance) * z


def draw_zeroed_in_place(mean, variance, z, s):
    if s == 0:
        z *= 0
    return mean + variance.sqrt() * z


def draw_into_the_mean(mean, variance, z, s):
    if s > 0:
        mean += variance.sqrt() * z
    return mean


RIGHT["check_exhibit_4"] = [
    draw_with_if,
    lambda mean, variance, z, s: mean + variance.sqrt() * (z if s else torch.zeros_like(z)),
    lambda mean, variance, z, s: mean + (s > 0) * variance.sqrt() * z,
    lambda mean, variance, z, s: mean + variance**0.5 * (z if s else 0),
    lambda mean, variance, z, s: mean + min(s, 1) * variance.sqrt() * z,
    lambda mean, variance, z, s: mean + math.sqrt(variance) * z * bool(s),
    lambda mean, variance, z, s: torch.where(torch.tensor(s > 0), mean + variance.sqrt() * z, mean),
    lambda mean, variance, z, s: mean.clone() if s == 0 else torch.add(mean, z, alpha=float(variance) ** 0.5),
    lambda mean, variance, z, s: mean.double() + variance.double().sqrt() * z * (s != 0),
    lambda mean, variance, z, s: mean.numpy() + (s > 0) * np.sqrt(variance.numpy()) * z.numpy(),
    lambda mean, variance, z, s: mean if s < 1 else mean + (0.5 * variance.log()).exp() * z,
]
WRONG["check_exhibit_4"] = [
    (lambda mean, variance, z, s: mean + variance.sqrt() * z, "as it stands"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s >= 0 else mean, "as it stands"),
    (lambda mean, variance, z, s: mean, "no step adds noise now"),
    (
        lambda mean, variance, z, s: mean + variance.clamp(min=1e-4).sqrt() * z if s else mean,
        "in the step to s = 5 this is 1 mean + 0.01 z",
    ),
    (
        lambda mean, variance, z, s: mean + variance.clamp(min=1e-6).sqrt() * z if s else mean,
        "in the step to s = 5 this is 1 mean + 0.001 z",
    ),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 1 else mean, "the step to s = 1 has no noise either"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s - 1 else mean, "the step to s = 1 adds no noise"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 2 else mean, "in the step to s = 1 this is 1 mean + 0 z"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 500 else mean, "in the step to s = 1 this is 1 mean + 0 z"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if 0 < s < 500 else mean, "in the step to s = 900 this is 1 mean + 0 z"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s == 0 else mean, "the wrong way round"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if not s else mean, "the wrong way round"),
    (lambda mean, variance, z, s: mean + s * variance.sqrt() * z, "s itself is a factor"),
    (lambda mean, variance, z, s: mean + (s * variance).sqrt() * z, "in the step to s = 2 this is 1 mean + 1.34 z"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z * s / 1000, "in the step to s = 1 this is 1 mean"),
    (lambda mean, variance, z, s: mean + variance * z if s > 0 else mean, "z is multiplied by the variance"),
    (lambda mean, variance, z, s: mean + variance * z, "the last step, to s = 0, adds noise, too"),
    (lambda mean, variance, z, s: mean + (0.5 * variance).exp() * z if s > 0 else mean, "for a logarithm"),
    (lambda mean, variance, z, s: mean + (0.5 * variance).exp() * z, "for a logarithm"),
    (lambda mean, variance, z, s: mean + z if s > 0 else mean, "z is not scaled"),
    (lambda mean, variance, z, s: mean + z, "z is not scaled"),
    (lambda mean, variance, z, s: mean - variance.sqrt() * z if s > 0 else mean, "z is subtracted"),
    (lambda mean, variance, z, s: mean - variance.sqrt() * z, "z is subtracted"),
    (lambda mean, variance, z, s: variance.sqrt() * z if s > 0 else mean, "the mean is missing"),
    (lambda mean, variance, z, s: variance.sqrt() * z, "in the step to s = 1 this is 0 mean + 0.224 z"),
    (lambda mean, variance, z, s: z if s > 0 else mean, "in the step to s = 1 this is 0 mean + 1 z"),
    (lambda mean, variance, z, s: mean + variance**2 * z if s > 0 else mean, "in the step to s = 1 this is 1 mean + 0.0025 z"),
    (
        lambda mean, variance, z, s: mean + variance.sqrt() * z / 2 if s == 0 else mean + variance.sqrt() * z,
        "in the step to s = 0 this is 1 mean",
    ),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 0 else 0 * mean, "the last step returns zeros"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 0 else mean.clamp(-1, 1), "it also clips the mean"),
    (lambda mean, variance, z, s: (mean + variance.sqrt() * z if s > 0 else mean).clamp(-1, 1), "off by up to"),
    (lambda mean, variance, z, s: mean + math.sqrt(0.3) * z if s > 0 else mean, "in the step to s = 1 this is 1 mean + 0.548 z"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * torch.randn_like(z) if s > 0 else mean, "draw no random numbers"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z.mean() if s > 0 else mean, "off by up to"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z[:1] if s > 0 else mean, "off by up to"),
    (lambda mean, variance, z, s: (mean + variance.sqrt() * z).squeeze(1) if s > 0 else mean, "it returns shape"),
    (lambda mean, variance, z, s: (mean + variance.sqrt() * z).view(-1, 1, 4, 4) if s > 0 else mean, "it raised"),
    (lambda mean, variance, z, s: (mean + variance.sqrt() * z).bfloat16() if s > 0 else mean, "in torch.bfloat16"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 0 else mean.mean(), "it returns shape ()"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s > 0 else None, "it returns None"),
    (lambda mean, variance, z, s: (mean, variance), "it returns 2 values"),
    (lambda mean, variance, z, s: mean + variance.sqrt() * z if s.item() > 0 else mean, "it raised AttributeError"),
    (lambda mean, variance, z, s: mean + (variance + 1e-5).sqrt() * z if s > 0 else mean, "0.22363 z; expected 1 mean + 0.22361 z"),
    (lambda mean, variance, z, s: mean + variance.clamp(min=1e-3).sqrt() * z if s > 0 else mean, "in the step to s = 20"),
    (draw_zeroed_in_place, "it changes the tensors it is given"),
    (draw_into_the_mean, "it changes the tensors it is given"),
]

# ------------------------------------------------------------------------------------------------------------ 5: guided

RIGHT["check_exhibit_5"] = [
    lambda conditional, unconditional, scale: unconditional + scale * (conditional - unconditional),
    lambda conditional, unconditional, scale: (1 - scale) * unconditional + scale * conditional,
    lambda conditional, unconditional, scale: conditional + (scale - 1) * (conditional - unconditional),
    lambda conditional, unconditional, scale: torch.lerp(unconditional, conditional, scale),
    lambda conditional, unconditional, scale: unconditional.double() - scale * (unconditional - conditional),
]
WRONG["check_exhibit_5"] = [
    (lambda conditional, unconditional, scale: conditional + scale * (unconditional - conditional), "as it stands"),
    (torch.lerp, "as it stands"),
    (
        lambda conditional, unconditional, scale: conditional + scale * (conditional - unconditional),
        "this starts from the conditional prediction",
    ),
    (lambda conditional, unconditional, scale: unconditional - scale * (conditional - unconditional), ""),
    (lambda conditional, unconditional, scale: unconditional + scale * conditional, "the difference that the class makes"),
    (lambda conditional, unconditional, scale: scale * (conditional - unconditional), "the unconditional prediction is missing"),
    (lambda conditional, unconditional, scale: scale * conditional, "is not used"),
    (lambda conditional, unconditional, scale: conditional, ""),
    (lambda conditional, unconditional, scale: unconditional, ""),
    (lambda conditional, unconditional, scale: conditional - unconditional, ""),
    (lambda conditional, unconditional, scale: unconditional + 3 * (conditional - unconditional), ""),
    (lambda conditional, unconditional, scale: (unconditional + scale * conditional) / (1 + scale), ""),
    (lambda conditional, unconditional, scale: (unconditional + scale * (conditional - unconditional)).clamp(-1, 1), ""),
    (
        lambda conditional, unconditional, scale: (1 + scale) * conditional - scale * unconditional,
        "this starts from the conditional prediction",
    ),
]

# ------------------------------------------------------------------------------------------------------------ 6: noised

RIGHT["check_exhibit_6"] = [
    lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps,
    lambda x0, alpha_bar_t, eps: alpha_bar_t**0.5 * x0 + (1 - alpha_bar_t) ** 0.5 * eps,
    lambda x0, alpha_bar_t, eps: torch.sqrt(alpha_bar_t.double()) * x0 + torch.sqrt(1 - alpha_bar_t.double()) * eps,
    lambda x0, alpha_bar_t, eps: math.sqrt(alpha_bar_t) * x0 + math.sqrt(1 - alpha_bar_t) * eps,
]
WRONG["check_exhibit_6"] = [
    (lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t) * eps, "as it stands"),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t * x0 + (1 - alpha_bar_t) * eps, "both factors of (1.3) are roots"),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t * x0 + (1 - alpha_bar_t).sqrt() * eps, "the factor of x0 is a root"),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t.sqrt()) * eps, "not 1 minus the root"),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0 + 1 - alpha_bar_t.sqrt() * eps, ""),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t) ** 2 * eps, ""),
    (lambda x0, alpha_bar_t, eps: (1 - alpha_bar_t).sqrt() * x0 + alpha_bar_t.sqrt() * eps, "swapped"),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0 - (1 - alpha_bar_t).sqrt() * eps, "the noise is subtracted"),
    (lambda x0, alpha_bar_t, eps: x0 + (1 - alpha_bar_t).sqrt() * eps, "the image has to shrink"),
    (lambda x0, alpha_bar_t, eps: x0 + eps, ""),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0 + eps, ""),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0, ""),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * eps - (1 - alpha_bar_t).sqrt() * x0, ""),
    (lambda x0, alpha_bar_t, eps: (alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps).clamp(-1, 1), "your xt is clamped to [-1, 1]"),
    (lambda x0, alpha_bar_t, eps: alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * torch.randn_like(eps), "draw no random numbers"),
]

# ---------------------------------------------------------------------------------------------------------- 7: reloaded


def reloaded_by_parts(model):
    network, schedule, prediction = model.network, model.schedule, model.prediction
    return dl.Denoiser(network=network, schedule=schedule, prediction=prediction).eval()


def reloaded_and_zeroed(model):
    new = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.zero_()
    return new


def reloaded_in_half(model):
    return dl.Denoiser(copy.deepcopy(model.network).bfloat16(), model.schedule, model.prediction)


def reloaded_with_zeroed_model(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return dl.Denoiser(model.network, model.schedule, model.prediction)


def reloaded_by_assigning(model):
    model.schedule = dl.linear_schedule()
    return model


def reloaded_in_training_mode(model):
    return dl.Denoiser(model.train().network, model.schedule, model.prediction)


def rebuilt(model, load=True):
    network = dl.UNet(**model.network.config)
    if load:
        network.load_state_dict(model.network.state_dict())
    return dl.Denoiser(network, model.schedule, model.prediction)


RIGHT["check_exhibit_7"] = [
    rebuilt,
    reloaded_by_parts,
    lambda model: model,
    lambda model: dl.Denoiser(model.network, model.schedule, model.prediction),
    lambda model: dl.Denoiser(model.network, model.schedule, model.prediction, model.image_shape),
    lambda model: dl.Denoiser(copy.deepcopy(model.network), model.schedule, prediction=model.prediction),
    copy.deepcopy,
    lambda model: dl.Denoiser(model.network, dl.Schedule(model.schedule.signal, model.schedule.noise), model.prediction),
    lambda model: dl.Denoiser(model.network, model.schedule, model.prediction).requires_grad_(False),
]
WRONG["check_exhibit_7"] = [
    (lambda model: rebuilt(model, load=False), "its network's weights are not those of the model"),
    (lambda model: dl.Denoiser(model.network, dl.linear_schedule(), model.prediction), "as it stands"),
    (lambda model: dl.Denoiser(model.network, dl.linear_schedule(1000), model.prediction), "as it stands"),
    (reloaded_by_assigning, "as it stands"),
    (lambda model: dl.Denoiser(model.network, dl.cosine_schedule(), model.prediction), "wrong for the next one"),
    (lambda model: dl.Denoiser(model.network, dl.make_schedule("cosine"), model.prediction), "wrong for the next one"),
    (lambda model: dl.Denoiser(model.network, dl.sigmoid_schedule(), model.prediction), "its schedule is Schedule('sigmoid'"),
    (
        lambda model: dl.Denoiser(model.network, dl.linear_schedule(model.schedule.T), model.prediction),
        "T is the model's, the curve is not",
    ),
    (lambda model: dl.Denoiser(model.network, dl.cosine_schedule(model.schedule.T), model.prediction), "always the cosine"),
    (lambda model: dl.Denoiser(model.network, dl.make_schedule(model.schedule.name, model.schedule.T), model.prediction), "name and T"),
    (lambda model: dl.Denoiser(model.network, dl.make_schedule(model.schedule.name), model.prediction), "the name is not"),
    (lambda model: dl.Denoiser(model.network, dl.Schedule.from_alpha_bar(model.schedule.alpha_bar), model.prediction), "straight path"),
    (lambda model: dl.Denoiser(model.network, dl.Schedule.from_beta(model.schedule.beta[1:].clamp(max=0.999)), model.prediction), ""),
    (lambda model: dl.Denoiser(model.network, model.schedule), '"eps" is assumed'),
    (lambda model: dl.Denoiser(model.network, model.schedule, "eps"), '"eps" is assumed'),
    (lambda model: dl.Denoiser(model.network, model.schedule, "v"), '"v" is what the model that ships predicts'),
    (lambda model: dl.Denoiser(model.network, model.schedule, "x0"), "its prediction is 'x0', and that of the model 'v'"),
    (lambda model: dl.Denoiser(model.network, dl.linear_schedule()), "the schedule is as in the exhibit, and"),
    (lambda model: dl.Denoiser(model.network, dl.cosine_schedule(), "v"), "its schedule is Schedule('cosine', T=1000"),
    (lambda model: dl.Denoiser(model.network, dl.cosine_schedule()), "its prediction is 'eps'"),
    (lambda model: dl.Denoiser(torch.nn.Conv2d(1, 1, 3), model.schedule, model.prediction), ""),
    (lambda model: dl.Denoiser(torch.nn.Identity(), model.schedule, model.prediction), "its network's weights are not those"),
    (
        lambda model: dl.Denoiser(dl.UNet(**model.network.config), model.schedule, model.prediction),
        "its network's weights are not those of the model",
    ),
    (lambda model: dl.load_pretrained("glyphs"), "its network's weights are not those of the model"),
    (reloaded_and_zeroed, "its network's weights are not those"),
    (reloaded_in_half, "its network's weights are not those"),
    (reloaded_with_zeroed_model, "it changes the Denoiser"),
    (reloaded_in_training_mode, "it changes the Denoiser"),
    (lambda model: model.network, "it returns an UNet; expected a Denoiser"),
    (lambda model: model.schedule, "it returns a Schedule; expected a Denoiser"),
    (lambda model: (model.network, model.schedule, model.prediction), "it returns 3 values"),
    (lambda model: dl.Denoiser(model, model.schedule, model.prediction), "its network's weights are not those"),
]

# ------------------------------------------------------------------------------------------------------------- 8: betas


def line(T):
    return torch.linspace(1e-4, 0.02, T)


def betas_by_loop(T):
    return [min(0.999, 1000 / T * (1e-4 + (0.02 - 1e-4) * i / (T - 1))) for i in range(T)]


def betas_capped_in_place(T):
    beta = line(T) * 1000 / T
    beta[beta > 0.999] = 0.999
    return beta


def respaced(T):
    alpha_bar = dl.linear_schedule(1000).alpha_bar[torch.linspace(0, 1000, T + 1).long()]
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(1e-4, 0.999)


RIGHT["check_exhibit_8"] = [
    betas_by_loop,
    betas_capped_in_place,
    lambda T: (line(T) * 1000 / T).clamp(max=0.999),
    lambda T: (line(T) * 1000 / T).clamp(0, 0.999),
    lambda T: (line(T) * (1000 / T)).clamp(max=0.99),
    lambda T: (line(T) * 1000 / T).clamp(max=0.9999),
    lambda T: (line(T).double() * 1000 / T).clamp(max=1 - 1e-6),
    lambda T: torch.linspace(0.1 / T, 20 / T, T).clamp(max=0.999),
    lambda T: torch.minimum(line(T) / T * 1000, torch.tensor(0.999)),
    lambda T: np.minimum(np.linspace(1e-4, 0.02, T) * 1000 / T, 0.999),
    lambda T: dl.linear_schedule(T).beta[1:],
    lambda T: torch.tensor([min(b * 1000 / T, 0.999) for b in line(T).tolist()]),
    lambda T: (1e-4 + (0.02 - 1e-4) * torch.arange(T) / (T - 1)).mul(1000 / T).clamp(max=0.999),
]
WRONG["check_exhibit_8"] = [
    (line, "as it stands"),
    (lambda T: line(T).clamp(max=0.999), "as it stands"),
    (lambda T: line(T) * 1000 / T, "from T = 20 down it reaches 1"),
    (lambda T: torch.linspace(0.1 / T, 20 / T, T), "from T = 20 down it reaches 1"),
    (lambda T: np.linspace(0.1 / T, 20 / T, T), "from T = 20 down it reaches 1"),
    (lambda T: (line(T) * 1000 / T).clamp(max=1), "a beta of 1 leaves nothing"),
    (lambda T: (line(T) * 1000 / T).clamp(max=1 - 1e-9), "a beta of 1 leaves nothing"),
    (lambda T: (line(T) * 1000 / T).clamp(max=0.02), "the cap undoes the scaling"),
    (lambda T: (line(T) * 1000 / T).clamp(max=0.5), "cut off at 0.5"),
    (lambda T: (line(T) * 1000 / T).clamp(max=0.98), "cut off at 0.98"),
    (lambda T: (line(T) * 1000 / T).clamp(max=0.9), "cut off at 0.9"),
    (lambda T: (line(T) * 1000 / T).clamp(max=1.5), "the largest beta is 1; each has to stay below 1"),
    (lambda T: (line(T) * 1000 / T).clamp(1e-3, 0.999), "the betas run from"),
    (lambda T: (line(T) * 1000 / T) % 1, "the betas run from"),
    (lambda T: line(T) * min(1000 / T, 0.999 / 0.02), "the line is right except for a factor"),
    (lambda T: line(T) * 1000 / T / max(1, 20.1 / T), "the line is right except for a factor"),
    (lambda T: torch.linspace(0.1 / T, min(20 / T, 0.999), T), "the end of the line is capped before"),
    (lambda T: torch.linspace(0.1 / T, min(20 / T, 1), T), "capped at 1 before"),
    (lambda T: line(T) * T / 1000, "the factor is inverted"),
    (lambda T: torch.linspace(1e-4, 0.02 * 1000 / T, T), "the first is not: scale all of them; and cap"),
    (lambda T: torch.linspace(1e-4, 20 / T, T).clamp(max=0.999), "the first is not: scale all of them"),
    (lambda T: torch.linspace(0.1 / T, 0.02, T), "the first beta is scaled"),
    (lambda T: torch.linspace(0, 20 / T, T).clamp(max=0.999), "the line begins at 0"),
    (lambda T: line(T) * (1000 / T) ** 0.5, "without a root"),
    (lambda T: line(T) * (1000 / T) ** 2, "without a square"),
    (lambda T: (line(T) * (1000 / T) ** 2).clamp(max=0.999), "without a square"),
    (lambda T: line(T) * (1000 // T), "1000 // T is rounded down"),
    (lambda T: (line(T) * (1000 // T)).clamp(max=0.999), "1000 // T is rounded down"),
    (lambda T: (line(T) * max(1, 1000 // T)).clamp(max=0.999), ""),
    (lambda T: (line(T) * max(1, 1000 / T)).clamp(max=0.999), "above T = 1000 the betas are not scaled"),
    (lambda T: (torch.linspace(0.01, 0.02**0.5, T) ** 2 * 1000 / T).clamp(max=0.999), "a line of roots"),
    (lambda T: torch.linspace(0.01, 0.02**0.5, T) ** 2, "the betas run from 0.0001 to 0.02"),
    (lambda T: torch.linspace(1e-4, 0.02, 1000), "1000 entries"),
    (lambda T: torch.linspace(1e-4, 0.02, 1000)[:T], "the first T of 1000"),
    (lambda T: line(T) * 20, "the line is right except for a factor"),
    (lambda T: (line(T) * 20).clamp(max=0.999), "the line is right except for a factor"),
    (lambda T: (line(T) * 1000 / T).clamp(max=0.999) if T < 1000 else line(1000), "it returns shape (1000,); expected (4000,)"),
    (lambda T: (line(T) * 1000 / (T + 1)).clamp(max=0.999), "the line is right except for a factor: the betas are 0.98 times"),
    (lambda T: (torch.linspace(1e-4, 0.02, T + 1)[1:] * 1000 / T).clamp(max=0.999), "the betas run from"),
    (lambda T: (torch.linspace(1e-4, 0.02, T + 1) * 1000 / T).clamp(max=0.999), "it returns shape (51,); expected (50,)"),
    (lambda T: dl.linear_schedule(T).beta, "one extra entry precedes them"),
    (lambda T: dl.linear_schedule(T).beta[1:].flip(0), "the last should be the largest"),
    (lambda T: torch.linspace(0.02, 1e-4, T), "the betas run from 0.02 to 0.0001"),
    (lambda T: dl.linear_schedule(T).alpha[1:], "these are the alphas"),
    (lambda T: dl.linear_schedule(T).alpha_bar[1:], "this is alpha_bar"),
    (lambda T: dl.linear_schedule(T).alpha_bar, "it returns shape"),
    (dl.linear_schedule, "it returns a Schedule"),
    (lambda T: dl.cosine_schedule(T).beta[1:], "this is the cosine schedule"),
    (lambda T: torch.full((T,), 0.01) * 1000 / T, "all steps are equal"),
    (lambda T: (torch.full((T,), 10.05) / T).clamp(max=0.999), "all steps are equal"),
    (lambda T: (torch.full((T,), 20.0) / T).clamp(max=0.999), "all steps are equal, as large as the last"),
    (lambda T: torch.logspace(-1, math.log10(20), T).div(T).clamp(max=0.999), "the others are not"),
    (lambda T: torch.logspace(-4, math.log10(0.02), T), "the betas run from 0.0001 to 0.02"),
    (respaced, "the betas run from"),
    (lambda T: (line(T) * 1000 / T).clamp(max=0.999).bfloat16(), ""),
    (lambda T: (line(T) * 1000 / T).clamp(max=0.999).view(-1, 1), "it returns shape (50, 1)"),
    (lambda T: (line(T) * 1000 / T).clamp(max=0.999).sum(), "it returns shape ()"),
    (lambda T: (line(T) * 1000 / T).clamp(max=0.999).int(), "expected floats"),
    (torch.zeros, "the betas run from 0 to 0"),
    (torch.rand, "draw no random numbers"),
]

# ---------------------------------------------------------------------------------------------------- 9: draw_timesteps


def same_dice_every_time(T, n):
    torch.manual_seed(0)
    return torch.randint(1, T + 1, (n,))


def own_dice_every_time(T, n):
    return torch.randint(1, T + 1, (n,), generator=torch.Generator().manual_seed(0))


RIGHT["check_exhibit_9"] = [
    lambda T, n: torch.randint(1, T + 1, (n,)),
    lambda T, n: torch.randint(0, T, (n,)) + 1,
    lambda T, n: torch.randint(T, (n,)).add(1),
    lambda T, n: (torch.rand(n) * T).long() + 1,
    lambda T, n: torch.multinomial(torch.ones(T), n, replacement=True) + 1,
]
WRONG["check_exhibit_9"] = [
    (lambda T, n: torch.randint(0, T - 1, (n,)), "as it stands"),
    (lambda T, n: torch.randint(0, T, (n,)), "this draws 0 to T - 1"),
    (lambda T, n: torch.randint(1, T, (n,)), "T is never drawn"),
    (lambda T, n: torch.randint(0, T + 1, (n,)), "0 is drawn too"),
    (lambda T, n: torch.randint(1, T - 1, (n,)), ""),
    (lambda T, n: torch.randint(1, T + 2, (n,)), ""),
    (lambda T, n: torch.randint(2, T + 1, (n,)), ""),
    (lambda T, n: torch.randint(1, T + 1, (1,)).expand(n), "the same timestep"),
    (lambda T, n: torch.randint(1, T + 1, (1,)), "single timestep"),
    (lambda T, n: torch.randint(1, T + 1, ()), ""),
    (lambda T, n: torch.randint(1, T + 1, (n, 1)), "(n,)"),
    (lambda T, n: torch.arange(n) % T + 1, "count from 1 to T"),
    (lambda T, n: torch.linspace(1, T, n).round().long(), "rise from 1 to T"),
    (lambda T, n: torch.rand(n) * T + 1, "not integers"),
    (lambda T, n: torch.randint(1, T + 1, (n,)).float(), "not integers"),
    (lambda T, n: (torch.rand(n) * T).round().long(), ""),
    (lambda T, n: torch.randint(1, T + 1, (n,)).sort().values, "rise from 1 to T"),
    (same_dice_every_time, "drawn afresh"),
    (own_dice_every_time, "drawn afresh"),
]

# --------------------------------------------------------------------------------------------------------- 10: gradient


def gradient_of(loss, *argument):
    def gradient(w, target):
        w = w.clone().requires_grad_()
        value = loss(w, target)
        value.backward(*[function(value) for function in argument])
        return w.grad

    return gradient


def mse(w, target):
    return (w - target).square().mean()


def gradient_by_autograd(w, target):
    w = w.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mse(w, target), w)
    return gradient


def gradient_without_clone(w, target):
    w.requires_grad_()
    mse(w, target).backward()
    return w.grad


def gradient_twice(w, target):
    w = w.clone().requires_grad_()
    loss = mse(w, target)
    loss.backward(retain_graph=True)
    loss.backward()
    return w.grad


def gradient_by_differences(w, target):
    w, target = w.double(), target.double()
    gradient = torch.zeros_like(w)
    for i in range(w.numel()):
        step = torch.zeros_like(w)
        step.view(-1)[i] = 1e-4
        gradient.view(-1)[i] = (mse(w + step, target) - mse(w - step, target)) / 2e-4
    return gradient


def gradient_of_target(w, target):
    target = target.clone().requires_grad_()
    mse(w, target).backward()
    return target.grad


def gradient_clipped(w, target):
    w = w.clone().requires_grad_()
    mse(w, target).backward()
    torch.nn.utils.clip_grad_norm_([w], 1.0)
    return w.grad


def gradient_in_place(w, target):
    w -= target
    return 2 * w / w.numel()


def gradient_step(w, target):
    return w - 3.0 * gradient_by_autograd(w, target)


RIGHT["check_exhibit_10"] = [
    gradient_of(mse),
    gradient_of(mse, torch.ones_like),
    gradient_of(mse, lambda loss: torch.tensor(1.0)),
    gradient_of(F.mse_loss),
    gradient_of(lambda w, target: ((w - target) ** 2).sum() / w.numel()),
    gradient_by_autograd,
    gradient_without_clone,
    gradient_by_differences,
    lambda w, target: 2 * (w - target) / w.numel(),
    lambda w, target: (w - target) * (2 / w.nelement()),
    torch.func.grad(mse),
    lambda w, target: 2 * (w.numpy() - target.numpy()) / w.numpy().size,
    lambda w, target: gradient_by_autograd(w.double(), target.double()),
    lambda w, target: torch.autograd.functional.jacobian(lambda w: mse(w, target), w),
]
WRONG["check_exhibit_10"] = [
    (gradient_of(mse, lambda loss: loss), "as it stands"),
    (gradient_of(mse, lambda loss: loss.detach()), "as it stands"),
    (gradient_of(lambda w, target: mse(w, target) ** 2 / 2), "as it stands"),
    (gradient_twice, "twice the gradient"),
    (gradient_of(mse, lambda loss: torch.tensor(2.0)), "twice the gradient"),
    (lambda w, target: 4 * (w - target) / w.numel(), "twice the gradient"),
    (gradient_of(lambda w, target: (w - target).square().sum()), "the gradient of the sum"),
    (lambda w, target: 2 * (w - target), "the gradient of the sum"),
    (gradient_of(lambda w, target: (w - target).square().sum(), lambda loss: loss), "two things to fix"),
    (lambda w, target: (w - target) / w.numel(), "half the gradient"),
    (lambda w, target: w - target, "this is the error"),
    (lambda w, target: target - w, "times the gradient"),
    (lambda w, target: 2 * (w - target) / len(w), "times the gradient"),
    (lambda w, target: 2 * (w - target) / 30, "times the gradient"),
    (gradient_of(mse, lambda loss: 1 / loss), "divides the gradient by the loss"),
    (gradient_of(lambda w, target: mse(w, target).log()), "divides the gradient by the loss"),
    (gradient_of(lambda w, target: mse(w, target).sqrt()), "the gradient of the loss's root"),
    (gradient_of(mse, lambda loss: loss.sqrt()), "multiplies the gradient by the loss's root"),
    (gradient_of(lambda w, target: mse(w, target).square()), "the loss's square"),
    (gradient_of(mse, lambda loss: -torch.ones_like(loss)), "uphill"),
    (gradient_of_target, "uphill"),
    (lambda w, target: 2 * (target - w) / w.numel(), "uphill"),
    (gradient_of(mse, lambda loss: -loss), "the sign is flipped, and"),
    (gradient_of(mse, torch.zeros_like), "this is 0"),
    (gradient_of(mse, lambda loss: torch.tensor(0.5)), "half the gradient"),
    (gradient_of(mse, lambda loss: torch.tensor(3.0)), "this is 3 times the gradient"),
    (gradient_of(mse, lambda loss: loss.clamp(max=1)), "times the gradient"),
    (gradient_of(lambda w, target: (w - target).abs().mean()), "mean absolute error"),
    (lambda w, target: (w - target).sign(), "the signs are those of the gradient"),
    (gradient_of(F.smooth_l1_loss), ""),
    (mse, "this is the loss"),
    (lambda w, target: mse(w, target).expand_as(w), "off by up to"),
    (lambda w, target: F.normalize(gradient_by_autograd(w, target).flatten(), dim=0).view(w.shape), "the length is always 1"),
    (lambda w, target: gradient_by_autograd(w, target).clamp(-1, 1), "clips the gradient to [-1, 1]"),
    (gradient_clipped, "clips the gradient's length"),
    (gradient_step, "off by up to"),
    (gradient_in_place, "it changes the tensors"),
    (lambda w, target: gradient_by_autograd(w, target).norm(), "it returns shape ()"),
    (lambda w, target: gradient_by_autograd(w, target).flatten(), "it returns shape (24,); expected (4, 6)"),
    (lambda w, target: gradient_by_autograd(w, target).bfloat16(), ""),
    (lambda w, target: gradient_by_autograd(w, target) + 1e-3, "off by up to 0.001"),
    (lambda w, target: gradient_by_autograd(w, target) + 1e-2 * w, "off by up to"),
    (lambda w, target: gradient_by_autograd(w, torch.zeros_like(target)), "off by up to"),
    (lambda w, target: (mse(w, target), gradient_by_autograd(w, target)), "it returns 2 values"),
    (lambda w, target: gradient_of(mse)(w + 0.01 * torch.randn_like(w), target), "draw no random numbers"),
    (lambda w, target: mse(w, target).backward(), "it raised RuntimeError"),
]

# --------------------------------------------------------------------------------------------------------- 11: averaged


def averaged_in_place(average, weights, decay):
    return average.mul_(decay).add_(weights, alpha=1 - decay)


RIGHT["check_exhibit_11"] = [
    lambda average, weights, decay: decay * average + (1 - decay) * weights,
    lambda average, weights, decay: average + (1 - decay) * (weights - average),
    lambda average, weights, decay: torch.lerp(weights, average, decay),
    lambda average, weights, decay: average.lerp(weights, 1 - decay),
    lambda average, weights, decay: average.double() * decay + weights * (1 - decay),
]
WRONG["check_exhibit_11"] = [
    (lambda average, weights, decay: average, "as it stands"),
    (lambda average, weights, decay: average.clone(), "as it stands"),
    (lambda average, weights, decay: weights, "the weights themselves"),
    (lambda average, weights, decay: (1 - decay) * average + decay * weights, "swapped"),
    (lambda average, weights, decay: decay * average + weights, "do not sum to 1"),
    (lambda average, weights, decay: average + (1 - decay) * weights, ""),
    (lambda average, weights, decay: decay * (average + weights), ""),
    (lambda average, weights, decay: decay * average, ""),
    (lambda average, weights, decay: (average + weights) / 2, "the plain mean"),
    (lambda average, weights, decay: 0.9 * average + 0.1 * weights, ""),
    (lambda average, weights, decay: decay * average - (1 - decay) * weights, ""),
    (lambda average, weights, decay: decay * weights + (1 - decay) * weights, "the weights themselves"),
    (averaged_in_place, "it changes the tensors"),
]

# ------------------------------------------------------------------------------------------------------------ 12: saved


def saved_with(network=lambda n: n.state_dict(), optimizer=lambda o: o.state_dict(), step=lambda s: s):
    return lambda n, o, s: {"network": network(n), "optimizer": optimizer(o), "step": step(s)}


def saved_piece_by_piece(network, optimizer, step):
    checkpoint = {}
    checkpoint["network"] = network.state_dict()
    checkpoint["optimizer"] = optimizer.state_dict()
    checkpoint["step"] = step
    checkpoint["random"] = torch.get_rng_state()
    return checkpoint


def zeroed(state):
    state = copy.deepcopy(state)
    for value in state.values():
        value.zero_()
    return state


def moments_zeroed(optimizer, name="exp_avg"):
    state = copy.deepcopy(optimizer.state_dict())
    for moments in state["state"].values():
        moments[name].zero_()
    return state


def settings_changed(optimizer):
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0]["lr"] = 1e-3
    return state


def last_moments_lost(optimizer):
    state = copy.deepcopy(optimizer.state_dict())
    state["state"].popitem()
    return state


def saved_and_weights_zeroed(network, optimizer, step):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return saved_with()(network, optimizer, step)


def saved_and_optimizer_emptied(network, optimizer, step):
    optimizer.state.clear()
    return saved_with()(network, optimizer, step)


def saved_of_a_fresh_optimizer(network, optimizer, step):
    optimizer = torch.optim.AdamW(network.parameters())
    return saved_with()(network, optimizer, step)


def saved_after_another_step(network, optimizer, step):
    network(torch.ones(5, 3)).sum().backward()
    optimizer.step()
    return saved_with()(network, optimizer, step)


def saved_in_place_of_grads(network, optimizer, step):
    optimizer.zero_grad()
    return saved_with()(network, optimizer, step)


RIGHT["check_exhibit_12"] = [
    saved_with(),
    saved_piece_by_piece,
    saved_in_place_of_grads,
    lambda network, optimizer, step: copy.deepcopy(saved_with()(network, optimizer, step)),
    saved_with(network=lambda n: {name: value.clone() for name, value in n.state_dict().items()}),
    saved_with(network=lambda n: {name: value.detach().cpu() for name, value in n.state_dict().items()}),
    saved_with(network=lambda n: dict(n.named_parameters()) | dict(n.named_buffers())),
    saved_with(step=torch.tensor),
    saved_with(optimizer=lambda o: {"state": o.state_dict()["state"], "param_groups": o.state_dict()["param_groups"]}),
    lambda network, optimizer, step: dict(saved_with()(network, optimizer, step), ema=network.state_dict(), note="a run"),
]
WRONG["check_exhibit_12"] = [
    (lambda network, optimizer, step: {"network": network.state_dict(), "step": step}, "as it stands"),
    (saved_with(optimizer=lambda o: None), "'optimizer' is None; expected optimizer.state_dict()"),
    *(
        (
            lambda network, optimizer, step, key=key: {"network": network.state_dict(), key: optimizer.state_dict(), "step": step},
            f"'{key}' is not a key that `run` looks for; expected 'optimizer'",
        )
        for key in ("optim", "optimiser", "adam", "optimizer_state")
    ),
    (
        lambda network, optimizer, step: {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step},
        "'model' is not a key that `run` looks for; expected 'network'",
    ),
    (
        lambda network, optimizer, step: {"network": network.state_dict(), "exp_avg": [], "lr": 0.1, "step": step},
        "it lacks 'optimizer'",
    ),
    (saved_with(optimizer=lambda o: [o.state_dict()]), "'optimizer' is a list; expected optimizer.state_dict()"),
    (lambda network, optimizer, step: {"network": network.state_dict(), "optimizer": optimizer.state_dict()}, "the step is lost now"),
    (lambda network, optimizer, step: {"optimizer": optimizer.state_dict(), "step": step}, "the weights are missing"),
    (lambda network, optimizer, step: {"network": network.state_dict()}, "it lacks 'optimizer' and 'step'"),
    (lambda network, optimizer, step: {"step": step}, "it lacks 'network' and 'optimizer'"),
    (lambda network, optimizer, step: {}, "got none"),
    (lambda network, optimizer, step: network.state_dict(), "it lacks 'network' and 'optimizer' and 'step'"),
    (lambda network, optimizer, step: {"model": network.state_dict(), "optim": optimizer.state_dict(), "epoch": step}, "'model', 'optim'"),
    (lambda network, optimizer, step: {**network.state_dict(), **optimizer.state_dict(), "step": step}, "it lacks"),
    (lambda network, optimizer, step: (network.state_dict(), optimizer.state_dict(), step), "expected a dict"),
    (lambda network, optimizer, step: [network, optimizer, step], "expected a dict"),
    (saved_with(optimizer=lambda o: o.param_groups), "param_groups hold the settings"),
    (saved_with(optimizer=lambda o: o.state_dict()["param_groups"]), ""),
    (saved_with(optimizer=lambda o: {"param_groups": o.state_dict()["param_groups"]}), "param_groups hold the settings"),
    (saved_with(optimizer=lambda o: {"state": o.state_dict()["state"]}), "the settings (param_groups) are missing"),
    (saved_with(optimizer=lambda o: {"state": {}, "param_groups": o.state_dict()["param_groups"]}), "the optimizer's state is empty"),
    (saved_with(optimizer=lambda o: o.state_dict()["state"]), "lacks the entry 'state'"),
    (saved_with(optimizer=lambda o: o.state), "'optimizer' is optimizer.state"),
    (saved_with(optimizer=lambda o: o.defaults), "these are the optimizer's settings"),
    (saved_with(optimizer=lambda o: o), "'optimizer' is the AdamW itself"),
    (saved_with(optimizer=lambda o: {}), "lacks the entry 'state'"),
    (saved_with(optimizer=lambda o: "adam"), "'optimizer' is a str"),
    (saved_with(optimizer=moments_zeroed), "exp_avg'] is all 0"),
    (saved_with(optimizer=lambda o: moments_zeroed(o, "exp_avg_sq")), "exp_avg_sq'] is all 0"),
    (saved_with(optimizer=lambda o: moments_zeroed(o, "step")), "['step'] is all 0"),
    (saved_with(optimizer=settings_changed), "['lr'] is 0.001; expected 0.01"),
    (saved_with(optimizer=last_moments_lost), "lacks the entry 1"),
    (saved_with(network=lambda n: n), "'network' is the Linear itself"),
    (saved_with(network=lambda n: list(n.parameters())), "'network' is a list"),
    (saved_with(network=lambda n: n.parameters()), "'network' is a generator"),
    (saved_with(network=lambda n: dict(n.named_parameters())), "buffers (for example a BatchNorm's running means) are missing"),
    (saved_with(network=lambda n: dict(n.named_buffers())), "lacks the entry 'weight'"),
    (saved_with(network=lambda n: list(n.state_dict())), "'network' is a list"),
    (saved_with(network=lambda n: zeroed(n.state_dict())), "is all 0"),
    (saved_with(network=lambda n: {name: v.bfloat16() for name, v in n.state_dict().items()}), "keeps few digits"),
    (saved_with(network=lambda n: {f"module.{name}": v for name, v in n.state_dict().items()}), "lacks the entry 'weight'"),
    (saved_with(network=lambda n: {name: v.shape for name, v in n.state_dict().items()}), "is not a tensor of shape"),
    (saved_with(network=lambda n: torch.nn.Linear(3, 2).state_dict()), "draw no random numbers"),
    (saved_with(step=lambda s: s + 1), "the step after"),
    (saved_with(step=lambda s: s - 1), "the step before"),
    (saved_with(step=lambda s: 0), "the step is 0"),
    (saved_with(step=lambda s: None), "'step' is None"),
    (saved_with(step=lambda s: 7), "'step' is 7; expected 1200"),
    (saved_with(step=lambda s: 60), "'step' is 60; expected 7"),
    (saved_with(step=str), "'step' is '7'"),
    (saved_with(step=float), "'step' is 7.0"),
    (lambda network, optimizer, step: saved_with(step=lambda s: len(optimizer.state))(network, optimizer, step), "'step' is 2"),
    (
        lambda network, optimizer, step: saved_with(optimizer=lambda o: network.state_dict())(network, optimizer, step),
        "state of the network",
    ),
    (lambda network, optimizer, step: saved_with(network=lambda n: optimizer.state_dict())(network, optimizer, step), "of the optimizer"),
    (
        lambda network, optimizer, step: dict(network=optimizer.state_dict(), optimizer=network.state_dict(), step=step),
        "are swapped",
    ),
    (saved_of_a_fresh_optimizer, "the optimizer's state is empty"),
    (saved_and_weights_zeroed, "it changes the Linear"),
    (saved_and_optimizer_emptied, "it changes the AdamW"),
    (saved_after_another_step, "it changes the"),
]

# ----------------------------------------------------------------------------------------------------------- 13: pixels


def pixels_by_numpy(x):
    return np.clip(np.rint((x.numpy() + 1) * 127.5), 0, 255).astype(np.uint8)


def pixels_clamped_too_late(x):
    return ((x + 1) * 127.5).round().int().to(torch.uint8).clamp(0, 255)


def pixels_in_place(x):
    return x.clamp_(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)


def grey(scaled):
    return scaled.round().int().to(torch.uint8)


RIGHT["check_exhibit_13"] = [
    pixels_by_numpy,
    dl.to_uint8,
    lambda x: ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8),
    lambda x: ((x.clamp(-1, 1) + 1) * 127.5).round().int().to(torch.uint8),
    lambda x: ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8),
    lambda x: ((x + 1) * 127.5).round().int().clamp(0, 255).to(torch.uint8),
    lambda x: ((x + 1) / 2).clamp(0, 1).mul(255).round().byte(),
    lambda x: ((x + 1) / 2).mul(255).add(0.5).clamp(0, 255).to(torch.uint8),
    lambda x: ((x.clamp(-1, 1) + 1) * 127.5 + 0.5).floor().to(torch.uint8),
    lambda x: (x.clamp(-1, 1) * 127.5 + 127.5).round().type(torch.uint8),
    lambda x: (F.hardtanh(x.double()) * 127.5 + 127.5).round().to(torch.uint8),
    lambda x: torch.stack([((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8) for image in x]),
    lambda x: torch.bucketize(x, (torch.arange(255) + 0.5) / 127.5 - 1).to(torch.uint8),
]
WRONG["check_exhibit_13"] = [
    (lambda x: grey((x + 1) * 127.5), "as it stands"),
    (pixels_clamped_too_late, "as it stands"),
    (lambda x: ((x + 1) * 127.5).round().long().to(torch.uint8), "as it stands"),
    (lambda x: (((x + 1) * 127.5).round() % 256).to(torch.uint8), "as it stands"),
    (lambda x: grey((x.clamp(min=-1) + 1) * 127.5), "the dark end is clipped"),
    (lambda x: grey((F.relu(x + 1)) * 127.5), "the dark end is clipped"),
    (lambda x: grey((x.clamp(max=1) + 1) * 127.5), "the bright end is clipped"),
    (lambda x: ((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8), "without round"),
    (lambda x: ((x.clamp(-1, 1) + 1) * 127.5).floor().byte(), "without round"),
    (lambda x: ((x + 1) * 127.5).clamp(0, 255).int().to(torch.uint8), "without round"),
    (lambda x: ((x + 1) * 127.5).int().to(torch.uint8), "nothing is clipped yet"),
    (lambda x: ((x.clamp(-1, 1) + 1) * 127.5).ceil().to(torch.uint8), "ceil raises"),
    (lambda x: grey(x.clamp(0, 1) * 255), "half of the greys are cut off"),
    (lambda x: grey((x * 255).clamp(0, 255)), "half of the greys are cut off"),
    (lambda x: grey(x.clamp(-1, 1) * 255), "the 1 is not added"),
    (lambda x: grey(x.clamp(-1, 1) * 127.5), "the 1 is not added"),
    (lambda x: grey((x.clamp(-1, 1) * 127.5).clamp(0, 255)), "becomes"),
    (lambda x: grey((x.clamp(-1, 1) + 1) * 255), "with 255, half wraps around"),
    (lambda x: grey(((x + 1) * 255).clamp(0, 255)), "becomes"),
    (lambda x: grey((x.clamp(-1, 1) + 1) * 128), "with 128, white is 256"),
    (lambda x: grey((x.clamp(-1, 1) + 1) * 127), "white is 254"),
    (lambda x: grey(((x + 1) * 128).clamp(0, 255)), "off by one"),
    (lambda x: ((x.clamp(-1, 1) + 1) * 128).clamp(max=255).to(torch.uint8), "256 equal parts"),
    (lambda x: ((x + 1) / 2 * 256).clamp(0, 255).to(torch.uint8), "256 equal parts"),
    (lambda x: 255 - dl.to_uint8(x), "the negative"),
    (lambda x: dl.to_uint8(-x), "the negative"),
    (lambda x: grey((x.clamp(-1, 1) + 1).round() * 127.5), "round comes too early"),
    (lambda x: grey((x.tanh() + 1) * 127.5), "tanh bends"),
    (lambda x: grey(x.sigmoid() * 255), "a sigmoid bends"),
    (lambda x: grey((x - x.min()) / (x.max() - x.min()) * 255), "exhibit 14"),
    (lambda x: ((x - x.min()) / (x.max() - x.min()) * 255).to(torch.uint8), "exhibit 14"),
    (lambda x: dl.to_uint8(2 * (x - x.min()) / (x.max() - x.min() + 1e-8) - 1), "exhibit 14"),
    (lambda x: torch.cat([grey((i - i.min()) / (i.max() - i.min()) * 255)[None] for i in x]), "exhibit 14"),
    (lambda x: grey((x.clamp(-0.9, 0.9) + 1) * 127.5), "becomes"),
    (lambda x: grey((x.clamp(-2, 1) + 1) * 127.5), "values inside [-1, 1] are right; of those outside"),
    (lambda x: grey((torch.where(x.abs() > 1, 0, x) + 1) * 127.5), "values inside [-1, 1] are right; of those outside"),
    (lambda x: grey(x.abs().clamp(max=1) * 255), "becomes"),
    (lambda x: dl.to_uint8(x).int(), "it returns torch.int32; expected bytes, torch.uint8"),
    (lambda x: dl.to_uint8(x).long(), "it returns torch.int64; expected bytes, torch.uint8"),
    (lambda x: ((x + 1) * 127.5).round().int(), "it returns torch.int32, and values from"),
    (lambda x: ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.int8), "it returns torch.int8, and values from -128 to 127"),
    (lambda x: ((x.clamp(-1, 1) + 1) * 127.5).round(), "it returns torch.float32; expected bytes"),
    (lambda x: (x.clamp(-1, 1) + 1) / 2, "it returns torch.float32, in 0 to 1; expected bytes"),
    (lambda x: (x.clamp(-1, 1) + 1) * 127.5, "it returns torch.float32; expected bytes"),
    (lambda x: dl.to_uint8(x).tolist(), ""),
    (lambda x: dl.to_uint8(x).numpy().tobytes(), "it returns a bytes"),
    (lambda x: dl.to_uint8(x.bfloat16()), "off by one"),
    (lambda x: ((x.clamp(-1, 1).half() + 1) * 127.5).round().to(torch.uint8), ""),
    (lambda x: dl.to_uint8(x) // 2 * 2, "off by one"),
    (lambda x: dl.to_uint8(x).squeeze(1), "it returns shape"),
    (lambda x: dl.to_uint8(x).permute(0, 2, 3, 1), "it returns shape (4, 16, 16, 1); expected (4, 1, 16, 16)"),
    (lambda x: dl.to_uint8(x)[0], "it returns shape"),
    (lambda x: dl.to_uint8(x).flatten(), "it returns shape"),
    (lambda x: dl.to_uint8(x).view(-1, 1, 16, 16), "it raised RuntimeError"),
    (pixels_in_place, "it changes the tensors"),
    (lambda x: dl.to_uint8(x + 0.1 * torch.rand_like(x)), "draw no random numbers"),
    (lambda x: torch.zeros_like(x, dtype=torch.uint8), "becomes 0"),
    (lambda x: dl.to_uint8(x) > 127, "it returns torch.bool"),
]

# ------------------------------------------------------------------------------------------------------------ 14: shown


def shown_of_each_image(x):
    low, high = x.amin(dim=(1, 2, 3), keepdim=True), x.amax(dim=(1, 2, 3), keepdim=True)
    return (x - low) / (high - low)


def shown_by_loop(x):
    return torch.stack([(image.clamp(-1, 1) + 1) / 2 for image in x])


RIGHT["check_exhibit_14"] = [
    shown_by_loop,
    lambda x: (x.clamp(-1, 1) + 1) / 2,
    lambda x: x.clamp(-1, 1) / 2 + 0.5,
    lambda x: ((x + 1) / 2).clamp(0, 1),
    lambda x: (x.double() * 0.5 + 0.5).clip(0, 1),
    lambda x: torch.clamp((x + 1) * 0.5, 0.0, 1.0),
    lambda x: F.hardtanh(x).add(1).div(2),
    lambda x: F.hardtanh(x * 0.5 + 0.5, 0, 1),
    lambda x: np.clip((x.numpy() + 1) / 2, 0, 1),
    lambda x: (x.clamp(-1, 1) - -1) / (1 - -1),
    lambda x: 1 - (1 - x.clamp(-1, 1)) / 2,
]
WRONG["check_exhibit_14"] = [
    (lambda x: (x - x.min()) / (x.max() - x.min()), "as it stands"),
    (shown_of_each_image, "each image is stretched"),
    (lambda x: torch.stack([(i - i.min()) / (i.max() - i.min()) for i in x]), "each image is stretched"),
    (lambda x: (x - x.amin((2, 3), True)) / (x.amax((2, 3), True) - x.amin((2, 3), True)), "each channel is stretched"),
    (lambda x: (x - x.min()) / (x.max() - x.min() + 1e-8), "whatever they are"),
    (lambda x: (x.clamp(-1, 1) - x.clamp(-1, 1).min()) / (x.clamp(-1, 1).max() - x.clamp(-1, 1).min()), "clipped, and then stretched"),
    (lambda x: (x - x.min()) / 2, ""),
    (lambda x: (x / x.abs().max() + 1) / 2, "own largest value"),
    (lambda x: x / x.max(), "own largest value"),
    (lambda x: (x - x.mean()) / x.std(), "it returns values from"),
    (lambda x: (x + 1) / 2, "clip first"),
    (lambda x: x / 2 + 0.5, "clip first"),
    (lambda x: (x.clamp(min=-1) + 1) / 2, "the dark end is clipped"),
    (lambda x: (x.clamp(max=1) + 1) / 2, "the bright end is clipped"),
    (lambda x: x.clamp(-1, 1), "still in [-1, 1]"),
    (lambda x: x.clamp(-1, 1) / 2, "[-0.5, 0.5]"),
    (lambda x: x.clamp(-1, 1) + 1, "in [0, 2]"),
    (lambda x: x + 1, "nothing is clipped"),
    (lambda x: x.clamp(-1, 1) / 2 + 1, "after dividing"),
    (lambda x: x, "it returns values from"),
    (lambda x: x.clamp(0, 1), "everything darker than mid-grey becomes black"),
    (F.relu, "it returns values from"),
    (lambda x: (x.clamp(0, 1) + 1) / 2, "becomes mid-grey"),
    (lambda x: x.abs().clamp(max=1), "the sign is lost"),
    (torch.sigmoid, "a sigmoid bends"),
    (lambda x: (x.tanh() + 1) / 2, "tanh bends"),
    (lambda x: 1 - (x.clamp(-1, 1) + 1) / 2, "this is the negative"),
    (lambda x: (1 - x.clamp(-1, 1)) / 2, "this is the negative"),
    (lambda x: (x.clamp(-1, 1) + 1) * 127.5, "in [0, 255]"),
    (dl.to_uint8, "these are bytes"),
    (lambda x: dl.to_uint8(x) / 255, "rounded to bytes"),
    (lambda x: ((x.clamp(-1, 1) + 1) / 2).round(), "becomes"),
    (lambda x: (x.clamp(-0.9, 0.9) + 1) / 2, "becomes"),
    (lambda x: (torch.where(x.abs() > 1, 0, x) + 1) / 2, "those outside should become 0 or 1"),
    (lambda x: ((x.clamp(-1, 1) + 1) / 2) ** (1 / 2.2), "becomes"),
    (lambda x: ((x.clamp(-1, 1) + 1) / 2).bfloat16(), ""),
    (lambda x: ((x.clamp(-1, 1) + 1) / 2).squeeze(), "it returns shape"),
    (lambda x: ((x.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1), "it returns shape"),
    (lambda x: ((x.clamp(-1, 1) + 1) / 2).view(-1, 1, 8, 8), "it raised"),
    (lambda x: x.clamp_(-1, 1).add(1).div(2), "it changes the tensors"),
    (lambda x: x.clamp(-1, 1).add(1).div(2).mean(), "it returns shape ()"),
    (lambda x: (x.min(), x.max()), "it returns shape (2,)"),
    (torch.rand_like, "draw no random numbers"),
    (lambda x: torch.full_like(x, torch.nan), "it returns nan"),
    (lambda x: (x - x.min()) / (x.max() - x.min()) if x.max() > x.min() else x, "whatever they are"),
]

# --------------------------------------------------------------------------------------------------------- 15: reported


def counted(reads):
    return int(reads.sum()), len(reads)


def wald(reads, z=1.96):
    k, n = counted(reads)
    return k / n, z * math.sqrt(k / n * (1 - k / n) / n)


def wilson(reads, z=1.96):
    k, n = counted(reads)
    p, whole = k / n, 1 + z**2 / n
    return (p + z**2 / (2 * n)) / whole, z / whole * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))


def wilson_in_tensors(reads):
    p, n, z = reads.float().mean(), len(reads), 1.96
    return (p + z**2 / (2 * n)) / (1 + z**2 / n), z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)).sqrt()


def wilson_around_p(reads):
    return reads.float().mean(), wilson(reads)[1]


def wilson_by_its_ends(reads):
    centre, half = wilson(reads)
    low, high = centre - half, centre + half
    return (low + high) / 2, (high - low) / 2


def agresti_coull(reads, more=1.96**2 / 2, z=1.96):
    k, n = counted(reads)
    p = (k + more) / (n + 2 * more)
    return p, z * math.sqrt(p * (1 - p) / (n + 2 * more))


def tail(k, n, p):
    """P(X >= k) of n draws."""
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


def root(increasing, target):
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < target else (low, middle)
    return low


def r_prop_test(reads):
    k, n = counted(reads)
    p, z = k / n, 1.96
    low = (2 * k + z**2 - (1 + z * math.sqrt(z**2 - 1 / n + 4 * k * (1 - p) + 4 * p - 2))) / (2 * (n + z**2)) if k else 0
    high = (2 * k + z**2 + (1 + z * math.sqrt(z**2 - 1 / n + 4 * k * (1 - p) - 4 * p + 2))) / (2 * (n + z**2)) if k < n else 1
    return (low + high) / 2, (high - low) / 2


def clopper_pearson(reads):
    k, n = counted(reads)
    low = root(lambda p: tail(k, n, p), 0.025) if k else 0.0
    high = root(lambda p: tail(k + 1, n, p), 0.975) if k < n else 1.0
    return (low + high) / 2, (high - low) / 2


def clopper_pearson_around_p(reads):
    return reads.float().mean(), clopper_pearson(reads)[1]


def wald_or_rule_of_three(reads):
    p, half = wald(reads)
    return p, half or 3 / len(reads)


def wald_or_wilson(reads):
    return wilson(reads) if wald(reads)[1] == 0 else wald(reads)


def floored(least):
    return lambda reads: (wald(reads)[0], max(least, wald(reads)[1]))


def unbiased(reads):
    return reads.float().mean(), 1.96 * reads.float().std() / len(reads) ** 0.5


def wilson_with_n_minus_1(reads):
    p, n, z = reads.float().mean(), len(reads), 1.96
    return p, z / (1 + z**2 / n) * (p * (1 - p) / (n - 1) + z**2 / (4 * n**2)).sqrt()


def bootstrapped(reads):
    means = torch.stack([reads[torch.randint(len(reads), (len(reads),))].float().mean() for _ in range(200)])
    return reads.float().mean(), 1.96 * means.std()


def scaled(function, first=1, second=1):
    return lambda reads: (first * function(reads)[0], second * function(reads)[1])


RIGHT["check_exhibit_15"] = [
    wilson,
    wilson_in_tensors,
    wilson_around_p,
    wilson_by_its_ends,
    agresti_coull,
    clopper_pearson,
    clopper_pearson_around_p,
    r_prop_test,
    wald_or_rule_of_three,
    wald_or_wilson,
    lambda reads: agresti_coull(reads, more=2),
    lambda reads: wilson(reads, z=1.959964),
    lambda reads: list(wilson(reads)),
    lambda reads: torch.tensor(wilson(reads)),
    lambda reads: np.array(wilson(reads)),
    lambda reads: map(torch.tensor, wilson(reads)),
]
WRONG["check_exhibit_15"] = [
    (lambda reads: reads.float().mean(), "as it stands"),
    (lambda reads: reads.sum() / len(reads), "as it stands"),
    (lambda reads: 100 * reads.float().mean(), ""),
    (lambda reads: reads.sum(), ""),
    (wald, "the interval is empty, as if 16 images could prove"),
    (lambda reads: (reads.float().mean(), 1.96 * (reads.float().var(unbiased=False) / len(reads)).sqrt()), "as if 16 images could prove"),
    (lambda reads: wald(reads, 1.959964), "as if 16 images could prove"),
    (lambda reads: wald(reads) if wald(reads)[1] == 0 else wilson(reads), "as if 16 images could prove"),
    (lambda reads: (wald(reads)[0], wald(reads)[1] + 1e-12), ""),
    (floored(1e-3), "for 16 of 16; expected"),
    (lambda reads: wald(reads) if wald(reads)[1] else (wald(reads)[0], 0.1), "for 400 of 400; expected"),
    (lambda reads: wald(reads) if wald(reads)[1] else (wald(reads)[0], 0.07), "for 400 of 400; expected"),
    (floored(0.01), "for 16 of 16; expected"),
    (floored(0.5), "half the width is 0.5 for 281 of 400"),
    (unbiased, "n - 1"),
    (wilson_with_n_minus_1, "half the width is"),
    (
        lambda reads: (wald(reads)[0], 1.96 * math.sqrt(wald(reads)[0] * (1 - wald(reads)[0]))),
        "the standard deviation of single images; that of their mean",
    ),
    (lambda reads: (wald(reads)[0], wald(reads)[1] / len(reads) ** 0.5), "n is under the root"),
    (lambda reads: wald(reads, 1), "one standard error"),
    (lambda reads: wald(reads, 2 * 1.96), "the whole width"),
    (lambda reads: wald(reads, 1.645), "1.645 standard errors, for 90%"),
    (lambda reads: wald(reads, 2), "2 standard errors"),
    (lambda reads: wald(reads, 2.576), "2.576 standard errors, for 99%"),
    (lambda reads: wilson(reads, 1), "one standard error, for 68%"),
    (lambda reads: wilson(reads, 2.576), "for 99%"),
    (lambda reads: wilson(reads, 2), "for 95.4%"),
    (lambda reads: (wald(reads)[0], 1.96 * wald(reads)[0] * (1 - wald(reads)[0]) / len(reads)), "this uses a variance"),
    (lambda reads: (wald(reads)[0], wald(reads)[0] * (1 - wald(reads)[0]) / len(reads)), "the variance of the mean"),
    (lambda reads: (wald(reads)[0], 1.96 / len(reads) ** 0.5), "this ignores p"),
    (lambda reads: (wald(reads)[0], 0.98 / len(reads) ** 0.5), "the width at p = 0.5"),
    (lambda reads: (wald(reads)[0], 0.1), "half the width is 0.1 for 281 of 400"),
    (lambda reads: (wald(reads)[0], 0.0), "half the width is 0 for"),
    (lambda reads: wald(reads)[::-1], "in the other order"),
    (lambda reads: wilson(reads)[::-1], "in the other order"),
    (scaled(wald, 100, 100), "percent"),
    (scaled(wilson, 100, 100), "percent"),
    (scaled(wilson, 1, 2), "the whole width"),
    (scaled(wilson, 1, -1), "expected a positive number"),
    (scaled(wilson, 1, 1.05), "half the width is"),
    (lambda reads: (1 - wilson(reads)[0], wilson(reads)[1]), "half the width is right; the first number is"),
    (lambda reads: (0.7, wilson(reads)[1]), "half the width is right; the first number is 0.7"),
    (lambda reads: (reads.sum(), wilson(reads)[1]), "half the width is right; the first number is 281"),
    (lambda reads: (wilson(reads)[0] - wilson(reads)[1], wilson(reads)[0] + wilson(reads)[1]), "the two ends"),
    (lambda reads: (wald(reads)[0] - wald(reads)[1], wald(reads)[0] + wald(reads)[1]), "the two ends"),
    (lambda reads: (wald(reads)[0], wilson(reads)[0] - wilson(reads)[1], wilson(reads)[0] + wilson(reads)[1]), "it returns 3 values"),
    (lambda reads: (*wilson(reads), len(reads)), "it returns 3 values"),
    (lambda reads: [wilson(reads)], "it returns 1 value"),
    (lambda reads: f"{wilson(reads)[0]} ± {wilson(reads)[1]}", "it returns"),
    (lambda reads: dict(p=wilson(reads)[0], half=wilson(reads)[1]), "it returns a dict"),
    (lambda reads: (math.nan, math.nan), "are no interval"),
    (lambda reads: (wilson(reads)[0], math.nan), "are no interval"),
    (lambda reads: (wilson(reads)[0], math.inf), "are no interval"),
    (bootstrapped, "draw no random numbers"),
    (scaled(wilson, 1, 1 / 1.96), "z in front of the root is missing"),
    (lambda reads: (reads.float().mean(), reads.float().std()), "the standard deviation of single images (by n - 1)"),
    (lambda reads: (reads.float().mean(), reads.float().std(unbiased=False)), "the standard deviation of single images, not"),
    (lambda reads: (wilson(reads)[0], wilson(reads)[1] * (1 + 1.96**2 / len(reads))), "the division by 1 + z^2 / n is missing"),
    (lambda reads: (1.0, 0.1), ""),
    (lambda reads: wilson(reads[:16]), "half the width is"),
    (lambda reads: wilson(reads) if len(reads) > 16 else (1.0, 0.3), ""),
]

# ------------------------------------------------------------------------------------------------------------ room 5: patients

# the line that was changed, and what the check should say of each other suspect
PATIENTS = {
    "a": (
        7,
        {1: "wrong class", 2: "hardly shows", 3: "Both are grey", 4: "one smear", 5: "identical", 6: "grain", 8: "specks", 9: "static"},
    ),
    "b": (
        1,
        {2: "hardly shows", 3: "grey static", 4: "Variety decides", 5: "Variety decides", 6: "grain", 7: "range", 8: "specks", 9: "static"},
    ),
    "c": (9, {1: "wrong class", 2: "hardly shows", 3: "letters can", 4: "smear", 5: "identical", 6: "about 1", 7: "range", 8: "largest"}),
    "d": (
        5,
        {
            1: "wrong class",
            2: "hardly",
            3: "grey",
            4: "classes decides: here it is larger",
            6: "grain",
            7: "range",
            8: "specks",
            9: "static",
        },
    ),
    "e": (
        6,
        {1: "wrong class", 2: "after the last clip", 3: "grey", 4: "smear", 5: "identical", 7: "range", 8: "is above 1", 9: "about 0.1"},
    ),
    "f": (
        4,
        {
            1: "Variety decides: here it is 0",
            2: "hardly",
            3: "grey",
            5: "here it is 0 as well",
            6: "grain",
            7: "range",
            8: "specks",
            9: "static",
        },
    ),
}
for letter, (guilty, others) in PATIENTS.items():
    RIGHT[f"check_patient_{letter}"] = [guilty, float(guilty), torch.tensor(guilty), np.int64(guilty), np.float32(guilty)]
    WRONG[f"check_patient_{letter}"] = [
        *others.items(),
        (0, "0 is no suspect; expected 1 to 9"),
        (10, "10 is no suspect"),
        (-guilty, "is no suspect"),
        (guilty + 0.5, "is no suspect"),
        (str(guilty), "this is a str; expected a number"),
        ([guilty], "this is a list; expected a number"),
        (True, "this is a bool; expected a number"),
        (math.nan, "this is not a number"),
        (math.inf, "inf is no suspect"),
        (lambda: 7, "this is a function; expected a number"),
    ]
