"""Checks an answer: compares it with the right one, then with those that known mistakes give.

A stub (it returns None or `...`, or raises `NotImplementedError`) counts as "not attempted". A check never raises: whatever a
reader's function does, the notebook continues.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

CLOSE: dict[str, Any] = dict(rtol=1e-4, atol=1e-5, equal_nan=True, check_dtype=False, check_device=False)


@dataclass(frozen=True)
class Verdict:
    """The result of a check. passed: None if nothing was attempted."""

    passed: bool | None
    message: str = ""

    def __repr__(self) -> str:
        word = {True: "right", False: "not yet", None: "not attempted"}[self.passed]
        return f"{word}: {self.message}" if self.message else word


Answer = TypeVar("Answer", Callable, float)


@dataclass(frozen=True)
class Mistake(Generic[Answer]):
    """A known mistake: a function that makes it, or the wrong number, and the message for a reader who made it too.

    message: may quote the answer to the first call as {got}, {got_variance}, {expected} and {expected_variance}.
    """

    answer: Answer
    message: str


@dataclass(frozen=True)
class Exercise:
    """A question whose answer is a function. Called with a reader's function, it returns a verdict on it.

    reference: the right answer. inputs: turns a random generator into the arguments of several calls. The calls should differ in every
    argument and shape; otherwise an answer with a constant of theirs written into it would pass. look: extracts from an answer what is
    compared. draws: whether the answer is random and new at every call; if not, two calls must agree.
    diagnose: describes an answer that matches no known mistake, from (got, expected, *arguments) of the first wrong call; None if it
    can add nothing to the size of the error.
    """

    reference: Callable
    inputs: Callable[[torch.Generator], Sequence[tuple]]
    mistakes: tuple[Mistake[Callable], ...]
    praise: str = ""
    look: Callable[[Any], Any] = lambda answer: answer
    draws: bool = False
    diagnose: Callable[..., str | None] = lambda got, expected, *arguments: None

    def __call__(self, attempt: Any) -> Verdict:
        if attempt is None or attempt is Ellipsis:
            return Verdict(None)
        if not callable(attempt) or isinstance(attempt, type):
            return Verdict(False, f"this is {_type(attempt)}; expected a function: pass its name without calling it")
        with torch.random.fork_rng(devices=[]):  # an answer must not change the notebook's random numbers
            torch.manual_seed(0)
            return self._verdict(attempt)

    def _verdict(self, attempt: Callable) -> Verdict:
        calls = list(self.inputs(torch.Generator().manual_seed(0)))
        # before the reader's function runs: it may modify its arguments
        expected = [self._seen(_plain(self.reference(*deepcopy(call)))) for call in calls]
        answers: list = []
        again: list = []
        for number, call in enumerate(calls):
            for kept in (answers, again):
                arguments = deepcopy(call)
                answer = _outcome(attempt, arguments)
                if answer is Ellipsis or _is_stub(answer):
                    return Verdict(None)
                if answer is None and number == 0:
                    return Verdict(None, "it returns None")  # a stub, or a forgotten `return`
                if changed := _changed(call, arguments):
                    return Verdict(False, changed)
                kept.append(answer)

        seen = [self._seen(answer) for answer in answers]
        errors = any(isinstance(answer, Exception) for answer in (*answers, *again))
        if not self.draws and not errors and not _same(seen, [self._seen(answer) for answer in again]):
            return Verdict(False, "two calls with the same arguments give different answers: draw no random numbers of your own")
        if _same(seen, expected):
            if self.draws and _same(answers, again):
                return Verdict(False, "every call gives the same numbers; they should be drawn afresh: set no seed in the function")
            return Verdict(True, self.praise)
        for mistake in self.mistakes:
            if all(_same(ours, self._seen(_outcome(mistake.answer, deepcopy(call)))) for ours, call in zip(seen, calls, strict=True)):
                return Verdict(False, mistake.message.format(**_moments("got", seen[0]), **_moments("expected", expected[0])))
        first = next(i for i, pair in enumerate(zip(seen, expected, strict=True)) if not _same(*pair))
        given, call = answers[first], calls[first]
        if isinstance(given, Exception):
            said = f"it raised {type(given).__name__}: {given}"
        elif isinstance(seen[first], Exception):  # `look` cannot read it
            said = f"it returns {_kind(given)}; expected {_kind(_plain(self.reference(*deepcopy(call))))}"
        else:
            more = _outcome(self.diagnose, (given, _plain(self.reference(*deepcopy(call))), *deepcopy(call)))
            said = more if isinstance(more, str) else _difference(seen[first], expected[first])
        return Verdict(False, f"{said} ({self._shown(call)})")

    def _seen(self, answer: Any) -> Any:
        """What is compared: the part that `look` extracts, or the error it raises."""
        return answer if isinstance(answer, Exception) else _outcome(self.look, (answer,))

    def _shown(self, call: tuple) -> str:
        """The arguments of a call: the value of a number, the shape of a tensor."""
        names = inspect.signature(self.reference).parameters
        return ", ".join(f"{name}: {_kind(value)}" for name, value in zip(names, call, strict=False))


@dataclass(frozen=True)
class Question:
    """A question whose answer is a number. Called with a reader's number, it returns whether that is right to within `tolerance`."""

    answer: float
    tolerance: float
    mistakes: tuple[Mistake[float], ...]
    praise: str = ""

    def __call__(self, attempt: Any) -> Verdict:
        if attempt is None or attempt is Ellipsis:
            return Verdict(None)
        try:
            if isinstance(attempt, str | bytes | bool) or getattr(attempt, "ndim", 0) != 0:
                raise TypeError
            value = float(attempt)
        except (TypeError, ValueError, RuntimeError):
            return Verdict(False, f"this is {_type(attempt)}; expected a number")
        if math.isnan(value):
            return Verdict(False, "this is not a number")
        if abs(value - self.answer) <= self.tolerance:
            return Verdict(True, self.praise)
        for mistake in self.mistakes:
            if abs(value - mistake.answer) <= self.tolerance:
                return Verdict(False, mistake.message)
        return Verdict(False, f"{value:g} is too {'large' if value > self.answer else 'small'}")


def _outcome(function: Callable, arguments: Sequence) -> Any:
    """What the function returns, or the error that it raises: whatever a reader writes, the notebook continues."""
    try:
        return _plain(function(*arguments))
    except SystemExit as error:  # not an `Exception`; it would end the kernel
        return RuntimeError(f"SystemExit({error})")
    except Exception as error:
        return error


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two tensors have the same shape and, to float32 rounding, the same numbers."""
    return ours.shape == theirs.shape and torch.allclose(ours.double(), theirs.double(), rtol=CLOSE["rtol"], atol=CLOSE["atol"])


def _is_stub(answer: Any) -> bool:
    """Whether this is the error of a stub. Torch raises the same class for operations that a dtype does not support."""
    return isinstance(answer, NotImplementedError) and not any(each in str(answer) for each in ("not implemented for", "Could not run"))


def _plain(value: Any) -> Any:
    """An answer in a form that can be compared: numpy arrays become tensors, ranges and iterators become lists."""
    if isinstance(value, np.ndarray | np.generic):
        return torch.as_tensor(np.array(value)) if value.dtype.kind in "biufc" else value.tolist()  # a view may have negative strides
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, list | range | Iterator):
        return list(map(_plain, value))
    return value


def _changed(before: Any, after: Any) -> str | None:
    """Says which argument a function has changed; None if it changed nothing."""
    if isinstance(before, tuple | list):
        return next((said for pair in zip(before, after, strict=True) if (said := _changed(*pair))), None)
    if isinstance(before, Tensor):
        return None if _identical(before, after) else "it changes the tensors it is given; create new ones (x = x + 1 instead of x += 1)"
    same = True
    if isinstance(before, torch.nn.Module | torch.optim.Optimizer):
        same = _identical(before.state_dict(), after.state_dict())
    if isinstance(before, torch.nn.Module):
        settings = {name: value for name, value in vars(before).items() if isinstance(value, str | int | float)}  # training, prediction
        same &= all(vars(after).get(name) == value for name, value in settings.items())
    return None if same else f"it changes the {type(before).__name__} it is given; leave it unchanged"


def _identical(ours: Any, theirs: Any) -> bool:
    """Whether two values, or two nested dicts and lists of values, are identical to the last bit."""
    if isinstance(ours, Tensor):
        same_kind = ours.dtype == theirs.dtype and ours.requires_grad == theirs.requires_grad
        return same_kind and ours.shape == theirs.shape and torch.equal(ours.nan_to_num(), theirs.nan_to_num())
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_identical(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, tuple | list):
        return len(ours) == len(theirs) and all(map(_identical, ours, theirs))
    return bool(ours == theirs)


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two answers agree: tensors, numbers, texts, or tuples, lists and dicts of these.

    A tensor of one element may stand for an integer, and a tensor for a list of numbers. Floats do not count as indices, nor other
    dtypes as bytes.
    """
    if isinstance(theirs, Exception):
        return type(ours) is type(theirs) and str(ours) == str(theirs)
    if isinstance(theirs, list) and isinstance(ours, Tensor) and ours.ndim == 1:
        ours = list(ours.unbind())
    if isinstance(theirs, tuple | list):
        return isinstance(ours, tuple | list) and len(ours) == len(theirs) and all(map(_same, ours, theirs))
    if isinstance(theirs, dict):
        return isinstance(ours, dict) and ours.keys() == theirs.keys() and all(_same(ours[key], value) for key, value in theirs.items())
    if not isinstance(theirs, Tensor | float | int):
        # objects that only compare by identity: `look` decides what counts
        has_equality = any("__eq__" in vars(each) for each in type(theirs).__mro__ if each is not object)
        return type(ours) is type(theirs) and (not has_equality or bool(ours == theirs))
    try:
        ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
        if _number_kind(ours) != _number_kind(theirs):
            return False
        exact = {} if theirs.is_floating_point() or theirs.is_complex() else dict(rtol=0, atol=0)
        torch.testing.assert_close(ours, theirs, **CLOSE | exact)
    except (AssertionError, TypeError, ValueError, RuntimeError):
        return False
    return True


def _number_kind(x: Tensor) -> str:
    """The kind of a dtype: the reader chooses between float32 and float64, and the size of an index."""
    if x.dtype in (torch.bool, torch.uint8):
        return str(x.dtype).removeprefix("torch.")
    return "floats" if x.is_floating_point() else "complex numbers" if x.is_complex() else "integers"


def _difference(ours: Any, theirs: Any) -> str:
    """Describes how `ours` differs from `theirs`."""
    if isinstance(theirs, list) and isinstance(ours, Tensor) and ours.ndim == 1:
        ours = list(ours.unbind())
    if isinstance(theirs, tuple | list):
        if not isinstance(ours, tuple | list) or len(ours) != len(theirs):
            return f"it returns {_kind(ours)}; expected {len(theirs)} value{'s' * (len(theirs) != 1)}"
        place = next(i for i, pair in enumerate(zip(ours, theirs, strict=True)) if not _same(*pair))
        return f"value {place + 1} of {len(theirs)}: {_difference(ours[place], theirs[place])}"
    try:
        ours, right = torch.as_tensor(ours), torch.as_tensor(theirs)
    except (TypeError, ValueError, RuntimeError):
        return f"it returns {_kind(ours)}; expected {_kind(theirs)}"
    if ours.shape != right.shape:
        return f"it returns shape {tuple(ours.shape)}; expected {tuple(right.shape)}"
    if _number_kind(ours) != _number_kind(right):
        return f"it returns {_number_kind(ours)} (dtype {ours.dtype}); expected {_number_kind(right)}"
    if not ours.isfinite().all():
        return "it returns numbers that are not finite"
    if not ours.ndim:
        return f"it returns {ours.item():.4g}; expected {right.item():.4g}"
    coarse = f", in {ours.dtype}, which keeps few digits" if ours.dtype in (torch.float16, torch.bfloat16) else ""
    return f"it is off by up to {(ours.double() - right.double()).abs().max().item():.3g}{coarse}"


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, Tensor) and value.ndim:
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Tensor | float):
        return f"{torch.as_tensor(value).item():.4g}"
    if isinstance(value, bool | str):
        return repr(value) if isinstance(value, bool) or len(value) <= 40 else f"{value[:40]!r} …"
    if isinstance(value, tuple | list):
        return f"{len(value)} value{'s' * (len(value) != 1)}" + (f", the first of them {_kind(value[0])}" if value else "")
    return _type(value)


def _type(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def _moments(name: str, value: Any) -> dict[str, str]:
    """A summary of an answer, or of its first value: the mean and the variance."""
    value = value[0] if isinstance(value, tuple | list) and value else value
    if not isinstance(value, Tensor | float | int):
        return {}
    x = torch.as_tensor(value).double()
    return {name: f"{x.mean().item():.4g}", f"{name}_variance": f"{x.var(unbiased=False).item():.2f}"}
