"""What the exhibits of notebook 06 have in common."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import Exercise, Mistake, Verdict

AS_IT_STANDS = "this is the exhibit as it stands"


def exhibit(check: Exercise, number: int, praise: str = "") -> Exercise:
    """An exercise of another notebook whose known mistake of that number is on show."""
    shown = check.mistakes[number]
    others = tuple(mistake for mistake in check.mistakes if mistake is not shown)
    return replace(check, mistakes=(Mistake(shown.answer, AS_IT_STANDS), *others), praise=praise)


@dataclass(frozen=True)
class Open(Exercise):
    """An exercise with more than one right answer: `accepts(answer, *arguments)` says whether an answer is as good as the reference's."""

    accepts: Callable[..., bool] = lambda answer, *arguments: False

    def _verdict(self, attempt: Callable) -> Verdict:
        # mistakes, too, so that one is found whichever of the right answers the rest of it follows
        mistakes = tuple(Mistake(self._settled(mistake.answer), mistake.message) for mistake in self.mistakes)
        return Exercise._verdict(replace(self, mistakes=mistakes), self._settled(attempt))

    def _settled(self, function: Callable) -> Callable:
        """The function with the reference's answer in the place of any that is as good."""

        def settled(*arguments):
            before = deepcopy(arguments)
            answer = function(*arguments)
            return self.reference(*before) if self._accepts(answer, *before) else answer

        return settled

    def _accepts(self, answer: Any, *arguments: Any) -> bool:
        try:
            return self.accepts(answer, *arguments)
        except Exception:  # not an answer that could be asked about
            return False


def apart(ours: float | Tensor, theirs: float | Tensor) -> tuple[str, str]:
    """Two numbers in short, with as many digits as it takes to see that they differ, if they do by more than rounding."""
    a, b = float(ours), float(theirs)
    equal = math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7)
    digits = next((n for n in range(3, 8) if equal or f"{a:.{n}g}" != f"{b:.{n}g}"), 8)
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def comparable(got: Any, expected: Tensor) -> bool:
    """Whether an answer is a tensor of the expected shape, of finite floats with enough digits, so that its numbers can be talked about."""
    fine = isinstance(got, Tensor) and got.dtype in (torch.float32, torch.float64)
    return fine and got.shape == expected.shape and bool(got.isfinite().all())
