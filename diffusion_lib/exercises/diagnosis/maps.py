"""A sampler's steps as numbers: the components of each xs.

Between two calls of a model that always predicts the same x0, every usual sampler computes

    xs = P xt + Q x0 + c z + offset,       z fresh noise

so P, Q and c are found, to float32 rounding, by least squares over the pixels. With xt = signal_t x0 + noise_t eps this is
xs = a x0 + d eps + c z, where a = Q + P signal_t is the image's factor in xs and sqrt(d^2 + c^2), d = P noise_t, its noise.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.exercises.diagnosis.probe import Call, level, one_image
from diffusion_lib.exercises.diagnosis.running import Draw
from diffusion_lib.schedules import Schedule

UNKNOWN = 2e-3  # a larger residual of a step, as standard deviation, is noise from elsewhere, not rounding


class Map(NamedTuple):
    """One step, from xt to xs. All numbers are factors, but for the last two."""

    a: float  # of x0, when xt is split into x0 and eps by the schedule at the t that the model was given
    d: float  # of that eps
    c: float  # of fresh noise, >= 0
    clipped: float  # of x0's positive part: not 0 where x0_hat was clipped to [0, 1]
    offset: float  # a constant that was added
    unknown: float  # standard deviation of the unexplained rest, which is counted in c
    kind: str  # of the fresh noise: "", "normal", "uniform", "shared" (by the images), "constant" (one number an image), "unknown"
    sure: bool  # whether xt held enough noise to separate a and d

    @property
    def noise(self) -> float:
        """The standard deviation of the noise in xs, if xt has the noise of its t."""
        return math.hypot(self.d, self.c)


def maps_of(calls: list[Call], schedule: Schedule) -> list[Map | None]:
    """The steps from each call to the next; None where images were given different t, or shapes do not fit."""
    maps, drawn = list[Map | None](), list[Draw]()
    for before, after in pairwise(calls):
        drawn += before.draws
        step = map_of(before, after.xt, after.draws, schedule)
        if step is not None and step.kind == "unknown" and drawn:  # perhaps noise from before the loop
            old = map_of(before, after.xt, drawn[-1:] + drawn[:1], schedule)
            step = old._replace(kind="old") if old is not None and old.unknown < step.unknown / 10 else step
        maps.append(step)
    return maps


def map_of(before: Call, xs: Tensor, draws: list[Draw], schedule: Schedule) -> Map | None:
    """The step from a call to xs, given what was drawn in between."""
    if math.isnan(before.t) or xs.shape != before.xt.shape or not (xs.isfinite().all() and before.xt.isfinite().all()):
        return None
    signal, noise = level(schedule, max(before.t, 1.0))
    image = one_image(tuple(xs.shape[1:])).double().expand(xs.shape)
    eps = (before.xt.double() - signal * image) / noise
    noises = noise_of(draws, xs.shape)
    columns = [eps, image, image.clamp(min=0), torch.ones_like(image), *(z for _, z in noises)]
    rows = torch.stack([column.flatten() for column in columns])
    values = xs.double().flatten()
    factors = _solve(rows, values)
    unknown = (values - factors @ rows).square().mean().sqrt().item()
    if unknown > UNKNOWN:  # noise from elsewhere: a factor counts where it is many times its standard error
        errors = unknown * torch.linalg.pinv(rows @ rows.T, hermitian=True).diagonal().clamp(min=0).sqrt()
        keep = factors.abs() > 8 * errors
        keep[:2] = True
        factors = torch.zeros_like(factors).masked_scatter(keep, _solve(rows[keep], values))
        unknown = (values - factors @ rows).square().mean().sqrt().item()
    d, a, clipped, offset = factors[:4].tolist()
    weights = factors[4:].abs().tolist()
    # uniform noise in [0, 1) has variance 1/12
    sizes = [weight * (12**-0.5 if kind == "uniform" else 1) for weight, (kind, _) in zip(weights, noises, strict=True)]
    kinds = [kind for size, (kind, _) in zip(sizes, noises, strict=True) if size > 1e-4]
    known = rows[1:4]
    away = eps.flatten() - _solve(known, eps.flatten()) @ known
    sure = away.square().mean().sqrt().item() > 1e-3
    if unknown > UNKNOWN:
        kinds.append("unknown")
    return Map(a, d, math.hypot(*sizes, unknown if unknown > UNKNOWN else 0.0), clipped, offset, unknown, kinds[0] if kinds else "", sure)


def noise_of(draws: list[Draw], shape: torch.Size) -> list[tuple[str, Tensor]]:
    """The draws that could have been added to images of this shape, the newest four: (kind, values float64 of that shape)."""
    whole = [(draw.kind, draw.values) for draw in draws if draw.values.numel() > 1 and draw.values.shape == shape]
    single = [draw for draw in draws if draw.values.shape in {shape[1:], (1, *shape[1:])} and shape[0] > 1]
    if single and len(single) % shape[0] == 0:  # one for each image
        rounds = [single[start : start + shape[0]] for start in range(0, len(single), shape[0])]
        whole += [(some[0].kind, torch.stack([each.values.view(shape[1:]) for each in some])) for some in rounds]
    else:
        whole += [("shared", draw.values.expand(shape)) for draw in single]
    column = (shape[0], *[1] * (len(shape) - 1))
    whole += [("constant", draw.values.view(column).expand(shape)) for draw in draws if draw.values.shape in {column, shape[:1]}]
    return [(kind, values.double()) for kind, values in whole[-4:]]


def _solve(rows: Tensor, values: Tensor) -> Tensor:
    """Least squares, the shortest solution where there are several: factors (n,) of rows (n, M) that make values (M,)."""
    return torch.linalg.lstsq(rows @ rows.T, (rows @ values)[:, None], rcond=1e-12, driver="gelsd").solution[:, 0]
