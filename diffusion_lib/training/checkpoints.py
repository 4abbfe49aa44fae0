"""The state of a training run on disk, one file a checkpoint: all that is needed to go on as if nothing had happened.

A file appears whole or not at all, the newest good one is used, and only the last `KEEP` are kept. Files are read with
`weights_only=True`, so nothing in them is executed, and only after their checksums have been found right, so that a damaged
weight is not taken for a trained one. What they hold is looked at before any of it is used: they may come from anywhere.
"""

import errno
import math
import os
import pickle
import re
import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.files import write_whole
from diffusion_lib.networks import plain_name, plain_state
from diffusion_lib.training.identity import difference, identity
from diffusion_lib.training.sharding import gather_state, placed_like

__all__ = ["State", "check_fit", "check_readable", "content", "difference", "identity", "may_go_on", "names", "newest", "one", "write"]

KEEP = 2
NAME = re.compile(r"step-[0-9]{8,18}\.pt")
CONTENT = dict(step=int, run=dict, denoiser=dict, ema=dict, moments=dict, scaler=dict)
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # what AdamW keeps of each parameter
SCALE = {"scale", "_growth_tracker"}  # what changes in a loss scaler


# of what two runs differ in: why, or what to do
HINTS = dict(
    dataset=" (glyphs are drawn a little differently by other kinds of processors)",
    steps=" (the learning rate is planned for all of them: a run that has made its steps can go on to more)",
)


@dataclass
class State:
    """A checkpoint read back."""

    path: Path
    content: dict

    def restore(self, denoiser, ema_denoiser, optimizer, scaler) -> int:
        """Puts the state into place and returns the number of updates already made. scaler: of float16, None in other precisions.

        The state must fit: see `check_fit`. The settings of optimizer and scaler are those of the code.
        """
        for model, name in ((denoiser, "denoiser"), (ema_denoiser, "ema")):
            saved = self.content[name]
            model.load_state_dict({key: placed_like(saved[plain_name(model, key)], place) for key, place in model.state_dict().items()})
        # the fused AdamW takes for granted that a moment lies in memory as its parameter does, which depends on the processes' number
        moments = {}
        for number, (name, parameter) in enumerate(_by_name(denoiser, optimizer)):
            if name in self.content["moments"]:  # a parameter that has had no gradient has none
                entry = self.content["moments"][name]
                # the number of steps, of another shape, is copied by hand: nothing may keep the file in memory
                moments[number] = {key: placed_like(value, parameter) for key, value in entry.items()} | dict(step=entry["step"].clone())
        optimizer.load_state_dict(dict(state=moments, param_groups=optimizer.state_dict()["param_groups"]))
        if scaler is not None and self.content["scaler"]:
            scaler.load_state_dict(scaler.state_dict() | {name: self.content["scaler"][name] for name in SCALE})
        return self.content["step"]


def content(step: int, run: dict, denoiser, ema_denoiser, optimizer, scaler, keep: bool = True) -> dict:
    """The state after update number `step` of the run with this `identity`. Where weights are sharded over processes, all must call it.

    keep: False in a process that does not write it, so that it need not hold all weights; `write` takes none that was made so.
    """
    return dict(
        step=step,
        run=run,
        denoiser=gather_state(plain_state(denoiser), keep),
        ema=gather_state(plain_state(ema_denoiser), keep),
        moments=gather_state({name: optimizer.state[p] for name, p in _by_name(denoiser, optimizer) if p in optimizer.state}, keep),
        scaler={} if scaler is None else scaler.state_dict(),
    )


def _by_name(denoiser, optimizer) -> list[tuple[str, Tensor]]:
    """The optimizer's parameters, in its order, with their names."""
    names = {id(parameter): plain_name(denoiser, name) for name, parameter in denoiser.named_parameters()}
    return [(names[id(parameter)], parameter) for group in optimizer.param_groups for parameter in group["params"]]


def names(directory: str | Path) -> set[str]:
    """The names of the checkpoints in the folder, good or damaged; none if it is not there."""
    return {path.name for path in _paths(Path(directory))}


def write(directory: str | Path, content: dict, seen: set[str] | None = None) -> Path:
    """Writes a state as a checkpoint and returns its path. Removes those before the last `KEEP`, and sets those after it aside (as
    `….damaged`): the run would have gone on from them if they could be read.

    seen: the `names` there when the run began; what it writes is added. If there are others, another run uses the folder, too.

    Raises `OSError` if that is so, or if there is no room for it; the checkpoints that are there stay.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if seen is not None and (others := names(directory) - seen):
        raise OSError(f"{directory} holds {min(others)}, which this run has not written; expected a folder that no other run writes to")
    path = directory / f"step-{content['step']:08d}.pt"
    try:
        # torch is given the path, not the file: it would call a Ctrl-C meanwhile a full disk
        write_whole({path: lambda unfinished: torch.save(content, str(unfinished))})
    except OSError as error:
        kept = [old.name for old in _paths(directory) if _step(old) < content["step"]][:1]
        way_out = f"{kept[0]} is still there: the same call goes on from it" if kept else "No checkpoint is there yet"
        raise OSError(f"{error}. {way_out}") from error
    if seen is not None:
        seen.add(path.name)
    here = _paths(directory)
    later = [each for each in here if _step(each) > content["step"]]
    older = [each for each in here if _step(each) <= content["step"]][KEEP:]
    for each in later:
        place = each.with_suffix(".damaged")
        with suppress(OSError):  # here and below: what is in the way may stay
            os.replace(each, place if not place.exists() else each.with_suffix(f".{token_hex(4)}.damaged"))
    killed = directory.glob("step-*.pt.*.tmp")  # what a run that was killed left behind
    for each in [*older, *killed]:
        with suppress(OSError):
            each.unlink(missing_ok=True)
    return path


def newest(directory: str | Path) -> State | None:
    """The newest good checkpoint in the folder, or None if there is none; a damaged one is named in a warning and passed over.

    Raises `OSError` or `MemoryError`, with the file's name, if one may be good but cannot be read.
    """
    paths = _paths(Path(directory))
    for path, before in zip_longest(paths, paths[1:]):
        try:
            return State(path, _read(path))
        except (OSError, MemoryError, ImportError):
            raise
        except Exception as error:  # unpickling raises whatever a damaged file leads it to
            way_out = f"going on from {before.name}, the one before it" if before else "there is none before it: starting at the first step"
            warnings.warn(f"{path} is damaged ({_reason(error)}); {way_out}", stacklevel=2)
    return None


def one(path: Path) -> State:
    """The checkpoint in this file. Raises `ValueError` if it is none, or damaged, and `OSError` or `MemoryError` as `newest` does."""
    if not NAME.fullmatch(path.name):
        raise ValueError(f"{path} is no checkpoint by its name; expected the path of one that training wrote, such as step-00000500.pt")
    try:
        return State(path, _read(path))
    except (OSError, MemoryError, ImportError):
        raise
    except Exception as error:
        raise ValueError(f"{path} is damaged ({_reason(error)}); expected a checkpoint that training wrote: use another one") from error


def check_readable(path: Path) -> None:
    """Raises `ValueError` if a checkpoint just written cannot be read back: what a network keeps in its state is its own affair."""
    try:
        _read(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"{path} was written and cannot be read back; expected a network whose state_dict() holds tensors, numbers, strings, and "
            "lists and dicts of them alone"
        ) from error


def _read(path: Path) -> dict:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:  # torch itself does not look at the checksums it writes
            # compressed data may unpack to any size; of what attributes call a folder, torch reads nothing and leaves the tensor unfilled
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.external_attr for entry in archive.infolist()):
                raise ValueError("it holds compressed data or file attributes, which torch.save does not write")
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are larger than the whole")
            if (entry := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {entry} is wrong")
        # mapped, not read: a checkpoint is four times as large as the weights, and what is wanted of it is copied out of it
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except (OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise MemoryError(f"{path} could not be read for want of memory; expected room for it") from error
        if isinstance(error, TimeoutError):
            raise
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # what zipfile meets when it follows a damaged number
            raise OSError(f"{path} could not be read ({error.strerror}); expected a file that can be: mend it, or move it away") from error
        raise ValueError(_first_line(error)) from error
    found = content if isinstance(content, dict) else {}
    if missing := [name for name, kind in CONTENT.items() if not isinstance(found.get(name), kind)]:
        raise ValueError(f"{', '.join(missing)} missing")
    if content["step"] != _step(path):
        raise ValueError(f"it is of step {content['step']}")
    for name in ("run", "scaler"):
        if not _is_plain(content[name]):
            raise ValueError(f"its {name} holds something other than numbers, strings and lists of them")
    for name in ("denoiser", "ema"):
        if not all(isinstance(key, str) for key in content[name]):
            raise ValueError(f"its {name} holds something other than tensors by name")
    return content


def may_go_on(state: State, steps: int) -> bool:
    """Whether the checkpoint is the end of a run of fewer steps than these, which can then be made as well."""
    planned = state.content["run"].get("steps")
    return type(planned) is int and state.content["step"] == planned < steps


def check_fit(state: State, run: dict, denoiser, directory: str | Path) -> None:
    """Raises `ValueError` if the checkpoint belongs to another run than the one with the identity `run`, or does not hold the state of
    this denoiser and of an optimizer of all its parameters. A finished run may go on to more steps."""
    found = state.content
    theirs_run = found["run"] | (dict(steps=run["steps"]) if may_go_on(state, run["steps"]) else {})
    weights = {name: _form(value) for name, value in plain_state(denoiser).items()}
    pairs = [(run, theirs_run), (weights, {name: _form(value) for name, value in found["denoiser"].items()})]
    for ours, theirs in pairs:
        if (name := difference(ours, theirs)) is not None:
            hint = HINTS.get(name, "")
            raise ValueError(
                f"{state.path} is of a run with {name}={_short(theirs.get(name))}, this one has {_short(ours.get(name))}{hint}; "
                f"expected the same run: use another folder than {directory}, or remove it to start afresh. To start another run from its "
                "weights, give train what load_checkpoint loads, or the command --init-from"
            )
    parameters = {plain_name(denoiser, name): parameter for name, parameter in denoiser.named_parameters()}
    moments, scaler = found["moments"], found["scaler"]
    wrong = [
        ("step", not 1 <= found["step"] <= run["steps"]),
        ("ema", {name: _form(value) for name, value in found["ema"].items()} != weights),
        ("moments", not moments or not all(_are_moments_of(parameters.get(name), entry) for name, entry in moments.items())),
        ("scaler", bool(scaler) and not (scaler.keys() >= SCALE and all(_is_scale(scaler[name]) for name in SCALE))),
    ]
    for name, is_wrong in wrong:
        if is_wrong:
            raise ValueError(f"{state.path} holds no state of this run under {name!r}; expected what training wrote: move it away")


def _is_scale(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _are_moments_of(parameter: Tensor | None, entry: object) -> bool:
    """Whether this is what AdamW keeps of the parameter."""
    if parameter is None or not isinstance(entry, dict) or entry.keys() != MOMENTS:
        return False
    like = dict(step=torch.zeros((), dtype=torch.float32, device="cpu"), exp_avg=parameter, exp_avg_sq=parameter)
    if not all(_form(value) == _form(like[name]) for name, value in entry.items()):
        return False
    return all(value.isfinite().all() for value in entry.values()) and bool((entry["exp_avg_sq"] >= 0).all())


def _form(value: object) -> object:
    """What must be the same of a tensor that takes the place of another; None of what is no tensor with its numbers in memory."""
    if not isinstance(value, Tensor) or value.is_nested or value.layout != torch.strided or value.is_meta or value.is_quantized:
        return None
    return tuple(value.shape) if value.dtype == torch.float32 else (tuple(value.shape), str(value.dtype))


def _is_plain(value: object) -> bool:
    """Whether it is made of numbers, strings, None, lists and dicts alone."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    return all(map(_is_plain, value)) if isinstance(value, list | tuple) else value is None or type(value) in (bool, int, float, str)


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:40]}… ({len(value)} entries)" if isinstance(value, list) else f"{text[:40]}…"


def _reason(error: Exception) -> str:
    # the commonest one's text tells how to execute what a stranger may have sent
    return "it is none that torch.load takes" if isinstance(error, pickle.UnpicklingError) else _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _step(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def _paths(directory: Path) -> list[Path]:
    """The folder's checkpoints, newest first. Raises `OSError` if it cannot be looked into, so that none is overlooked."""
    try:
        with os.scandir(directory) as entries:
            found = [Path(entry) for entry in entries if NAME.fullmatch(entry.name) and entry.is_file()]
    except FileNotFoundError:
        return []
    return sorted(found, key=_step, reverse=True)
