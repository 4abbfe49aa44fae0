"""Answers to the exercises of notebook 03."""

import math
import random

import numpy as np
import torch
import torch.nn.functional as F

# ------------------------------------------------------------------------------------------------------------------ timesteps


def _seeded(T, n):
    torch.manual_seed(0)
    return torch.randint(1, T + 1, (n,))


def _seeded_in_numpy(T, n):
    np.random.seed(1)
    return torch.tensor(np.random.randint(1, T + 1, n))


def _seeded_by_arguments(T, n):
    torch.manual_seed(T + n)
    return torch.randint(1, T + 1, (n,))


def _antithetic(T, n):
    half = torch.randint(1, T + 1, (n // 2 + 1,))
    return torch.cat([half, T + 1 - half])[:n]


RIGHT_TIMESTEPS = [
    lambda T, n: torch.randint(1, T + 1, (n,)),
    lambda T, n: torch.randint(1, T + 1, [n]),
    lambda T, n: torch.randint(low=1, high=T + 1, size=(n,)),
    lambda T, n: torch.randint(T, (n,)) + 1,
    lambda T, n: T - torch.randint(0, T, (n,)),
    lambda T, n: 1 + torch.randint_like(torch.empty(n), T).long(),
    lambda T, n: (torch.rand(n) * T).long() + 1,
    lambda T, n: (torch.rand(n) * T).ceil().clamp(min=1).long(),
    lambda T, n: torch.multinomial(torch.ones(T), n, replacement=True) + 1,
    lambda T, n: torch.empty(n, dtype=torch.long).random_(1, T + 1),
    lambda T, n: torch.tensor([random.randint(1, T) for _ in range(n)]),
    lambda T, n: torch.as_tensor(np.random.randint(1, T + 1, n)),
    lambda T, n: torch.from_numpy(np.random.default_rng().integers(1, T, n, endpoint=True)),
    lambda T, n: torch.randint(1, T + 1, (n,), dtype=torch.int32),
    lambda T, n: torch.arange(1, T + 1)[torch.randint(0, T, (n,))],
    lambda T, n: torch.cat([torch.randint(1, T + 1, (1,)) for _ in range(n)]),
    _antithetic,
    lambda T, n: torch.distributions.Categorical(torch.ones(T)).sample((n,)) + 1,
    lambda T, n: torch.randint(1, T + 1, (n, 1)).squeeze(1),
]
WRONG_TIMESTEPS = [
    (lambda T, n: torch.randint(0, T, (n,)).clamp(min=1), "and T is never drawn"),
    # the range
    (lambda T, n: torch.randint(1, T, (n,)), "T is never drawn"),
    (lambda T, n: torch.randint(0, T, (n,)), "this draws 0 to T - 1"),
    (lambda T, n: torch.randint(T, (n,)), "this draws 0 to T - 1"),
    (lambda T, n: torch.randint(0, T + 1, (n,)), "0 is drawn too"),
    (lambda T, n: torch.randint(0, T - 1, (n,)), "this draws 0 to T - 2"),
    (lambda T, n: torch.randint(1, T + 2, (n,)), "T + 1 is drawn too"),
    (lambda T, n: torch.randint(2, T + 1, (n,)), "1 is never drawn"),
    (lambda T, n: torch.randint(T, (n,)) + 2, "this draws 2 to T + 1"),
    (lambda T, n: torch.randint(1, 1001, (n,)), "expected all of 1 to 5"),
    (lambda T, n: torch.randint(1, 6, (n,)), "expected all of 1 to 3"),
    (lambda T, n: torch.randint(-T, 0, (n,)), "from -5 to -1"),
    (lambda T, n: 2 * torch.randint(1, T + 1, (n,)), "from 2 to 10"),
    (lambda T, n: torch.randint(1, T + 1, (n,)) // 2 * 2 + 1, "different timesteps from 1 to 5"),
    # what is drawn
    (lambda T, n: torch.rand(n), "these are not integers"),
    (lambda T, n: torch.rand(n) * T, "these are not integers"),
    (lambda T, n: (torch.rand(n) * T).floor() + 1, "these are not integers"),
    (lambda T, n: torch.randint(1, T + 1, (n,)).float(), "these are not integers"),
    (lambda T, n: torch.randint(1, T + 1, (n,)) / T, "these are not integers"),
    (lambda T, n: torch.randint(1, T + 1, (n,)).to(torch.uint8), "uint8 ends at 255"),
    (lambda T, n: torch.randint(1, T + 1, (n,)).to(torch.int8), "from -128 to 127"),
    (lambda T, n: torch.randint(1, T + 1, (n,)).tolist(), "this is a list"),
    (lambda T, n: [random.randint(1, T) for _ in range(n)], "this is a list"),
    (lambda T, n: random.randint(1, T), "it returns"),
    # not equally likely
    (lambda T, n: (torch.rand(n) * (T - 1) + 1).round().long(), "rounding makes 1 and T half as frequent"),
    (lambda T, n: torch.randint(0, T + 1, (n,)).clamp(min=1), "0 is drawn and becomes 1"),
    (lambda T, n: torch.randint(0, T + 1, (n,)).clamp(1, T), "0 is drawn and becomes 1"),
    (lambda T, n: torch.randint(1, T + 2, (n,)).clamp(1, T), "T + 1 is drawn and becomes T"),
    (lambda T, n: (torch.rand(n) ** 2 * T).long() + 1, "not all are equally likely: 1 comes"),
    (lambda T, n: (torch.randn(n) * T / 4 + T / 2).long().clamp(1, T), "not all are equally likely"),
    (lambda T, n: torch.randint(1, T + 1, (n,)).minimum(torch.randint(1, T + 1, (n,))), "not all are equally likely"),
    (lambda T, n: torch.multinomial(torch.arange(1.0, T + 1), n, True) + 1, "not all are equally likely: 5 comes"),
    # not random, or the same at every call
    (lambda T, n: torch.linspace(1, T, n).round().long(), "rise from 1 to T"),
    (lambda T, n: torch.linspace(1, T, n).long(), "rise from 1 to T"),
    (lambda T, n: torch.arange(n) % T + 1, "again and again"),
    (lambda T, n: torch.arange(1, n + 1), "they are 1 to n"),
    (lambda T, n: torch.randint(1, T + 1, (n,)).sort().values, "rise from 1 to T"),
    (lambda T, n: (torch.arange(n) + torch.randint(T, (1,))) % T + 1, "again and again"),
    (lambda T, n: torch.full((n,), T), "every image gets the same timestep"),
    (lambda T, n: torch.full((n,), 500), "every image gets the same timestep"),
    (lambda T, n: torch.ones(n, dtype=torch.long), "every image gets the same timestep"),
    (lambda T, n: torch.randint(1, T + 1, (n,), generator=torch.Generator().manual_seed(0)), "drawn afresh"),
    (_seeded, "drawn afresh"),
    (_seeded_in_numpy, "drawn afresh"),
    (_seeded_by_arguments, "drawn afresh"),
    (lambda T, n: torch.tensor(np.random.default_rng(0).integers(1, T + 1, n)), "drawn afresh"),
    (lambda T, n: torch.randint(1, T + 1, (n,)).bool(), "it returns torch.bool"),
    # number and shape
    (lambda T, n: torch.randint(1, T + 1, (1,)), "this is a single timestep"),
    (lambda T, n: torch.randint(1, T + 1, ()), "this is a single timestep"),
    (lambda T, n: torch.randint(1, T + 1, (1,)).expand(n), "every image gets the same timestep"),
    (lambda T, n: torch.randint(1, T + 1, (1,)).repeat(n), "every image gets the same timestep"),
    (lambda T, n: torch.randperm(T)[:n] + 1, "randperm never repeats"),
    (lambda T, n: torch.randperm(n) + 1, "1 to n in random order"),
    (lambda T, n: torch.randint(1, n + 1, (T,)), "these are T timesteps"),
    (lambda T, n: torch.randint(1, T + 1, (T,)), "these are T timesteps"),
    (lambda T, n: torch.randint(1, T + 1, (n, 1)), "the shape is wrong: expected (n,)"),
    (lambda T, n: torch.randint(1, T + 1, (1, n)), "the shape is wrong: expected (n,)"),
    (lambda T, n: torch.randint(1, T + 1, (n, n))[0] if n < 10 else torch.randint(1, T + 1, (n + 1,)), "returns shape (9501,)"),
    (lambda T, n: torch.randint(1, T + 1, (n,)).squeeze(), "returns shape ()"),
    (lambda T, n: torch.randint(1, T + 1, (128,)), "returns shape (128,)"),
    (lambda T, n: torch.randint(1, T + 1, (9500,)), "returns shape (9500,)"),
    (lambda T, n: torch.randint(1, T + 1, n), "randint needs a tuple as its size: (n,)"),
    (lambda T, n: torch.randint(1, T + 1, size=n), "randint needs a tuple as its size: (n,)"),
    (lambda T, n: torch.randint(1, T + 1, "n"), "it raised TypeError"),
]

# ------------------------------------------------------------------------------------------------------- velocity, and back


def _v_by_einsum(x0, eps, alpha_bar_t):
    factors = torch.stack([-(1 - alpha_bar_t).sqrt(), alpha_bar_t.sqrt()]).to(x0)
    return torch.einsum("k,kbchw->bchw", factors, torch.stack([x0, eps]))


def _v_by_angle(x0, eps, alpha_bar_t):
    phi = torch.atan2((1 - alpha_bar_t).sqrt(), alpha_bar_t.sqrt())
    return phi.cos() * eps - phi.sin() * x0


def _x0_by_eps(xt, v, alpha_bar_t):
    eps = alpha_bar_t.sqrt() * v + (1 - alpha_bar_t).sqrt() * xt
    return (xt - (1 - alpha_bar_t).sqrt() * eps) / alpha_bar_t.sqrt()


def _x0_by_system(xt, v, alpha_bar_t):
    s, n = alpha_bar_t.sqrt().item(), (1 - alpha_bar_t).sqrt().item()
    rows = torch.stack([xt.flatten(), v.flatten()]).double()
    return torch.linalg.solve(torch.tensor([[s, n], [-n, s]], dtype=torch.float64), rows)[0].reshape(xt.shape)


RIGHT_V = [
    lambda x0, eps, ab: ab.sqrt() * eps - (1 - ab).sqrt() * x0,
    lambda x0, eps, ab: ab**0.5 * eps - (1 - ab) ** 0.5 * x0,
    lambda x0, eps, ab: torch.sqrt(ab) * eps - torch.sqrt(1.0 - ab) * x0,
    lambda x0, eps, ab: math.sqrt(ab) * eps - math.sqrt(1 - ab) * x0,
    lambda x0, eps, ab: np.sqrt(float(ab)) * eps.numpy() - np.sqrt(1 - float(ab)) * x0.numpy(),
    lambda x0, eps, ab: ab.view(-1, 1, 1, 1).sqrt() * eps - (1 - ab.view(-1, 1, 1, 1)).sqrt() * x0,
    lambda x0, eps, ab: (eps - (1 - ab).sqrt() * (ab.sqrt() * x0 + (1 - ab).sqrt() * eps)) / ab.sqrt(),
    lambda x0, eps, ab: -((1 - ab).sqrt() * x0 - ab.sqrt() * eps),
    lambda x0, eps, ab: ab.double().sqrt() * eps.double() - (1 - ab.double()).sqrt() * x0.double(),
    lambda x0, eps, ab: torch.sub(ab.sqrt() * eps, x0, alpha=(1 - ab).sqrt().item()),
    lambda x0, eps, ab: torch.stack([ab.sqrt() * e - (1 - ab).sqrt() * x for x, e in zip(x0, eps, strict=True)]),
    _v_by_einsum,
    _v_by_angle,
]
WRONG_V = [
    (lambda x0, eps, a: a.sqrt() * eps - 1 - a.sqrt() * x0, "needs brackets before the root"),
    (lambda x0, eps, a: (a * eps - (1 - a) * x0).sqrt(), "the root covers the whole difference"),
    # signs and order
    (lambda x0, eps, ab: ab.sqrt() * x0 - (1 - ab).sqrt() * eps, "image and noise are swapped"),
    (lambda x0, eps, ab: ab.sqrt() * eps + (1 - ab).sqrt() * x0, "the image is added"),
    (lambda x0, eps, ab: (1 - ab).sqrt() * x0 - ab.sqrt() * eps, "every number has the wrong sign"),
    (lambda x0, eps, ab: ab.sqrt() * x0 + (1 - ab).sqrt() * eps, "this is xt"),
    (lambda x0, eps, ab: (1 - ab).sqrt() * eps - ab.sqrt() * x0, "the two factors are swapped"),
    # the factors
    (lambda x0, eps, ab: ab * eps - (1 - ab) * x0, "both factors are roots"),
    (lambda x0, eps, ab: ab.sqrt() * eps - (1 - ab.sqrt()) * x0, "the root should cover 1 - alpha_bar_t"),
    (lambda x0, eps, ab: ab.sqrt() * eps - (1 - ab) * x0, "1 - alpha_bar_t needs a root"),
    (lambda x0, eps, ab: ab * eps - (1 - ab).sqrt() * x0, "alpha_bar_t needs a root"),
    (lambda x0, eps, ab: ab**2 * eps - (1 - ab) ** 2 * x0, "here they are squares"),
    (lambda x0, eps, ab: ab.sqrt() * eps - (1 - ab**2).sqrt() * x0, "alpha_bar_t is squared under the root"),
    (lambda x0, eps, ab: ab * eps - (1 - ab**2).sqrt() * x0, "already the square of a factor"),
    (lambda x0, eps, ab: ab.sqrt() * eps - (1 + ab).sqrt() * x0, "sqrt(1 + alpha_bar_t)"),
    (lambda x0, eps, ab: eps / ab.sqrt() - (1 - ab).sqrt() * x0, "this divides by sqrt(alpha_bar_t)"),
    (lambda x0, eps, ab: eps - x0, "the factors are missing"),
    (lambda x0, eps, ab: eps - (1 - ab).sqrt() * x0, "eps needs a factor too"),
    (lambda x0, eps, ab: ab.sqrt() * eps - x0, "x0 needs a factor too"),
    (lambda x0, eps, ab: ab.sqrt() * (eps - x0), "both have the factor"),
    (lambda x0, eps, ab: ab.sqrt() * eps, "the image is missing"),
    (lambda x0, eps, ab: -(1 - ab).sqrt() * x0, "the noise is missing"),
    (lambda x0, eps, ab: eps, "this is eps"),
    (lambda x0, eps, ab: x0, "yours is 1 x0 + 0 eps"),
    (lambda x0, eps, ab: (ab.sqrt() * (ab.sqrt() * x0 + (1 - ab).sqrt() * eps) - x0) / (1 - ab).sqrt(), "NaN"),
    # the ends of the schedule
    (lambda x0, eps, ab: ab.sqrt() * eps - (1 - ab + 1e-5).sqrt() * x0, "away from 0"),
    (lambda x0, eps, ab: ab.sqrt() * eps - (1 - ab).clamp(min=1e-5).sqrt() * x0, "away from 0"),
    (lambda x0, eps, ab: (ab + 1e-5).sqrt() * eps - (1 - ab + 1e-5).sqrt() * x0, "away from 0"),
    (lambda x0, eps, ab: ab.clamp(min=1e-5).sqrt() * eps - (1 - ab).clamp(min=1e-5).sqrt() * x0, "away from 0"),
    (lambda x0, eps, ab: ab.clamp(1e-4, 0.9999).sqrt() * eps - (1 - ab.clamp(1e-4, 0.9999)).sqrt() * x0, "away from 0"),
    (lambda x0, eps, ab: ab.half().float().sqrt() * eps - (1 - ab.half().float()).sqrt() * x0, "yours is"),
    # constants of one call
    (lambda x0, eps, ab: 0.8 * eps - 0.6 * x0, "it should be -0.3162 x0 + 0.9487 eps"),
    (lambda x0, eps, ab: 0.5**0.5 * (eps - x0), "it should be -0.6 x0 + 0.8 eps"),
    (lambda x0, eps, ab: (ab.sqrt() * eps - (1 - ab).sqrt() * x0).view(-1, 1, 4, 4), "it raised RuntimeError"),
    # two at once
    (lambda x0, eps, ab: ab * eps + (1 - ab) * x0, "two mistakes"),
    (lambda x0, eps, ab: ab * x0 - (1 - ab) * eps, "two mistakes"),
    (lambda x0, eps, ab: (1 - ab) * eps - ab * x0, "yours is"),
    (lambda x0, eps, ab: ab.sqrt() * x0 - (1 - ab.sqrt()) * eps, "two mistakes"),
    (lambda x0, eps, ab: (ab.sqrt() * eps + (1 - ab).sqrt() * x0).clamp(-1, 1), "two mistakes"),
    # the rest
    (lambda x0, eps, ab: (ab.sqrt() * eps - (1 - ab).sqrt() * x0).clamp(-1, 1), "clipped to [-1, 1]"),
    (lambda x0, eps, ab: (ab.sqrt() * eps - (1 - ab).sqrt() * x0).tanh(), "tanh"),
    (lambda x0, eps, ab: 2 * (ab.sqrt() * eps - (1 - ab).sqrt() * x0), "yours is -1.2 x0 + 1.6 eps"),
    (lambda x0, eps, ab: ab.sqrt() * eps - (1 - ab).sqrt() * x0 + 1, "too large by 1"),
    (lambda x0, eps, ab: (ab.sqrt() * eps - (1 - ab).sqrt() * x0).squeeze(), "the shape is wrong"),
    (lambda x0, eps, ab: (ab.sqrt() * eps - (1 - ab).sqrt() * x0).mean(dim=(1, 2, 3)), "returns shape"),
    (lambda x0, eps, ab: (ab.sqrt() * eps - (1 - ab).sqrt() * x0).bfloat16(), "keeps few digits"),
    (lambda x0, eps, ab: ab.sqrt() * torch.randn_like(x0) - (1 - ab).sqrt() * x0, "draw no random numbers"),
    (lambda x0, eps, ab: eps.mul_(ab.sqrt()) - (1 - ab).sqrt() * x0, "it changes the tensors"),
    (lambda x0, eps, ab: (ab.sqrt() * eps, (1 - ab).sqrt() * x0), "it returns 2 values"),
]

RIGHT_X0 = [
    lambda xt, v, ab: ab.sqrt() * xt - (1 - ab).sqrt() * v,
    lambda xt, v, ab: ab**0.5 * xt - (1 - ab) ** 0.5 * v,
    lambda xt, v, ab: math.sqrt(ab) * xt - math.sqrt(1 - ab) * v,
    lambda xt, v, ab: np.sqrt(float(ab)) * xt.numpy() - np.sqrt(1 - float(ab)) * v.numpy(),
    lambda xt, v, ab: (ab.sqrt() * xt - (1 - ab).sqrt() * v) / (ab + (1 - ab)),
    lambda xt, v, ab: -((1 - ab).sqrt() * v - ab.sqrt() * xt),
    lambda xt, v, ab: ab.double().sqrt() * xt.double() - (1 - ab.double()).sqrt() * v.double(),
    lambda xt, v, ab: torch.stack([ab.sqrt() * a - (1 - ab).sqrt() * b for a, b in zip(xt, v, strict=True)]),
    lambda xt, v, ab: _x0_by_eps(xt.double(), v.double(), ab.double()),
    _x0_by_eps,
    _x0_by_system,
]
WRONG_X0 = [
    (lambda xt, v, a: (a.sqrt() * xt - (1 - a).sqrt() * v) / (2 * a - 1), "no division is needed"),
    # other combinations of xt and v
    (lambda xt, v, ab: (xt - (1 - ab).sqrt() * v) / ab.sqrt(), "this computes x0 from eps"),
    (lambda xt, v, ab: ab.sqrt() * v + (1 - ab).sqrt() * xt, "this is eps"),
    (lambda xt, v, ab: ab.sqrt() * xt + (1 - ab).sqrt() * v, "the sign of v is wrong"),
    (lambda xt, v, ab: (1 - ab).sqrt() * v - ab.sqrt() * xt, "every number has the wrong sign"),
    (lambda xt, v, ab: ab.sqrt() * v - (1 - ab).sqrt() * xt, "xt and v are swapped"),
    (lambda xt, v, ab: (1 - ab).sqrt() * xt - ab.sqrt() * v, "the two factors are swapped"),
    (lambda xt, v, ab: xt, "this is xt"),
    (lambda xt, v, ab: v, "yours is 0 xt + 1 v"),
    (lambda xt, v, ab: -v, "yours is 0 xt - 1 v"),
    # the factors
    (lambda xt, v, ab: ab * xt - (1 - ab) * v, "both factors are roots"),
    (lambda xt, v, ab: ab.sqrt() * xt - (1 - ab.sqrt()) * v, "the root should cover 1 - alpha_bar_t"),
    (lambda xt, v, ab: ab.sqrt() * xt - (1 - ab) * v, "1 - alpha_bar_t needs a root"),
    (lambda xt, v, ab: ab * xt - (1 - ab).sqrt() * v, "alpha_bar_t needs a root"),
    (lambda xt, v, ab: xt - (1 - ab).sqrt() * v, "xt needs a factor too"),
    (lambda xt, v, ab: ab.sqrt() * xt - v, "v needs a factor too"),
    (lambda xt, v, ab: xt - v, "the factors are missing"),
    (lambda xt, v, ab: xt / ab.sqrt() - (1 - ab).sqrt() * v, "this divides by sqrt(alpha_bar_t)"),
    (lambda xt, v, ab: xt / ab.sqrt(), "v is missing"),
    (lambda xt, v, ab: ab.sqrt() * xt, "v is missing"),
    (lambda xt, v, ab: (ab.sqrt() * xt - (1 - ab).sqrt() * v) / ab.sqrt(), "no division is needed"),
    (lambda xt, v, ab: (ab.sqrt() * (ab.sqrt() * v + (1 - ab).sqrt() * xt) - v) / (1 - ab).sqrt(), "0 by 0"),
    (lambda xt, v, ab: ab.sqrt() * xt - (1 - ab**2).sqrt() * v, "alpha_bar_t is squared under the root"),
    (lambda xt, v, ab: ab * xt - (1 - ab**2).sqrt() * v, "already the square of a factor"),
    (lambda xt, v, ab: ab**2 * xt - (1 - ab) ** 2 * v, "here they are squares"),
    # the ends of the schedule
    (lambda xt, v, ab: ab.sqrt() * xt - (1 - ab + 1e-5).sqrt() * v, "away from 0"),
    (lambda xt, v, ab: ab.clamp(min=1e-5).sqrt() * xt - (1 - ab).clamp(min=1e-5).sqrt() * v, "away from 0"),
    (lambda xt, v, ab: ab.clamp(min=1e-4).sqrt() * xt - (1 - ab).sqrt() * v, "away from 0"),
    # two at once
    (lambda xt, v, ab: ab * xt + (1 - ab) * v, "two mistakes"),
    (lambda xt, v, ab: ab * v + (1 - ab) * xt, "two mistakes"),
    (lambda xt, v, ab: (xt - (1 - ab) * v) / ab, "two mistakes"),
    (lambda xt, v, ab: xt - (1 - ab) * v, "two mistakes"),
    (lambda xt, v, ab: ((xt - (1 - ab).sqrt() * v) / ab.sqrt()).clamp(-1, 1), "two mistakes"),
    # the rest
    (lambda xt, v, ab: (ab.sqrt() * xt - (1 - ab).sqrt() * v).clamp(-1, 1), "clipped to [-1, 1]"),
    (lambda xt, v, ab: (ab.sqrt() * xt - (1 - ab).sqrt() * v).tanh(), "tanh"),
    (lambda xt, v, ab: 0.8 * xt - 0.6 * v, "it should be 0.9487 xt - 0.3162 v"),
    (lambda xt, v, ab: (ab.sqrt() * xt - (1 - ab).sqrt() * v) / 2 + 0.5, "x"),
    (lambda xt, v, ab: (ab.sqrt() * xt - (1 - ab).sqrt() * v).squeeze(), "the shape is wrong"),
    (lambda xt, v, ab: (ab.sqrt() * xt - (1 - ab).sqrt() * v)[:1], "returns shape"),
    (lambda xt, v, ab: (ab.sqrt() * xt - (1 - ab).sqrt() * v).half(), "keeps few digits"),
    (lambda xt, v, ab: xt.mul_(ab.sqrt()) - (1 - ab).sqrt() * v, "it changes the tensors"),
]

# ----------------------------------------------------------------------------------------------------------------------- loss


def _loss_by_loops(eps_hat, eps):
    return torch.stack([((a - b) ** 2).mean() for a, b in zip(eps_hat, eps, strict=True)])


def _loss_by_sums(eps_hat, eps):
    _B, C, H, W = eps.shape
    return ((eps_hat - eps) ** 2).sum((1, 2, 3)) / (C * H * W)


RIGHT_LOSS = [
    lambda a, b: (a - b).square().mean(dim=(1, 2, 3)),
    lambda a, b: (b - a).pow(2).mean((1, 2, 3)),
    lambda a, b: ((a - b) ** 2).flatten(1).mean(1),
    lambda a, b: ((a - b) ** 2).mean(-1).mean(-1).mean(-1),
    lambda a, b: F.mse_loss(a, b, reduction="none").mean(dim=(-3, -2, -1)),
    lambda a, b: torch.stack([F.mse_loss(x, y) for x, y in zip(a, b, strict=True)]),
    lambda a, b: (d := (a - b).flatten(1)).norm(dim=1) ** 2 / d.shape[1],
    lambda a, b: torch.einsum("bchw,bchw->b", a - b, a - b) / a[0].numel(),
    lambda a, b: np.mean((a.numpy() - b.numpy()) ** 2, axis=(1, 2, 3)),
    lambda a, b: [float(((x - y) ** 2).mean()) for x, y in zip(a, b, strict=True)],
    torch.vmap(F.mse_loss),
    lambda a, b: (a.square() - 2 * a * b + b.square()).mean((1, 2, 3)),
    lambda a, b: (a.double() - b.double()).square().mean((1, 2, 3)),
    _loss_by_loops,
    _loss_by_sums,
]
WRONG_LOSS = [
    # the axes of the mean
    (lambda a, b: (a - b).square().mean(), "the mean of the whole batch"),
    (lambda a, b: F.mse_loss(a, b, reduction="sum") / len(a), "one number for the batch"),
    (F.mse_loss, "the mean of the whole batch"),
    (lambda a, b: (a - b).square().sum((1, 2, 3)), "the sum over an image's values"),
    (lambda a, b: (a - b).square().sum(), "the sum over the whole batch"),
    (lambda a, b: F.mse_loss(a, b).expand(len(a)), "every image gets the mean of the whole batch"),
    (lambda a, b: F.mse_loss(a, b).repeat(len(a)), "every image gets the mean of the whole batch"),
    (lambda a, b: (a - b).square().mean((2, 3)), "one number for each channel of each image"),
    (lambda a, b: (a - b).square().mean(1), "one number for each pixel"),
    (lambda a, b: (a - b).square().mean(-1), "over rows only"),
    (lambda a, b: (a - b).square().mean(0), "the mean runs over the batch"),
    (lambda a, b: (a - b).square().mean((0, 2, 3)), "one number for each channel"),
    (lambda a, b: (a - b).square().mean((0, 1, 2)), "the mean runs over the batch"),
    (lambda a, b: (a - b).square().mean((1, 2)), "dim=(1, 2, 3)"),
    (lambda a, b: (a - b).square(), "the error of each value"),
    (lambda a, b: (a - b).square().mean((2, 3)).sum(1), "the channels are summed"),
    (lambda a, b: (a - b).square().mean(1).sum((1, 2)), "height and width are summed"),
    (lambda a, b: (a - b).square().sum((1, 2, 3)) / len(a), "divided by the number of images"),
    (lambda a, b: (a - b).square().sum((1, 2, 3)) / (a[0].numel() - 1), "divided by n - 1"),
    (lambda a, b: (a - b).square().sum((1, 2, 3)) / 40, "eps: a tensor"),
    (lambda a, b: (a - b).square().sum((1, 2, 3)) / 784, "times what it should be"),
    (lambda a, b: (a - b).square().sum((1, 2, 3)) / (a.shape[2] * a.shape[3]), "the channels are summed"),
    (lambda a, b: (a - b).square().amax((1, 2, 3)), "the largest error"),
    # what is averaged
    (lambda a, b: (a - b).abs().mean((1, 2, 3)), "the mean absolute error"),
    (lambda a, b: (a - b).mean((1, 2, 3)), "nothing is squared"),
    (lambda a, b: (a - b).mean((1, 2, 3)).square(), "square first, then average"),
    (lambda a, b: (a + b).square().mean((1, 2, 3)), "the two are added"),
    (lambda a, b: (a.square() - b.square()).mean((1, 2, 3)), "the difference of the squares"),
    (lambda a, b: (a * b).mean((1, 2, 3)), "this multiplies the two"),
    (lambda a, b: F.smooth_l1_loss(a, b, reduction="none").mean((1, 2, 3)), "Huber"),
    (lambda a, b: a.square().mean((1, 2, 3)), "eps is not subtracted from eps_hat"),
    (lambda a, b: b.square().mean((1, 2, 3)), "off by up to"),
    (lambda a, b: ((a - b) / b).square().mean((1, 2, 3)), "divided by eps"),
    (lambda a, b: (a - b).var((1, 2, 3), unbiased=False), "the variance of the error"),
    (lambda a, b: (a - b).var((1, 2, 3)), "two mistakes"),
    # after the mean
    (lambda a, b: (a - b).square().mean((1, 2, 3)).sqrt(), "takes a root at the end"),
    (lambda a, b: (a - b).flatten(1).norm(dim=1), "the norm of the difference"),
    (lambda a, b: (a - b).square().mean((1, 2, 3)) / 2, "half the mean squared error"),
    (lambda a, b: 2 * (a - b).square().mean((1, 2, 3)), "2 times what it should be"),
    (lambda a, b: -(a - b).square().mean((1, 2, 3)), "the sign is wrong: a mean of squares is never negative"),
    (lambda a, b: (a - b).square().mean((1, 2, 3)).log(), "the logarithm"),
    # two at once
    (lambda a, b: (a - b).abs().mean(), "two mistakes"),
    (F.l1_loss, "two mistakes"),
    (lambda a, b: (a - b).abs().sum((1, 2, 3)), "two mistakes"),
    (lambda a, b: (a - b).square().mean().sqrt(), "two mistakes"),
    (lambda a, b: (a - b).square().sum((1, 2, 3)) / 2, "two mistakes"),
    # the shape
    (lambda a, b: (a - b).square().mean((1, 2, 3), keepdim=True), "the shape is wrong: expected (B,)"),
    (lambda a, b: (a - b).square().mean((1, 2, 3))[:, None], "the shape is wrong: expected (B,)"),
    (lambda a, b: (a - b).square().mean((1, 2, 3)).squeeze(), "squeeze makes the shape ()"),
    (lambda a, b: (a - b).squeeze().square().mean((1, 2, 3)), "squeeze drops the batch"),
    (lambda a, b: (a - b).squeeze().flatten(1).square().mean(1), "returns shape (3,)"),
    (lambda a, b: (a - b).square().view(6, -1).mean(1), "shape"),
    (lambda a, b: (a - b).square().mean((1, 2, 3)).flip(0), "in reverse"),
    (lambda a, b: (a.bfloat16() - b.bfloat16()).square().mean((1, 2, 3)), "keeps few digits"),
    (lambda a, b: a.sub_(b).square().mean((1, 2, 3)), "it changes the tensors"),
]

# ------------------------------------------------------------------------------------------------------------- learning rate


def _half(u):
    return 0.5 * (1 + math.cos(math.pi * u))


def _u(step, steps, warmup):
    return (step - warmup) / (steps - warmup)


def _rate(rise=lambda step, steps, warmup: step / warmup, fall=lambda *a: _half(_u(*a))):
    def rate(step, steps, warmup, lr):
        return lr * (rise if step <= warmup else fall)(step, steps, warmup)

    return rate


def _rate_in_torch(step, steps, warmup, lr):
    u = torch.tensor((step - warmup) / (steps - warmup))
    return torch.minimum(torch.tensor(lr * step / warmup), lr * (1 + torch.cos(math.pi * u.clamp(0, 1))) / 2)


def _rate_by_clamping(step, steps, warmup, lr):
    u = max(0.0, (step - warmup) / (steps - warmup))
    return lr * min(1, step / warmup) * (1 + math.cos(math.pi * u)) / 2


def _rate_of_the_library(step, steps, warmup, lr):
    from diffusion_lib.training.loop import TrainConfig, learning_rate

    return learning_rate(step, TrainConfig(steps=steps, warmup_steps=warmup, lr=lr))


RIGHT_RATE = [
    _rate(),
    _rate(fall=lambda *a: math.cos(math.pi / 2 * _u(*a)) ** 2),
    _rate(fall=lambda *a: 1 - math.sin(math.pi / 2 * _u(*a)) ** 2),
    _rate(fall=lambda *a: 0.5 - 0.5 * math.cos(math.pi * (1 - _u(*a)))),
    _rate(fall=lambda *a: 0.5 * (1 + np.cos(np.pi * _u(*a)))),
    _rate(fall=lambda *a: (1 + torch.cos(torch.tensor(math.pi * _u(*a)))) / 2),
    lambda step, steps, warmup, lr: lr * step / warmup if step < warmup else lr * _half(_u(step, steps, warmup)),
    lambda step, steps, warmup, lr: max(0, _rate()(step, steps, warmup, lr)),
    lambda step, steps, warmup, lr: 0 if step == steps else _rate()(step, steps, warmup, lr),
    lambda step, steps, warmup, lr: np.float64(_rate()(step, steps, warmup, lr)),
    lambda step, steps, warmup, lr: float(np.interp(step, [0, warmup], [0, lr])) if step < warmup else lr * _half(_u(step, steps, warmup)),
    _rate_in_torch,
    _rate_by_clamping,
]
WRONG_RATE = [
    (
        lambda step, steps, warmup, lr: lr * min(1, step / warmup) * _half((step - warmup) / (steps - warmup)),
        "the cosine already acts during the warm-up",
    ),
    # the warm-up
    (_rate(lambda *a: 1.0), "there is no warm-up"),
    (lambda step, steps, warmup, lr: lr * _half(_u(step, steps, warmup)), "there is no warm-up"),
    (lambda step, steps, warmup, lr: lr * _half(step / steps), "there is no warm-up: the cosine begins at step 0"),
    (lambda step, steps, warmup, lr: lr, "the rate is lr at every step"),
    (_rate(lambda step, steps, warmup: (step - 1) / (warmup - 1)), "the line begins with 0 at step 1"),
    (_rate(lambda step, steps, warmup: (step - 1) / warmup), "one step late"),
    (_rate(lambda step, steps, warmup: (step + 1) / warmup), "one step early"),
    (_rate(lambda step, steps, warmup: step / (warmup + 1)), "ends one step late"),
    (_rate(lambda step, steps, warmup: step / steps), "takes all the steps"),
    (_rate(lambda step, steps, warmup: step // warmup), "// drops the fraction"),
    (_rate(lambda *a: 0.0), "the rate is 0 until the warm-up ends"),
    (_rate(lambda step, steps, warmup: 1 - _half(step / warmup)), "rises on a cosine"),
    (_rate(lambda step, steps, warmup: (step / warmup) ** 2), "on a parabola"),
    (_rate(lambda step, steps, warmup: (step / warmup) ** 0.5), "in the warm-up it returns"),
    (_rate(lambda step, steps, warmup: warmup / step), "upside down"),
    (_rate(lambda step, steps, warmup: 1 - step / warmup), "it should rise from 0"),
    (_rate(lambda step, steps, warmup: step), "in the warm-up it returns"),
    (_rate(lambda step, steps, warmup: step / 100), "step: 7"),
    # the fall
    (_rate(fall=lambda step, steps, warmup: _half(step / steps)), "begins at step 0"),
    (lambda step, steps, warmup, lr: lr * min(1, step / warmup) * _half(step / steps), "begins at step 0"),
    (_rate(fall=lambda *a: 2 * _half(_u(*a))), "twice too high"),
    (_rate(fall=lambda *a: math.cos(math.pi * _u(*a))), "the rate becomes negative"),
    (_rate(fall=lambda *a: math.cos(0.5 * math.pi * _u(*a))), "a quarter of a cosine"),
    (_rate(fall=lambda *a: _half(_u(*a) / 2)), "only half the way"),
    (_rate(fall=lambda *a: _half(2 * _u(*a))), "0 halfway"),
    (_rate(fall=lambda *a: 0.5 * (1 + math.cos(_u(*a)))), "pi is missing"),
    (_rate(fall=lambda *a: 0.5 * (1 + math.cos(180 * _u(*a)))), "radians"),
    (_rate(fall=lambda *a: 0.5 * (1 + math.sin(math.pi * _u(*a)))), "this is a sine"),
    (_rate(fall=lambda *a: 0.5 * (1 - math.cos(math.pi * _u(*a)))), "it should fall to 0"),
    (_rate(fall=lambda *a: 1 - _u(*a)), "a straight line"),
    (_rate(fall=lambda *a: 1.0), "stays at lr"),
    (_rate(fall=lambda *a: 0.0), "it should fall on half a cosine"),
    (_rate(fall=lambda *a: math.exp(-_u(*a))), "exponentially"),
    (_rate(fall=lambda step, steps, warmup: step / warmup), "keeps rising"),
    (lambda step, steps, warmup, lr: lr * step / warmup, "keeps rising"),
    (_rate(fall=lambda step, steps, warmup: _half((step - warmup) / (steps + 1 - warmup))), "the library's"),
    (_rate_of_the_library, "the library's"),
    (_rate(fall=lambda step, steps, warmup: _half((step - warmup) / (steps - 1 - warmup))), "one step before the last"),
    (_rate(fall=lambda step, steps, warmup: _half((step - 1 - warmup) / (steps - warmup))), "the fall is one step late"),
    (_rate(fall=lambda step, steps, warmup: _half((step - 1 - warmup) / (steps - 1 - warmup))), "begins one step late"),
    (_rate(fall=lambda step, steps, warmup: _half((step - warmup) / steps)), "does not reach 0"),
    (_rate(fall=lambda step, steps, warmup: _half(step / (steps - warmup))), "u begins at"),
    (_rate(fall=lambda step, steps, warmup: _half((step - warmup) // (steps - warmup))), "// drops the fraction"),
    (_rate(fall=lambda *a: 0.1 + 0.9 * _half(_u(*a))), "lr / 10"),
    (_rate(fall=lambda *a: max(0.02, _half(_u(*a)))), "the last rate should be 0"),
    (_rate(fall=lambda *a: _half(_u(*a)) ** 2), "squared"),
    (_rate(fall=lambda step, steps, warmup: _half((step - 100) / (steps - 100))), "the warm-up is right; after that it returns"),
    (_rate(fall=lambda step, steps, warmup: _half((step - warmup) / 900)), "the warm-up is right; after that it returns"),
    (_rate(fall=lambda step, steps, warmup: _half((step - warmup) / steps - warmup)), "needs brackets"),
    (lambda step, steps, warmup, lr: lr * step / warmup * _half(max(0, _u(step, steps, warmup))), "the cosine is multiplied by the line"),
    (_rate(fall=lambda *a: 0.5 * math.cos(math.pi * _u(*a))), "the 1 is missing"),
    (_rate(fall=lambda *a: 0.5 * (1 + math.cos(3.14 * _u(*a)))), "it returns 2.54"),
    (_rate(lambda step, steps, warmup: math.sin(math.pi / 2 * step / warmup)), "rises on a sine"),
    (_rate(lambda step, steps, warmup: 1 / warmup), "stays at lr / warmup"),
    (_rate(lambda step, steps, warmup: step), "divide by warmup"),
    (
        lambda step, steps, warmup, lr: (
            lr * step / warmup if step <= warmup else lr * 0.5 * 1 + math.cos(math.pi * _u(step, steps, warmup))
        ),
        "brackets are missing",
    ),
    (
        lambda step, steps, warmup, lr: lr * step / warmup if step <= warmup else lr * 0.5 + 2 * _half(_u(step, steps, warmup)),
        "lr / 2 is added",
    ),
    # digits
    (lambda step, steps, warmup, lr: round(_rate()(step, steps, warmup, lr), 4), "expected "),
    (lambda step, steps, warmup, lr: max(1e-6, _rate()(step, steps, warmup, lr)), "the last rate should be 0: it returns 1e-06"),
    (lambda step, steps, warmup, lr: max(1e-5, _rate()(step, steps, warmup, lr)), "the last rate should be 0: it returns 1e-05"),
    (lambda step, steps, warmup, lr: int(_rate()(step, steps, warmup, lr)), "int drops the fraction"),
    (lambda step, steps, warmup, lr: math.floor(_rate()(step, steps, warmup, lr)), "int drops the fraction"),
    (lambda step, steps, warmup, lr: round(_rate()(step, steps, warmup, lr)), "rounded to an integer"),
    (
        lambda step, steps, warmup, lr: lr * step // warmup if step <= warmup else _rate()(step, steps, warmup, lr),
        "in the warm-up the rate is an integer",
    ),
    # lr
    (lambda step, steps, warmup, lr: _rate()(step, steps, warmup, 1.0), "lr is missing"),
    (lambda step, steps, warmup, lr: _rate()(step, steps, warmup, 3.0), "step: 7"),
    (lambda step, steps, warmup, lr: _rate()(step, steps, warmup, lr**2), "lr is multiplied in twice"),
    (lambda step, steps, warmup, lr: min(1.0, _rate()(step, steps, warmup, lr)), "clamped to 1"),
    (lambda step, steps, warmup, lr: step / warmup if step <= warmup else _rate()(step, steps, warmup, lr), "lr is missing"),
    (lambda step, steps, warmup, lr: round(_rate()(step, steps, warmup, lr), 2), "step: "),
    # two at once
    (_rate(lambda *a: 1.0, lambda *a: 2 * _half(_u(*a))), "there is no warm-up"),
    (_rate(lambda step, steps, warmup: (step - 1) / warmup, lambda *a: 1 - _u(*a)), "one step late"),
    (lambda step, steps, warmup, lr: (step - 1) / warmup if step <= warmup else lr * _half(_u(step, steps, warmup)), "two mistakes"),
    (lambda step, steps, warmup, lr: step / steps if step <= warmup else _half(_u(step, steps, warmup)), "two mistakes"),
    # the rest
    (lambda step, steps, warmup, lr: [_rate()(step, steps, warmup, lr)], "it returns 1 value"),
    (lambda step, steps, warmup, lr: torch.tensor([_rate()(step, steps, warmup, lr)]), "returns shape (1,)"),
    (lambda step, steps, warmup, lr: str(_rate()(step, steps, warmup, lr)), "it returns '"),
    (lambda step, steps, warmup, lr: lr * step / warmup if step < warmup else None if step == warmup else 0.0, "it returns None"),
    (lambda step, steps, warmup, lr: -_rate()(step, steps, warmup, lr), "in the warm-up it returns -2.31"),
    (lambda step, steps, warmup, lr: _rate()(step, steps, 0, lr), "there is no warm-up"),
]

# ------------------------------------------------------------------------------------------------------------------- average


def _updated(average, weights, decay):
    return decay * average + (1 - decay) * weights


def _updated_in_place(average, weights, decay):
    average.mul_(decay).add_(weights, alpha=1 - decay)
    return average


RIGHT_EMA = [
    _updated,
    lambda average, weights, d: average + (1 - d) * (weights - average),
    lambda average, weights, d: average - (1 - d) * (average - weights),
    lambda average, weights, d: weights + d * (average - weights),
    lambda average, weights, d: average.lerp(weights, 1 - d),
    lambda average, weights, d: torch.lerp(weights, average, d),
    lambda average, weights, d: _updated_in_place(average.clone(), weights, d),
    lambda average, weights, d: average.mul(d).add(weights, alpha=1 - d),
    lambda average, weights, d: d * average.numpy() + (1 - d) * weights.numpy(),
    lambda average, weights, d: _updated(average.double(), weights.double(), d),
    lambda average, weights, d: torch.optim.swa_utils.get_ema_avg_fn(d)(average, weights, 1),
    lambda average, weights, d: torch.stack([_updated(a, w, d) for a, w in zip(average, weights, strict=True)]),
    lambda average, weights, d: torch.einsum("k,k...->...", torch.tensor([d, 1 - d]), torch.stack([average, weights])),
]
WRONG_EMA = [
    (lambda average, weights, d: (1 - d) * average + d * weights, "the two factors are swapped"),
    (lambda average, weights, d: average.lerp(weights, d), "the two factors are swapped"),
    (lambda average, weights, d: average + d * (weights - average), "the two factors are swapped"),
    (lambda average, weights, d: _updated(weights, average, d), "the two factors are swapped"),
    (lambda average, weights, d: d * average + weights, "the factors do not sum to 1"),
    (lambda average, weights, d: (average + weights) / 2, "the plain mean"),
    (lambda average, weights, d: average, "it learns nothing"),
    (lambda average, weights, d: average.clone(), "it learns nothing"),
    (lambda average, weights, d: weights, "it remembers nothing"),
    (lambda average, weights, d: average + (1 - d) * weights, "the average is not multiplied by d"),
    (lambda average, weights, d: average + weights, "both factors are missing"),
    (lambda average, weights, d: d * average - (1 - d) * weights, "the weights are subtracted"),
    (lambda average, weights, d: d * (average + weights), "both have the factor d"),
    (lambda average, weights, d: (1 - d) * (average + weights), "both have the factor 1 - d"),
    (lambda average, weights, d: d * average, "the weights are missing"),
    (lambda average, weights, d: (1 - d) * weights, "the average is missing"),
    (lambda average, weights, d: average + (1 - d) * (average - weights), "moves away from the weights"),
    (lambda average, weights, d: d * average + (1 - d), "1 - decay is added"),
    (lambda average, weights, d: d * average + weights * 1 - d, "needs brackets"),
    (lambda average, weights, d: d**0.5 * average + (1 - d) ** 0.5 * weights, "the factors have roots"),
    (lambda average, weights, d: d**2 * average + (1 - d**2) * weights, "squared"),
    (lambda average, weights, d: _updated(average, weights, 0.999), "the decay is 0.999, whatever"),
    (lambda average, weights, d: _updated(average, weights, 0.9), "the decay is 0.9, whatever"),
    (lambda average, weights, d: _updated(average, weights, 0.99), "the decay is 0.99, whatever"),
    (lambda average, weights, d: _updated(average, weights, 0.95), "yours is 0.95 average + 0.05 weights"),
    (lambda average, weights, d: _updated(average, weights, min(d, 0.9)), "decay: 0.999"),
    (lambda average, weights, d: _updated(average, weights, max(d, 0.9)), "decay: 0.3"),
    (lambda average, weights, d: _updated(average, weights, min(d, 0.999)), "decay: 1"),
    (lambda average, weights, d: _updated(average, weights, d or 0.999), "decay: 0"),
    (lambda average, weights, d: 2 * _updated(average, weights, d), "yours is 1.8 average + 0.2 weights"),
    (lambda average, weights, d: _updated(average, weights, d) + 1e-3, "too large by 0.001"),
    (lambda average, weights, d: _updated(average, weights, d) / (1 - d + 1e-8), "yours is 9 average + 1 weights"),
    (lambda average, weights, d: d * average + (1 - d) * weights**2, "the weights are squared; use them unchanged"),
    (lambda average, weights, d: d * average * weights, "off by up to"),
    (lambda average, weights, d: torch.maximum(average, weights), "off by up to"),
    (_updated_in_place, "it changes the tensors"),
    (lambda average, weights, d: average.lerp_(weights, 1 - d), "it changes the tensors"),
    (lambda average, weights, d: _updated(average, weights.mul_(1), d).squeeze(), "the shape is wrong"),
    (lambda average, weights, d: _updated(average, weights, d).mean(), "returns shape ()"),
    (lambda average, weights, d: _updated(average, weights, d).flatten(), "the shape is wrong"),
    (lambda average, weights, d: _updated(average.mean(), weights, d), "off by up to"),
    (lambda average, weights, d: _updated(average, weights, d).bfloat16(), "keeps few digits"),
    (lambda average, weights, d: _updated(average, weights, d).clamp(-1, 1), "are clamped"),
    (lambda average, weights, d: _updated(average, weights, d).tolist()[0], "returns shape ()"),
    (lambda average, weights, d: (_updated(average, weights, d), weights), "it returns 2 values"),
]

RIGHT = {
    "check_random_timesteps": RIGHT_TIMESTEPS,
    "check_v": RIGHT_V,
    "check_x0_from_v": RIGHT_X0,
    "check_loss": RIGHT_LOSS,
    "check_learning_rate": RIGHT_RATE,
    "check_ema_update": RIGHT_EMA,
    "check_initial_weight_fraction": [
        0.9**100,
        2.656e-5,
        2.66e-5,
        2.7e-5,
        2.6561398887587544e-05,
        np.float64(0.9) ** 100,
        math.exp(100 * math.log(0.9)),
    ],
}
WRONG = {
    "check_random_timesteps": WRONG_TIMESTEPS,
    "check_v": WRONG_V,
    "check_x0_from_v": WRONG_X0,
    "check_loss": WRONG_LOSS,
    "check_learning_rate": WRONG_RATE,
    "check_ema_update": WRONG_EMA,
    "check_initial_weight_fraction": [
        (0, "that is 0, or nearly 0"),
        (0.1**100, "that is 0, or nearly 0"),
        (0.9**99, "after 99 updates"),
        (3e-5, "give at least two"),
        (0.9**101, "after 101 updates"),
        (100 * 0.9**100, "in percent"),
        (0.00266, "in percent"),
        (0.0027, "in percent"),
        (1 - 0.9**100, "the fraction of all later weights"),
        (0.1, "the fraction of the newest weights"),
        (0.9, "after one update"),
        (0.1 * 0.9**100, "that has a factor 1 - d"),
        (0.1 * 0.9**99, "that has a factor 1 - d"),
        (math.exp(-10), "exp(-100 (1 - decay))"),
        (0.999**100, "a decay of 0.999"),
        (0.99**100, "a decay of 0.99;"),
        (0.01, "1 / 100"),
        (1 / 101, "1 / 101"),
        (0.9 / 100, "0.9 / 100"),
        (90, "0.9 times 100"),
        (10, "1 / (1 - decay)"),
        (1, "before the first update"),
        (100 * math.log(0.9), "the logarithm"),
        (0.9**10, "after 10 updates"),
        (0.9**50, "after 50 updates"),
        (0.9**1000, "that is 0, or nearly 0"),
        (0.5, "too large"),
        (-9, "too small"),
        ("0.9**100", "expected a number"),
        (math.nan, "not a number"),
        (math.inf, "too large"),
    ],
}
