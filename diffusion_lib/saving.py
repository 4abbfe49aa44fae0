"""A model on disk: a folder with `config.json` and `model.safetensors`. No pickle is read or written.

The files may come from anywhere, so nothing in them is trusted: what does not fit is refused, with the file's name, before it has
cost more time and memory than the files' own size accounts for.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten
from typing import Self, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diffusion_lib.devices import is_sharded, torchs_defaults
from diffusion_lib.files import as_folder, as_path, write_whole

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHIPPED = Path(__file__).parent / "weights"
LOADERS = dict(denoiser="load_pretrained", classifier="load_classifier")  # of the models in the folders of SHIPPED
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
OF_FILES = re.compile(r".*\.(bin|ckpt|gz|json|npz|onnx|pkl|pt|pth|py|safetensors|tar|tgz|zip)", re.IGNORECASE)  # no model's name
HUB_TIMEOUT = 3.0  # seconds, to learn whether the hub can be reached
LARGEST_CONFIG = 100_000  # bytes; ours have some hundreds
DTYPES = ("F64", "F32", "BF16", "F16", "I64")  # what safetensors calls them; the last: what batch norm counts in
KINDS = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64)  # the same, as torch calls them
KIND_NAMES = ", ".join(str(kind).removeprefix("torch.") for kind in KINDS)
MOST_DIMENSIONS = 8  # torch's time to make a tensor grows with their square; ours have 4
Module = TypeVar("Module", bound=nn.Module)


class Saveable(nn.Module):
    """A module that is made anew from its config and its tensors; subclasses say of which, by `to_files` and `from_files`."""

    def to_files(self) -> tuple[dict, dict[str, Tensor]]:
        """The config, of what JSON can hold, and the tensors by name."""
        raise NotImplementedError

    @classmethod
    def from_files(cls, config: dict, tensors: dict[str, Tensor]) -> Self:
        """The module of a config and tensors that may come from anywhere: `ValueError`, or another built-in error, if they do not fit."""
        raise NotImplementedError

    def save_pretrained(self, directory: str | Path) -> None:
        """Writes weights (safetensors) and config (JSON) into `directory`, for `from_pretrained`.

        Raises `ValueError` if the config of a network cannot be stored, or its weights are sharded over processes.
        """
        if any(map(is_sharded, self.parameters())):
            raise ValueError(
                "the weights are sharded over processes; expected whole ones: diffusion_lib.load_checkpoint(folder) loads the average in "
                "the newest checkpoint of the run"
            )
        write(directory, *self.to_files())

    @classmethod
    def from_pretrained(cls, directory_or_hub_id: str | Path) -> Self:
        """What `save_pretrained` wrote into a folder, or into a repository "owner/name" of the Hugging Face hub.

        The hub is asked only for what cannot be meant as a path: a string "owner/name", where no folder "owner" is here. Returned in
        eval mode, on the CPU. Raises `FileNotFoundError` if there is no such model and `ValueError` if it is damaged.
        """
        config, tensors = read(directory_or_hub_id)
        with blame(directory_or_hub_id):
            return cls.from_files(config, tensors)


def write(directory: str | Path, config: dict, tensors: dict[str, Tensor]) -> None:
    """Writes the model into `directory`, made if it is not there; what it held under these names is replaced.

    Raises `ValueError` for weights that are not finite, which `read` would refuse, and for an empty path; `TypeError` for what is no path;
    `OSError` if a file is in the folder's place, or there is no room.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    directory = as_folder("directory", directory)
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.dtype not in KINDS or value.is_meta:
            kind = f"{value.dtype} on {value.device.type!r}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} is {kind}; expected numbers of {KIND_NAMES}: no others can be read back")
        if not value.float().isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite in float32; expected finite ones: no others can be read back")
    directory.mkdir(parents=True, exist_ok=True)

    def write_weights(path: Path) -> None:
        mode = path.stat().st_mode  # safetensors would leave a file that only its owner can read
        try:
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
        except SafetensorError as error:
            raise RuntimeError(str(error)) from error
        path.chmod(mode)

    write_whole({directory / WEIGHTS: write_weights, directory / CONFIG: (json.dumps(config, indent=2) + "\n").encode()})


def read(directory_or_hub_id: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Config and tensors of the model in a folder, or in a repository "owner/name" of the Hugging Face hub (cached by its library).

    Raises `FileNotFoundError` if there is no such model and `ValueError` if its files are damaged.
    """
    from safetensors import SafetensorError, safe_open

    config_path, weights_path = _locate(directory_or_hub_id)
    try:
        if (size := config_path.stat().st_size) > LARGEST_CONFIG:
            raise ValueError(f"{size:,} bytes, at most {LARGEST_CONFIG:,} are read")
        config = json.loads(config_path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"a {type(config).__name__}, not an object")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{config_path} is damaged ({error}); expected a JSON config: save or download the model again") from error
    try:
        tensors = {}
        with safe_open(weights_path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it cannot be iterated itself
                header = file.get_slice(name)
                if (dtype := header.get_dtype()) not in DTYPES:
                    raise ValueError(f"{name} is {dtype}, not one of {', '.join(DTYPES)}")
                if (dimensions := len(header.get_shape())) > MOST_DIMENSIONS:
                    raise ValueError(f"{name} has {dimensions} dimensions, at most {MOST_DIMENSIONS} are read")
                tensors[name] = file.get_tensor(name)
                if not tensors[name].float().isfinite().all():
                    raise ValueError(f"{name} holds numbers that are not finite in float32")
    except (SafetensorError, ValueError, RuntimeError, OverflowError) as error:  # the last two: torch's, for shapes that cannot be
        raise ValueError(f"{weights_path} is damaged ({error}); expected a safetensors file: save or download the model again") from error
    return config, tensors


def check_tensors(tensors: dict, size: int) -> None:
    """Raises `ValueError` for tensors that `save_pretrained` would not have written, and for those that take more memory than the `size`
    in bytes of the file that they were read from: a number repeated a thousand times is one number on disk."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.dtype not in KINDS:
            raise ValueError(f"{name} is no tensor of {KIND_NAMES}")
    if sum(value.numel() * value.element_size() for value in tensors.values()) > size:
        raise ValueError("its tensors are larger than the file")
    for name, value in tensors.items():
        if not value.float().isfinite().all():
            raise ValueError(f"{name} holds numbers that are not finite in float32")


def class_name(cls: type) -> str:
    """What tells a class from others of its name: those of this package by name, others with their module."""
    return cls.__qualname__ if cls.__module__.startswith("diffusion_lib.") else f"{cls.__module__}.{cls.__qualname__}"


def expect_keys(config: dict, keys: set[str]) -> None:
    """Raises `ValueError` unless the config has just these keys."""
    if config.keys() != keys:
        missing, unknown = sorted(keys - config.keys()), sorted(map(str, config.keys() - keys))
        raise ValueError(f"its config lacks {missing} and has unknown {unknown}; expected {sorted(keys)}")


def check_weights(make: Callable[[], nn.Module], tensors: dict[str, Tensor]) -> None:
    """Raises `RuntimeError` unless the module that `make` makes can have these weights. Takes no memory for it."""
    with torch.device("meta"), _Unfilled():
        make().load_state_dict(tensors, assign=True)


def built(make: Callable[[], Module], tensors: dict[str, Tensor]) -> Module:
    """The module that `make` makes, with these weights."""
    check_weights(make, tensors)  # first: a config may ask for sizes far beyond the file's
    module = make()
    module.load_state_dict(tensors)
    return module


class _Unfilled(TorchFunctionMode):
    """Leaves tensors as they are where their first values would be drawn: torch takes a second or two to prepare that on "meta"."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **kwargs)


@contextmanager
def blame(source: str | Path) -> Iterator[None]:
    """Turns what goes wrong while a model is built from its files into a `ValueError` that names them. Within, torch's defaults are its
    own, float32 on the CPU."""
    try:
        with torchs_defaults():
            yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else shorten(str(error), 1000, placeholder=" …")
        raise ValueError(f"the model in {source} does not fit this package ({what}); expected what save_pretrained writes") from error


def shipped_hint(name: str) -> str:
    """Which function loads the models that ship under this name, or under the nearest to it; "" if there is none."""
    said = []
    for kind, loader in LOADERS.items():
        known = [path.name for path in (SHIPPED / kind).iterdir() if path.is_dir()]
        if nearest := get_close_matches(name, known, n=1):
            said.append(f"diffusion_lib.{loader}({nearest[0]!r}) loads the {kind} that ships")
    return f": {', '.join(said)}" if said else ""


def nearby_hint(path: Path) -> str:
    """The folder whose name is nearest to one that is not there; "" if there is none."""
    names: list[str] = []
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(path.parent) if entry.is_dir()]
    nearest = get_close_matches(path.name, names, n=1)
    return f". Did you mean {str(path.parent / nearest[0])!r}?" if nearest else ""


def _locate(source: str | Path) -> tuple[Path, Path]:
    """The paths of the model's two files, downloaded where they have to be."""
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"{source!r} is of type {type(source).__name__}; expected the path of a folder, or a hub id 'owner/name'")
    expected, name = "expected a folder that save_pretrained wrote", str(source)
    if not name.strip():
        raise FileNotFoundError(f"{name!r} is no folder; expected one that save_pretrained wrote, or a hub id 'owner/name'")
    directory = as_path(source)
    if directory.is_dir():
        for file in (directory / CONFIG, directory / WEIGHTS):
            if not file.is_file():
                raise FileNotFoundError(f"{file} is not there; {expected}{_within(directory)}")
        return directory / CONFIG, directory / WEIGHTS
    here, owner = "", name.partition("/")[0]
    if isinstance(source, str) and HUB_ID.fullmatch(name) and not OF_FILES.fullmatch(name):
        if not Path(owner).exists():
            return _download(name)
        here = f" ({owner} is here, so it is taken for a path)"
    elif isinstance(source, str) and re.fullmatch(r"[^./~][^/:\\]*/[^/:\\]+", name) and not OF_FILES.fullmatch(name):
        raise FileNotFoundError(f"{name!r} is no folder here, and no hub id; expected a path or a public 'owner/name'")
    if directory.is_file():
        folder = f": {directory.parent} is one" if (directory.parent / CONFIG).is_file() else ""
        hint = _within(directory) if directory.match("step-*.pt") else folder
    else:
        hint = ("" if "/" in name else shipped_hint(name)) or nearby_hint(directory)
    raise FileNotFoundError(f"{name} is no folder{here}; expected one that save_pretrained wrote, or a hub id 'owner/name'{hint}")


def _within(place: Path) -> str:
    """What can be loaded from a folder that holds no model, or from a file of a run."""
    found = [place] if place.is_file() else [*place.glob("step-*.pt"), *place.glob("checkpoints/step-*.pt")]
    if found:
        newest = max(found, key=lambda path: path.name)
        return (
            ": diffusion_lib.load_checkpoint gives the average in the newest checkpoint of a run that is not finished, here "
            f"{newest.name}: diffusion_lib.load_checkpoint({str(place)!r})"
        )
    model = min(place.glob(f"*/{CONFIG}"), default=None)
    return f", such as {model.parent}" if model is not None else ""


def _download(hub_id: str) -> tuple[Path, Path]:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    reason = None
    try:  # once and not for long: the download itself tries again and again, for half a minute
        get_hf_file_metadata(hf_hub_url(hub_id, CONFIG), timeout=HUB_TIMEOUT)
    except Exception as error:  # its own errors, and those of whichever library it speaks HTTP with
        reason = error
    paths = []
    for name in (CONFIG, WEIGHTS):
        try:
            paths.append(Path(hf_hub_download(hub_id, name, local_files_only=reason is not None)))
        except Exception as error:
            reason = reason or error
            raise FileNotFoundError(
                f"{hub_id!r} is no folder here, and {name} of a hub repository of that name could not be had "
                f"({type(reason).__name__}: {reason}); expected a path or a public 'owner/name', and a network for the latter"
            ) from reason
    return paths[0], paths[1]
