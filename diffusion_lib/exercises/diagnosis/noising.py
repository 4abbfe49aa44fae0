"""Checks of the network's inputs in training: the images, their factor, the noise and t."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_lib.exercises.diagnosis.report import Notes
from diffusion_lib.exercises.diagnosis.steps import other_schedules
from diffusion_lib.exercises.diagnosis.witness import BLOCKS, blocks, means, spread
from diffusion_lib.schedules import Schedule

DEGREES = 240  # of freedom of the noise inside the blocks of one image
FROM_ZERO = "Timesteps are counted from 0"
OPEN = 30.0  # differences of log likelihood below which nothing is decided: by chance in 1 of 1e13
SURE = 6.0  # standard errors: by chance in 1 of 1e9 right programs
_Levels = Callable[[Tensor], tuple[Tensor, Tensor]]  # from t to the factors of image and noise


class Known(NamedTuple):
    """The network's inputs whose images were recognised."""

    rows: Tensor  # (n,) indices into the given images
    x0: Tensor  # (n, 256) as the loop uses them, perhaps in another range
    eps: Tensor  # (n, 256)
    signal: Tensor  # (n, 1) factors of both
    noise: Tensor


class Way(NamedTuple):
    """A way to compute xt: the right one or a known mistake."""

    levels: _Levels
    name: str = ""
    line: str = ""
    exhibit: int | None = None


_LINE = "xt = sqrt(alpha_bar_t) * x0 + sqrt(1 - alpha_bar_t) * eps"


def _ways(schedule: Schedule) -> list[Way]:
    signal, noise, T = schedule.signal, schedule.noise, schedule.T

    def shifted(shift: int, of: Schedule = schedule) -> _Levels:
        return lambda t: tuple(table[(t + shift).clamp(0, T)] for table in (of.signal, of.noise))  # type: ignore[return-value]

    alpha = signal**2 / torch.cat([signal[:1], signal[:-1]]).clamp(min=1e-12) ** 2
    ways = [
        Way(shifted(0)),
        Way(shifted(1), FROM_ZERO, "the call of the network: network(xt, t + 1)", 9),
        Way(shifted(-1), "The network is given t + 1", "the call of the network: network(xt, t)", 9),
        Way(lambda t: (signal[t], noise[t] ** 2), "The noise's variance is used instead of its standard deviation", _LINE, 6),
        Way(lambda t: (signal[t] ** 2, noise[t]), "The image's factor is alpha_bar, not its root", _LINE, 6),
        Way(lambda t: (signal[t] ** 2, noise[t] ** 2), "Both factors of xt lack their root", _LINE, 6),
        Way(
            lambda t: (alpha[t].sqrt(), (1 - alpha[t]).clamp(min=0).sqrt()),
            "alpha_t is used instead of alpha_bar_t",
            "alpha_bar is the cumulative product of the alphas: torch.cumprod(1 - betas, 0)",
            6,
        ),
        Way(lambda t: (noise[t], signal[t]), "The factors of image and noise are swapped", _LINE),
        Way(lambda t: (torch.ones_like(signal[t]), noise[t]), "The image is not multiplied by sqrt(alpha_bar_t)", _LINE),
        Way(lambda t: (signal[t], torch.ones_like(signal[t])), "The noise is not multiplied by sqrt(1 - alpha_bar_t)", _LINE),
        Way(lambda t: (signal[T - t], noise[T - t]), "Timesteps run backwards: the network is given T - t", "the call of the network"),
    ]
    line = "where the loop makes betas or alpha_bar: take them from the schedule that the sampler will use"
    for shift in (0, 1):
        ways += [
            Way(shifted(shift, other), f"The loop has another schedule: {other.name!r}", line, 7) for other in other_schedules(schedule)
        ]
    return ways


def about_noising(notes: Notes, xt: Tensor, t: Tensor, schedule: Schedule) -> tuple[Known | None, int]:
    """Adds findings about the network's inputs: xt (n, 256), t (n,) in 0..T.

    Returns the images that were recognised, and by how much the loop's own t is above the network's, 0 or 1.
    """
    inside = xt - spread(means(xt))
    variance = inside.square().sum(dim=1) / DEGREES
    kurtosis = (inside / variance.clamp(min=1e-12).sqrt()[:, None]).pow(4).mean().item()
    if kurtosis < 2.3:
        notes.find(
            "The noise is uniform",
            f"kurtosis {kurtosis:.2f}",
            "normal noise, of kurtosis 3",
            "the line that draws eps: torch.randn_like(x0), not rand",
        )
        return None, 0
    ways = [way for way in _ways(schedule) if _fits(variance, way.levels(t)[1], t)]
    if not ways:
        _unknown_noise(notes, variance, t, schedule)
        return None, 0
    rows, found = _recognised(xt, *ways[0].levels(t))
    if not len(rows):
        why = "too few were shown" if len(t) < 1000 else "perhaps they are cropped"
        notes.remarks.append(f"the images could not be recognised in xt ({why}); their factor and the target were not examined")
        if ways[0].name:
            _named(notes, ways[0], variance, t, schedule, [])
        return None, int(ways[0].name == FROM_ZERO)
    # the noise fits all of these; of their factors of the image the likeliest are chosen, and the right ones where that is open
    fits = [_image_fit(xt[rows], found, *(each[rows] for each in way.levels(t))) for way in ways]
    costs = [fit.cost - (OPEN if not way.name else 0) for way, fit in zip(ways, fits, strict=True)]
    best = costs.index(min(costs))
    way, fit = ways[best], fits[best]
    right = fit.mean < 1.3 and abs(fit.factor - 1) < 0.03 and abs(fit.offset) < 0.03
    names = [other.name for other, cost in zip(ways, costs, strict=True) if way.name and cost < costs[best] + OPEN]
    if way.name:
        _named(notes, way, variance, t, schedule, names)
    else:
        notes.passed.append(f"noise in xt: its standard deviation is that of t, in {len(t)} images")
    if not right:
        _about_data(notes, fit.factor if fit.mean < 1.3 else 0.0, fit.offset)
    elif not way.name:
        notes.passed.append("image in xt: its factor is that of t, and its range is [-1, 1]")
    f, h = (each[rows, None] for each in way.levels(t))
    x0 = spread(found if right else fit.factor * found + fit.offset)
    known = Known(rows, x0, (xt[rows] - f * x0) / h, f, h)
    return (known if fit.mean < 1.3 else None), int(way.name == FROM_ZERO)


def _bins(t: Tensor, count: int = 12) -> list[Tensor]:
    """Rows of similar t, the smallest t in small groups: there the levels differ most."""
    order = t.argsort()
    edges = sorted({0, *(len(t) * i // count for i in range(1, count + 1)), min(len(t), 8), len(t) // 100, len(t) // 30})
    return [order[a:b] for a, b in pairwise(edges) if b > a]


def _fits(variance: Tensor, noise: Tensor, t: Tensor) -> bool:
    """Whether the noise measured inside the blocks has these standard deviations."""
    if (noise <= 0).any():
        return bool((variance[noise <= 0] < 1e-8).all()) and _fits(variance[noise > 0], noise[noise > 0], t[noise > 0])
    ratio = variance / noise**2
    errors = [abs(ratio[rows].mean().item() - 1) * (DEGREES * len(rows) / 2) ** 0.5 for rows in _bins(t)]
    return bool(errors) and max(errors) < SURE


def _recognised(xt: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of xt that are so clear that the image is certain, and the blocks (n, 16) of these images, perhaps flipped."""
    clear = ((signal > 2 * noise) & (noise > 0)).nonzero().flatten()
    square = blocks().view(-1, BLOCKS, BLOCKS)
    variants = torch.cat([square, square.flip(2), square.flip(1), square.flip(1, 2)]).flatten(1)
    ours, seen = (torch.nn.functional.normalize(each - each.mean(dim=1, keepdim=True), dim=1) for each in (variants, means(xt[clear])))
    likeness, which = (seen @ ours.T).max(dim=1) if len(clear) else (torch.zeros(0), torch.zeros(0).long())
    sure = likeness > 0.9
    if sure.sum() < 20 or sure.double().mean() < 0.5:
        return clear[:0], variants[:0]
    return clear[sure], variants[which[sure]]


class _Fit(NamedTuple):
    """How well a factor of the image fits: `factor` times the given image plus `offset`, where 1 and 0 are right."""

    factor: float
    offset: float
    mean: float  # of the squared residuals in units of the noise: 1 where they fit
    cost: float  # minus the logarithm of the likelihood


def _image_fit(xt: Tensor, found: Tensor, signal: Tensor, noise: Tensor) -> _Fit:
    f, h = signal[:, None], noise[:, None]
    # mean of a block / f = factor x0 + offset + h / f z / 4: least squares, each with its weight
    weight = (f / h).clamp(max=1e4).expand_as(found)
    values = means(xt) / f
    columns = torch.stack([found.flatten(), torch.ones(found.numel()).double()], dim=1)
    solution = torch.linalg.lstsq(columns * weight.flatten()[:, None], (values * weight).flatten()[:, None]).solution
    factor, offset = solution.flatten().tolist()
    left = ((values - factor * found - offset) * 4 * weight).square()
    return _Fit(factor, offset, left.mean().item(), left.sum().item() / 2)


def _about_data(notes: Notes, factor: float, offset: float) -> None:
    kinds = {
        (0.5, 0.5): ("in [0, 1]", "(x + 1) / 2, or a clip: the loop makes [0, 1] of images that are in [-1, 1]"),
        (2.0, -1.0): ("in [-3, 1]", "2 * x - 1: images in [-1, 1] are normalised once more"),
    }
    for (a, b), (said, line) in kinds.items():
        if abs(factor - a) + abs(offset - b) < 0.1:
            notes.find("The images' range is changed", f"the network learns images {said}", "images in [-1, 1], as given", line, 2)
            return
    notes.find(
        "The image in xt is not that of t",
        f"its factor is {factor:.3g} times sqrt(alpha_bar_t)" + (f", and {offset:.3g} is added" if abs(offset) > 0.03 else "")
        if factor
        else "its factor is not a multiple of sqrt(alpha_bar_t)",
        "sqrt(alpha_bar_t) times the images as given, in [-1, 1]",
        f"{_LINE}; and what is done to x0 before",
        6,
    )


def _worst(variance: Tensor, t: Tensor, schedule: Schedule) -> tuple[float, float, float]:
    """t, measured and expected standard deviation where they differ most."""
    groups = [(t[rows].double().mean(), variance[rows].mean().sqrt(), schedule.noise[t[rows]].square().mean().sqrt()) for rows in _bins(t)]
    return max(((float(a), float(b), float(c)) for a, b, c in groups), key=lambda entry: abs(entry[1] - entry[2]))


def _named(notes: Notes, way: Way, variance: Tensor, t: Tensor, schedule: Schedule, names: list[str]) -> None:
    at, measured, expected = _worst(variance, t, schedule)
    also = list(dict.fromkeys(name for name in names if name and name != way.name))
    more = f". It would also fit: {'; '.join(also)}" if also else ""
    if way.name.startswith("The image"):
        said, wanted = "the noise is that of t, the image's factor is not", "sqrt(alpha_bar_t)"
    elif way.exhibit == 9:
        low, high = int(t.min()), int(t.max())
        said = f"the network is given t = {low}..{high}, with noise of {way.levels(t[t == low])[1][0]:.4g} at t = {low}"
        wanted = f"noise {float(schedule.noise[low]):.4g} at t = {low}; t in 1..{schedule.T}"
    else:
        said = f"around t = {at:.0f}, noise of standard deviation {measured:.4g}"
        wanted = f"{expected:.4g}, that of t"
    notes.find(way.name, said + more, wanted, way.line, way.exhibit)


def _unknown_noise(notes: Notes, variance: Tensor, t: Tensor, schedule: Schedule) -> None:
    at, measured, expected = _worst(variance, t, schedule)
    notes.find(
        "The noise in xt is not that of t",
        f"around t = {at:.0f}, noise of standard deviation {measured:.4g}",
        f"{expected:.4g}",
        f"{_LINE}. None of the known mistakes gives this alone: candidates are the two factors, the schedule, the t that the network is "
        "given, and what else is added to xt",
        6,
    )
