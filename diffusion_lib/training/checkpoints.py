"""The state of a training run on disk, one file per checkpoint, complete enough to resume as if nothing had happened.

Files are written atomically, the newest intact one is used, and only the last `KEEP` are kept. Files are read with
`weights_only=True`, so nothing in them is executed, and only after their checksums have been verified, so a damaged weight is never
used. Their contents are checked before use: they may come from anywhere.
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
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # AdamW's state per parameter
SCALE = {"scale", "_growth_tracker"}  # the variable state of a loss scaler


# where two runs differ: why, or what to do
HINTS = dict(
    dataset=" (other kinds of CPU draw slightly different glyphs)",
    steps=" (the learning rate is planned for all of them; only a finished run can continue to more steps)",
)


@dataclass
class State:
    """A checkpoint in memory."""

    path: Path
    content: dict

    def restore(self, denoiser, ema_denoiser, optimizer, scaler) -> int:
        """Loads the state into these objects and returns the number of updates made. scaler: for float16, None for other precisions.

        The state must fit: see `check_fit`. Settings of optimizer and scaler stay those of the code.
        """
        for model, name in ((denoiser, "denoiser"), (ema_denoiser, "ema")):
            saved = self.content[name]
            model.load_state_dict({key: placed_like(saved[plain_name(model, key)], place) for key, place in model.state_dict().items()})
        # fused AdamW assumes that moments have their parameter's memory layout, which depends on the number of processes
        moments = {}
        for number, (name, parameter) in enumerate(_by_name(denoiser, optimizer)):
            if name in self.content["moments"]:  # a parameter that never had a gradient has no entry
                entry = self.content["moments"][name]
                # step, of another shape, is copied by hand: nothing may keep the file in memory
                moments[number] = {key: placed_like(value, parameter) for key, value in entry.items()} | dict(step=entry["step"].clone())
        optimizer.load_state_dict(dict(state=moments, param_groups=optimizer.state_dict()["param_groups"]))
        if scaler is not None and self.content["scaler"]:
            scaler.load_state_dict(scaler.state_dict() | {name: self.content["scaler"][name] for name in SCALE})
        return self.content["step"]


def content(step: int, run: dict, denoiser, ema_denoiser, optimizer, scaler, keep: bool = True) -> dict:
    """The state after update number `step` of the run with this `identity`. With sharded weights, all processes must call it.

    keep: False in a process that will not write the state, so that it need not hold all weights; such a state cannot be written.
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
    """The names of the checkpoints in the folder, intact or damaged; empty if there is no folder."""
    return {path.name for path in _paths(Path(directory))}


def write(directory: str | Path, content: dict, seen: set[str] | None = None) -> Path:
    """Writes a state as a checkpoint and returns its path. Removes all but the last `KEEP` checkpoints, and renames later ones to
    `….damaged`: a readable one would have been resumed from.

    seen: the `names` present when the run began; the new name is added. Any other name means that another run uses the folder.

    Raises `OSError` in that case, and if the disk is full; existing checkpoints stay.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if seen is not None and (others := names(directory) - seen):
        raise OSError(f"{directory} contains {min(others)}, which this run did not write; expected a folder that no other run writes to")
    path = directory / f"step-{content['step']:08d}.pt"
    try:
        # torch gets the path, not the file: with a file, it would report a Ctrl-C as a full disk
        write_whole({path: lambda unfinished: torch.save(content, str(unfinished))})
    except OSError as error:
        kept = [old.name for old in _paths(directory) if _step(old) < content["step"]][:1]
        way_out = f"{kept[0]} is still there: the same call resumes from it" if kept else "There is no checkpoint yet"
        raise OSError(f"{error}. {way_out}") from error
    if seen is not None:
        seen.add(path.name)
    here = _paths(directory)
    later = [each for each in here if _step(each) > content["step"]]
    older = [each for each in here if _step(each) <= content["step"]][KEEP:]
    for each in later:
        place = each.with_suffix(".damaged")
        with suppress(OSError):  # here and below: a file that cannot be moved may stay
            os.replace(each, place if not place.exists() else each.with_suffix(f".{token_hex(4)}.damaged"))
    killed = directory.glob("step-*.pt.*.tmp")  # leftovers of a killed run
    for each in [*older, *killed]:
        with suppress(OSError):
            each.unlink(missing_ok=True)
    return path


def newest(directory: str | Path) -> State | None:
    """The newest intact checkpoint in the folder, or None. Skips damaged ones, with a warning that names them.

    Raises `OSError` or `MemoryError`, with the file's name, if a possibly intact one cannot be read.
    """
    paths = _paths(Path(directory))
    for path, before in zip_longest(paths, paths[1:]):
        try:
            return State(path, _read(path))
        except (OSError, MemoryError, ImportError):
            raise
        except Exception as error:  # unpickling a damaged file can raise anything
            way_out = f"resuming from the previous one, {before.name}" if before else "there is no earlier one: starting at the first step"
            warnings.warn(f"{path} is damaged ({_reason(error)}); {way_out}", stacklevel=2)
    return None


def one(path: Path) -> State:
    """The checkpoint in this file. Raises `ValueError` if it is damaged or not a checkpoint, else like `newest`."""
    if not NAME.fullmatch(path.name):
        raise ValueError(f"{path} does not have a checkpoint's name; expected a file that training wrote, such as step-00000500.pt")
    try:
        return State(path, _read(path))
    except (OSError, MemoryError, ImportError):
        raise
    except Exception as error:
        raise ValueError(f"{path} is damaged ({_reason(error)}); expected a checkpoint that training wrote: use another one") from error


def check_readable(path: Path) -> None:
    """Raises `ValueError` if a checkpoint just written cannot be read back: a network may keep unsupported objects in its state."""
    try:
        _read(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(
            f"{path} was written but cannot be read back; expected a network whose state_dict() contains only tensors, numbers, strings, "
            "and lists and dicts of them"
        ) from error


def _read(path: Path) -> dict:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:  # torch does not verify the checksums that it writes
            # compressed data may unpack to any size; torch reads nothing from an entry marked as a folder and leaves its tensor unfilled
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.external_attr for entry in archive.infolist()):
                raise ValueError("it contains compressed data or file attributes, which torch.save does not write")
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("its parts are larger than the file")
            if (entry := archive.testzip()) is not None:
                raise ValueError(f"the checksum of {entry} is wrong")
        # mapped, not read: a checkpoint is four times the size of the weights, and only parts of it are copied
        content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except (OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise MemoryError(f"{path} could not be read: out of memory; expected enough memory for it") from error
        if isinstance(error, TimeoutError):
            raise
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # what zipfile gets when it follows a damaged offset
            raise OSError(f"{path} could not be read ({error.strerror}); expected a readable file: repair it, or move it away") from error
        raise ValueError(_first_line(error)) from error
    found = content if isinstance(content, dict) else {}
    if missing := [name for name, kind in CONTENT.items() if not isinstance(found.get(name), kind)]:
        raise ValueError(f"{', '.join(missing)} missing")
    if content["step"] != _step(path):
        raise ValueError(f"it belongs to step {content['step']}")
    for name in ("run", "scaler"):
        if not _is_plain(content[name]):
            raise ValueError(f"its {name} contains something other than numbers, strings and lists of them")
    for name in ("denoiser", "ema"):
        if not all(isinstance(key, str) for key in content[name]):
            raise ValueError(f"its {name} contains something other than named tensors")
    content["run"].setdefault("timesteps", "uniform")  # a run that does not name their distribution draws them uniformly
    return content


def may_go_on(state: State, steps: int) -> bool:
    """Whether the checkpoint ends a finished run with fewer steps than `steps`: that run may continue."""
    planned = state.content["run"].get("steps")
    return type(planned) is int and state.content["step"] == planned < steps


def check_fit(state: State, run: dict, denoiser, directory: str | Path) -> None:
    """Raises `ValueError` if the checkpoint belongs to a run with another identity than `run`, or lacks the state of this denoiser or of
    an optimizer of all its parameters. A finished run may continue to more steps."""
    found = state.content
    theirs_run = found["run"] | (dict(steps=run["steps"]) if may_go_on(state, run["steps"]) else {})
    weights = {name: _form(value) for name, value in plain_state(denoiser).items()}
    pairs = [(run, theirs_run), (weights, {name: _form(value) for name, value in found["denoiser"].items()})]
    for ours, theirs in pairs:
        if (name := difference(ours, theirs)) is not None:
            hint = HINTS.get(name, "")
            raise ValueError(
                f"{state.path} belongs to a run with {name}={_short(theirs.get(name))}, this one has {_short(ours.get(name))}{hint}; "
                f"expected the same run: use another folder than {directory}, or delete it to start over. To start a new run from its "
                "weights, use load_checkpoint with train, or the command's --init-from"
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
            raise ValueError(f"{state.path} has no valid state of this run under {name!r}; expected what training wrote: move it away")


def _is_scale(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def _are_moments_of(parameter: Tensor | None, entry: object) -> bool:
    """Whether this is AdamW's state for the parameter."""
    if parameter is None or not isinstance(entry, dict) or entry.keys() != MOMENTS:
        return False
    like = dict(step=torch.zeros((), dtype=torch.float32, device="cpu"), exp_avg=parameter, exp_avg_sq=parameter)
    if not all(_form(value) == _form(like[name]) for name, value in entry.items()):
        return False
    return all(value.isfinite().all() for value in entry.values()) and bool((entry["exp_avg_sq"] >= 0).all())


def _form(value: object) -> object:
    """The properties that a replacement tensor must share; None for anything but a plain tensor in memory."""
    if not isinstance(value, Tensor) or value.is_nested or value.layout != torch.strided or value.is_meta or value.is_quantized:
        return None
    return tuple(value.shape) if value.dtype == torch.float32 else (tuple(value.shape), str(value.dtype))


def _is_plain(value: object) -> bool:
    """Whether the value consists only of numbers, strings, None, lists and dicts."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(each) for name, each in value.items())
    return all(map(_is_plain, value)) if isinstance(value, list | tuple) else value is None or type(value) in (bool, int, float, str)


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:40]}… ({len(value)} entries)" if isinstance(value, list) else f"{text[:40]}…"


def _reason(error: Exception) -> str:
    # torch's text for this error explains how to execute an untrusted file
    return "torch.load cannot read it safely" if isinstance(error, pickle.UnpicklingError) else _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _step(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(path.stem.removeprefix("step-"))


def _paths(directory: Path) -> list[Path]:
    """The folder's checkpoints, newest first. Raises `OSError` if the folder cannot be read, so that none is overlooked."""
    try:
        with os.scandir(directory) as entries:
            found = [Path(entry) for entry in entries if NAME.fullmatch(entry.name) and entry.is_file()]
    except FileNotFoundError:
        return []
    return sorted(found, key=_step, reverse=True)
