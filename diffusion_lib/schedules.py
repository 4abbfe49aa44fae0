"""Noise schedules: the factors of the image and of the noise at each timestep.

A `Schedule` is the one place that defines both. Timesteps follow the DDPM paper: t = 1..T are noise levels and t = 0 is clean data,
so `alpha_bar[0] == 1` and no code needs to ask "is this the last step?". All tables are float64.

Sources: linear, Ho, Jain & Abbeel 2020 (arXiv:2006.11239), section 4; cosine, Nichol & Dhariwal 2021 (arXiv:2102.09672),
equation 17; sigmoid, Jabri, Fleet & Chen 2022 (arXiv:2212.11972), with the parameters as in Chen 2023 (arXiv:2301.10972), algorithm 1;
straight, Liu, Gong & Liu 2022 (arXiv:2209.03003), equation 1, and Lipman et al. 2022 (arXiv:2210.02747), section 4.1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffusion_lib.checks import number, table, whole
from diffusion_lib.errors import check_name

MAX_T = 1_000_000  # a thousand times the usual value; the tables have one entry per timestep
MAX_BETA = 0.999  # alpha_bar stays above 0, so that x0 = (xt - noise eps) / signal is defined at every t


@dataclass(frozen=True, eq=False)
class Schedule:
    """A noise schedule: xt = signal[t] x0 + noise[t] eps.

    signal: float64 (T + 1,), the image's factor: 1 at t = 0, never negative. noise: float64 (T + 1,), the standard deviation of
    the noise: 0 at t = 0, then positive. The ratio noise / signal must rise at every step. name: shown in plots and stored in configs.

    Raises `ValueError` for tables that break these rules. `from_alpha_bar` and `from_beta` make a variance-preserving schedule.
    """

    signal: Tensor
    noise: Tensor
    name: str = "custom"

    def __post_init__(self):
        signal, noise = (table(name, getattr(self, name)) for name in ("signal", "noise"))
        if signal.shape != noise.shape:
            raise ValueError(f"signal has {len(signal)} entries and noise {len(noise)}; expected T + 1 of each")
        if signal[0] != 1 or noise[0] != 0:
            raise ValueError(f"at t = 0 signal is {signal[0]:.6g} and noise {noise[0]:.6g}; expected 1 and 0: clean data")
        noisier = (signal[1:] >= 0) & (noise[1:] > 0) & noise[1:].isfinite()  # False also where an entry is nan
        noisier &= noise[1:] * signal[:-1] > noise[:-1] * signal[1:]
        if not noisier.all():
            t = int((~noisier).nonzero()[0]) + 1
            raise ValueError(
                f"at t = {t} signal is {signal[t]:.6g} and noise {noise[t]:.6g}, after {signal[t - 1]:.6g} and {noise[t - 1]:.6g}; "
                "expected signal >= 0, noise > 0 and a rising ratio noise / signal: every step must add noise"
            )
        object.__setattr__(self, "signal", signal)
        object.__setattr__(self, "noise", noise)

    @classmethod
    def from_alpha_bar(cls, alpha_bar: Tensor, name: str = "custom") -> "Schedule":
        """The variance-preserving schedule signal = sqrt(alpha_bar), noise = sqrt(1 - alpha_bar).

        alpha_bar: (T + 1,), strictly decreasing from alpha_bar[0] == 1 to alpha_bar[T] >= 0, else `ValueError`.
        """
        alpha_bar = table("alpha_bar", alpha_bar)
        if alpha_bar[0] != 1:
            raise ValueError(f"alpha_bar[0] is {alpha_bar[0]:.6g}; expected exactly 1: t = 0 is clean data, so prepend a 1")
        not_falling = ~(alpha_bar[1:] < alpha_bar[:-1])  # also True where an entry is nan
        if not_falling.any():
            t = int(not_falling.nonzero()[0]) + 1
            raise ValueError(
                f"alpha_bar[{t}] = {alpha_bar[t]:.6g} after alpha_bar[{t - 1}] = {alpha_bar[t - 1]:.6g}; "
                "expected a strictly decreasing schedule: every step must add noise"
            )
        if alpha_bar[-1] < 0:
            raise ValueError(f"alpha_bar[T] is {alpha_bar[-1]:.6g}; expected 0 or more: cap the last betas at {MAX_BETA}")
        return cls(alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), name)

    @classmethod
    def from_beta(cls, beta: Tensor, name: str = "custom") -> "Schedule":
        """The schedule whose step t adds noise of variance beta[t - 1]: beta float64 (T,), each in (0, 1), else `ValueError`."""
        beta = table("beta", beta, 1, "(T,): one entry per t = 1..T")
        if not ((beta > 0) & (beta < 1)).all():
            raise ValueError(f"betas range from {beta.min():.6g} to {beta.max():.6g}; expected each above 0 and below 1")
        # alpha_bar_t = prod_{i=1..t} (1 - beta_i)                                              Ho et al. 2020, below equation 3
        alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), torch.cumprod(1 - beta, dim=0)])
        return cls.from_alpha_bar(alpha_bar, name)

    @property
    def T(self) -> int:
        """Number of noise levels."""
        return len(self.signal) - 1

    @cached_property
    def alpha_bar(self) -> Tensor:
        """alpha_bar_t = signal_t^2 / (signal_t^2 + noise_t^2): the image's fraction of the variance. (T + 1,), 1 at t = 0."""
        return self.signal**2 / (self.signal**2 + self.noise**2)

    @cached_property
    def alpha(self) -> Tensor:
        """alpha_t = alpha_bar_t / alpha_bar_{t-1}: the fraction of the image's variance that step t keeps. (T + 1,); entry 0 unused, 1."""
        return torch.cat([self.alpha_bar[:1], self.alpha_bar[1:] / self.alpha_bar[:-1]])

    @cached_property
    def beta(self) -> Tensor:
        """beta_t = 1 - alpha_t: the variance of the noise that step t adds. (T + 1,); entry 0 unused, 0."""
        return 1 - self.alpha

    @cached_property
    def snr(self) -> Tensor:
        """snr_t = signal_t^2 / noise_t^2: signal-to-noise ratio of variances. (T + 1,), inf at t = 0."""
        return (self.signal / self.noise) ** 2

    @cached_property
    def log_snr(self) -> Tensor:
        """Natural logarithm of `snr`. (T + 1,), inf at t = 0."""
        return self.snr.log()

    def __repr__(self) -> str:
        return f"Schedule({self.name!r}, T={self.T}, alpha_bar[T]={self.alpha_bar[-1]:.3g})"


def linear_schedule(T: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Schedule:
    """Linearly spaced betas (Ho et al. 2020, section 4), scaled with T so that xT is always close to pure noise.

    beta_start, beta_end: the first and the last beta for T = 1000, 0 < beta_start <= beta_end < 1. For another T all betas
    are multiplied by 1000 / T, which keeps alpha_bar[T] near 0, and then capped at 0.999.
    """
    T = whole("T", T, 2, MAX_T)
    beta_start, beta_end = number("beta_start", beta_start), number("beta_end", beta_end)
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(f"beta_start={beta_start}, beta_end={beta_end}; expected 0 < beta_start <= beta_end < 1")
    # beta_t = (1000 / T) (beta_start + (t - 1) / (T - 1) (beta_end - beta_start))
    beta = (1000 / T) * torch.linspace(beta_start, beta_end, T, dtype=torch.float64, device="cpu")
    return Schedule.from_beta(beta.clamp(max=MAX_BETA), "linear")


def cosine_schedule(T: int = 1000, s: float = 0.008) -> Schedule:
    """alpha_bar follows a squared cosine (Nichol & Dhariwal 2021, equation 17): noise is added more evenly than with linear betas.

    s: an offset that keeps the first betas from vanishing, s >= 0. Betas are capped at 0.999; alpha_bar is the product of 1 - beta.
    """
    T, s = whole("T", T, 2, MAX_T), number("s", s, 0, expected="a number of 0 or more (the paper's is 0.008)")
    # f(u) = cos^2((u + s) / (1 + s) pi / 2),  u = t / T                                       Nichol & Dhariwal 2021, equation 17
    return _from_curve(lambda u: torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2, T, "cosine")


def sigmoid_schedule(T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Schedule:
    """alpha_bar follows a sigmoid (Jabri et al. 2022; Chen 2023, algorithm 1): slow at both ends, fast in the middle.

    start < end: the interval of the sigmoid that is used. tau > 0: the temperature; smaller is steeper. Betas are capped at 0.999.
    """
    T, start, end, tau = whole("T", T, 2, MAX_T), number("start", start), number("end", end), number("tau", tau)
    if not (start < end and tau > 0):
        raise ValueError(f"start={start}, end={end}, tau={tau}; expected start < end and tau > 0")
    first, last = torch.sigmoid(torch.tensor([start / tau, end / tau], dtype=torch.float64, device="cpu"))
    # f(u) = (S(end / tau) - S((start + u (end - start)) / tau)) / (S(end / tau) - S(start / tau))     Chen 2023, algorithm 1
    return _from_curve(lambda u: (last - torch.sigmoid((start + u * (end - start)) / tau)) / (last - first), T, "sigmoid")


def straight_schedule(T: int = 1000) -> Schedule:
    """Flow matching's path, a straight line from image to noise (Liu et al. 2022, equation 1). xT is pure noise.

    Predict "flow", "v" or "x0" with it: at t = T, eps does not determine x0.
    """
    T = whole("T", T, 2, MAX_T)
    # xt = (1 - u) x0 + u eps,  u = t / T
    u = torch.arange(T + 1, dtype=torch.float64, device="cpu") / T
    return Schedule(1 - u, u, "straight")


def _from_curve(f: Callable[[Tensor], Tensor], T: int, name: str) -> Schedule:
    """The schedule with alpha_bar(u) = f(u) / f(0), u = t / T in [0, 1], except where beta is capped."""
    f_t = f(torch.linspace(0, 1, T + 1, dtype=torch.float64, device="cpu")).clamp(min=0)  # rounding can leave -1e-33 at u = 1
    # beta_t = min(1 - f(t / T) / f((t - 1) / T), 0.999)                            Nichol & Dhariwal 2021, below equation 17
    beta = (1 - f_t[1:] / f_t[:-1]).clamp(max=MAX_BETA)
    return Schedule.from_beta(beta, name)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": linear_schedule,
    "cosine": cosine_schedule,
    "sigmoid": sigmoid_schedule,
    "straight": straight_schedule,
}


def make_schedule(name: str, T: int = 1000) -> Schedule:
    """The schedule called `name` (a key of `SCHEDULES`) with its paper's parameters."""
    check_name("schedule", name, SCHEDULES)
    return SCHEDULES[name](T)
