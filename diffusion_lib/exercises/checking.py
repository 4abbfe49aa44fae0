"""How an answer is checked: beside the right one, then beside those that known mistakes give.

An answer that is still a stub (it returns None or `...`, or raises `NotImplementedError`) is "not attempted". A check never raises:
whatever a reader's function does, the notebook runs on.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

CLOSE: dict[str, Any] = dict(rtol=1e-4, atol=1e-5, equal_nan=True, check_dtype=False)


@dataclass(frozen=True)
class Verdict:
    """What a check says. passed: None where nothing was attempted."""

    passed: bool | None
    message: str = ""

    def __repr__(self) -> str:
        word = {True: "right", False: "not yet", None: "not attempted"}[self.passed]
        return f"{word}: {self.message}" if self.message else word


Answer = TypeVar("Answer", Callable, float)


@dataclass(frozen=True)
class Mistake(Generic[Answer]):
    """A way to get it wrong: a function that does, or a number, and what to say to a reader who did the same.

    message: may name numbers of the first call's answer, {got}, {got_variance}, {expected} and {expected_variance}.
    """

    answer: Answer
    message: str


@dataclass(frozen=True)
class Exercise:
    """A question whose answer is a function. Called with a reader's function, it says what is wrong with it.

    reference: the right answer. inputs: from a generator of random numbers to the arguments of some calls. look: what of an answer
    is compared, where that is not the answer itself, as with a function that draws random numbers.
    """

    reference: Callable
    inputs: Callable[[torch.Generator], Sequence[tuple]]
    mistakes: tuple[Mistake[Callable], ...]
    praise: str = ""
    look: Callable[[Any], Any] = lambda answer: answer

    def __call__(self, attempt: Any) -> Verdict:
        if attempt is None or attempt is Ellipsis:
            return Verdict(None)
        if not callable(attempt):
            return Verdict(False, f"this is a {type(attempt).__name__}; expected a function: give its name, without calling it")
        calls = list(self.inputs(torch.Generator().manual_seed(0)))
        answers = []
        for call in calls:
            arguments = _copies(call)
            answer = _outcome(attempt, arguments)
            if answer is Ellipsis or isinstance(answer, NotImplementedError):
                return Verdict(None)
            if answer is None:
                return Verdict(None, "it returns None")  # a stub, or a `return` that was forgotten
            if not _same(arguments, call):
                return Verdict(False, "it changes the tensors it is given; expected new ones (x = x + 1 instead of x += 1)")
            answers.append(answer)

        seen = [self._seen(answer) for answer in answers]
        expected = [self._seen(self.reference(*call)) for call in calls]
        if _same(seen, expected):
            return Verdict(True, self.praise)
        for mistake in self.mistakes:
            if _same(seen, [self._seen(_outcome(mistake.answer, call)) for call in calls]):
                return Verdict(False, mistake.message.format(**_moments("got", seen[0]), **_moments("expected", expected[0])))
        first = next(i for i, pair in enumerate(zip(seen, expected, strict=True)) if not _same(*pair))
        if isinstance(seen[first], Exception):
            given, right = answers[first], self.reference(*calls[first])
            said = (
                f"it raised {type(given).__name__}: {given}"
                if isinstance(given, Exception)
                else f"it returns {_kind(given)}; expected {_kind(right)}"
            )
        else:
            said = _difference(seen[first], expected[first])
        return Verdict(False, f"{said} ({self._shown(calls[first])})")

    def _seen(self, answer: Any) -> Any:
        """What is compared: of an answer that cannot be looked at, the error."""
        return answer if isinstance(answer, Exception) else _outcome(self.look, (answer,))

    def _shown(self, call: tuple) -> str:
        """The arguments of a call: numbers as they are, tensors by their shape."""
        names = inspect.signature(self.reference).parameters
        return ", ".join(f"{name}: {_kind(value)}" for name, value in zip(names, call, strict=False))


@dataclass(frozen=True)
class Question:
    """A question whose answer is a number. Called with a reader's number, it says whether it is right, to within `tolerance`."""

    answer: float
    tolerance: float
    mistakes: tuple[Mistake[float], ...]
    praise: str = ""

    def __call__(self, attempt: Any) -> Verdict:
        if attempt is None or attempt is Ellipsis:
            return Verdict(None)
        try:
            value = float(attempt)
        except (TypeError, ValueError, RuntimeError):
            return Verdict(False, f"this is a {type(attempt).__name__}; expected a number")
        if math.isnan(value):
            return Verdict(False, "this is not a number")
        if abs(value - self.answer) <= self.tolerance:
            return Verdict(True, self.praise)
        for mistake in self.mistakes:
            if abs(value - mistake.answer) <= self.tolerance:
                return Verdict(False, mistake.message)
        return Verdict(False, f"{value:g} is too {'large' if value > self.answer else 'small'}")


def _outcome(function: Callable, arguments: Sequence) -> Any:
    """What the function returns, or the error that it raises: whatever a reader writes, the notebook runs on."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def _copies(call: Sequence) -> tuple:
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in call)


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two answers agree: tensors, numbers, texts, or tuples and lists of these."""
    if isinstance(theirs, Exception):
        return type(ours) is type(theirs)
    if isinstance(theirs, tuple | list):
        return isinstance(ours, tuple | list) and len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if not isinstance(theirs, Tensor | float | int):
        return ours == theirs
    try:
        torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(theirs), **CLOSE)
    except (AssertionError, TypeError, ValueError, RuntimeError):
        return False
    return True


def _difference(ours: Any, theirs: Any) -> str:
    """In what way `ours` is not `theirs`."""
    if isinstance(theirs, tuple | list):
        if not isinstance(ours, tuple | list) or len(ours) != len(theirs):
            return f"it returns {_kind(ours)}; expected {len(theirs)} values"
        place = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if not _same(*pair))
        return f"value {place + 1} of {len(theirs)}: {_difference(ours[place], theirs[place])}"
    try:
        ours = torch.as_tensor(ours)
    except (TypeError, ValueError, RuntimeError):
        return f"it returns {_kind(ours)}; expected {_kind(theirs)}"
    right = torch.as_tensor(theirs)
    if ours.shape != right.shape:
        return f"it returns shape {tuple(ours.shape)}; expected {tuple(right.shape)}"
    if not ours.isfinite().all():
        return "it returns numbers that are not finite"
    if not ours.ndim:
        return f"it returns {ours.item():.4g}; expected {right.item():.4g}"
    return f"it is off by up to {(ours.double() - right.double()).abs().max().item():.3g}"


def _kind(value: Any) -> str:
    if isinstance(value, Tensor) and value.ndim:
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Tensor | float | int):
        return f"{float(value):.4g}"
    if isinstance(value, tuple | list):
        return f"{len(value)} values" + (f", the first of them {_kind(value[0])}" if value else "")
    return f"a {type(value).__name__}"


def _moments(name: str, value: Any) -> dict[str, str]:
    """An answer (the first value of several) in short: itself if it is a number, and the variance of a tensor."""
    value = value[0] if isinstance(value, tuple | list) else value
    if not isinstance(value, Tensor | float | int):
        return {}
    x = torch.as_tensor(value).double()
    return {name: f"{x.mean().item():.4g}", f"{name}_variance": f"{x.var(unbiased=False).item():.2f}"}
