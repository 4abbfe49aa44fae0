"""Mistakes by parts: the right answer with one or two parts replaced by what readers write instead."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Mistake, close


@dataclass(frozen=True)
class Variants:
    """A right answer and its variants with wrong parts.

    build: takes wrong parts by name and returns an answer that uses them instead of the right ones.
    parts: the wrong parts for each name, each with the message for a reader who wrote it.
    """

    build: Callable[..., Callable]
    parts: dict[str, Sequence[Mistake]]

    def named(self, count: int, got: Tensor, *arguments: Any) -> str | None:
        """The messages of the `count` wrong parts that together give `got` for these arguments; None if none do."""
        for names in combinations(self.parts, count):
            for parts in product(*(self.parts[name] for name in names)):
                answer = self.build(**{name: part.answer for name, part in zip(names, parts, strict=True)})
                if close(torch.as_tensor(answer(*arguments)), got):
                    return "; and ".join(part.message for part in parts)
        return None


def floats(got: Any, expected: Tensor) -> Tensor | None:
    """The answer if its numbers can be analysed: in the expected shape, finite and with enough digits; otherwise None."""
    if not isinstance(got, Tensor) or got.dtype not in (torch.float32, torch.float64):
        return None
    return got if got.shape == expected.shape and got.isfinite().all() else None


def factors(x: Tensor, *images: Tensor) -> list[float] | None:
    """The factors with which `images` sum to x; None if there are none."""
    matrix = torch.stack([image.flatten() for image in images], dim=1).double()
    found = torch.linalg.lstsq(matrix, x.flatten().double()[:, None]).solution
    return found.flatten().tolist() if close((matrix @ found).flatten(), x.flatten()) else None


def wrong_factors(got: Tensor, expected: Tensor, images: dict[str, Tensor]) -> str | None:
    """Names the images with a wrong factor in an answer that is a sum of them; None if that is not the mistake."""
    if (low := got.min()) < (high := got.max()) and close(expected.clamp(low, high), got):
        return f"the result is clamped to {low.item():.4g} … {high.item():.4g}; leave the clamp out"
    ours, right = factors(got, *images.values()), factors(expected, *images.values())
    if ours is None or right is None:
        return None
    wrong = [
        f"{name} has the factor {a:.5g}; expected {b:.5g}"
        for name, a, b in zip(images, ours, right, strict=True)
        if abs(a - b) > 2e-5 * max(abs(a), abs(b)) + 1e-6
    ]
    return f"in your sum of {', '.join(images)}, " + ", and ".join(wrong) if wrong else None
