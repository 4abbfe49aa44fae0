"""Steps as students write them: the right ones and the known mistakes, computed on factors instead of images.

Each entry is a function of `Known`, in which xt, x0 and eps are pairs of numbers, the factors (of xt, of x0): the arithmetic that makes
xs of them makes the step's factors, which are then compared with the measured ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.exercises.diagnosis.maps import UNKNOWN, Map
from diffusion_lib.exercises.diagnosis.probe import level
from diffusion_lib.process import TARGETS
from diffusion_lib.schedules import Schedule


class Known(NamedTuple):
    """The quantities that a step's formula may use, for K steps at once. Images are (K, 2), factors (K, 1)."""

    xt: Tensor
    x0: Tensor
    eps: Tensor
    signal_t: Tensor
    noise_t: Tensor
    signal_s: Tensor
    noise_s: Tensor
    c: Tensor  # the measured factor of fresh noise

    @property
    def root_alpha(self) -> Tensor:
        """sqrt(alpha) of the stride from s to t."""
        return self.signal_t / self.signal_s

    @property
    def beta(self) -> Tensor:
        """The variance that the stride adds."""
        return (self.noise_t**2 - (self.root_alpha * self.noise_s) ** 2).clamp(min=0)

    @property
    def beta_tilde(self) -> Tensor:
        """The posterior's variance."""
        return self.beta * (self.noise_s / self.noise_t) ** 2

    @property
    def mean(self) -> Tensor:
        """The posterior's mean (Ho et al. 2020, equation 7)."""
        return self.signal_s * self.beta / self.noise_t**2 * self.x0 + self.root_alpha * self.noise_s**2 / self.noise_t**2 * self.xt


Formula = Callable[[Known], tuple[Tensor, Tensor]]  # the mean's factors (K, 2), and that of fresh noise (K, 1)


def _ddim(k: Known) -> tuple[Tensor, Tensor]:
    # Song et al. 2021, equation 12, for any sigma
    return k.signal_s * k.x0 + (k.noise_s**2 - k.c**2).clamp(min=0).sqrt() * k.eps, torch.minimum(k.c, k.noise_s)


def _ddpm(k: Known) -> tuple[Tensor, Tensor]:
    # Ho et al. 2020, section 3.2: sigma^2 from beta_tilde to beta
    return k.mean, torch.maximum(torch.minimum(k.c, k.beta.sqrt()), k.beta_tilde.sqrt())


RIGHT: dict[str, Formula] = {"DDPM": _ddpm, "DDIM": _ddim}


class Wrong(NamedTuple):
    """A known mistake of a step: its name, what the step's formula should be, and the line to look for."""

    name: str
    formula: Formula
    line: str
    exhibit: int | None = None


def _from_eps(k: Known, size: Tensor, divisor: Tensor | None = None) -> Tensor:
    """DDPM's mean written with eps (Ho et al. 2020, algorithm 2), with another factor of eps or another divisor."""
    return (k.xt - size * k.eps) / (k.root_alpha if divisor is None else divisor)


_DIRECTION = "the factor of eps_hat in the DDIM step should be sqrt(1 - alpha_bar_s - sigma**2)"
_SIGMA = "the fresh noise should be multiplied by the standard deviation, variance.sqrt() * z"
_MEAN = "the DDPM mean is (xt - beta_t / sqrt(1 - alpha_bar_t) * eps_hat) / sqrt(alpha_t)"
_POSTERIOR = (
    "the posterior mean's factors: sqrt(alpha_bar_s) beta_t / (1 - alpha_bar_t) of x0_hat, "
    "sqrt(alpha_t) (1 - alpha_bar_s) / (1 - alpha_bar_t) of xt"
)
_ROOTS = "xs is sqrt(alpha_bar_s) * x0_hat + ...: the factors are roots of alpha_bar_s and of 1 - alpha_bar_s"

WRONG: tuple[Wrong, ...] = (
    Wrong("eps_hat is multiplied by sigma", lambda k: (k.signal_s * k.x0 + k.c * k.eps, k.c), _DIRECTION, 3),
    Wrong(
        "Fresh noise comes on top of all of eps_hat",
        lambda k: (k.signal_s * k.x0 + k.noise_s * k.eps, torch.maximum(k.c, k.beta_tilde.sqrt() / 20)),
        f"{_DIRECTION}; here sigma is missing from it",
        3,
    ),
    Wrong(
        "The root of eps_hat's factor is missing",
        lambda k: (k.signal_s * k.x0 + (k.noise_s**2 - k.c**2) * k.eps, k.c),
        f"{_DIRECTION}; without the root it is a variance",
        6,
    ),
    Wrong("The image's factor is alpha_bar, not its root", lambda k: (k.signal_s**2 * k.x0 + _eps_part(k), k.c), _ROOTS, 6),
    Wrong("Both factors lack their root", lambda k: (k.signal_s**2 * k.x0 + (k.noise_s**2 - k.c**2) * k.eps, k.c), _ROOTS, 6),
    Wrong(
        "The step ends where it began",
        lambda k: (k.signal_t * k.x0 + (k.noise_t**2 - k.c**2).clamp(min=0).sqrt() * k.eps, k.c),
        "the new xs should use alpha_bar of the next timestep s; here it uses that of t again",
    ),
    Wrong("The noise's variance is used instead of its standard deviation", lambda k: (k.mean, k.beta_tilde), _SIGMA, 6),
    Wrong("The noise's variance is used instead of its standard deviation", lambda k: (k.mean, k.beta), _SIGMA, 6),
    Wrong(
        "DDPM without its noise",
        lambda k: (k.mean, 0 * k.c),
        "after the mean: + sigma * torch.randn_like(xt), for all steps but the last. (DDIM needs none, but has another mean)",
        3,
    ),
    Wrong("The mean is not divided by sqrt(alpha_t)", lambda k: (_from_eps(k, k.beta / k.noise_t, 1 + 0 * k.c), k.c), _MEAN),
    Wrong("The mean is divided by alpha_t, not its root", lambda k: (_from_eps(k, k.beta / k.noise_t, k.root_alpha**2), k.c), _MEAN, 6),
    Wrong("eps_hat's factor in the mean lacks its divisor", lambda k: (_from_eps(k, k.beta), k.c), _MEAN),
    Wrong("eps_hat's divisor in the mean lacks its root", lambda k: (_from_eps(k, k.beta / k.noise_t**2), k.c), _MEAN, 6),
    Wrong("eps_hat's factor in the mean is the root of beta", lambda k: (_from_eps(k, k.beta.sqrt() / k.noise_t), k.c), _MEAN, 6),
    Wrong("beta_tilde is used instead of beta in the mean", lambda k: (_from_eps(k, k.beta_tilde / k.noise_t), k.c), _MEAN),
    Wrong("eps_hat is added to the mean, not subtracted", lambda k: (_from_eps(k, -k.beta / k.noise_t), k.c), _MEAN),
    Wrong(
        "x0_hat is used instead of the posterior mean",
        lambda k: (k.x0, k.c),
        f"{_POSTERIOR}. If they are computed, they are not used. With eps_hat: alpha_bar_t stands where alpha_t belongs",
    ),
    Wrong(
        "The posterior mean's two factors are swapped",
        lambda k: (k.signal_s * k.beta / k.noise_t**2 * k.xt + k.root_alpha * k.noise_s**2 / k.noise_t**2 * k.x0, k.c),
        _POSTERIOR,
    ),
    Wrong(
        "The posterior mean's factors lack their roots",
        lambda k: (k.signal_s**2 * k.beta / k.noise_t**2 * k.x0 + k.root_alpha**2 * k.noise_s**2 / k.noise_t**2 * k.xt, k.c),
        _POSTERIOR,
        6,
    ),
    Wrong("Fresh noise is not multiplied by sigma", lambda k: (k.mean, 1 + 0 * k.c), _SIGMA),
    Wrong("Fresh noise has the size of all noise at s", lambda k: (k.mean, k.noise_s), _SIGMA),
    Wrong("Fresh noise has the size of all noise at t", lambda k: (k.mean, k.noise_t), _SIGMA),
    Wrong(
        "The sign of eps_hat is flipped",
        lambda k: (k.signal_s * k.x0 - _eps_part(k), k.c),
        "in xs = sqrt(alpha_bar_s) * x0_hat + ... * eps_hat both signs are plus",
    ),
    Wrong(
        "x0_hat is computed with the wrong sign of eps_hat",
        lambda k: (k.signal_s * (k.xt + k.noise_t * k.eps) / k.signal_t + _eps_part(k), k.c),
        "x0_hat = (xt - sqrt(1 - alpha_bar_t) * eps_hat) / sqrt(alpha_bar_t)",
    ),
    Wrong(
        "x0_hat is not divided by sqrt(alpha_bar_t)",
        lambda k: (k.signal_s * (k.xt - k.noise_t * k.eps) + _eps_part(k), k.c),
        "x0_hat = (xt - sqrt(1 - alpha_bar_t) * eps_hat) / sqrt(alpha_bar_t)",
    ),
    Wrong(
        "x0_hat is divided by alpha_bar_t, not its root",
        lambda k: (k.signal_s * (k.xt - k.noise_t * k.eps) / k.signal_t**2 + _eps_part(k), k.c),
        "x0_hat = (xt - sqrt(1 - alpha_bar_t) * eps_hat) / sqrt(alpha_bar_t)",
        6,
    ),
    Wrong(
        "x0_hat is computed with a variance",
        lambda k: (k.signal_s * (k.xt - k.noise_t**2 * k.eps) / k.signal_t + _eps_part(k), k.c),
        "x0_hat = (xt - sqrt(1 - alpha_bar_t) * eps_hat) / sqrt(alpha_bar_t)",
        6,
    ),
)


def _eps_part(k: Known) -> Tensor:
    return (k.noise_s**2 - k.c**2).clamp(min=0).sqrt() * k.eps


class Steps:
    """The measured steps that can be compared, between two calls each."""

    def __init__(self, maps: list[Map | None], t: list[float], schedule: Schedule, linear: bool = False, sure: bool = True):
        """linear: only steps without unexplained noise; a wrong x0_hat that is then clipped looks like noise.

        sure: only steps from an xt that holds noise.
        """
        pairs = [(m, t[i], t[i + 1]) for i, m in enumerate(maps) if m is not None and (m.sure or not sure) and t[i + 1] == t[i + 1]]
        pairs = [pair for pair in pairs if not linear or pair[0].unknown <= UNKNOWN]
        self.schedule, self.maps = schedule, [m for m, *_ in pairs]
        self.t, self.s = [t for _, t, _ in pairs], [s for *_, s in pairs]
        # a clipped x0_hat is x0's positive part: its factor then is the image's
        self.a = _column([m.a + m.clipped for m in self.maps])
        self.d, self.c = _column([m.d for m in self.maps]), _column([m.c for m in self.maps])
        self.signal, self.noise = self._levels(schedule, self.t, least=1)
        unknown = _column([m.unknown for m in self.maps])
        # float32 resolves 1 - alpha_bar to about 1e-7, so the image's factor is imprecise where there is little noise
        rough = unknown / 2 + torch.where(self.signal < 2e-3, 2e-2, torch.where(self.signal < 0.1, 1e-3, 0.0))
        less = torch.where(unknown > UNKNOWN, unknown * 3 / 8, 0.0)  # by chance, the image's factor varies most
        self.tolerance = torch.cat([5e-5 + 4e-7 / self.noise**2 + rough, *2 * [5e-5 + 4e-7 / self.noise + rough - less]], dim=1)

    def __len__(self) -> int:
        return len(self.maps)

    def fits(self, formula: Formula, schedule: Schedule, shift: float = 0, reads: str = "x0", one_down: bool = False) -> bool:
        """Whether a formula makes all of these steps; for the arguments see `off`."""
        if not len(self):
            return False
        off = (self.off(formula, schedule, shift, reads, one_down) / self.tolerance).amax(dim=1)
        own = formula in RIGHT.values() and not shift and schedule is self.schedule and not one_down
        return bool((off if own else off[self.strong]).max() < 1)

    def nearly(self, formula: Formula) -> bool:
        """Whether a right formula makes all of these steps where some image is left."""
        return len(self) > 0 and bool((self.off(formula, self.schedule) / self.tolerance)[self.strong].max() < 1)

    @property
    def strong(self) -> Tensor:
        """The most informative steps: where hardly any image is left, a wrong x0_hat is mostly clipped."""
        strong = self.signal[:, 0] > 0.02
        return strong if strong.sum() >= 3 else torch.ones_like(strong)

    def off(self, formula: Formula, schedule: Schedule, shift: float = 0, reads: str = "x0", one_down: bool = False) -> Tensor:
        """How far a formula's factors of image, eps and fresh noise are from the measured ones: (K, 3), >= 0.

        schedule: the formula's own. shift: how far its timesteps are above those that the model was given. reads: which of the model's
        answers it uses, a key of `TARGETS` or "both" x0 and eps. one_down: whether it always steps to t - 1, whatever comes next.
        """
        signal_t, noise_t = self._levels(schedule, [t + shift for t in self.t], least=1)
        signal_s, noise_s = self._levels(schedule, [t + shift - 1 for t in self.t] if one_down else [s + shift for s in self.s])
        xt, x0 = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.0, 1.0]]).double()
        eps = (xt - self.signal * x0) / self.noise
        if reads != "both":
            a, b = (torch.as_tensor(each).double() for each in TARGETS[reads](self.signal, self.noise))
            answer = a * x0 + b * eps
            a, b = (torch.as_tensor(each).double() for each in TARGETS[reads](signal_t, noise_t))
            # xt = signal x0 + noise eps and answer = a x0 + b eps, solved with the formula's own schedule
            determinant = signal_t * b - noise_t * a
            x0, eps = (b * xt - noise_t * answer) / determinant, (signal_t * answer - a * xt) / determinant
        xt, x0, eps = (each.expand(len(self), 2) for each in (xt, x0, eps))
        mean, c = formula(Known(xt, x0, eps, signal_t, noise_t, signal_s, noise_s, self.c))
        p, q = mean[:, :1], mean[:, 1:]
        off = torch.cat([q + p * self.signal - self.a, p * self.noise - self.d, c - self.c], dim=1)
        return off.abs().nan_to_num(torch.inf)

    def _levels(self, schedule: Schedule, t: list[float], least: float = 0) -> tuple[Tensor, Tensor]:
        pairs = [level(schedule, max(each, least)) for each in t]
        return _column([signal for signal, _ in pairs]), _column([noise for _, noise in pairs])


def _column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1)
