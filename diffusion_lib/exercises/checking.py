"""How an answer is checked: beside the right one, then beside those that known mistakes give.

An answer that is still a stub (it returns None or `...`, or raises `NotImplementedError`) is "not attempted". A check never raises:
whatever a reader's function does, the notebook runs on.
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

    reference: the right answer. inputs: from a generator of random numbers to the arguments of some calls; they should differ in every
    argument and shape, or a constant of theirs, written into an answer, would pass. look: what of an answer is compared, where that is
    not the answer itself. draws: whether the answer is random, fresh at every call; else two calls have to agree.
    diagnose: what to say of an answer that is none of the known mistakes, from (got, expected, *arguments) of the first call that
    is wrong; None where there is nothing more to say than by how much it is off.
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
            return Verdict(False, f"this is {_type(attempt)}; expected a function: give its name, without calling it")
        with torch.random.fork_rng(devices=[]):  # whatever an answer does to torch's generator, the notebook's numbers stay its own
            torch.manual_seed(0)
            return self._verdict(attempt)

    def _verdict(self, attempt: Callable) -> Verdict:
        calls = list(self.inputs(torch.Generator().manual_seed(0)))
        # before the reader's function is called, which may change what it is given
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
                    return Verdict(None, "it returns None")  # a stub, or a `return` that was forgotten
                if changed := _changed(call, arguments):
                    return Verdict(False, changed)
                kept.append(answer)

        seen = [self._seen(answer) for answer in answers]
        errors = any(isinstance(answer, Exception) for answer in (*answers, *again))
        if not self.draws and not errors and not _same(seen, [self._seen(answer) for answer in again]):
            return Verdict(False, "two calls with the same arguments give two answers: draw no random numbers of your own")
        if _same(seen, expected):
            if self.draws and _same(answers, again):
                return Verdict(False, "every call gives the same numbers: they should be drawn afresh, so set no seed in the function")
            return Verdict(True, self.praise)
        for mistake in self.mistakes:
            if all(_same(ours, self._seen(_outcome(mistake.answer, deepcopy(call)))) for ours, call in zip(seen, calls, strict=True)):
                return Verdict(False, mistake.message.format(**_moments("got", seen[0]), **_moments("expected", expected[0])))
        first = next(i for i, pair in enumerate(zip(seen, expected, strict=True)) if not _same(*pair))
        given, call = answers[first], calls[first]
        if isinstance(given, Exception):
            said = f"it raised {type(given).__name__}: {given}"
        elif isinstance(seen[first], Exception):  # not what can be looked at
            said = f"it returns {_kind(given)}; expected {_kind(_plain(self.reference(*deepcopy(call))))}"
        else:
            more = _outcome(self.diagnose, (given, _plain(self.reference(*deepcopy(call))), *deepcopy(call)))
            said = more if isinstance(more, str) else _difference(seen[first], expected[first])
        return Verdict(False, f"{said} ({self._shown(call)})")

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
    """What the function returns, or the error that it raises: whatever a reader writes, the notebook runs on."""
    try:
        return _plain(function(*arguments))
    except SystemExit as error:  # not an `Exception`, and would end the kernel
        return RuntimeError(f"SystemExit({error})")
    except Exception as error:
        return error


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether two tensors agree in shape and, to float32 rounding, in every number."""
    return ours.shape == theirs.shape and torch.allclose(ours.double(), theirs.double(), rtol=CLOSE["rtol"], atol=CLOSE["atol"])


def _is_stub(answer: Any) -> bool:
    """Whether this is the error of a stub; torch raises one of that class, too, with much to say, for what it cannot do in a dtype."""
    return isinstance(answer, NotImplementedError) and not any(each in str(answer) for each in ("not implemented for", "Could not run"))


def _plain(value: Any) -> Any:
    """An answer in the forms that are compared: numpy's arrays as tensors, ranges and iterators as lists."""
    if isinstance(value, np.ndarray | np.generic):
        return torch.as_tensor(np.array(value)) if value.dtype.kind in "biufc" else value.tolist()  # views may run backwards
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, list | range | Iterator):
        return list(map(_plain, value))
    return value


def _changed(before: Any, after: Any) -> str | None:
    """What a function has changed of its arguments, in words; None if nothing."""
    if isinstance(before, tuple | list):
        return next((said for pair in zip(before, after, strict=True) if (said := _changed(*pair))), None)
    if isinstance(before, Tensor):
        return None if _identical(before, after) else "it changes the tensors it is given; expected new ones (x = x + 1 instead of x += 1)"
    same = True
    if isinstance(before, torch.nn.Module | torch.optim.Optimizer):
        same = _identical(before.state_dict(), after.state_dict())
    if isinstance(before, torch.nn.Module):
        settings = {name: value for name, value in vars(before).items() if isinstance(value, str | int | float)}  # training, prediction
        same &= all(vars(after).get(name) == value for name, value in settings.items())
    return None if same else f"it changes the {type(before).__name__} that it is given; expected it to be left as it is"


def _identical(ours: Any, theirs: Any) -> bool:
    """Whether two values, or two nested dicts and lists of values, are the same to the last bit."""
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

    A whole number may be a tensor of one, and a list of numbers a tensor of them; but floats are no indices, and bytes are bytes.
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
        # objects that know no equality but identity: of those, `look` says what counts
        knows_equality = any("__eq__" in vars(each) for each in type(theirs).__mro__ if each is not object)
        return type(ours) is type(theirs) and (not knows_equality or bool(ours == theirs))
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
    """What of a dtype matters: float32 or float64 is the reader's choice, as is the size of an index."""
    if x.dtype in (torch.bool, torch.uint8):
        return str(x.dtype).removeprefix("torch.")
    return "floats" if x.is_floating_point() else "complex numbers" if x.is_complex() else "whole numbers"


def _difference(ours: Any, theirs: Any) -> str:
    """In what way `ours` is not `theirs`."""
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
    """An answer (the first value of several) in short: itself if it is a number, and the variance of a tensor."""
    value = value[0] if isinstance(value, tuple | list) and value else value
    if not isinstance(value, Tensor | float | int):
        return {}
    x = torch.as_tensor(value).double()
    return {name: f"{x.mean().item():.4g}", f"{name}_variance": f"{x.var(unbiased=False).item():.2f}"}
