"""What the exhibits of notebook 06 share."""

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
    """An exercise of another notebook, whose known mistake with that index is the exhibit."""
    shown = check.mistakes[number]
    others = tuple(mistake for mistake in check.mistakes if mistake is not shown)
    return replace(check, mistakes=(Mistake(shown.answer, AS_IT_STANDS), *others), praise=praise)


@dataclass(frozen=True)
class Open(Exercise):
    """An exercise with several right answers: `accepts(answer, *arguments)` says whether an answer is as good as the reference's."""

    accepts: Callable[..., bool] = lambda answer, *arguments: False

    def _verdict(self, attempt: Callable) -> Verdict:
        # also for the mistakes: a mistake is then found whichever right answer the rest of it follows
        mistakes = tuple(Mistake(self._settled(mistake.answer), mistake.message) for mistake in self.mistakes)
        return Exercise._verdict(replace(self, mistakes=mistakes), self._settled(attempt))

    def _settled(self, function: Callable) -> Callable:
        """The function, with each answer that is as good as the reference's replaced by it."""

        def settled(*arguments):
            before = deepcopy(arguments)
            answer = function(*arguments)
            return self.reference(*before) if self._accepts(answer, *before) else answer

        return settled

    def _accepts(self, answer: Any, *arguments: Any) -> bool:
        try:
            return self.accepts(answer, *arguments)
        except Exception:  # `accepts` cannot read this answer
            return False


def apart(ours: float | Tensor, theirs: float | Tensor) -> tuple[str, str]:
    """Two numbers as short texts. If they differ by more than rounding, they get enough digits to show it."""
    a, b = float(ours), float(theirs)
    equal = math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7)
    digits = next((n for n in range(3, 8) if equal or f"{a:.{n}g}" != f"{b:.{n}g}"), 8)
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def comparable(got: Any, expected: Tensor) -> bool:
    """Whether an answer is a tensor of finite float32 or float64 numbers with the expected shape: one whose values can be compared."""
    fine = isinstance(got, Tensor) and got.dtype in (torch.float32, torch.float64)
    return fine and got.shape == expected.shape and bool(got.isfinite().all())
