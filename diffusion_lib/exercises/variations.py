"""Families of mistakes, and descriptions of answers that match none of them."""

import math
from collections.abc import Callable, Sequence
from itertools import combinations, permutations, product
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Mistake

Choice = Sequence[tuple[Any, str]]


def randn(random: torch.Generator, *sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """A tensor of standard normal numbers for each size."""
    return tuple(torch.randn(tuple(size), generator=random) for size in sizes)


def one_wrong(made: Callable[..., Callable], *choices: Choice) -> tuple[Mistake[Callable], ...]:
    """The mistakes in which one of several choices that make up an answer is wrong.

    made: builds an answer from one value of each choice. choices: pairs of a value and its message, the right value first.
    """
    return tuple(Mistake(_answer(made, choices, [change]), change[2]) for options in _wrong(choices) for change in options)


def two_wrong(made: Callable[..., Callable], *choices: Choice) -> tuple[Mistake[Callable], ...]:
    """The same with two wrong choices. There are many: use them in `nearly`, which tries them on one call only."""
    pairs = [pair for options in combinations(_wrong(choices), 2) for pair in product(*options)]
    return tuple(Mistake(_answer(made, choices, pair), f"two mistakes: {pair[0][2]}. And: {pair[1][2]}") for pair in pairs)


def _wrong(choices: Sequence[Choice]) -> list[list[tuple[int, Any, str]]]:
    """For each choice, (its position, a wrong value, the message) of every wrong value."""
    return [[(place, value, said) for value, said in options[1:]] for place, options in enumerate(choices)]


def _answer(made: Callable[..., Callable], choices: Sequence[Choice], changes: Sequence[tuple[int, Any, str]]) -> Callable:
    values = [options[0][0] for options in choices]
    for place, value, _ in changes:
        values[place] = value
    return made(*values)


def first_of(*explanations: Callable[..., str | None]) -> Callable[..., str | None]:
    """A `diagnose` that returns the first text one of these gives."""

    def diagnose(*arguments: Any) -> str | None:
        return next((said for explain in explanations if (said := explain(*arguments))), None)

    return diagnose


def nearly(mistakes: Sequence[Mistake[Callable]], atol: float = 1e-4) -> Callable[..., str | None]:
    """A `diagnose` that recognises the mistakes in a single call, with a larger tolerance for rounding than the check has."""

    def diagnose(got: Any, expected: Any, *arguments: Any) -> str | None:
        if not isinstance(got, Tensor | float | int):
            return None
        ours = torch.as_tensor(got).double()
        for mistake in mistakes:
            try:
                wrong = torch.as_tensor(mistake.answer(*arguments))
            except Exception:  # this mistake is impossible with these arguments
                continue
            if _apart(ours, wrong) <= atol and not _apart(wrong, expected) <= 10 * atol:
                return mistake.message
        return None

    return diagnose


def mixture(names: Sequence[str]) -> Callable[..., str | None]:
    """A `diagnose` for a weighted sum of the first arguments, which have these names: it states the factors of the sum."""

    def diagnose(got: Any, expected: Any, *arguments: Any) -> str | None:
        parts = arguments[: len(names)]
        if not isinstance(got, Tensor) or got.shape != expected.shape or not got.isfinite().all() or got.numel() < 2 * len(names):
            return None
        table = torch.stack([part.double().flatten() for part in parts], dim=1)
        factors, wanted = (torch.linalg.lstsq(table, x.double().flatten()[:, None]).solution.flatten() for x in (got, expected))
        if not _close(table @ factors, got.flatten()):
            return None
        digits = next((n for n in (4, 6, 8) if _sum(factors, names, n) != _sum(wanted, names, n)), None)
        return f"yours is {_sum(factors, names, digits)}; it should be {_sum(wanted, names, digits)}" if digits else None

    return diagnose


def explained(got: Any, expected: Any, *_: Any) -> str | None:
    """Describes how a tensor differs from the expected one, whatever produced it; None if there is nothing to describe."""
    if not isinstance(got, Tensor) or not isinstance(expected, Tensor) or got.is_floating_point() != expected.is_floating_point():
        return None
    if got.shape != expected.shape:
        return _explained_shape(got, expected)
    if bad := int((~got.isfinite()).sum()):
        kind = "NaN" if got.isnan().any() else "infinite"
        others = got.isfinite() & expected.isfinite()
        rest = "; the others are right" if others.any() and _close(got[others], expected[others]) else ""
        return f"{bad} of {got.numel()} numbers are {kind}{rest}"
    if got.numel() < 3:
        return None
    if _close(-got, expected):
        return "every number has the wrong sign"
    for axis in range(got.ndim):
        if _close(got.flip(axis), expected):
            return f"the numbers are right, but in reverse order along dimension {axis}"
    for order in permutations(range(got.ndim)):
        if list(order) != sorted(order) and got.permute(order).shape == expected.shape and _close(got.permute(order), expected):
            return "the numbers are right, but dimensions are swapped"
    ours, right = got.double(), expected.double()
    ratio = (ours * right).sum() / right.square().sum()
    if ratio.abs() > 1e-6 and _close(ours, ratio * right):
        return f"every number is {ratio.item():.4g} times what it should be"
    offset = (ours - right).mean()
    if _close(ours, right + offset):
        return f"every number is too {'large' if offset > 0 else 'small'} by {offset.abs().item():.4g}"
    if ours.min() < ours.max() and _close(ours, right.clamp(ours.min(), ours.max())):
        low, high = f"{ours.min().item():.4g}", f"{ours.max().item():.4g}"
        if ours.min() <= right.min() + 1e-4:
            return f"numbers above {high} are clamped"
        return f"numbers below {low} are clamped" if ours.max() >= right.max() - 1e-4 else f"numbers outside [{low}, {high}] are clamped"
    if _close(ours.flatten().sort().values, right.flatten().sort().values):
        return "the numbers are right, but in the wrong places"
    return None


def _explained_shape(got: Tensor, expected: Tensor) -> str | None:
    shapes = f"it returns shape {tuple(got.shape)}; expected {tuple(expected.shape)}"
    if got.numel() != expected.numel() or got.ndim > 6:
        return None
    if _close(got.flatten(), expected.flatten()):
        return f"the numbers are right, but the shape is wrong: {shapes}"
    for order in permutations(range(got.ndim)):
        if _close(got.permute(order).flatten(), expected.flatten()):
            return f"the numbers are right, but the dimensions are in another order: {shapes}"
    return None


def _apart(ours: Tensor, theirs: Any) -> float:
    """The largest difference; infinite where the shapes differ."""
    theirs = torch.as_tensor(theirs)
    return (ours - theirs).abs().max().item() if ours.shape == theirs.shape else math.inf


def _close(ours: Tensor, theirs: Tensor, atol: float = 1e-5) -> bool:
    return ours.shape == theirs.shape and torch.allclose(ours.double(), theirs.double(), rtol=1e-4, atol=atol)


def _sum(factors: Tensor, names: Sequence[str], digits: int) -> str:
    """0.8 eps - 0.6 x0"""
    said = ""
    for factor, name in zip(factors.tolist(), names, strict=True):
        factor = 0.0 if abs(factor) < 1e-9 else factor
        said += f"{' - ' if factor < 0 else ' + '}{abs(factor):.{digits}g} {name}" if said else f"{factor:.{digits}g} {name}"
    return said
