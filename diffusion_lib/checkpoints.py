"""The state of a training run on disk, one file a checkpoint: all that is needed to go on as if nothing had happened.

A file appears whole or not at all (it is written beside its place and then renamed), the newest readable one is used, and
only the last `KEEP` are kept. Files are read with `weights_only=True`: nothing in them is executed.
"""

import os
import pickle
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

KEEP = 2
# what may change between the interrupted run and the one that goes on with it
FREE = {"checkpoint_every", "device", "precision"}


@dataclass
class State:
    """A checkpoint read back."""

    path: Path
    content: dict

    def restore(self, denoiser, ema_denoiser, optimizer, scaler) -> int:
        """Puts the state into place and returns the number of updates already made."""
        denoiser.load_state_dict(self.content["denoiser"])
        ema_denoiser.load_state_dict(self.content["ema"])
        optimizer.load_state_dict(self.content["optimizer"])
        if self.content["scaler"]:
            scaler.load_state_dict(self.content["scaler"])
        return self.content["step"]


def write(directory: str | Path, step: int, config, denoiser, ema_denoiser, optimizer, scaler) -> Path:
    """Writes the checkpoint of update number `step`, removes those before the last `KEEP`, and returns its path."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    content = dict(
        step=step,
        run=_identity(config, denoiser),
        denoiser=denoiser.state_dict(),
        ema=ema_denoiser.state_dict(),
        optimizer=optimizer.state_dict(),
        scaler=scaler.state_dict(),
    )
    path = directory / f"step-{step:08d}.pt"
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    for old in _paths(directory)[KEEP:]:
        old.unlink(missing_ok=True)
    return path


def newest(directory: str | Path) -> State | None:
    """The newest checkpoint in the folder that can be read, or None if there is none; a damaged one is named and passed over."""
    for path in _paths(Path(directory)):
        try:
            return State(path, torch.load(path, map_location="cpu", weights_only=True))
        except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            warnings.warn(f"{path} is damaged ({first_line}); going on from the checkpoint before it", stacklevel=2)
    return None


def check_fit(state: State, config, denoiser, directory: str | Path) -> None:
    """Raises `ValueError` if the checkpoint belongs to another run than this one."""
    theirs, ours = state.content["run"], _identity(config, denoiser)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"{state.path} is of a run with {name}={_short(theirs.get(name))}, this one has {_short(ours.get(name))}; "
                f"expected the same run: use another folder than {directory}, or remove it to start afresh"
            )


def _identity(config, denoiser) -> dict:
    """What makes two runs the same run."""
    run = {name: value for name, value in asdict(config).items() if name not in FREE}
    run |= {f"network.{name}": value for name, value in getattr(denoiser.network, "config", {}).items()}
    return run | dict(prediction=denoiser.prediction, alpha_bar=denoiser.schedule.alpha_bar.tolist())


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:40]}… ({len(value)} entries)"


def _paths(directory: Path) -> list[Path]:
    """The folder's checkpoints, newest first."""
    return sorted((p for p in directory.glob("step-*.pt") if re.fullmatch(r"step-\d{8}\.pt", p.name)), reverse=True)
