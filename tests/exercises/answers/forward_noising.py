"""Answers to the exercises of notebook 01."""

import math
from itertools import accumulate
from operator import mul
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

import diffusion_lib as dl

# ---------------------------------------------------------------------------------------------------------------------- alpha_bar


def table(beta):
    return torch.cumprod(1 - beta, dim=0)


def table_loop(beta):
    out = torch.ones_like(beta)
    for t in range(1, len(beta)):
        out[t] = out[t - 1] * (1 - beta[t])
    return out


def table_list(beta):
    entries, left = [], 1.0
    for b in beta.tolist():
        left *= 1 - b
        entries.append(left)
    return entries


def table_in_place(beta):
    return beta.neg_().add_(1).cumprod(0)


def table_one_late(beta):
    out = torch.ones_like(beta)
    for t in range(1, len(beta)):
        out[t] = out[t - 1] * (1 - beta[t - 1])
    return out


def table_from_zeros(beta):
    out = torch.zeros_like(beta)
    for t in range(1, len(beta)):
        out[t] = out[t - 1] * (1 - beta[t])
    return out


def table_without_the_last(beta):
    out = torch.ones_like(beta)
    for t in range(1, len(beta) - 1):
        out[t] = out[t - 1] * (1 - beta[t])
    return out


def table_floor(lowest):
    return lambda beta: table(beta).clamp(min=lowest)


ALPHA_BAR_RIGHT = [
    table,
    table_loop,
    table_list,
    lambda beta: (1 - beta).cumprod(0),
    lambda beta: (1 - beta).cumprod(-1),
    lambda beta: torch.exp(torch.cumsum(torch.log(1 - beta), 0)),
    lambda beta: torch.log1p(-beta).cumsum(0).exp(),
    lambda beta: np.cumprod(1 - beta.numpy()),
    lambda beta: (1 - beta.double()).cumprod(0),
    lambda beta: (1 - beta.float()).cumprod(0),
    lambda beta: torch.stack([torch.prod(1 - beta[: t + 1]) for t in range(len(beta))]),
    lambda beta: [torch.prod(1 - beta[: t + 1]) for t in range(len(beta))],
    lambda beta: [math.prod(1 - b for b in beta[: t + 1].tolist()) for t in range(len(beta))],
    lambda beta: torch.cat([torch.ones(1), torch.cumprod(1 - beta[1:], 0)]),
    lambda beta: F.pad(torch.cumprod(1 - beta[1:], 0), (1, 0), value=1.0),
    lambda beta: torch.cumprod(torch.cumprod(1 - beta, 0).sqrt() ** 0 * (1 - beta), 0),
    lambda beta: torch.cumprod((1 - beta).sqrt(), 0) ** 2,
    lambda beta: dl.Schedule.from_beta(beta[1:]).alpha_bar,
    lambda beta: (1 - beta).view(1, -1).cumprod(1).squeeze(0),
    lambda beta: accumulate(1 - beta, mul),
    lambda beta: accumulate((1 - beta).tolist(), mul),
    lambda beta: [1, *torch.cumprod(1 - beta[1:], 0)],
    lambda beta: (1, *torch.cumprod(1 - beta[1:], 0).tolist()),
    lambda beta: np.concatenate([[1], np.cumprod(1 - beta[1:].numpy())]),
    lambda beta: torch.tril((1 - beta).expand(len(beta), -1)).add(torch.triu(torch.ones(len(beta), len(beta)), 1)).prod(1),
    lambda beta: (torch.log1p(-beta) @ torch.triu(torch.ones(len(beta), len(beta), dtype=beta.dtype))).exp(),
]

ALPHA_BAR_WRONG = [
    (lambda beta: (1 - beta.clamp(max=0.999)).cumprod(0), "entry 30 is"),
    (lambda beta: beta, "this is beta, unchanged"),
    (lambda beta: 1 - beta, "this is alpha"),
    (lambda beta: (1 - beta).sqrt(), "the root of alpha"),
    (lambda beta: torch.cumprod(beta, 0), "every entry is 0"),
    (lambda beta: 1 - torch.cumprod(beta, 0), "every entry is 1"),
    (lambda beta: torch.cumprod(1 + beta, 0), "products of 1 + beta"),
    (lambda beta: torch.cumprod(beta - 1, 0), "entry 0 is -1; expected 1"),
    (lambda beta: torch.cumsum(1 - beta, 0), "adds up the alphas"),
    (lambda beta: torch.cumsum(beta, 0), "adds up the betas"),
    (lambda beta: 1 - torch.cumsum(beta, 0), "subtracts the betas"),
    (lambda beta: torch.exp(-torch.cumsum(beta, 0)), "close only for small betas"),
    (lambda beta: (-beta.cumsum(0)).exp(), "close only for small betas"),
    (lambda beta: (1 - beta) ** torch.arange(len(beta)), "to the power of t"),
    (lambda beta: torch.prod(1 - beta), "this is one number, the product up to T"),
    (lambda beta: torch.prod(1 - beta, dim=0, keepdim=True), "it returns"),
    (torch.prod, "this is one number, the product of the betas"),
    (lambda beta: torch.prod(1 - beta).expand(len(beta)), "every entry is the product up to T"),
    (lambda beta: torch.full_like(beta, float(torch.prod(1 - beta))), "every entry is the product up to T"),
    (lambda beta: torch.cumprod(1 - beta[1:], 0), "entry 0 is missing"),
    (lambda beta: torch.cumprod(1 - beta[:-1], 0), "it returns shape (10,); expected (11,)"),
    (lambda beta: torch.cat([torch.ones(1), torch.cumprod(1 - beta, 0)]), "one entry too many"),
    (lambda beta: torch.cat([torch.zeros(1), torch.cumprod(1 - beta[1:], 0)]), "entry 0 should be 1, not 0"),
    (table_from_zeros, "or a product that starts from 0; entry 0 is 1"),
    (table_one_late, "one place too late"),
    (lambda beta: torch.cumprod(1 - beta, 0).roll(1), "entry 0 is"),
    (lambda beta: torch.cat([torch.ones(1), torch.cumprod(1 - beta, 0)])[:-1], "one place too late"),
    (lambda beta: torch.cat([torch.cumprod(1 - beta[1:], 0), torch.cumprod(1 - beta, 0)[-1:]]), "one place too early"),
    (table_without_the_last, "entry 10 is 1; expected"),
    (lambda beta: table(beta).flip(0), "the numbers are right, but in reverse order"),
    (lambda beta: torch.cumprod((1 - beta).flip(0), 0), "from the end of the table"),
    (lambda beta: torch.cumprod((1 - beta).flip(0), 0).flip(0), "products from t to T"),
    (lambda beta: 1 - table(beta), "this is 1 - alpha_bar"),
    (lambda beta: (1 - table(beta)).sqrt(), "the root of 1 - alpha_bar"),
    (lambda beta: table(beta).sqrt(), "this is the root of alpha_bar"),
    (lambda beta: torch.cumprod((1 - beta).sqrt(), 0), "this is the root of alpha_bar"),
    (lambda beta: table(beta) ** 2, "this is the square of alpha_bar"),
    (lambda beta: torch.cumprod((1 - beta) ** 2, 0), "this is the square of alpha_bar"),
    (lambda beta: torch.cumprod(1 - beta.sqrt(), 0), "the root is wrong: beta is a variance"),
    (lambda beta: torch.cumprod(1 - beta**2, 0), "the square is wrong: beta is already a variance"),
    (lambda beta: torch.log1p(-beta).cumsum(0), "the logarithm of alpha_bar"),
    (lambda beta: 1 / table(beta), "this is 1 / alpha_bar"),
    (torch.ones_like, "every entry is 1"),
    (torch.zeros_like, "every entry is 0"),
    (lambda beta: torch.cummin(1 - beta, 0).values, "expected"),
    (lambda beta: torch.cumsum(1 - beta, 0) / torch.arange(1, len(beta) + 1), "expected"),
    (lambda beta: table(beta) / table(beta)[-1], "entry 0 is"),
    # floors, rounding
    (table_floor(1e-3), "entries below 0.001 are clamped"),
    (table_floor(1e-5), "entries below 1e-05 are clamped"),
    (table_floor(1e-8), "entries below 1e-08 are clamped"),
    (lambda beta: torch.cumprod((1 - beta).clamp(max=0.999), 0), "entry 0 is 0.999; expected 1"),
    (lambda beta: torch.cumprod(1 - beta.clamp(max=0.9), 0), "entry 27 is 3.71636e-10; expected 3.65895e-10"),
    (lambda beta: torch.cumprod(1 - beta.clamp(min=1e-3), 0), "entry 0 is 0.999; expected 1"),
    (lambda beta: table(beta) + 1e-5, "entry 10 is 0.196"),
    (lambda beta: table(beta) + 1e-8, "entry"),
    (lambda beta: table(beta).round(decimals=4), "entry"),
    (lambda beta: table(beta).half(), "(torch.float16 keeps few digits); expected"),
    (lambda beta: table(beta).bfloat16(), "(torch.bfloat16 keeps few digits); expected"),
    # shapes and types
    (lambda beta: table(beta)[None], "it returns shape (1, 11); expected (11,)"),
    (lambda beta: table(beta)[:, None], "it returns shape (11, 1); expected (11,)"),
    (lambda beta: table(beta)[:11], "it returns shape (11,); expected (301,)"),
    (lambda beta: (table(beta), 1 - beta), "expected"),
    (lambda beta: float(table(beta)[-1]), "this is one number, the product up to T"),
    (lambda beta: str(table(beta)), "it returns"),
    # others
    (table_in_place, "it changes the tensors it is given"),
    (lambda beta: table(beta * (1 + 0.01 * torch.rand(len(beta)))), "draw no random numbers"),
    (lambda beta: table(beta) * math.nan, "not finite"),
    (lambda beta: dl.linear_schedule(len(beta) - 1).alpha_bar, "entry 1 is"),
    (lambda beta: dl.linear_schedule(1000).alpha_bar, "it returns shape (1001,); expected (11,)"),
    (lambda beta: torch.cumprod(1 - beta, dim=1), "it raised IndexError"),
    (lambda beta: torch.cumprod(1 - beta), "it raised TypeError"),
    (table(torch.zeros(4)), "expected a function"),
]

# ------------------------------------------------------------------------------------------------------------------------- noised


def noised(x0, ab, eps):
    return ab.sqrt() * x0 + (1 - ab).sqrt() * eps


def noised_in_place(x0, ab, eps):
    x0 *= ab.sqrt()
    x0 += (1 - ab).sqrt() * eps
    return x0


def noised_out(x0, ab, eps):
    xt = x0 * ab.sqrt()
    xt += (1 - ab).sqrt() * eps
    return xt


def noised_by_image(x0, ab, eps):
    return torch.stack([ab.sqrt() * x + (1 - ab).sqrt() * e for x, e in zip(x0, eps, strict=True)])


def noised_of_own_noise(x0, ab, eps):
    return noised(x0, ab, torch.randn(x0.shape, generator=torch.Generator().manual_seed(1)))


def mix(of_x0, of_eps):
    return lambda x0, ab, eps: of_x0(ab) * x0 + of_eps(ab) * eps


ONE = SimpleNamespace(  # what a factor may be, from alpha_bar_t
    root=lambda ab: ab.sqrt(),
    plain=lambda ab: ab,
    none=lambda ab: 1.0,
    zero=lambda ab: 0.0,
    square=lambda ab: ab**2,
    rest=lambda ab: 1 - ab,
    root_of_rest=lambda ab: (1 - ab).sqrt(),
    rest_of_root=lambda ab: 1 - ab.sqrt(),
    rest_squared=lambda ab: (1 - ab) ** 2,
    root_of_rest_of_square=lambda ab: (1 - ab**2).sqrt(),
)

NOISED_RIGHT = [
    noised,
    noised_out,
    noised_by_image,
    lambda x0, ab, eps: torch.sqrt(ab) * x0 + torch.sqrt(1 - ab) * eps,
    lambda x0, ab, eps: ab**0.5 * x0 + (1 - ab) ** 0.5 * eps,
    lambda x0, ab, eps: math.sqrt(ab) * x0 + math.sqrt(1 - ab) * eps,
    lambda x0, ab, eps: np.sqrt(float(ab)) * x0 + np.sqrt(1 - float(ab)) * eps,
    lambda x0, ab, eps: np.sqrt(ab.numpy()) * x0.numpy() + np.sqrt(1 - ab.numpy()) * eps.numpy(),
    lambda x0, ab, eps: noised(x0.double(), ab.double(), eps.double()),
    lambda x0, ab, eps: ab.view(-1, 1, 1, 1).sqrt() * x0 + (1 - ab.view(-1, 1, 1, 1)).sqrt() * eps,
    lambda x0, ab, eps: torch.add(ab.sqrt() * x0, eps, alpha=float((1 - ab).sqrt())),
    lambda x0, ab, eps: (0.5 * ab.log()).exp() * x0 + (0.5 * torch.log1p(-ab)).exp() * eps,
    lambda x0, ab, eps: ab.sqrt() * x0 + (1 - ab.sqrt() ** 2).sqrt() * eps,
    lambda x0, ab, eps: ab.sqrt() * (x0 + ((1 - ab) / ab).sqrt() * eps),
    lambda x0, ab, eps: torch.einsum("k,kbchw->bchw", torch.stack([ab.sqrt(), (1 - ab).sqrt()]), torch.stack([x0, eps])),
    lambda x0, ab, eps: x0.mul(ab.sqrt()).add(eps.mul((1 - ab).sqrt())),
    lambda x0, ab, eps: torch.cos(torch.acos(ab.sqrt())) * x0 + torch.sin(torch.acos(ab.sqrt())) * eps,
    lambda x0, ab, eps: ab.sqrt() * x0 + torch.hypot((1 - ab).sqrt(), torch.zeros(())) * eps,
    lambda x0, ab, eps: noised(x0, ab.clamp(0, 1), eps),
    lambda x0, ab, eps: noised(x0, ab.item() * torch.ones(len(x0), 1, 1, 1), eps),
]

NOISED_WRONG = [
    (mix(lambda ab: ab.sqrt() / 2, lambda ab: (1 - ab).sqrt() / 2), "the factor of x0 is 0.4183; expected 0.8367"),
    # factors
    (mix(ONE.root, ONE.rest), "variance 0.79; expected 1.00: 1 - alpha_bar_t is the variance of the noise"),
    (mix(ONE.plain, ONE.rest), "both factors of (1.3) are roots"),
    (mix(ONE.plain, ONE.root_of_rest), "the factor of x0 is a root too"),
    (mix(ONE.root, ONE.rest_of_root), "not 1 minus the root"),
    (mix(ONE.none, ONE.root_of_rest), "the image has to shrink"),
    (mix(ONE.none, ONE.rest), "the image has to shrink while noise is added, and the factor of eps is a root"),
    (mix(ONE.none, ONE.none), "both need a factor"),
    (mix(ONE.root_of_rest, ONE.root), "the two factors are swapped"),
    (mix(ONE.rest, ONE.plain), "swapped and lack their roots"),
    (mix(ONE.root, ONE.root), "x0 and eps both have the factor sqrt(alpha_bar_t)"),
    (mix(ONE.root, ONE.none), "the factor of x0 is right; the factor of eps is 1, so the noise is added in full"),
    (mix(ONE.root, ONE.zero), "the factor of x0 is right; the factor of eps is 0, so the noise is missing"),
    (mix(ONE.zero, ONE.root_of_rest), "the factor of x0 is 0, so x0 is missing; the factor of eps is right"),
    (mix(ONE.root, ONE.plain), "the factor of eps is 0.7, alpha_bar_t, which belongs to x0"),
    (mix(ONE.plain, ONE.plain), "the factor of x0 is 0.7, alpha_bar_t without the root; the factor of eps is 0.7"),
    (mix(ONE.plain, ONE.rest_of_root), "without the root; the factor of eps is 0.1633, 1 minus the root of alpha_bar_t"),
    (mix(ONE.plain, ONE.none), "without the root; the factor of eps is 1, so the noise is added in full"),
    (mix(ONE.none, ONE.rest_of_root), "so the image is not scaled"),
    (mix(ONE.none, ONE.root), "so the image is not scaled"),
    (mix(ONE.square, ONE.root_of_rest), "the square of alpha_bar_t, not its root"),
    (mix(ONE.square, ONE.rest_squared), "not its root; the factor of eps is 0.09, the square of 1 - alpha_bar_t, not its root"),
    (mix(ONE.plain, ONE.root_of_rest_of_square), "leave the square out"),
    (mix(ONE.root, ONE.root_of_rest_of_square), "the factor of x0 is right"),
    (mix(ONE.rest, ONE.root), "the factor of x0 is 0.3, 1 - alpha_bar_t, which belongs to eps"),
    (mix(ONE.root_of_rest, ONE.plain), "the root of 1 - alpha_bar_t, which belongs to eps"),
    (mix(ONE.root_of_rest, ONE.root_of_rest), "the factor of eps is right"),
    (mix(ONE.rest_of_root, ONE.root), "1 minus the root of alpha_bar_t"),
    (mix(ONE.root, lambda ab: -((1 - ab).sqrt())), "the noise is subtracted"),
    (mix(lambda ab: -ab.sqrt(), ONE.root_of_rest), "so x0 is subtracted"),
    (mix(ONE.plain, lambda ab: -((1 - ab).sqrt())), "without the root; the factor of eps is -0.5477, so the noise is subtracted"),
    (mix(lambda ab: 1 / ab.sqrt(), lambda ab: (1 - ab).sqrt()), "the image shrinks, so multiply"),
    (mix(ONE.root, lambda ab: (1 - ab).sqrt() / 2), "the factor of eps is 0.2739; expected 0.5477"),
    (mix(lambda ab: 0.8, lambda ab: 0.6), "the factor of x0 is 0.8; expected 0.8367"),
    (mix(ONE.root, lambda ab: 0.6), "the factor of x0 is right; the factor of eps is 0.6; expected 0.5477"),
    (lambda x0, ab, eps: (ab * x0 + (1 - ab) * eps).sqrt(), "take the roots of the two factors"),
    (lambda x0, ab, eps: x0, "so the noise is missing"),
    (lambda x0, ab, eps: eps, "so x0 is missing; the factor of eps is 1, so the noise is added in full"),
    (lambda x0, ab, eps: noised(eps, ab, x0), "the two factors are swapped"),
    (lambda x0, ab, eps: (noised(x0, ab, eps) - (1 - ab).sqrt() * eps) / ab.sqrt(), "so the noise is missing"),
    (lambda x0, ab, eps: torch.lerp(eps, x0, float(ab)), "both factors of (1.3) are roots"),
    (lambda x0, ab, eps: torch.normal(ab.sqrt() * x0, (1 - ab).sqrt()), "draw no random numbers"),
    # both ends
    (lambda x0, ab, eps: noised(x0, ab.clamp(1e-5, 1 - 1e-5), eps), "the factor of eps is 0.003164; expected 0"),
    (lambda x0, ab, eps: noised(x0, ab.clamp(min=1e-5), eps), "the factor of x0 is 0.003162; expected 4.899e-05"),
    (lambda x0, ab, eps: noised(x0, ab.clamp(max=0.999), eps), "; expected 0"),
    (lambda x0, ab, eps: ab.sqrt() * x0 + (1 - ab + 1e-8).sqrt() * eps, "the factor of eps is 0.0001; expected 0"),
    (lambda x0, ab, eps: (ab + 1e-8).sqrt() * x0 + (1 - ab).sqrt() * eps, "; expected 4.899e-05"),
    (lambda x0, ab, eps: (x0 / ((1 - ab) / ab).sqrt() + eps) * (1 - ab).sqrt(), "not finite"),
    # limits
    (lambda x0, ab, eps: noised(x0, ab, eps).clamp(-1, 1), "your xt is clamped"),
    (lambda x0, ab, eps: noised(x0.clamp(-1, 1), ab, eps), "x0 is clamped"),
    (lambda x0, ab, eps: noised(x0, ab, eps.clamp(-1, 1)), "eps is clamped"),
    (lambda x0, ab, eps: noised((x0 + 1) / 2, ab, eps), "x0 is rescaled to [0, 1]"),
    (lambda x0, ab, eps: noised(x0, ab, eps) / noised(x0, ab, eps).std(), "divided by its standard deviation"),
    (lambda x0, ab, eps: noised(x0, ab, eps).tanh(), "and is not a sum of x0 and eps with one factor each"),
    (lambda x0, ab, eps: ab.sqrt() * x0 + 1 - ab.sqrt() * eps, "1 is added to every value (are brackets missing?)"),
    (lambda x0, ab, eps: ab * x0 + 1 - ab * eps, "1 is added to every value (are brackets missing?)"),
    (lambda x0, ab, eps: noised(x0, ab, eps) + 0.01, "0.01 is added to every value"),
    # noise
    (lambda x0, ab, eps: noised(x0, ab, torch.randn_like(x0)), "draw no random numbers"),
    (lambda x0, ab, eps: noised(x0, ab, eps + 0.1 * torch.randn_like(x0)), "draw no random numbers"),
    (lambda x0, ab, eps: noised(x0, ab, eps[:1]), "and is not a sum of x0 and eps with one factor each"),
    (lambda x0, ab, eps: noised(x0, ab, eps.mean(1, keepdim=True)), "and is not a sum of x0 and eps with one factor each"),
    (noised_of_own_noise, "and is not a sum of x0 and eps with one factor each"),
    (lambda x0, ab, eps: noised(x0, ab, eps.flip(0)), "and is not a sum of x0 and eps with one factor each"),
    # shapes and types
    (lambda x0, ab, eps: noised(x0, ab, eps).view(-1, 1, 8, 8), "invalid for input"),
    (lambda x0, ab, eps: noised(x0, ab, eps)[0], "it returns shape (1, 8, 8); expected (64, 1, 8, 8)"),
    (lambda x0, ab, eps: noised(x0, ab, eps).squeeze(), "it returns shape (64, 8, 8); expected (64, 1, 8, 8)"),
    (lambda x0, ab, eps: noised(x0, ab, eps) if len(x0) > 1 else noised(x0, ab, eps)[0], "it returns shape (1, 5, 3)"),
    (lambda x0, ab, eps: noised(x0, ab, eps)[None], "it returns shape (1, 64, 1, 8, 8)"),
    (lambda x0, ab, eps: noised(x0, ab, eps).flatten(1), "it returns shape (64, 64)"),
    (lambda x0, ab, eps: noised(x0, ab, eps).half(), "in torch.float16"),
    (lambda x0, ab, eps: noised(x0, ab, eps).bfloat16(), "in torch.bfloat16"),
    (lambda x0, ab, eps: (noised(x0, ab, eps), eps), "it returns 2 values"),
    (lambda x0, ab, eps: (ab.sqrt() * x0, (1 - ab).sqrt() * eps), "it returns 2 values"),
    # others
    (noised_in_place, "it changes the tensors it is given"),
    (lambda x0, ab, eps: ab.sqrt_() * x0 + (1 - ab**2).sqrt() * eps, "it changes the tensors it is given"),
    (lambda x0, ab, eps: noised(x0, ab, eps) * math.nan, "not finite"),
    (lambda x0, ab, eps: noised(x0, ab[0], eps), "it raised IndexError"),
    (lambda x0, ab: x0, "it raised TypeError"),
]

# ------------------------------------------------------------------------------------------------------------- forward transition


def transition(s, t):
    left = t / s
    return left.sqrt(), 1 - left


def pair(c, V):
    return lambda s, t: (c(s, t), V(s, t))


def c(s, t):
    return (t / s).sqrt()


def V(s, t):
    return 1 - t / s


TRANSITION_RIGHT = [
    transition,
    lambda s, t: [(t / s) ** 0.5, 1 - t / s],
    lambda s, t: (t.sqrt() / s.sqrt(), 1 - t / s),
    lambda s, t: (math.sqrt(t / s), 1 - float(t) / float(s)),
    lambda s, t: (np.sqrt(t.numpy() / s.numpy()), 1 - t.numpy() / s.numpy()),
    lambda s, t: np.array([math.sqrt(t / s), 1 - t / s]),
    lambda s, t: torch.stack(transition(s, t)),
    lambda s, t: (c(s, t), 1 - c(s, t) ** 2),
    lambda s, t: (c(s, t), (s - t) / s),
    lambda s, t: (c(s, t), (1 - t) - t / s * (1 - s)),
    lambda s, t: ((t.log() - s.log()).mul(0.5).exp(), 1 - t / s),
    lambda s, t: (c(s, t), -torch.expm1(t.log() - s.log())),
    lambda s, t: transition(s.double(), t.double()),
    lambda s, t: (v for v in transition(s, t)),
    lambda s, t: (c(s, t).view(1, 1, 1, 1), V(s, t).view(1, 1, 1, 1)),
    lambda s, t: (c(s, t).view(1), V(s, t).view(1)),
]

TRANSITION_WRONG = [
    (lambda s, t: ((t / s).sqrt(), 1 - t - (t / s).sqrt() * (1 - s)), "a factor multiplies a variance by its square"),
    (lambda s, t: ((t - s).sqrt(), 1 - (t - s)), "is negative, and its root is nan"),
    (lambda s, t: (c(s, t), (1 - t / s).clamp(min=1e-3)), "the factor is right; the variance is 0.001; expected 0.000102"),
    (lambda s, t: (c(s, t).clamp(max=0.99), V(s, t)), "the factor is 0.99; expected 0.9999"),
    (lambda s, t: tuple(v.half() for v in transition(s, t)), "in torch.float16, which keeps few digits"),
    # both
    (lambda s, t: (t.sqrt(), 1 - t), "the jump from the clean image"),
    (lambda s, t: (s.sqrt(), 1 - s), "the jump from the clean image to xs"),
    (lambda s, t: (t / s, (1 - t / s).sqrt()), "the root is on the wrong value"),
    (lambda s, t: ((s / t).sqrt(), 1 - s / t), "upside down"),
    (lambda s, t: transition(s, t)[::-1], "in the wrong order"),
    (lambda s, t: ((1 - t / s).sqrt(), (t / s).sqrt()), "the factors of noise and image"),
    (lambda s, t: ((1 - s + t).sqrt(), s - t), "alpha_bar is a product of alphas, so divide"),
    (lambda s, t: (t, 1 - t), "the factor is 0.34, alpha_bar_t, without the root and not divided"),
    (lambda s, t: (t.sqrt(), (1 - t).sqrt()), "the factor is 0.5831, the root of alpha_bar_t, which counts the steps up to s twice"),
    (lambda s, t: ((s * t).sqrt(), 1 - s * t), "divide them, since the steps up to s are in both"),
    (lambda s, t: (t / s, 1 - (t / s) ** 2), "without the root; the variance is 0.8322, 1 minus the square"),
    (lambda s, t: (t.sqrt() - s.sqrt(), s - t), "the factor is -0.3279; expected 0.64"),
    (lambda s, t: (s.sqrt() - t.sqrt(), s - t), "the difference of the roots"),
    (lambda s, t: ((s - t).sqrt(), 1 - (s - t)), "the root of alpha_bar_s - alpha_bar_t"),
    (lambda s, t: (s / t, 1 - s / t), "upside down and without the root; the variance is -1.441, 1 - alpha_bar_s / alpha_bar_t"),
    # the variance
    (pair(c, lambda s, t: s - t), "the factor is right; the variance is 0.49, alpha_bar_s - alpha_bar_t"),
    (pair(c, lambda s, t: (1 - t) - (1 - s)), "the factor is right; the variance is 0.49, alpha_bar_s - alpha_bar_t"),
    (pair(c, lambda s, t: 1 - t), "the factor is right; the variance is 0.66, 1 - alpha_bar_t"),
    (pair(c, lambda s, t: V(s, t).sqrt()), "the second value is the standard deviation"),
    (pair(c, lambda s, t: 1 - c(s, t)), "the factor is right; the variance is 0.36, 1 minus the factor"),
    (pair(c, lambda s, t: t / s), "the factor is right; the variance is 0.4096, alpha_bar_t / alpha_bar_s, the factor's square"),
    (pair(c, lambda s, t: (1 - t).sqrt()), "the factor is right; the variance is 0.8124, the root of 1 - alpha_bar_t"),
    (pair(c, lambda s, t: 1 - s), "the factor is right; the variance is 0.17, 1 - alpha_bar_s"),
    (pair(c, lambda s, t: (1 - t) / (1 - s)), "the factor is right; the variance is 3.882, (1 - alpha_bar_t) / (1 - alpha_bar_s)"),
    (pair(c, lambda s, t: (1 - s) / (1 - t)), "the factor is right; the variance is 0.2576, (1 - alpha_bar_s)"),
    (pair(c, lambda s, t: 1 - s / t), "the factor is right; the variance is -1.441, 1 - alpha_bar_s / alpha_bar_t: the quotient"),
    (pair(c, lambda s, t: t / s - 1), "the factor is right; the variance is -0.5904, the right size with the wrong sign"),
    (pair(c, lambda s, t: (1 - s) / (1 - t) * V(s, t)), "the variance of a backward step (1.8)"),
    (pair(c, lambda s, t: V(s, t) ** 2), "the square of the variance"),
    (pair(c, lambda s, t: 1 - (t / s) ** 2), "1 minus the square"),
    (pair(c, lambda s, t: 1 - t / s**0.5), "1 minus alpha_bar_t over the root of alpha_bar_s"),
    (lambda s, t: (t / s**0.5, 1 - t / s**0.5), "both are under the root; the variance is 0.6268, 1 minus alpha_bar_t over the root"),
    (pair(c, lambda s, t: V(s, t).log()), "the factor is right; the variance is -0.527; expected 0.5904"),
    (pair(c, lambda s, t: V(s, t) / 2), "the factor is right; the variance is 0.2952; expected 0.5904"),
    (pair(c, lambda s, t: 1 - 0.34 / 0.83), "the factor is right; the variance is 0.5904; expected 0.8804"),
    (pair(c, lambda s, t: V(s, t) + 1e-3), "the factor is right; the variance is 0.5914; expected 0.5904"),
    (pair(c, lambda s, t: V(s, t).clamp(max=0.999)), "the factor is right; the variance is 0.999; expected 0.9999"),
    (pair(c, lambda s, t: V(s, t).clamp(min=0.05)), "the factor is right; the variance is 0.05; expected 0.0202"),
    # the factor
    (pair(lambda s, t: t / s, V), "the variance is right; the factor of xs is the root"),
    (
        pair(lambda s, t: t.sqrt(), V),
        "the root of alpha_bar_t, which counts the steps up to s twice: xs already includes them; the variance is right",
    ),
    (pair(lambda s, t: t, V), "without the root and not divided by alpha_bar_s; the variance is right"),
    (pair(lambda s, t: (s / t).sqrt(), V), "the quotient is upside down; the variance is right"),
    (pair(lambda s, t: s / t, V), "upside down and without the root; the variance is right"),
    (pair(lambda s, t: V(s, t).sqrt(), V), "the factor is 0.7683, the standard deviation of the noise; the variance is right"),
    (pair(V, V), "the factor is 0.5904, the variance of the noise; the variance is right"),
    (pair(lambda s, t: s.sqrt(), V), "for the steps already taken"),
    (pair(lambda s, t: 1.0, V), "so xs does not shrink; the variance is right"),
    (pair(lambda s, t: (1 - s + t).sqrt(), V), "alpha_bar is a product of alphas, so divide; the variance is right"),
    (pair(lambda s, t: t.sqrt() / s, V), "both are under the root"),
    (pair(lambda s, t: (t / s) ** 2, V), "take the root"),
    (pair(lambda s, t: (s * t).sqrt(), V), "divide them"),
    (pair(lambda s, t: -c(s, t), V), "the factor is -0.64; expected 0.64; the variance is right"),
    (pair(lambda s, t: (0.34 / 0.83) ** 0.5, V), "the factor is 0.64; expected 0.3458; the variance is right"),
    # both ends
    (lambda s, t: (c(s, t).clamp(max=0.9999), V(s, t)), "the factor is 0.9999; expected 0.9999"),
    (lambda s, t: (c(s, t).clamp(max=0.99999), V(s, t)), "(is it clamped or rounded?); the variance is right"),
    (lambda s, t: transition(s + 1e-8, t + 1e-8), "the factor is 0.008185; expected 0.008165"),
    (lambda s, t: transition(s.clamp(1e-5), t.clamp(1e-5)), "; expected"),
    (lambda s, t: transition(s, t) if s < 1 else (1.0, 0.0), "; expected 0.7071"),
    (lambda s, t: (c(s, t), (1 / (1 - s) - 1 / (1 - t)) * (1 - s)), "the factor is right"),
    # one, three, none
    (c, "it returns one number, the factor; expected two"),
    (V, "it returns one number, the variance; expected two"),
    (lambda s, t: t.sqrt(), "it returns one number, 0.5831; expected two"),
    (lambda s, t: (c(s, t),), "it returns 1 value"),
    (lambda s, t: (c(s, t), V(s, t), V(s, t).sqrt()), "it returns 3 values"),
    (lambda s, t: (c(s, t), None), "the factor is right; the variance is missing (None)"),
    (lambda s, t: (None, V(s, t)), "the factor is missing (None); the variance is right"),
    (lambda s, t: dict(factor=c(s, t), variance=V(s, t)), "it returns a dict"),
    (lambda s, t: (c(s, t), math.nan), "the factor is right; the variance is nan"),
    (lambda s, t: (c(s, t), str(V(s, t).item())), "the factor is right; the variance is a str"),
    (lambda s, t: (c(s, t), V(s, t) * torch.eye(2)), "the factor is right; the variance is a Tensor of shape (2, 2)"),
    (lambda s, t: torch.stack(transition(s, t))[None], "it returns a tensor of shape (1, 2)"),
    # others
    (lambda s, t: (t.div_(s).sqrt(), 1 - t), "it changes the tensors it is given"),
    (lambda s, t: (c(s, t) * torch.randn(()), V(s, t)), "draw no random numbers"),
    (lambda s, t: (c(s, t).half(), V(s, t).half()), "; expected"),
    (lambda s, t: (c(t, s), V(t, s)), "upside down"),
    (lambda s: s, "it raised TypeError"),
]

# --------------------------------------------------------------------------------------------------------------------- at log_snr


def log_snr(ab):
    return torch.log(ab / (1 - ab))


def nearest(ab, level):
    return int((log_snr(ab) - level).abs().argmin())


def nearest_loop(ab, level):
    best, place = math.inf, None
    for t in range(1, len(ab)):
        distance = abs(math.log(ab[t] / (1 - ab[t])) - level)
        if distance < best:
            best, place = distance, t
    return place


def nearest_of_two(ab, level):
    values = log_snr(ab)
    after = min(int((values > level).sum()), len(ab) - 1)
    before = max(after - 1, 0)
    return before if abs(values[before] - level) < abs(values[after] - level) else after


def distances(f):
    return lambda ab, level: int((f(ab) - level).abs().argmin())


def first_below(ab, level):
    return next((t for t in range(len(ab)) if log_snr(ab)[t] < level), len(ab) - 1)


AT_LOG_SNR_RIGHT = [
    nearest,
    nearest_loop,
    nearest_of_two,
    distances(torch.logit),
    distances(lambda ab: ab.log() - (1 - ab).log()),
    distances(lambda ab: ab.log() - torch.log1p(-ab)),
    distances(lambda ab: -torch.log(1 / ab - 1)),
    distances(lambda ab: 2 * torch.log(ab.sqrt() / (1 - ab).sqrt())),
    distances(lambda ab: torch.log10(ab / (1 - ab)) * math.log(10)),
    distances(lambda ab: log_snr(ab).nan_to_num()),
    distances(lambda ab: log_snr(ab.float())),
    distances(lambda ab: dl.Schedule.from_alpha_bar(ab).log_snr),
    lambda ab, level: (log_snr(ab) - level).abs().argmin(),
    lambda ab, level: (log_snr(ab) - level).abs().argmin().item(),
    lambda ab, level: ((log_snr(ab) - level) ** 2).argmin(),
    lambda ab, level: 1 + (log_snr(ab[1:]) - level).abs().argmin(),
    lambda ab, level: (-(log_snr(ab) - level).abs()).argmax(),
    lambda ab, level: (log_snr(ab) - level).abs().sort().indices[0],
    lambda ab, level: (log_snr(ab) - level).abs().min(0).indices,
    lambda ab, level: (log_snr(ab) - level).abs().topk(1, largest=False).indices[0],
    lambda ab, level: np.abs(log_snr(ab).numpy() - level).argmin(),
    lambda ab, level: np.argmin(np.abs(log_snr(ab).numpy() - level)),
    lambda ab, level: min(range(1, len(ab)), key=lambda t: abs(log_snr(ab)[t].item() - level)),
    lambda ab, level: (log_snr(ab) - level).abs().tolist().index((log_snr(ab) - level).abs().min()),
    lambda ab, level: ((ab / (1 - ab)).log() / level - 1).abs().argmin(),
]

AT_LOG_SNR_WRONG = [
    # the place
    (lambda ab, level: int((log_snr(ab[1:]) - level).abs().argmin()), "it returns 28; expected 29: if you leave out entry 0"),
    (lambda ab, level: nearest(ab, level) - 1, "it returns 28; expected 29"),
    (lambda ab, level: nearest(ab, level) + 1, "it returns 30; expected 29: the table begins with t = 0"),
    (lambda ab, level: len(ab) - 1 - nearest(ab, level), "counts from the end"),
    (lambda ab, level: len(ab) - nearest(ab, level), "it returns t = 172, where log_snr is"),
    (lambda ab, level: nearest(ab, level) / (len(ab) - 1), "this is t / T"),
    (lambda ab, level: nearest(ab.flip(0), level), "counts from the end"),
    (lambda ab, level: (log_snr(ab) - level).abs().min(), "the smallest distance"),
    (lambda ab, level: log_snr(ab)[nearest(ab, level)], "this is the nearest log_snr"),
    (lambda ab, level: ab[nearest(ab, level)], "this is alpha_bar at the nearest t"),
    # which entry
    (lambda ab, level: int((log_snr(ab) > level).nonzero()[-1]), "the last t above the level"),
    (lambda ab, level: int((log_snr(ab) < level).nonzero()[0]), "the first t below the level"),
    (lambda ab, level: int((log_snr(ab) < level).int().argmax()), "the first t below the level, if there is one"),
    (first_below, "expected"),
    (lambda ab, level: int((log_snr(ab) > level).sum()), "this counts the t above the level"),
    (lambda ab, level: int((log_snr(ab) >= level).sum()) - 1, "the last t above the level"),
    (lambda ab, level: int((log_snr(ab) - level).argmin()), "without abs"),
    (lambda ab, level: int(log_snr(ab).argmin()), "without abs"),
    (lambda ab, level: int((log_snr(ab) - level).abs().argmax()), "it always returns 0"),
    (lambda ab, level: int((log_snr(ab) - level).argmax()), "it always returns 0"),
    (lambda ab, level: int((log_snr(ab) + level).abs().argmin()), "this is noise to signal"),
    # what is compared
    (distances(lambda ab: ab), "compares alpha_bar with the level"),
    (distances(lambda ab: 1 - ab), "it returns t ="),
    (distances(lambda ab: ab / (1 - ab)), "compares snr itself"),
    (distances(lambda ab: (1 - ab) / ab), "it returns t ="),
    (distances(torch.log), "compares log(alpha_bar)"),
    (distances(lambda ab: torch.log(1 - ab)), "compares log(1 - alpha_bar)"),
    (distances(lambda ab: torch.log10(ab / (1 - ab))), "to base 10"),
    (distances(lambda ab: torch.log2(ab / (1 - ab))), "to base 2"),
    (distances(lambda ab: 10 * torch.log10(ab / (1 - ab))), "decibels"),
    (distances(lambda ab: torch.log1p(ab / (1 - ab))), "it returns t ="),
    (distances(lambda ab: log_snr(ab) / 2), "ratio of standard deviations"),
    (distances(lambda ab: torch.log(ab.sqrt() / (1 - ab).sqrt())), "ratio of standard deviations"),
    (distances(lambda ab: (ab / (1 - ab)).sqrt()), "it returns t ="),
    (distances(lambda ab: 2 * log_snr(ab)), "the square of snr"),
    (distances(lambda ab: torch.log((1 - ab) / ab)), "noise to signal"),
    (distances(lambda ab: -log_snr(ab)), "noise to signal"),
    (distances(lambda ab: torch.log(ab) / (1 - ab)), "it always returns 0"),
    (distances(lambda ab: torch.log(ab / 1 - ab)), "it always returns 0"),
    (distances(lambda ab: torch.log(ab) / torch.log(1 - ab)), "it returns"),
    (lambda ab, level: int((ab / (1 - ab) - math.exp(level)).abs().argmin()), "the nearest snr is not always the nearest log_snr"),
    (lambda ab, level: int((ab - 1 / (1 + math.exp(-level))).abs().argmin()), "the nearest alpha_bar is not always the nearest log_snr"),
    (
        lambda ab, level: int((ab - torch.sigmoid(torch.tensor(level))).abs().argmin()),
        "the nearest alpha_bar is not always the nearest log_snr",
    ),
    # both ends
    (distances(lambda ab: log_snr(ab).nan_to_num(posinf=0)), "log_snr at t = 0 is infinite, not 0"),
    (distances(lambda ab: log_snr(ab.clamp(1e-5, 1 - 1e-5))), "it returns t = 0, where log_snr is infinite"),
    (distances(lambda ab: log_snr(ab.clamp(1e-3, 1 - 1e-3))), "it returns t ="),
    (distances(lambda ab: torch.log(ab / (1 - ab + 1e-5))), "it returns t = 0, where log_snr is infinite"),
    (distances(lambda ab: torch.log((ab + 1e-8) / (1 - ab + 1e-8))), "it returns t = 0, where log_snr is infinite"),
    (distances(lambda ab: log_snr(ab).clamp(-10, 10)), "it returns t = 0, where log_snr is infinite"),
    (distances(lambda ab: log_snr(ab).clamp(-4, 4)), "it returns t ="),
    (lambda ab, level: max(nearest(ab, level), 2), "it returns t = 2, where log_snr is 5.911; expected 1"),
    (lambda ab, level: min(nearest(ab, level), len(ab) - 2), "it returns t = 21"),
    (lambda ab, level: min(nearest(ab, level), 200), "it returns t = 200"),
    # kinds of numbers
    (lambda ab, level: float(nearest(ab, level)), "t is right, but of type float"),
    (lambda ab, level: torch.tensor(nearest(ab, level), dtype=torch.uint8), "t is right, but of type uint8"),
    (lambda ab, level: torch.tensor(nearest(ab, level)).byte().long(), "it returns t ="),
    (lambda ab, level: torch.tensor(nearest(ab, level)).bfloat16().long(), "it returns t ="),
    (lambda ab, level: torch.tensor(float(nearest(ab, level))), "t is right, but of type float"),
    (lambda ab, level: (log_snr(ab) - level).abs().argmin(keepdim=True), "t is right, but in a tensor of shape (1,)"),
    (lambda ab, level: (log_snr(ab) - level).abs().argsort()[:1], "t is right, but in a tensor of shape (1,)"),
    (lambda ab, level: [nearest(ab, level)], "it returns a list of 1; expected one integer"),
    (lambda ab, level: str(nearest(ab, level)), "it returns '29'"),
    (lambda ab, level: (log_snr(ab) - level).abs(), "it returns shape (201,)"),
    (lambda ab, level: (log_snr(ab) - level).abs().argsort(), "it returns shape (201,)"),
    (lambda ab, level: (log_snr(ab) - level).abs() < 0.1, "it returns shape (201,)"),
    (lambda ab, level: (log_snr(ab) - level).abs().min(0), "it returns a tuple of 2"),
    (lambda ab, level: (nearest(ab, level), log_snr(ab)[nearest(ab, level)]), "it returns a tuple of 2"),
    (lambda ab, level: nearest(ab, level) == 29, "it returns True"),
    (lambda ab, level: math.nan, "it returns nan"),
    # others
    (lambda ab, level: 29, "it returns t = 29"),
    (lambda ab, level: -1, "it returns t = -1; the table has entries from 0 to 200"),
    (lambda ab, level: len(ab), "it returns t = 201; the table has entries from 0 to 200"),
    (lambda ab, level: nearest(ab, round(level)), "it returns t ="),
    (lambda ab, level: nearest(ab, abs(level)), "it returns t ="),
    (lambda ab, level: nearest(dl.cosine_schedule(len(ab) - 1).alpha_bar, level), "it returns t ="),
    (lambda ab, level: int((log_snr(ab) == level).nonzero()[0]), "it raised IndexError"),
    (lambda ab, level: nearest(ab.sub_(1e-3), level), "it changes the tensors"),
    (lambda ab, level: int(torch.randint(len(ab), ())), "draw no random numbers"),
    (lambda ab: 0, "it raised TypeError"),
]

# ---------------------------------------------------------------------------------------------------------------------- posterior


def posterior(x0, xt, s, t):
    beta = 1 - t / s
    from_x0 = s.sqrt() * beta / (1 - t)
    from_xt = (1 - beta).sqrt() * (1 - s) / (1 - t)
    return from_x0 * x0 + from_xt * xt, (1 - s) / (1 - t) * beta


def posterior_from_eps(x0, xt, s, t):
    eps = (xt - t.sqrt() * x0) / (1 - t).sqrt()
    variance = (1 - s) / (1 - t) * (1 - t / s)
    return s.sqrt() * x0 + (1 - s - variance).sqrt() * eps, variance


def posterior_kalman(x0, xt, s, t):
    gain = (t / s).sqrt() * (1 - s) / (1 - t)
    return s.sqrt() * x0 + gain * (xt - t.sqrt() * x0), (1 - s) - gain**2 * (1 - t)


def posterior_gaussian(x0, xt, s, t):
    mean, variance = posterior(x0, xt, s, t)
    return dl.process.Gaussian(mean, variance.view(1, 1, 1, 1))


def posterior_library(x0, xt, s, t):
    alpha_bar = [1.0, s.item(), t.item()] if s < 1 else [1.0, t.item()]
    schedule = dl.Schedule.from_alpha_bar(torch.tensor(alpha_bar, dtype=torch.float64))
    return dl.q_posterior(schedule, x0, xt, schedule.T)


def posterior_undefined_at_0(x0, xt, s, t):  # the forms before simplification
    beta = 1 - t / s
    A = (1 - beta) / beta + 1 / (1 - s)
    B = (1 - beta).sqrt() * xt / beta + s.sqrt() * x0 / (1 - s)
    return B / A, 1 / A


def posterior_by_variance(x0, xt, s, t):  # each estimate weighted by its variance, instead of its precision
    alpha = t / s
    of_x0, of_xt = 1 - s, (1 - alpha) / alpha
    total = of_x0 + of_xt
    return of_x0 / total * s.sqrt() * x0 + of_xt / total * xt / alpha.sqrt(), posterior(x0, xt, s, t)[1]


def posterior_by_noise_as_written(x0, xt, s, t):  # (1.11) for a stride
    eps = (xt - t.sqrt() * x0) / (1 - t).sqrt()
    alpha = t / s
    return (xt - (1 - alpha) / (1 - t).sqrt() * eps) / alpha.sqrt(), posterior(x0, xt, s, t)[1]


def posterior_in_place(x0, xt, s, t):
    mean, variance = posterior(x0, xt, s, t)
    xt.copy_(mean)
    return xt, variance


def step(of_x0=None, of_xt=None, variance=None):
    """An answer with other factors or another variance, each from (alpha_bar_s, alpha_bar_t, beta)."""
    right_x0 = lambda s, t, b: s.sqrt() * b / (1 - t)  # noqa: E731
    right_xt = lambda s, t, b: (1 - b).sqrt() * (1 - s) / (1 - t)  # noqa: E731
    right_variance = lambda s, t, b: (1 - s) / (1 - t) * b  # noqa: E731

    def answer(x0, xt, s, t):
        b = 1 - t / s
        mean = (of_x0 or right_x0)(s, t, b) * x0 + (of_xt or right_xt)(s, t, b) * xt
        return mean, (variance or right_variance)(s, t, b)

    return answer


def with_beta(beta):
    def answer(x0, xt, s, t):
        b = beta(s, t)
        return s.sqrt() * b / (1 - t) * x0 + (1 - b).sqrt() * (1 - s) / (1 - t) * xt, (1 - s) / (1 - t) * b

    return answer


def of_mean(f):
    return lambda x0, xt, s, t: (f(posterior(x0, xt, s, t)[0]), posterior(x0, xt, s, t)[1])


def of_variance(f):
    return lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0], f(posterior(x0, xt, s, t)[1]))


def posterior_by_noise(x0, xt, s, t):  # (1.11)
    eps, a = (xt - t.sqrt() * x0) / (1 - t).sqrt(), t / s
    return (xt - (1 - a) / (1 - t).sqrt() * eps) / a.sqrt(), (1 - s) / (1 - t) * (1 - a)


POSTERIOR_RIGHT = [
    posterior_by_noise_as_written,
    posterior_by_noise,
    posterior,
    step(variance=lambda s, t, b: b * (1 - b * s / (1 - t))),
    step(variance=lambda s, t, b: (1 - s) - (1 - b) * (1 - s) ** 2 / (1 - t)),
    step(variance=lambda s, t, b: 1 / ((1 - b) / b + 1 / (1 - s))),
    posterior_from_eps,
    posterior_kalman,
    posterior_gaussian,
    posterior_library,
    lambda x0, xt, s, t: list(posterior(x0, xt, s, t)),
    lambda x0, xt, s, t: posterior(x0.double(), xt.double(), s.double(), t.double()),
    lambda x0, xt, s, t: posterior(x0, xt, s.item() * torch.ones(1, 1, 1, 1), t),
    of_variance(float),
    of_variance(lambda v: v.view(1, 1, 1, 1)),
    of_variance(lambda v: v.numpy()),
    of_mean(lambda mean: mean.numpy()),
    lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0], torch.full_like(x0, posterior(x0, xt, s, t)[1].item())),
    lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0], posterior(x0, xt, s, t)[1].expand(len(x0), 1, 1, 1)),
    lambda x0, xt, s, t: (
        torch.stack([posterior(x, y, s, t)[0] for x, y in zip(x0, xt, strict=True)]),
        (1 - s) * (s - t) / (s * (1 - t)),
    ),
    step(of_x0=lambda s, t, b: (s - t) / (s.sqrt() * (1 - t))),
    step(of_xt=lambda s, t, b: (t / s).sqrt() * (1 - s) / (1 - t)),
    step(of_xt=lambda s, t, b: t.sqrt() / s.sqrt() * (1 - s) / (1 - t)),
    step(variance=lambda s, t, b: b - b**2 * s / (1 - t)),
]

POSTERIOR_WRONG = [
    (posterior_by_variance, "with both estimates weighted by their variances instead of their precisions"),
    # the variance
    (step(variance=lambda s, t, b: b), "the mean is right; the variance is beta, the variance of a forward step"),
    (of_variance(torch.sqrt), "the mean is right; the second value is the standard deviation"),
    (of_variance(torch.log), "the mean is right; the variance is -1.883, its logarithm"),
    (of_variance(lambda v: v.clamp(min=1e-20).log()), "its logarithm"),
    (of_variance(lambda v: v**2), "the square of the variance"),
    (of_variance(lambda v: 1 / v), "1 / variance"),
    (of_variance(lambda v: -v), "the mean is right; the variance is -0.1521; expected 0.1521"),
    (of_variance(lambda v: 1 - v), "the mean is right; the variance is 0.8479; expected 0.1521"),
    (of_variance(lambda v: v + 1e-3), "the mean is right; the variance is 0.1531; expected 0.1521"),
    (of_variance(lambda v: 0.0), "so the step has no noise"),
    (step(variance=lambda s, t, b: (1 - t) / (1 - s) * b), "the fraction is upside down"),
    (step(variance=lambda s, t, b: 1 - s), "the mean is right; the variance is 0.17, 1 - alpha_bar_s"),
    (step(variance=lambda s, t, b: 1 - t), "the mean is right; the variance is 0.66, 1 - alpha_bar_t"),
    (step(variance=lambda s, t, b: (1 - s) / (1 - t)), "the fraction of (1.8) without beta"),
    (step(variance=lambda s, t, b: (1 - s) * b), "without the division by 1 - alpha_bar_t"),
    (step(variance=lambda s, t, b: b / (1 - t)), "without 1 - alpha_bar_s"),
    (step(variance=lambda s, t, b: s - t), "alpha_bar_s - alpha_bar_t"),
    (step(variance=lambda s, t, b: (1 - s) / (1 - t) * (s - t)), "with alpha_bar_s - alpha_bar_t instead of beta"),
    (step(variance=lambda s, t, b: (1 - s) / (1 - t) * (1 - t)), "the mean is right; the variance is 0.17, 1 - alpha_bar_s"),
    (step(variance=lambda s, t, b: (1 - s) / (1 - t) * (1 - b)), "with 1 - beta instead of beta"),
    (step(variance=lambda s, t, b: (1 - s) / (1 - t) * b.sqrt()), "with the root of beta"),
    (step(variance=lambda s, t, b: (1 - s) / (1 - t) * b**2), "with beta squared"),
    (step(variance=lambda s, t, b: ((1 - s) / (1 - t)).sqrt() * b), "with the roots of 1 - alpha_bar_s"),
    (step(variance=lambda s, t, b: b.sqrt()), "the root of beta"),
    (step(variance=lambda s, t, b: (1 - s) / (1 - t) * (1 - s / t)), "upside down"),
    (step(variance=lambda s, t, b: torch.tensor(0.15207)), "the mean is right; the variance is 0.1521; expected"),
    (of_variance(lambda v: v.clamp(min=1e-5)), "the mean is right; the variance is 1e-05; expected 0"),
    (of_variance(lambda v: v.clamp(min=1e-3)), "the mean is right; the variance is 0.001; expected"),
    (of_variance(lambda v: v.clamp(min=1e-6)), "the mean is right; the variance is 1e-06; expected 0"),
    (of_variance(lambda v: v.half()), "the mean is right; the variance is 0.152"),
    # the mean
    (lambda x0, xt, s, t: (posterior(xt, x0, s, t)[0], posterior(x0, xt, s, t)[1]), "the factors of x0 and xt are swapped"),
    (
        step(of_xt=lambda s, t, b: t.sqrt() * (1 - s) / (1 - t)),
        "the variance is right; the factor of xt has the root of alpha_bar_t; expected",
    ),
    (lambda x0, xt, s, t: (xt / (t / s).sqrt(), posterior(x0, xt, s, t)[1]), "the mean only undoes the shrinking"),
    (
        lambda x0, xt, s, t: (s.sqrt() * x0, posterior(x0, xt, s, t)[1]),
        "with 1 - alpha_bar_t instead of beta, and the factor of xt is",
    ),
    (lambda x0, xt, s, t: (x0, posterior(x0, xt, s, t)[1]), "so x0 counts in full"),
    (lambda x0, xt, s, t: (xt, posterior(x0, xt, s, t)[1]), "so xt counts in full; the variance is right"),
    (
        step(of_x0=lambda s, t, b: s * b / (1 - t)),
        "with alpha_bar_s instead of its root, and the factor of xt is right; the variance is right",
    ),
    (step(of_x0=lambda s, t, b: b / (1 - t)), "without the root of alpha_bar_s"),
    (step(of_x0=lambda s, t, b: t.sqrt() * b / (1 - t)), "with the root of alpha_bar_t instead of alpha_bar_s"),
    (step(of_x0=lambda s, t, b: s.sqrt() * b), "not divided by 1 - alpha_bar_t"),
    (step(of_x0=lambda s, t, b: s.sqrt() * b / (1 - s)), "divided by 1 - alpha_bar_s"),
    (step(of_x0=lambda s, t, b: s.sqrt() * b / (1 - t).sqrt()), "divided by the root of 1 - alpha_bar_t"),
    (step(of_x0=lambda s, t, b: s.sqrt() * (1 - b) / (1 - t)), "with 1 - beta instead of beta"),
    (step(of_x0=lambda s, t, b: s.sqrt() * b.sqrt() / (1 - t)), "with the root of beta"),
    (step(of_x0=lambda s, t, b: s.sqrt() / (1 - t)), "without beta"),
    (step(of_x0=lambda s, t, b: s.sqrt() * (s - t) / (1 - t)), "with alpha_bar_s - alpha_bar_t instead of beta"),
    (step(of_x0=lambda s, t, b: (t / s).sqrt() * b / (1 - t)), "with the root of alpha_bar_t / alpha_bar_s instead of alpha_bar_s"),
    (step(of_x0=lambda s, t, b: -s.sqrt() * b / (1 - t)), "the factor of x0 is -0.8149; expected 0.8149"),
    (step(of_xt=lambda s, t, b: (1 - b) * (1 - s) / (1 - t)), "with 1 - beta instead of its root"),
    (step(of_xt=lambda s, t, b: (1 - s) / (1 - t)), "without the root of 1 - beta"),
    (step(of_xt=lambda s, t, b: b.sqrt() * (1 - s) / (1 - t)), "with the root of beta instead of 1 - beta"),
    (step(of_xt=lambda s, t, b: b * (1 - s) / (1 - t)), "with beta instead of the root of 1 - beta"),
    (step(of_xt=lambda s, t, b: s.sqrt() * (1 - s) / (1 - t)), "with the root of alpha_bar_s instead"),
    (step(of_xt=lambda s, t, b: (s / t).sqrt() * (1 - s) / (1 - t)), "with the quotient alpha_bar_t / alpha_bar_s upside down"),
    (step(of_xt=lambda s, t, b: (1 - b).sqrt() * (1 - t) / (1 - s)), "with the fraction (1 - alpha_bar_s) / (1 - alpha_bar_t) upside down"),
    (step(of_xt=lambda s, t, b: (1 - b).sqrt() * (1 - s)), "not divided by 1 - alpha_bar_t"),
    (step(of_xt=lambda s, t, b: (1 - b).sqrt() / (1 - t)), "without 1 - alpha_bar_s"),
    (step(of_xt=lambda s, t, b: (1 - b).sqrt()), "without the fraction"),
    (step(of_xt=lambda s, t, b: ((1 - b) * (1 - s) / (1 - t)).sqrt()), "with the roots of 1 - alpha_bar_s"),
    (step(of_x0=lambda s, t, b: s.sqrt() * b / 1 - t), "with 1 - alpha_bar_t not in brackets"),
    (step(of_xt=lambda s, t, b: (1 - b).sqrt() * (1 - s) / 1 - t), "with 1 - alpha_bar_t not in brackets"),
    (step(variance=lambda s, t, b: (1 - s) / 1 - t * b), "with 1 - alpha_bar_t not in brackets"),
    (step(of_xt=lambda s, t, b: (1 - b.sqrt()) * (1 - s) / (1 - t)), "with 1 minus the root of beta"),
    (step(of_xt=lambda s, t, b: (1 - b) ** 2 * (1 - s) / (1 - t)), "with the square of 1 - beta"),
    (step(of_xt=lambda s, t, b: 0.0), "so xt is missing"),
    (step(of_x0=lambda s, t, b: 0.0), "so x0 is missing"),
    (step(of_x0=lambda s, t, b: 0.814888), "the factor of x0 is 0.8149; expected"),
    (of_mean(lambda mean: mean.clamp(-1, 1)), "the mean is clamped"),
    (lambda x0, xt, s, t: posterior(x0.clamp(-1, 1), xt, s, t), "x0 is clamped"),
    (lambda x0, xt, s, t: posterior(x0, xt.clamp(-1, 1), s, t), "xt is clamped"),
    (of_mean(lambda mean: mean + 0.01), "0.01 is added to every value"),
    (of_mean(lambda mean: mean.tanh()), "the mean is off by up to"),
    (of_mean(lambda mean: mean * math.nan), "the mean contains numbers that are not finite; the variance is right"),
    (of_mean(lambda mean: mean.half()), "in torch.float16, which keeps few digits; the variance is right"),
    (of_mean(lambda mean: mean.mean(0, keepdim=True)), "the mean has shape (1, 1, 8, 8); expected (64, 1, 8, 8); the variance is right"),
    (of_mean(lambda mean: mean.mean()), "the mean has shape (); expected (64, 1, 8, 8); the variance is right"),
    (of_mean(lambda mean: mean.squeeze()), "the mean has shape (64, 8, 8)"),
    (
        of_mean(lambda mean: mean if len(mean) > 1 else mean[0]),
        "the mean has shape (1, 5, 3); expected (1, 1, 5, 3); the variance is right",
    ),
    # both
    (with_beta(lambda s, t: 1 - t), "beta is 1 - alpha_bar_t, for the steps from the clean image"),
    (with_beta(lambda s, t: s - t), "beta is the difference of the two alpha_bar"),
    (with_beta(lambda s, t: t / s), "beta is alpha_bar_t / alpha_bar_s"),
    (with_beta(lambda s, t: (1 - t / s).sqrt()), "beta has a root"),
    (with_beta(lambda s, t: 1 - s / t), "the quotient alpha_bar_s / alpha_bar_t is upside down"),
    (with_beta(lambda s, t: 1 - (t / s).sqrt()), "beta is 1 minus the root"),
    (lambda x0, xt, s, t: posterior(x0, xt, t, s), "alpha_bar_s and alpha_bar_t are swapped"),
    (lambda x0, xt, s, t: posterior(xt, x0, s, t), "the factors of x0 and xt are swapped"),
    (lambda x0, xt, s, t: (s.sqrt() * x0, 1 - s), "this is q(xs | x0)"),
    (lambda x0, xt, s, t: (t.sqrt() * x0, 1 - t), "this is q(xt | x0)"),
    (lambda x0, xt, s, t: ((t / s).sqrt() * xt, 1 - t / s), "a forward step from xt"),
    (
        step(of_xt=lambda s, t, b: (1 - s) / (1 - t), variance=lambda s, t, b: b),
        "without the root of 1 - beta; the variance is 0.5904, beta",
    ),
    (step(of_x0=lambda s, t, b: s * b / (1 - t), variance=lambda s, t, b: b), "with alpha_bar_s instead of its root"),
    (step(of_x0=lambda s, t, b: s * b / (1 - t), of_xt=lambda s, t, b: (1 - b) * (1 - s) / (1 - t)), "its root, and the factor of xt is"),
    (lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0] * 2, 1 - s), "the factor of x0 is 1.63; expected 0.8149"),
    (posterior_undefined_at_0, "the mean contains numbers that are not finite: at s = 0"),
    (lambda x0, xt, s, t: posterior(x0, xt, s + 1e-8, t + 1e-8), "expected"),
    (lambda x0, xt, s, t: posterior(x0, xt, s, t) if s < 1 else (x0, torch.tensor(1e-4)), "the mean is right; the variance is 0.0001"),
    # one of two, order, more
    (lambda x0, xt, s, t: posterior(x0, xt, s, t)[0], "the mean is right, but the variance is missing"),
    (
        lambda x0, xt, s, t: posterior(x0, xt, s, t)[1],
        "it returns one number; expected two values, mean and variance (the variance is right)",
    ),
    (lambda x0, xt, s, t: 1 - t / s, "it returns one number; expected two values"),
    (lambda x0, xt, s, t: x0, "it returns one tensor; expected two values, mean and variance (in the mean, the factor of x0 is 1"),
    (lambda x0, xt, s, t: xt, "it returns one tensor; expected two values"),
    (lambda x0, xt, s, t: torch.zeros_like(x0), "it returns one tensor; expected two values"),
    (
        lambda x0, xt, s, t: posterior(x0, xt, s, t)[0] + 1,
        "it returns one tensor; expected two values, mean and variance (in the mean, 1 is added to every value",
    ),
    (lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0], None), "the mean is right; the variance is missing (None)"),
    (lambda x0, xt, s, t: (x0, None), "so xt is missing; the variance is missing (None)"),
    (lambda x0, xt, s, t: (None, posterior(x0, xt, s, t)[1]), "the mean is missing (None); the variance is right"),
    (lambda x0, xt, s, t: posterior(x0, xt, s, t)[::-1], "in the wrong order"),
    (lambda x0, xt, s, t: (*posterior(x0, xt, s, t), xt), "it returns 3 values"),
    (lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0],), "it returns 1 value"),
    (lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0], math.nan), "the mean is right; the variance is nan; expected 0.1521"),
    (lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0], math.inf), "the mean is right; the variance is inf; expected 0.1521"),
    (lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0], "0.16"), "the mean is right; the variance is a str"),
    (lambda x0, xt, s, t: dict(zip(("mean", "variance"), posterior(x0, xt, s, t), strict=True)), "it returns a dict"),
    (lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0], posterior(x0, xt, s, t)[1] * torch.rand_like(x0)), "draw no random numbers"),
    (lambda x0, xt, s, t: (posterior(x0, xt, s, t)[0], posterior(x0, xt, s, t)[1] * x0), "the variance is a Tensor of shape (64, 1, 8, 8)"),
    (of_variance(lambda v: v * torch.eye(3)), "the variance is a Tensor of shape (3, 3)"),
    (of_variance(lambda v: v.expand(7)), "the variance is a Tensor of shape (7,)"),
    # a sample instead of its distribution
    (lambda x0, xt, s, t: posterior(x0, xt, s, t)[0] + posterior(x0, xt, s, t)[1].sqrt() * torch.randn_like(x0), "draw no random numbers"),
    (of_mean(lambda mean: mean + 1e-3 * torch.randn_like(mean)), "draw no random numbers"),
    # others
    (posterior_in_place, "it changes the tensors it is given"),
    (lambda x0, xt, s, t: posterior(x0.mul_(1), xt.mul_(2), s, t), "it changes the tensors it is given"),
    (lambda x0, xt, s, t: dl.q_posterior(dl.linear_schedule(), x0, xt, 500), "in the mean"),
    (lambda x0, xt, s: x0, "it raised TypeError"),
]

# ------------------------------------------------------------------------------------------------------------------------- pooled

RIGHT = {
    "check_alpha_bar": ALPHA_BAR_RIGHT,
    "check_noised": NOISED_RIGHT,
    "check_forward_transition": TRANSITION_RIGHT,
    "check_at_log_snr": AT_LOG_SNR_RIGHT,
    "check_posterior": POSTERIOR_RIGHT,
    "check_pooled_log_snr": [
        math.log(4),
        2 * math.log(2),
        -math.log(0.25),
        np.log(4),
        torch.log(torch.tensor(4.0)),
        1.386,
        1.39,
        1.4,
        math.log(96**2 / 48**2),
    ],
}

WRONG = {
    "check_alpha_bar": ALPHA_BAR_WRONG,
    "check_noised": NOISED_WRONG,
    "check_forward_transition": TRANSITION_WRONG,
    "check_at_log_snr": AT_LOG_SNR_WRONG,
    "check_posterior": POSTERIOR_WRONG,
    "check_pooled_log_snr": [
        (math.log(2), "half the answer"),
        (0.69, "half the answer"),
        (2, "also its log2"),
        (math.log2(4), "also its log2"),
        (4, "the exercise asks for its natural logarithm"),
        (0.25, "the factor of the noise's variance"),
        (0.5, "the factor of the noise's standard deviation"),
        (16, "not squared again"),
        (math.log(16), "not a sixteenth"),
        (0, "partly cancels"),
        (-math.log(4), "does the ratio rise or fall?"),
        (-math.log(2), "does the ratio rise or fall?"),
        (-2, "does the ratio rise or fall?"),
        (math.log10(4), "base 10"),
        (math.log10(2), "base 10"),
        (10 * math.log10(4), "decibels"),
        (3, "3 is too large"),
        (1, "1 is too small"),
        (0.75, "0.75 is too small"),
        (1.5, "1.5 is too large"),
        (1.3, "1.3 is too small"),
        (48, "48 is too large"),
        (math.inf, "inf is too large"),
        (math.nan, "this is not a number"),
        ("log(4)", "this is a str; expected a number"),
        (math.log, "expected a number"),
        (torch.log(torch.tensor([4.0])), "this is a Tensor; expected a number"),
    ],
}
