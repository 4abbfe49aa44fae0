"""Samplers turn noise into images. Each is a Python generator and works with any denoiser.

`ddpm_steps` and `ddim_steps` visit the same timesteps T … 0. They differ in the distribution from which they draw the next image.
Each yields every `Step` as soon as it is taken and keeps none: the caller may watch, stop or store them.

Sources: DDPM, Ho, Jain & Abbeel 2020 (arXiv:2006.11239); DDIM, Song, Meng & Ermon 2021 (arXiv:2010.02502); its step as a rotation,
Salimans & Ho 2022 (arXiv:2202.00512).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffusion_lib.checks import (
    all_finite,
    as_image_shape,
    check_denoiser,
    check_generator,
    check_images,
    check_sampler_options,
    labels_for,
    number,
    whole,
)
from diffusion_lib.denoiser import DenoiserProtocol, Prediction
from diffusion_lib.devices import choose_device, like
from diffusion_lib.errors import check_name
from diffusion_lib.process import Gaussian, Generator, added_variance, at, pick, posterior, posterior_variance, randn_like, solve
from diffusion_lib.progress import progress_bar
from diffusion_lib.schedules import Schedule
from diffusion_lib.seeds import derived_seed, fresh_seed

VARIANCES = ("small", "large")


class Step(NamedTuple):
    """The state of a chain after one step. The last step has t == 0, and its xt is the sample."""

    t: int  # the timestep of xt
    xt: Tensor  # (B, C, H, W)
    x0_hat: Tensor  # (B, C, H, W) the x0 predicted at this step
    eps_hat: Tensor  # (B, C, H, W) the eps predicted at this step


def timestep_subset(T: int, steps: int) -> list[int]:
    """The timesteps that a sampler of `steps` steps visits: steps + 1 descending ints from T to 0, as evenly spaced as integers can be.

    steps: 1..T, else `ValueError`.
    """
    T = whole("T", T)
    steps = whole("steps", steps, 1, T, of=f" for a schedule of T={T}")
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
    """Ancestral sampling: draws each image from the posterior, with the predicted x0 in place of x0 (Ho et al. 2020, algorithm 2).

    xT: (B, C, H, W) standard normal. steps: the number of steps, evenly spaced; None for all T. variance: "small" for the posterior's
    variance, beta_tilde, or "large" for beta, both for the stride from s to t. clip: clamp x0_hat to [-1, 1].
    y: LongTensor (B,) of classes or (B, L) of words, or None. generator: for the noise, one generator or one per image.
    """
    check_name("variance", variance, VARIANCES)

    def transition(xt: Tensor, prediction: Prediction, t: int, s: int) -> Gaussian:
        return ddpm_transition(denoiser.schedule, xt, prediction, t, s, variance)

    return _walk(denoiser, xT, steps, transition, True, clip, y, generator)


def ddim_steps(
    denoiser: DenoiserProtocol,
    xT: Tensor,
    *,
    steps: int | None = 50,
    eta: float = 0.0,
    clip: bool = True,
    y: Tensor | None = None,
    generator: Generator | None = None,
) -> Iterator[Step]:
    """DDIM (Song et al. 2021, equation 12): deterministic at eta = 0, equal to DDPM with the small variance at eta = 1.

    xT: (B, C, H, W) standard normal. steps: the number of steps, evenly spaced; None for all T. eta: 0..1, the standard deviation of
    the fresh noise as a fraction of DDPM's. clip: clamp x0_hat to [-1, 1] and recompute eps_hat, so that the two still make up xt.
    y: LongTensor (B,) of classes or (B, L) of words, or None. generator: for the noise, one generator or one per image; not used at
    eta = 0.
    """
    eta = number("eta", eta, 0, 1, expected="0 (deterministic) to 1 (as noisy as DDPM)")

    def transition(xt: Tensor, prediction: Prediction, t: int, s: int) -> Gaussian:
        return ddim_transition(denoiser.schedule, prediction, t, s, eta)

    return _walk(denoiser, xT, steps, transition, eta > 0, clip, y, generator)


def ddpm_transition(schedule: Schedule, xt: Tensor, prediction: Prediction, t: int, s: int, variance: str = "small") -> Gaussian:
    """p(xs | xt) of DDPM, s < t: the posterior q(xs | xt, x0) with the predicted x0 in place of x0."""
    mean, small = posterior(schedule, prediction.x0, xt, t, s)
    if variance == "small" or s == 0:  # the last step returns its mean with either variance: z = 0 in Ho et al. 2020, algorithm 2
        return Gaussian(mean, small)
    return Gaussian(mean, like(added_variance(schedule, t, s), xt))


def ddim_transition(schedule: Schedule, prediction: Prediction, t: int, s: int, eta: float = 0.0) -> Gaussian:
    """p(xs | xt) of DDIM, s < t: its noise of level s is partly fresh and partly along the predicted eps."""
    x0, eps = prediction.x0, prediction.eps
    # sigma^2 = eta^2 beta_tilde, for the stride from s to t                                         Song et al. 2021, equation 16
    variance = eta**2 * posterior_variance(schedule, t, s)
    # xs ~ N(signal_s x0 + sqrt(noise_s^2 - sigma^2) eps, sigma^2 I)                                 Song et al. 2021, equation 12
    along_eps = (pick(schedule.noise, s) ** 2 - variance).clamp(min=0).sqrt()  # rounding can leave -1e-17
    return Gaussian(at(schedule.signal, s, x0) * x0 + like(along_eps, x0) * eps, like(variance, x0))


def ddim_encode_steps(
    denoiser: DenoiserProtocol, x0: Tensor, *, steps: int = 50, iterations: int = 3, y: Tensor | None = None
) -> Iterator[Step]:
    """The deterministic chain in reverse: from an image to the noise that `ddim_steps(eta=0, clip=False)` turns into that image.

    x0: (B, C, H, W) in [-1, 1]. A DDIM step rotates (xt, v) by an angle d: xs = cos(d) xt - sin(d) v_hat(xt, t). Given xs, its
    xt is a fixed point of xt = (xs + sin(d) v_hat(xt, t)) / cos(d), found by `iterations` evaluations that start at xs.
    (The usual "DDIM inversion" makes one evaluation, of the same equation in terms of eps_hat, and is several times less accurate.)
    Yields `Step`s of ascending t; the last has t == T, and its xt is the encoding.
    """
    check_denoiser(denoiser)
    check_images(x0=x0)
    iterations = whole("iterations", iterations, 1, of=" network calls for each step")
    y = labels_for(denoiser, y, len(x0))
    timesteps = timestep_subset(denoiser.schedule.T, steps)[::-1]
    if steps == 1 and denoiser.schedule.signal[-1] == 0:
        raise ValueError("steps=1 on a schedule whose signal[T] is 0; expected 2 or more: a single step to pure noise would lose the image")
    # with signal = r cos(phi), noise = r sin(phi), and r = 1 on variance-preserving schedules:   v = cos(phi) eps - sin(phi) x0
    phi, r = torch.atan2(denoiser.schedule.noise, denoiser.schedule.signal), torch.hypot(denoiser.schedule.noise, denoiser.schedule.signal)

    def walk():
        xs = x0
        for s, t in pairwise(timesteps):
            with torch.no_grad():
                # xt / r_t = (xs / r_s + sin(d) v) / cos(d),  d = phi_t - phi_s                          Salimans & Ho 2022, appendix D
                d = pick(phi, t) - pick(phi, s)
                from_xs, from_v = (like(each, xs) for each in (pick(r, t) / pick(r, s) / d.cos(), pick(r, t) * d.tan()))
                cos_phi, sin_phi = pick(phi, t).cos(), pick(phi, t).sin()
                xt = xs
                for _ in range(iterations):
                    prediction = Prediction(*denoiser(xt, t, y))
                    v = like(cos_phi, xs) * prediction.eps - like(sin_phi, xs) * prediction.x0
                    xt = from_xs * xs + from_v * v
                xs = xt
            yield Step(t, xs, prediction.x0, prediction.eps)

    return walk()


SAMPLERS: dict[str, Callable[..., Iterator[Step]]] = {"ddim": ddim_steps, "ddpm": ddpm_steps}


def sample(
    denoiser: DenoiserProtocol,
    n: int,
    *,
    sampler: str | Callable[..., Iterator[Step]] = ddim_steps,
    steps: int | None = 50,
    y: int | str | Sequence[int] | Sequence[str] | Tensor | None = None,
    seed: int | None = 0,
    first: int = 0,
    device: str | torch.device | None = None,
    shape: tuple[int, int, int] | None = None,
    batch_size: int = 256,
    progress: bool = False,
    **options,
) -> Tensor:
    """n images (n, C, H, W), roughly in [-1, 1], on `device` (by default the denoiser's).

    sampler: `ddim_steps`, `ddpm_steps`, another function like them, or a name in `SAMPLERS`; it receives `options`, such as eta=0.5.
    y: one class for all images or one per image, as numbers or, if the denoiser has `class_names`, as names; for a denoiser with
    `words`, one caption or one per image, such as "a red house by the sea at night"; or None. seed:
    sample k depends only on the seed and k, not on n or batch_size (up to rounding); None draws a new seed at each call. first: the
    number of the first sample, so that `first=n` continues a set of n. shape: (C, H, W), for a denoiser without `image_shape`.
    batch_size: images per network call. progress: show a progress bar of the network calls.

    Raises `ValueError` for invalid arguments, and `FloatingPointError` if a sample is not finite.
    """
    check_denoiser(denoiser)
    check_sampler_options(options)
    if not callable(sampler):
        check_name("sampler", sampler, SAMPLERS)
    walk = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
    n, batch_size, first = whole("n", n), whole("batch_size", batch_size), whole("first", first, 0)
    seed = fresh_seed() if seed is None else whole("seed", seed, 0)
    shape = denoiser.image_shape if shape is None else as_image_shape(shape)
    if shape is None:
        raise ValueError("this denoiser does not know the shape of its images; expected shape=(C, H, W)")
    y = labels_for(denoiser, y, n)
    weight = next(parameters_of(denoiser), torch.empty(0, device="cpu"))  # xT takes its dtype, and its device by default
    device = weight.device if device is None else choose_device(device)

    samples = torch.empty(n, *shape, dtype=weight.dtype, device=device)
    with progress_bar(-(-n // batch_size) * (steps or denoiser.schedule.T), progress) as bar:
        for start in range(0, n, batch_size):
            stop = min(start + batch_size, n)
            generators = sample_generators(seed, range(first + start, first + stop))
            xt = randn_like(torch.empty(stop - start, *shape, dtype=weight.dtype, device=device), generators)
            labels = None if y is None else y[start:stop].to(device)
            for step in walk(denoiser, xt, steps=steps, y=labels, generator=generators, **options):
                xt = step.xt
                bar.update()
            samples[start:stop] = all_finite(xt, "samples")
    return samples


def sample_generators(seed: int, indices: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator per sample k in `indices`. It depends only on `seed` and k, so batching changes no sample."""
    seed = whole("seed", seed, 0)
    return [torch.Generator().manual_seed(derived_seed(seed, k)) for k in indices]


def device_of(denoiser: DenoiserProtocol) -> torch.device:
    """The device of the denoiser's weights; the CPU if it has none."""
    return next((p.device for p in parameters_of(denoiser)), torch.device("cpu"))


def parameters_of(denoiser: DenoiserProtocol) -> Iterator[Tensor]:
    """The weights of the denoiser, or of the denoiser inside it; empty if there are none."""
    inner = getattr(denoiser, "denoiser", denoiser)
    return inner.parameters() if isinstance(inner, nn.Module) else iter(())


def _walk(
    denoiser: DenoiserProtocol,
    xT: Tensor,
    steps: int | None,
    transition: Callable[[Tensor, Prediction, int, int], Gaussian],
    noisy: bool,
    clip: bool,
    y: Tensor | None,
    generator: Generator | None,
) -> Iterator[Step]:
    """The loop of every sampler. Arguments are checked here, at the call; the returned generator does the work."""
    check_denoiser(denoiser)
    check_images(xT=xT)
    timesteps = timestep_subset(denoiser.schedule.T, denoiser.schedule.T if steps is None else steps)
    y = labels_for(denoiser, y, len(xT))
    check_generator(generator, len(xT))

    def walk():
        xt = xT
        for t, s in pairwise(timesteps):
            with torch.no_grad():  # not around the yield: that would switch off the caller's gradients too
                prediction = Prediction(*denoiser(xt, t, y))
                if clip:
                    x0 = prediction.x0.clamp(-1, 1)
                    prediction = prediction._replace(x0=x0, eps=solve(denoiser.schedule, "x0", xt, x0, t)[1])
                mean, variance = transition(xt, prediction, t, s)
                # the last step's variance is 0; testing for it would make the CPU wait for the device
                xt = mean + variance.sqrt() * randn_like(mean, generator) if noisy and s > 0 else mean
            yield Step(s, xt, prediction.x0, prediction.eps)

    return walk()
