"""The forward process in closed form, its exact posterior, and the conversions between eps, x0 and v.

With ab = alpha_bar, and for images of shape (B, C, H, W):

    q(xt | x0)  = N(sqrt(ab_t) x0, (1 - ab_t) I)                            Ho, Jain & Abbeel 2020 (arXiv:2006.11239), equation 4
    v           = sqrt(ab_t) eps - sqrt(1 - ab_t) x0                        Salimans & Ho 2022 (arXiv:2202.00512), section 4

Everywhere, t is an int (one noise level for the batch) or a LongTensor (B,) (one for each image). Results have the images'
dtype and device; the coefficients are taken from the float64 tables, so float64 images give float64 answers.

Raises, everywhere: `ValueError` for a t outside its range, images that are not 4-dimensional or not floating point, and images
whose shapes, dtypes or devices differ.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.devices import like
from diffusion_lib.schedules import Schedule

Generator = torch.Generator | Sequence[torch.Generator]


class Gaussian(NamedTuple):
    """A normal distribution with independent pixels of one variance."""

    mean: Tensor  # (B, C, H, W)
    variance: Tensor  # (1, 1, 1, 1) or (B, 1, 1, 1): not the standard deviation


def q_sample(schedule: Schedule, x0: Tensor, t: int | Tensor, eps: Tensor | None = None, generator: Generator | None = None) -> Tensor:
    """A draw of xt from q(xt | x0), for t in 0..T (at t = 0 it is x0 itself).

    x0: (B, C, H, W) in [-1, 1]. eps: the noise to use, same shape, standard normal; drawn from `generator` if left out.
    Returns xt: (B, C, H, W).
    """
    if eps is None:
        check_images(x0=x0)
        eps = randn_like(x0, generator)
    check_images(x0=x0, eps=eps)
    # xt = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps                                            Ho et al. 2020, equation 4
    return at(schedule.alpha_bar.sqrt(), t, x0) * x0 + at(schedule.sigma, t, x0) * eps


def q_posterior(schedule: Schedule, x0: Tensor, xt: Tensor, t: int | Tensor, s: int | Tensor | None = None) -> Gaussian:
    """q(xs | xt, x0), the distribution of a less noisy image when both the noisy and the clean one are known.

    t in 1..T, s in 0..t-1; s is t - 1 when left out. At s = 0 the answer is certain: mean x0, variance 0.
    The variance at s = t - 1 is the paper's beta_tilde_t, not beta_t.
    """
    check_images(x0=x0, xt=xt)
    # in float64 until the last moment: 1 - ab_t / ab_s is as small as 1e-4, where float32 keeps three digits
    ab_t = pick(schedule.alpha_bar, t, len(xt), lowest=1)
    s = t - 1 if s is None else s
    ab_s = pick(schedule.alpha_bar, s, len(xt))
    if not (ab_s > ab_t).all():
        raise ValueError(f"s={_say(s)} with t={_say(t)}; expected s < t: the posterior is about a less noisy image")
    # mean     = sqrt(ab_s) (1 - ab_t / ab_s) / (1 - ab_t) x0 + sqrt(ab_t / ab_s) (1 - ab_s) / (1 - ab_t) xt     Ho et al. 2020, eq. 7
    # variance = (1 - ab_s) / (1 - ab_t) (1 - ab_t / ab_s)
    from_x0 = ab_s.sqrt() * (1 - ab_t / ab_s) / (1 - ab_t)
    from_xt = (ab_t / ab_s).sqrt() * (1 - ab_s) / (1 - ab_t)
    variance = (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
    return Gaussian(like(from_x0, xt) * x0 + like(from_xt, xt) * xt, like(variance, xt))


def eps_from_x0(schedule: Schedule, xt: Tensor, t: int | Tensor, x0: Tensor) -> Tensor:
    """The noise that leads from x0 to xt; t in 1..T (at t = 0 there is none to tell)."""
    check_images(xt=xt, x0=x0)
    # eps = (xt - sqrt(alpha_bar_t) x0) / sqrt(1 - alpha_bar_t)
    return (xt - at(schedule.alpha_bar.sqrt(), t, xt, lowest=1) * x0) / at(schedule.sigma, t, xt, lowest=1)


def x0_from_eps(schedule: Schedule, xt: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
    """The clean image that `eps` turned into xt; t in 0..T."""
    check_images(xt=xt, eps=eps)
    # x0 = (xt - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)                                       Ho et al. 2020, equation 15
    return (xt - at(schedule.sigma, t, xt) * eps) / at(schedule.alpha_bar.sqrt(), t, xt)


def v_from(schedule: Schedule, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
    """The velocity of x0 and eps; t in 0..T."""
    check_images(x0=x0, eps=eps)
    # v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x0                                         Salimans & Ho 2022, section 4
    return at(schedule.alpha_bar.sqrt(), t, x0) * eps - at(schedule.sigma, t, x0) * x0


def x0_from_v(schedule: Schedule, xt: Tensor, t: int | Tensor, v: Tensor) -> Tensor:
    """The clean image in xt, given its velocity; t in 0..T."""
    check_images(xt=xt, v=v)
    # x0 = sqrt(alpha_bar_t) xt - sqrt(1 - alpha_bar_t) v                                          Salimans & Ho 2022, section 4
    return at(schedule.alpha_bar.sqrt(), t, xt) * xt - at(schedule.sigma, t, xt) * v


def eps_from_v(schedule: Schedule, xt: Tensor, t: int | Tensor, v: Tensor) -> Tensor:
    """The noise in xt, given its velocity; t in 0..T."""
    check_images(xt=xt, v=v)
    # eps = sqrt(1 - alpha_bar_t) xt + sqrt(alpha_bar_t) v
    return at(schedule.sigma, t, xt) * xt + at(schedule.alpha_bar.sqrt(), t, xt) * v


def at(table: Tensor, t: int | Tensor, x: Tensor, lowest: int = 0) -> Tensor:
    """table[t] in x's dtype and on its device, shaped to broadcast against x; see `pick`."""
    return like(pick(table, t, len(x), lowest), x)


def pick(table: Tensor, t: int | Tensor, batch: int, lowest: int = 0) -> Tensor:
    """table[t], shaped to broadcast against a batch of images: (1, 1, 1, 1) for an int t, (batch, 1, 1, 1) for a tensor.

    table: (T + 1,), on the CPU. t: int or LongTensor (batch,), each in lowest..T; otherwise `ValueError`.
    """
    return table[check_t(t, len(table) - 1, batch, lowest).cpu()].view(-1, 1, 1, 1)


def check_t(t: int | Tensor, T: int, batch: int, lowest: int = 1) -> Tensor:
    """t as a LongTensor of shape (1,) or (batch,), after checking that each entry is in lowest..T."""
    if isinstance(t, bool) or not isinstance(t, Integral | Tensor):
        raise ValueError(f"t is a {type(t).__name__}; expected an int or a LongTensor of shape ({batch},)")
    if isinstance(t, Tensor):
        if t.dtype != torch.long:
            raise ValueError(f"t has dtype {t.dtype}; expected torch.long: timesteps are whole numbers, use t.long()")
        if t.shape not in {(), (batch,)}:
            raise ValueError(f"t has shape {tuple(t.shape)}; expected ({batch},): one timestep for each image in the batch")
        t = t.reshape(-1)
        outside = t[(t < lowest) | (t > T)].tolist()
    else:  # what samplers ask for, ten times a step: no tensor arithmetic for one number
        outside = [] if lowest <= t <= T else [t]
        t = torch.tensor([int(t)])
    if outside:
        raise ValueError(f"t={outside[0]} is out of range; expected {lowest}..{T} for this schedule of T={T}")
    return t


def check_images(**images: Tensor) -> None:
    """Raises `ValueError` unless each is a floating-point (B, C, H, W) tensor, B > 0, and all agree in shape, dtype and device."""
    (first, reference), *_ = images.items()
    for name, x in images.items():
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} is a {type(x).__name__}; expected a tensor of shape (B, C, H, W)")
        if x.ndim != 4:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected (B, C, H, W): add a batch dimension with x[None]")
        if len(x) == 0:
            raise ValueError(f"{name} holds no images; expected a batch of one or more")
        if not x.is_floating_point():
            raise ValueError(f"{name} has dtype {x.dtype}; expected floats in [-1, 1]: use diffusion_lib.to_float")
        for what in ("shape", "dtype", "device"):
            ours, theirs = getattr(x, what), getattr(reference, what)
            if ours != theirs:
                say = (lambda v: str(tuple(v))) if what == "shape" else str
                raise ValueError(f"{name} has {what} {say(ours)} but {first} has {say(theirs)}; expected the same {what}")


def randn_like(x: Tensor, generator: Generator | None = None) -> Tensor:
    """Standard normal noise of x's shape, dtype and device.

    generator: None (torch's global one), one generator for the batch, or a sequence with one for each image, which makes
    the noise of an image independent of the batch it is in. Noise is drawn on the generator's device, in float32, and moved.
    """
    if generator is None:
        return torch.randn_like(x)
    if isinstance(generator, torch.Generator):
        return like(torch.randn(x.shape, generator=generator, device=generator.device), x)
    if len(generator) != len(x):
        raise ValueError(f"{len(generator)} generators for {len(x)} images; expected one for each image, or a single generator")
    return like(torch.stack([torch.randn(x.shape[1:], generator=g, device=g.device) for g in generator]), x)


def _say(t: int | Tensor) -> str:
    return str(t.tolist() if isinstance(t, Tensor) else t)
