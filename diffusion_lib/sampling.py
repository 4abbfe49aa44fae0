"""Samplers: from noise to images, as generators over any denoiser.

`ddpm_steps` and `ddim_steps` walk one chain of timesteps T … 0 and differ in the distribution that the next image is drawn
from. Each yields a `Step` as soon as it is taken and keeps none, so that the caller may watch, stop or store.

Sources: DDPM, Ho, Jain & Abbeel 2020 (arXiv:2006.11239); DDIM, Song, Meng & Ermon 2021 (arXiv:2010.02502); its step as a turn,
Salimans & Ho 2022 (arXiv:2202.00512).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffusion_lib.denoiser import DenoiserProtocol
from diffusion_lib.devices import is_spread, like
from diffusion_lib.errors import unknown_name
from diffusion_lib.process import Gaussian, Generator, check_images, eps_from_x0, pick, q_posterior, randn_like, v_from
from diffusion_lib.schedules import Schedule

if TYPE_CHECKING:
    from accelerate import Accelerator

VARIANCES = ("small", "large")
SAMPLERS = ("ddim", "ddpm")


class Step(NamedTuple):
    """A chain after one step. The last step of a chain has t == 0, and its xt is the sample."""

    t: int  # the timestep at which xt now stands
    xt: Tensor  # (B, C, H, W)
    x0_hat: Tensor  # (B, C, H, W) the clean image that was believed in when the step was taken
    eps_hat: Tensor  # (B, C, H, W) the noise that goes with it


def timestep_subset(T: int, steps: int) -> list[int]:
    """The timesteps that a sampler of `steps` steps visits: steps + 1 descending ints from T to 0, as even as whole numbers can be.

    steps: 1..T, else `ValueError`.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= T:
        raise ValueError(f"steps={steps!r}; expected a whole number, 1..{T} for a schedule of T={T}")
    return [T * i // steps for i in range(steps, -1, -1)]


def ddpm_steps(
    denoiser: DenoiserProtocol,
    xT: Tensor,
    *,
    steps: int | None = None,
    variance: str = "small",
    clip: bool = True,
    y: Tensor | None = None,
    generator: Generator | None = None,
) -> Iterator[Step]:
    """Ancestral sampling: each image is drawn from the posterior that the predicted x0 implies (Ho et al. 2020, algorithm 2).

    xT: (B, C, H, W) standard normal. steps: how many, evenly spaced; None for all T. variance: "small" for the posterior's own,
    beta_tilde, or "large" for beta (of the stride from s to t: 1 - alpha_bar_t / alpha_bar_s). clip: keep x0_hat in [-1, 1].
    y: LongTensor (B,) or None. generator: of the noise, one or one for each image.
    """
    if variance not in VARIANCES:
        raise unknown_name("variance", variance, VARIANCES)

    def transition(xt, x0_hat, eps_hat, t, s):
        return ddpm_transition(denoiser.schedule, xt, x0_hat, t, s, variance)

    return _walk(denoiser, xT, denoiser.schedule.T if steps is None else steps, transition, True, clip, y, generator)


def ddim_steps(
    denoiser: DenoiserProtocol,
    xT: Tensor,
    *,
    steps: int = 50,
    eta: float = 0.0,
    clip: bool = True,
    y: Tensor | None = None,
    generator: Generator | None = None,
) -> Iterator[Step]:
    """DDIM (Song et al. 2021, equation 12): deterministic at eta = 0, the same as DDPM with its small variance at eta = 1.

    xT: (B, C, H, W) standard normal. steps: how many of T, evenly spaced. eta: 0..1, the part of DDPM's noise that is added.
    clip: keep x0_hat in [-1, 1]; eps_hat is then recomputed, so that the two still make up xt. y: LongTensor (B,) or None.
    generator: of the noise, one or one for each image; not used at eta = 0.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta={eta!r}; expected 0 (deterministic) to 1 (as noisy as DDPM)")

    def transition(xt, x0_hat, eps_hat, t, s):
        return ddim_transition(denoiser.schedule, x0_hat, eps_hat, t, s, eta)

    return _walk(denoiser, xT, steps, transition, eta > 0, clip, y, generator)


def ddpm_transition(schedule: Schedule, xt: Tensor, x0_hat: Tensor, t: int, s: int, variance: str = "small") -> Gaussian:
    """p(xs | xt) of DDPM: the posterior q(xs | xt, x0) with x0_hat in the place of x0."""
    posterior = q_posterior(schedule, x0_hat, xt, t, s)
    if variance == "small" or s == 0:  # the last step gives its mean, with either variance: z = 0 in Ho et al. 2020, algorithm 2
        return posterior
    # beta_{t|s} = 1 - alpha_bar_t / alpha_bar_s
    beta = 1 - pick(schedule.alpha_bar, t, len(xt)) / pick(schedule.alpha_bar, s, len(xt))
    return Gaussian(posterior.mean, like(beta, xt))


def ddim_transition(schedule: Schedule, x0_hat: Tensor, eps_hat: Tensor, t: int, s: int, eta: float = 0.0) -> Gaussian:
    """p(xs | xt) of DDIM: back to noise level s with a part sigma of the noise drawn afresh and the rest along eps_hat."""
    ab_t, ab_s = pick(schedule.alpha_bar, t, len(x0_hat)), pick(schedule.alpha_bar, s, len(x0_hat))
    # sigma^2 = eta^2 (1 - ab_s) / (1 - ab_t) (1 - ab_t / ab_s)                                      Song et al. 2021, equation 16
    variance = eta**2 * (1 - ab_s) / (1 - ab_t) * (1 - ab_t / ab_s)
    # xs ~ N(sqrt(ab_s) x0_hat + sqrt(1 - ab_s - sigma^2) eps_hat, sigma^2 I)                        Song et al. 2021, equation 12
    along_eps = (1 - ab_s - variance).sqrt()
    return Gaussian(like(ab_s.sqrt(), x0_hat) * x0_hat + like(along_eps, x0_hat) * eps_hat, like(variance, x0_hat))


def ddim_encode_steps(
    denoiser: DenoiserProtocol, x0: Tensor, *, steps: int = 50, iterations: int = 3, y: Tensor | None = None
) -> Iterator[Step]:
    """The deterministic chain walked backwards: from an image to the noise that `ddim_steps(eta=0, clip=False)` turns into it.

    x0: (B, C, H, W) in [-1, 1]. A DDIM step turns (xt, v) by an angle d: xs = cos(d) xt - sin(d) v_hat(xt, t). Given xs, its
    xt is a fixed point of xt = (xs + sin(d) v_hat(xt, t)) / cos(d), found by `iterations` evaluations, of which the first is at xs.
    (The usual "DDIM inversion" does one, of the same equation written with eps_hat, which is several times less exact.)
    Yields `Step`s of ascending t; the last has t == T, and its xt is the encoding.
    """
    check_images(x0=x0)
    if iterations < 1:
        raise ValueError(f"iterations={iterations}; expected 1 or more network calls for each step")
    timesteps = timestep_subset(denoiser.schedule.T, steps)[::-1]

    def walk():
        xs = x0
        for s, t in pairwise(timesteps):
            with torch.no_grad():
                ab_t, ab_s = (pick(denoiser.schedule.alpha_bar, u, len(x0)) for u in (t, s))
                # with sqrt(ab) = cos(phi), sqrt(1 - ab) = sin(phi):  d = phi_t - phi_s             Salimans & Ho 2022, appendix D
                cos_d = (ab_s * ab_t).sqrt() + ((1 - ab_s) * (1 - ab_t)).sqrt()
                sin_d = (ab_s * (1 - ab_t)).sqrt() - (ab_t * (1 - ab_s)).sqrt()
                xt = xs
                for _ in range(iterations):
                    x0_hat, eps_hat = denoiser(xt, t, y)
                    xt = (xs + like(sin_d, xs) * v_from(denoiser.schedule, x0_hat, eps_hat, t)) / like(cos_d, xs)
                xs = xt
            yield Step(t, xs, x0_hat, eps_hat)

    return walk()


def sample(
    denoiser: DenoiserProtocol,
    n: int,
    *,
    sampler: str = "ddim",
    steps: int = 50,
    eta: float = 0.0,
    y: int | Sequence[int] | Tensor | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    shape: tuple[int, int, int] | None = None,
    batch_size: int = 256,
    accelerator: "Accelerator | None" = None,
) -> Tensor:
    """n images (n, C, H, W) in about [-1, 1], on `device` (the denoiser's own when left out).

    sampler: "ddim" (with `eta`) or "ddpm" (small variance). y: a class for all, one for each image, or None. seed: sample k
    depends on the seed and k alone, not on n or batch_size (to float rounding).
    shape: (C, H, W), for a denoiser that does not know its own. accelerator: an `accelerate.Accelerator`, to share the work among its
    processes: each calls `sample` with the same arguments, and gets all n images.
    """
    if sampler not in SAMPLERS:
        raise unknown_name("sampler", sampler, SAMPLERS)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1 or batch_size < 1:
        raise ValueError(f"n={n!r}, batch_size={batch_size!r}; expected whole numbers, 1 or more")
    shape = denoiser.image_shape if shape is None else shape
    if shape is None:
        raise ValueError("this denoiser does not know the shape of its images; expected shape=(C, H, W)")
    if accelerator is not None and any(map(is_spread, _parameters(denoiser))):
        raise ValueError(
            "the denoiser's weights are spread over the processes, which must then all draw the same images; "
            "expected accelerator=None, or a denoiser with whole weights, such as from_pretrained gives"
        )
    device = device_of(denoiser) if device is None else torch.device(device)
    y = None if y is None else _labels(y, n).to(device)

    share, first, end = n, 0, n  # of this process: images first..end-1
    if accelerator is not None:
        share = -(-n // accelerator.num_processes)  # rounded up
        first, end = (min(n, share * (accelerator.process_index + more)) for more in (0, 1))
    batches = [torch.empty(0, *shape, device=device)]
    for start in range(first, end, batch_size):
        stop = min(start + batch_size, end)
        generators = sample_generators(seed, range(start, stop))
        xT = randn_like(torch.empty(stop - start, *shape, device=device), generators)
        options = dict(steps=steps, y=None if y is None else y[start:stop], generator=generators)
        chain = ddim_steps(denoiser, xT, eta=eta, **options) if sampler == "ddim" else ddpm_steps(denoiser, xT, **options)
        last = deque(chain, maxlen=1).pop()  # walks the chain and keeps its end
        batches.append(last.xt)
    if accelerator is None:
        return torch.cat(batches)
    missing = torch.empty(share - (end - first), *shape, device=device)  # gathering wants as many of each process
    return accelerator.gather(torch.cat([*batches, missing]))[:n]


def sample_generators(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """For each sample k in `indices` a CPU generator that depends on `seed` and k alone, so that batches do not matter.

    Of its seed torch's generator uses 32 bits: among n samples, some n^2 / 2^33 pairs are drawn from the same noise (for n = 50,000,
    0.3 pairs).
    """
    seeds = (np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)[0] for k in indices)
    return [torch.Generator().manual_seed(int(s >> np.uint64(1))) for s in seeds]  # 63 bits: a non-negative int64


def device_of(denoiser: DenoiserProtocol) -> torch.device:
    """Where the denoiser's weights are; the CPU for one that has none."""
    return next((p.device for p in _parameters(denoiser)), torch.device("cpu"))


def _parameters(denoiser: DenoiserProtocol) -> Iterator[Tensor]:
    inner = getattr(denoiser, "denoiser", denoiser)
    return inner.parameters() if isinstance(inner, torch.nn.Module) else iter(())


def _walk(
    denoiser: DenoiserProtocol,
    xT: Tensor,
    steps: int,
    transition: Callable[[Tensor, Tensor, Tensor, int, int], Gaussian],
    noisy: bool,
    clip: bool,
    y: Tensor | None,
    generator: Generator | None,
) -> Iterator[Step]:
    """The loop of every sampler. What it is given is checked here, at once; the generator that it returns does the work."""
    check_images(xT=xT)
    timesteps = timestep_subset(denoiser.schedule.T, steps)
    for name, each in (("y", y), ("generator", generator if isinstance(generator, Sequence) else None)):
        if each is not None and len(each) != len(xT):
            raise ValueError(f"{name} has {len(each)} entries for {len(xT)} images; expected one for each")

    def walk():
        xt = xT
        for t, s in pairwise(timesteps):
            with torch.no_grad():  # not around the yield, which would switch the caller's gradients off too
                x0_hat, eps_hat = denoiser(xt, t, y)
                if clip:
                    x0_hat = x0_hat.clamp(-1, 1)
                    eps_hat = eps_from_x0(denoiser.schedule, xt, t, x0_hat)
                mean, variance = transition(xt, x0_hat, eps_hat, t, s)
                # the last step's variance is 0; to look at it would make the processor wait for the device
                xt = mean + variance.sqrt() * randn_like(mean, generator) if noisy and s > 0 else mean
            yield Step(s, xt, x0_hat, eps_hat)

    return walk()


def _labels(y: int | Sequence[int] | Tensor, n: int) -> Tensor:
    labels = torch.as_tensor(y)
    if labels.is_floating_point() or labels.shape not in {(), (n,)}:
        raise ValueError(
            f"y has shape {tuple(labels.shape)} and dtype {labels.dtype}; expected one class, or {n} of them, as whole numbers"
        )
    return labels.long().expand(n)
