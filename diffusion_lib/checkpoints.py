"""The state of a training run on disk, one file a checkpoint: all that is needed to go on as if nothing had happened.

A file appears whole or not at all (it is written beside its place and then renamed), the newest good one is used, and only
the last `KEEP` are kept. Files are read with `weights_only=True`, so nothing in them is executed, and only after their checksums
have been found right, so that a damaged weight is not taken for a trained one.
"""

import os
import pickle
import re
import warnings
import zipfile
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import zip_longest
from pathlib import Path

import torch

from diffusion_lib.sharding import gathered, placed_like

KEEP = 2
CONTENT = dict(step=int, run=dict, denoiser=dict, ema=dict, optimizer=dict, scaler=dict)
# what may change between the interrupted run and the one that goes on with it
FREE = {"checkpoint_every", "skip_limit", "device", "precision"}


@dataclass
class State:
    """A checkpoint read back."""

    path: Path
    content: dict

    def restore(self, denoiser, ema_denoiser, optimizer, scaler) -> int:
        """Puts the state into place and returns the number of updates already made. scaler: of float16, None in other precisions."""
        for model, name in ((denoiser, "denoiser"), (ema_denoiser, "ema")):
            places = model.state_dict()
            model.load_state_dict({key: placed_like(value, places.get(key, value)) for key, value in self.content[name].items()})
        # the fused AdamW takes for granted that a moment lies in memory as its parameter does, which depends on the processes' number
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        moments = {
            number: {name: placed_like(value, parameters[number]) for name, value in entry.items()}
            for number, entry in self.content["optimizer"]["state"].items()
        }
        optimizer.load_state_dict({**self.content["optimizer"], "state": moments})
        if scaler is not None and self.content["scaler"]:
            scaler.load_state_dict(self.content["scaler"])
        return self.content["step"]


def identity(config, denoiser, dataset) -> dict:
    """What makes two runs the same run: numbers, strings and lists, by name."""
    run = {name: value for name, value in asdict(config).items() if name not in FREE}
    run |= {f"network.{name}": value for name, value in getattr(denoiser.network, "config", {}).items()}
    data = blake2b(digest_size=8)
    for tensor in (dataset.images, dataset.labels):
        data.update(tensor.cpu().contiguous().view(torch.uint8).numpy())
    run["dataset"] = f"{len(dataset)} images of {dataset.image_shape}, digest {data.hexdigest()}"
    return run | dict(prediction=denoiser.prediction, alpha_bar=denoiser.schedule.alpha_bar.tolist())


def content(step: int, run: dict, denoiser, ema_denoiser, optimizer, scaler, keep: bool = True) -> dict:
    """The state after update number `step` of the run with this `identity`. Where weights are spread over processes, all must call it.

    keep: False in a process that does not write it, so that it need not hold all weights; `write` takes none that was made so.
    """
    return dict(
        step=step,
        run=run,
        denoiser=gathered(denoiser.state_dict(), keep),
        ema=gathered(ema_denoiser.state_dict(), keep),
        optimizer=gathered(optimizer.state_dict(), keep),
        scaler={} if scaler is None else scaler.state_dict(),
    )


def write(directory: str | Path, content: dict) -> Path:
    """Writes a state as a checkpoint and returns its path. Removes those before the last `KEEP`, and those after it: they are
    damaged, or the run would have gone on from them.

    Raises `OSError` if there is no room for it; the checkpoints that are there stay.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"step-{content['step']:08d}.pt"
    unfinished = path.with_suffix(".tmp")
    try:
        with unfinished.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch tells a full disk as a RuntimeError
        unfinished.unlink(missing_ok=True)
        kept = [old.name for old in _paths(directory) if old.name < path.name][:1]
        raise OSError(
            f"{path} could not be written ({_first_line(error)}); expected room for it on the disk. "
            f"{f'{kept[0]} is still there: the same call goes on from it' if kept else 'No checkpoint is there yet'}"
        ) from error
    os.replace(unfinished, path)
    paths = _paths(directory)
    last = paths.index(path)
    for old in [*paths[:last], *paths[last + KEEP :], *directory.glob("step-*.tmp")]:  # a .tmp is what a run that was killed left behind
        old.unlink(missing_ok=True)
    return path


def newest(directory: str | Path) -> State | None:
    """The newest good checkpoint in the folder, or None if there is none; a damaged one is named in a warning and passed over."""
    paths = _paths(Path(directory))
    for path, before in zip_longest(paths, paths[1:]):
        try:
            return State(path, _read(path))
        except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
            way_out = f"going on from {before.name}, the one before it" if before else "there is none before it: starting at the first step"
            warnings.warn(f"{path} is damaged ({_first_line(error)}); {way_out}", stacklevel=2)
    return None


def _read(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:  # torch itself does not look at the checksums it writes
        # compressed data may unpack to any size; and of what attributes call a folder, torch reads nothing and leaves the tensor unfilled
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.external_attr for entry in archive.infolist()):
            raise ValueError("it holds compressed data or file attributes, which torch.save does not write")
        if (entry := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {entry} is wrong")
    content = torch.load(path, map_location="cpu", weights_only=True)
    found = content if isinstance(content, dict) else {}
    if missing := [name for name, kind in CONTENT.items() if not isinstance(found.get(name), kind)]:
        raise ValueError(f"{', '.join(missing)} missing")
    return content


def check_fit(state: State, run: dict, denoiser, directory: str | Path) -> None:
    """Raises `ValueError` if the checkpoint belongs to another run than the one with the identity `run`."""
    theirs, ours = (
        known | {name: tuple(value.shape) for name, value in weights.items()}
        for known, weights in ((state.content["run"], state.content["denoiser"]), (run, denoiser.state_dict()))
    )
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"{state.path} is of a run with {name}={_short(theirs.get(name))}, this one has {_short(ours.get(name))}; "
                f"expected the same run: use another folder than {directory}, or remove it to start afresh"
            )


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:40]}… ({len(value)} entries)"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _paths(directory: Path) -> list[Path]:
    """The folder's checkpoints, newest first."""
    return sorted((p for p in directory.glob("step-*.pt") if re.fullmatch(r"step-\d{8}\.pt", p.name)), reverse=True)
