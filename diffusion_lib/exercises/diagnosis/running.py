"""Runs a reader's program: the notebook survives whatever it does, and torch's random state is restored afterwards."""

import linecache
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from diffusion_lib.exercises.diagnosis.report import Finding

OURS = str(Path(__file__).parent)
_NORMAL = {"randn", "randn_like", "normal_"}
_UNIFORM = {"rand", "rand_like", "uniform_"}


class EnoughError(BaseException):
    """Ends a reader's loop from inside a call of the model. Not an `Exception`: a reader's `except Exception` does not catch it."""


class Draw(NamedTuple):
    """Random numbers that a program drew: kind "normal" or "uniform"."""

    kind: str
    values: Tensor


class Draws(TorchFunctionMode):
    """Records the noise that a program draws with torch, and the bounds of its `randint`."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[Draw] = []
        self.bounds: list[tuple[int, int]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in _NORMAL or name in _UNIFORM or (name == "normal" and _is_standard(args, kwargs)):
            values = result.detach().to("cpu", torch.float32, copy=True)
            self.new.append(Draw("uniform" if name in _UNIFORM else "normal", values))
        elif name == "randint":
            numbers = [arg for arg in args if isinstance(arg, int)]
            low = kwargs.get("low", numbers[0] if len(numbers) > 1 else 0)
            high = kwargs.get("high", numbers[1] if len(numbers) > 1 else numbers[0] if numbers else 0)
            self.bounds.append((int(low), int(high)))
        return result

    def take(self) -> list[Draw]:
        """The draws since the last call of this method."""
        new, self.new = self.new, []
        return new


class Outcome(NamedTuple):
    """The outcome of a program: its result, or the finding that it raised an error. stopped: whether the doctor ended it."""

    result: Any = None
    error: Finding | None = None
    stopped: bool = False


def attempt(
    program: Callable,
    *arguments: Any,
    draws: Draws,
    seed: int = 0,
    hint: Callable[[Exception], str] = lambda error: "",
    unpack: bool = True,
) -> Outcome:
    """Calls the program under a seed of its own. hint: what more to say of an error that it raises. unpack: take `last_state`."""
    grad, state = torch.is_grad_enabled(), np.random.get_state()
    try:
        with torch.random.fork_rng(), torch.enable_grad(), warnings.catch_warnings(), draws:
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            np.random.seed(seed)
            result = program(*arguments)
            return Outcome(last_state(result) if unpack else _run_out(result))
    except EnoughError:
        return Outcome(stopped=True)
    except SystemExit as error:
        return Outcome(error=Finding("The program ends Python", f"SystemExit({error})", "a program that returns", _place(error)))
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        return Outcome(error=Finding("The program stops with an error", said, f"no error{hint(error)}", _place(error)))
    finally:
        torch.set_grad_enabled(grad)
        np.random.set_state(state)


def last_state(result: Any) -> Any:
    """The last state of a chain: of a generator, list or tuple the last entry, of a step its xt; anything else is itself."""
    if hasattr(result, "xt"):
        return result.xt
    if isinstance(result, Iterator):
        return last_state(_run_out(result))
    if isinstance(result, list | tuple) and result:
        return last_state(result[-1])
    return torch.as_tensor(result) if isinstance(result, np.ndarray) and result.dtype.kind in "biuf" else result


def _run_out(result: Any) -> Any:
    """The last value of a generator, after it has ended; anything else is returned unchanged."""
    if not isinstance(result, Iterator):
        return result
    last = None
    for each in result:
        last = each
    return last


def _is_standard(args: tuple, kwargs: dict) -> bool:
    """Whether `torch.normal` was asked for mean 0 and standard deviation 1, as numbers."""
    mean = args[0] if args else kwargs.get("mean")
    std = args[1] if len(args) > 1 else kwargs.get("std")
    return isinstance(mean, int | float) and isinstance(std, int | float) and mean == 0 and std == 1


def _place(error: BaseException) -> str:
    """The line of the reader's code where an error began, in words."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(OURS)]
    theirs = [frame for frame in frames if "site-packages" not in frame.filename and "diffusion_lib" not in frame.filename] or frames
    if not theirs:
        return "the call itself: the arguments that the program takes"
    frame = theirs[-1]
    text = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
    return f"line {frame.lineno} in {frame.name}: {text}"
