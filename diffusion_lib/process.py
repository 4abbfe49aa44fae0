"""The forward process in closed form, its exact posterior, and the quantities that a network may predict.

For images of shape (B, C, H, W), on any schedule:

    q(xt | x0) = N(signal_t x0, noise_t^2 I)                                Ho, Jain & Abbeel 2020 (arXiv:2006.11239), equation 4

On that paper's variance-preserving schedules, signal = sqrt(alpha_bar) and noise = sqrt(1 - alpha_bar).

Everywhere, t is an int (one noise level for the batch) or a LongTensor (B,) (one per image). Results have the images'
dtype and device. Coefficients come from the float64 tables, so float64 images give float64 results.

The functions down to `eps_from_v` raise `ValueError` for a t outside its range, for images that are not 4-dimensional or not floating
point, and for images whose shapes, dtypes or devices differ. The functions from `noised` on check nothing: samplers and denoisers
call them after their own checks.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.checks import check_generator, check_images, check_schedule, check_t
from diffusion_lib.devices import like
from diffusion_lib.schedules import Schedule

Generator = torch.Generator | Sequence[torch.Generator]


class Gaussian(NamedTuple):
    """A normal distribution over images: pixels are independent and have the same variance."""

    mean: Tensor  # (B, C, H, W)
    variance: Tensor  # (1, 1, 1, 1) or (B, 1, 1, 1): not the standard deviation


# What a network may predict: target = a x0 + b eps, where (a, b) follow from the factors of image and noise at t
TARGETS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor | float, Tensor | float]]] = {
    "eps": lambda signal, noise: (0.0, 1.0),  # Ho et al. 2020, equation 14
    "x0": lambda signal, noise: (1.0, 0.0),
    "v": lambda signal, noise: (-noise, signal),  # Salimans & Ho 2022 (arXiv:2202.00512), section 4
    "flow": lambda signal, noise: (-1.0, 1.0),  # d xt / du on the straight path: Lipman et al. 2022 (arXiv:2210.02747), section 4.1
}


def q_sample(schedule: Schedule, x0: Tensor, t: int | Tensor, eps: Tensor | None = None, generator: Generator | None = None) -> Tensor:
    """A draw of xt from q(xt | x0), for t in 0..T (at t = 0 it is x0 itself).

    x0: (B, C, H, W) in [-1, 1]. eps: standard normal noise of the same shape; drawn from `generator` if omitted.
    Returns xt: (B, C, H, W).
    """
    check_schedule(schedule)
    check_images(**dict(x0=x0) if eps is None else dict(x0=x0, eps=eps))
    check_t(t, schedule.T, len(x0), lowest=0)
    return noised(schedule, x0, t, randn_like(x0, generator) if eps is None else eps)


def q_posterior(schedule: Schedule, x0: Tensor, xt: Tensor, t: int | Tensor, s: int | Tensor | None = None) -> Gaussian:
    """q(xs | xt, x0), the distribution of a less noisy image given the noisy and the clean one.

    t in 1..T, s in 0..t-1; s defaults to t - 1. At s = 0 the mean is x0 and the variance 0.
    The variance at s = t - 1 is the paper's beta_tilde_t, not beta_t.
    """
    check_schedule(schedule)
    check_images(x0=x0, xt=xt)
    check_t(t, schedule.T, len(xt))
    s = t - 1 if s is None else s
    check_t(s, schedule.T, len(xt), lowest=0)
    if not torch.as_tensor(s < t).all():
        found = [each.tolist() if isinstance(each, Tensor) else each for each in (s, t)]
        raise ValueError(f"s={found[0]} with t={found[1]}; expected s < t: xs is the less noisy image")
    return posterior(schedule, x0, xt, t, s)


def eps_from_x0(schedule: Schedule, xt: Tensor, t: int | Tensor, x0: Tensor) -> Tensor:
    """The noise that turns x0 into xt; t in 1..T (at t = 0 there is no noise to identify)."""
    return _solved(schedule, t, 1, "x0", xt=xt, x0=x0)[1]


def x0_from_eps(schedule: Schedule, xt: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
    """The clean image that `eps` turns into xt (Ho et al. 2020, equation 15); t in 0..T with signal[t] > 0."""
    return _solved(schedule, t, 0, "eps", xt=xt, eps=eps)[0]


def v_from(schedule: Schedule, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
    """The velocity of x0 and eps (Salimans & Ho 2022, section 4); t in 0..T."""
    check_schedule(schedule)
    check_images(x0=x0, eps=eps)
    check_t(t, schedule.T, len(x0), lowest=0)
    return target_of(schedule, "v", x0, eps, t)


def x0_from_v(schedule: Schedule, xt: Tensor, t: int | Tensor, v: Tensor) -> Tensor:
    """The clean image in xt, given its velocity; t in 0..T."""
    return _solved(schedule, t, 0, "v", xt=xt, v=v)[0]


def eps_from_v(schedule: Schedule, xt: Tensor, t: int | Tensor, v: Tensor) -> Tensor:
    """The noise in xt, given its velocity; t in 0..T."""
    return _solved(schedule, t, 0, "v", xt=xt, v=v)[1]


def noised(schedule: Schedule, x0: Tensor, t: int | Tensor, eps: Tensor) -> Tensor:
    """`q_sample` with known noise."""
    # xt = signal_t x0 + noise_t eps                                                                   Ho et al. 2020, equation 4
    return at(schedule.signal, t, x0) * x0 + at(schedule.noise, t, x0) * eps


def added_variance(schedule: Schedule, t: int | Tensor, s: int | Tensor) -> Tensor:
    """The variance of q(xt | xs), s < t: beta_t at s = t - 1, and its generalisation to a longer stride. Float64."""
    # noise_t^2 - (signal_t / signal_s)^2 noise_s^2  =  1 - alpha_bar_t / alpha_bar_s where variance is preserved
    return pick(schedule.noise, t) ** 2 - (pick(schedule.signal, t) / pick(schedule.signal, s) * pick(schedule.noise, s)) ** 2


def posterior_variance(schedule: Schedule, t: int | Tensor, s: int | Tensor) -> Tensor:
    """The variance of q(xs | xt, x0), s < t: beta_tilde_t at s = t - 1. Float64."""
    # beta_tilde = noise_s^2 / noise_t^2 beta                                                          Ho et al. 2020, equation 7
    return (pick(schedule.noise, s) / pick(schedule.noise, t)) ** 2 * added_variance(schedule, t, s)


def posterior(schedule: Schedule, x0: Tensor, xt: Tensor, t: int | Tensor, s: int | Tensor) -> Gaussian:
    """`q_posterior`, s < t."""
    # in float64 to the end: the added variance can be 1e-4, and float32 keeps only three digits of that
    signal_t, noise_t = pick(schedule.signal, t), pick(schedule.noise, t)
    signal_s, noise_s = pick(schedule.signal, s), pick(schedule.noise, s)
    # mean = signal_s beta / noise_t^2 x0 + (signal_t / signal_s) noise_s^2 / noise_t^2 xt             Ho et al. 2020, equation 7
    from_x0 = signal_s * added_variance(schedule, t, s) / noise_t**2
    from_xt = signal_t / signal_s * noise_s**2 / noise_t**2
    return Gaussian(like(from_x0, xt) * x0 + like(from_xt, xt) * xt, like(posterior_variance(schedule, t, s), xt))


def target_of(schedule: Schedule, prediction: str, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
    """The target of a network that predicts `prediction` (a key of `TARGETS`): (B, C, H, W)."""
    a, b = (torch.as_tensor(each, dtype=torch.float64, device="cpu") for each in _factors(schedule, prediction, t))
    # target = a_t x0 + b_t eps
    return like(a, x0) * x0 + like(b, x0) * eps


def solve(schedule: Schedule, prediction: str, xt: Tensor, answer: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
    """The x0 and eps that make up xt, given the network's `answer`, whatever it predicts; all (B, C, H, W)."""
    signal, noise = pick(schedule.signal, t), pick(schedule.noise, t)
    a, b = _factors(schedule, prediction, t)
    # xt     = signal x0 + noise eps
    # answer =      a x0 +     b eps        two equations with two unknowns: Cramer's rule
    determinant = signal * b - noise * a
    return _quotient(b, xt, -noise, answer, determinant), _quotient(signal, answer, -a, xt, determinant)


def at(table: Tensor, t: int | Tensor, x: Tensor) -> Tensor:
    """table[t] in x's dtype and on its device, shaped to broadcast against x; see `pick`."""
    return like(pick(table, t), x)


def pick(table: Tensor, t: int | Tensor) -> Tensor:
    """table[t], shaped to broadcast against images: (1, 1, 1, 1) for one t, (B, 1, 1, 1) for t (B,). table: (T + 1,), on the CPU."""
    return table[t.cpu() if isinstance(t, Tensor) else t].view(-1, 1, 1, 1)


def randn_like(x: Tensor, generator: Generator | None = None) -> Tensor:
    """Standard normal noise of x's shape, dtype and device.

    generator: None (torch's global one), one generator for the batch, or a sequence with one per image, which makes an
    image's noise independent of its batch. Noise is drawn on the generator's device, in float32, and then moved.
    """
    if generator is None:
        return torch.randn_like(x)
    if isinstance(generator, torch.Generator):
        return like(torch.randn(x.shape, generator=generator, device=generator.device, dtype=torch.float32), x)
    check_generator(generator, len(x))
    return like(torch.stack([torch.randn(x.shape[1:], generator=g, device=g.device, dtype=torch.float32) for g in generator]), x)


def _solved(schedule: Schedule, t: int | Tensor, lowest: int, prediction: str, **images: Tensor) -> tuple[Tensor, Tensor]:
    check_schedule(schedule)
    check_images(**images)
    xt, answer = images.values()
    check_t(t, schedule.T, len(xt), lowest)
    if prediction == "eps" and (pick(schedule.signal, t) == 0).any():
        raise ValueError(
            f"schedule {schedule.name!r} has signal 0 at t={schedule.T}, where eps does not determine x0; expected a smaller t"
        )
    return solve(schedule, prediction, xt, answer, t)


def _factors(schedule: Schedule, prediction: str, t: int | Tensor) -> tuple[Tensor | float, Tensor | float]:
    return TARGETS[prediction](pick(schedule.signal, t), pick(schedule.noise, t))


def _quotient(p: Tensor | float, x: Tensor, q: Tensor | float, y: Tensor, divisor: Tensor) -> Tensor:
    """(p x + q y) / divisor, with all three scaled so that the largest is 1: half precision could not hold 1 / signal."""
    row = torch.stack(torch.broadcast_tensors(*(torch.as_tensor(each, dtype=torch.float64, device="cpu") for each in (p, q, divisor))))
    p, q, divisor = like(row / row.abs().amax(dim=0), x)
    return (p * x + q * y) / divisor
