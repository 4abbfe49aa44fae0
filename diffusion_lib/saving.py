"""A model on disk: a folder with `config.json` and `model.safetensors`. No pickle is read or written.

The files may come from anywhere, so nothing in them is trusted. A file that does not fit is refused by name, before it costs more
time and memory than its size justifies.
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
LOADERS = dict(denoiser="load_pretrained", classifier="load_classifier")  # by folder of SHIPPED
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
OF_FILES = re.compile(r".*\.(bin|ckpt|gz|json|npz|onnx|pkl|pt|pth|py|safetensors|tar|tgz|zip)", re.IGNORECASE)  # names of files
HUB_TIMEOUT = 3.0  # seconds, to find out whether the hub is reachable
LARGEST_CONFIG = 100_000  # bytes; ours have a few hundred
DTYPES = ("F64", "F32", "BF16", "F16", "I64")  # safetensors' names; I64 is for batch norm's counter
KINDS = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64)  # the same dtypes in torch
KIND_NAMES = ", ".join(str(kind).removeprefix("torch.") for kind in KINDS)
MOST_DIMENSIONS = 8  # torch's time to create a tensor grows with their square; ours have 4
Module = TypeVar("Module", bound=nn.Module)


class Saveable(nn.Module):
    """A module that can be rebuilt from a config and tensors, which subclasses define by `to_files` and `from_files`."""

    def to_files(self) -> tuple[dict, dict[str, Tensor]]:
        """The config, which must be valid JSON, and the tensors by name."""
        raise NotImplementedError

    @classmethod
    def from_files(cls, config: dict, tensors: dict[str, Tensor]) -> Self:
        """The module for an untrusted config and tensors. Raises `ValueError`, or another built-in error, if they do not fit."""
        raise NotImplementedError

    def save_pretrained(self, directory: str | Path, *, half: bool = False) -> None:
        """Writes weights (safetensors) and config (JSON) into `directory`, for `from_pretrained`.

        half: store float32 weights as float16, which halves the file; they are loaded as float32 again.

        Raises `ValueError` if the network's config cannot be stored, or if its weights are sharded over processes.
        """
        if any(map(is_sharded, self.parameters())):
            raise ValueError(
                "the weights are sharded over processes; expected complete weights: diffusion_lib.load_checkpoint(folder) loads the "
                "averaged weights from the run's newest checkpoint"
            )
        config, tensors = self.to_files()
        if half:
            tensors = {name: value.half() if value.dtype == torch.float32 else value for name, value in tensors.items()}
        write(directory, config, tensors)

    @classmethod
    def from_pretrained(cls, directory_or_hub_id: str | Path) -> Self:
        """Loads what `save_pretrained` wrote, from a folder or from a repository "owner/name" of the Hugging Face hub.

        The hub is contacted only for a string "owner/name" when no folder "owner" exists here. Returns the model in eval mode, on
        the CPU. Raises `FileNotFoundError` if there is no such model and `ValueError` if it is damaged.
        """
        config, tensors = read(directory_or_hub_id)
        with blame(directory_or_hub_id):
            return cls.from_files(config, tensors)


def write(directory: str | Path, config: dict, tensors: dict[str, Tensor]) -> None:
    """Writes the model into `directory`, creating it if needed and replacing earlier files of the same names.

    Raises `ValueError` for an empty path and for weights that are not finite, which `read` would refuse; `TypeError` for anything but a
    path; `OSError` if a file has the folder's path, or if the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    directory = as_folder("directory", directory)
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.dtype not in KINDS or value.is_meta:
            kind = f"{value.dtype} on {value.device.type!r}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} is {kind}; expected a tensor of {KIND_NAMES}: nothing else can be read back")
        if not value.float().isfinite().all():
            raise ValueError(f"{name} contains values that are not finite in float32; expected finite ones: nothing else can be read back")
    directory.mkdir(parents=True, exist_ok=True)

    def write_weights(path: Path) -> None:
        mode = path.stat().st_mode  # safetensors would leave a file that only its owner may read
        try:
            save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
        except SafetensorError as error:
            raise RuntimeError(str(error)) from error
        path.chmod(mode)

    write_whole({directory / WEIGHTS: write_weights, directory / CONFIG: (json.dumps(config, indent=2) + "\n").encode()})


def read(directory_or_hub_id: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Config and tensors of a model, from a folder or from a repository "owner/name" of the Hugging Face hub (cached by its library).

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
            for name in file.keys():  # noqa: SIM118 - the file itself cannot be iterated
                header = file.get_slice(name)
                if (dtype := header.get_dtype()) not in DTYPES:
                    raise ValueError(f"{name} is {dtype}, not one of {', '.join(DTYPES)}")
                if (dimensions := len(header.get_shape())) > MOST_DIMENSIONS:
                    raise ValueError(f"{name} has {dimensions} dimensions, at most {MOST_DIMENSIONS} are read")
                tensors[name] = file.get_tensor(name)
                if not tensors[name].float().isfinite().all():
                    raise ValueError(f"{name} contains values that are not finite in float32")
    except (SafetensorError, ValueError, RuntimeError, OverflowError) as error:  # the last two come from torch, for impossible shapes
        raise ValueError(f"{weights_path} is damaged ({error}); expected a safetensors file: save or download the model again") from error
    return config, tensors


def check_tensors(tensors: dict, size: int) -> None:
    """Raises `ValueError` for tensors that `save_pretrained` would not have written, and for tensors that need more memory than the `size`
    of their file in bytes: an expanded tensor can be one number on disk."""
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.dtype not in KINDS:
            raise ValueError(f"{name} is not a tensor of {KIND_NAMES}")
    if sum(value.numel() * value.element_size() for value in tensors.values()) > size:
        raise ValueError("its tensors are larger than the file")
    for name, value in tensors.items():
        if not value.float().isfinite().all():
            raise ValueError(f"{name} contains values that are not finite in float32")


def class_name(cls: type) -> str:
    """A class's name; outside this package, with its module."""
    return cls.__qualname__ if cls.__module__.startswith("diffusion_lib.") else f"{cls.__module__}.{cls.__qualname__}"


def expect_keys(config: dict, keys: set[str]) -> None:
    """Raises `ValueError` unless the config has exactly these keys."""
    if config.keys() != keys:
        missing, unknown = sorted(keys - config.keys()), sorted(map(str, config.keys() - keys))
        raise ValueError(f"its config lacks {missing} and has unknown {unknown}; expected {sorted(keys)}")


def check_weights(make: Callable[[], nn.Module], tensors: dict[str, Tensor]) -> None:
    """Raises `RuntimeError` unless the module from `make` can load these weights. Allocates no memory for them."""
    with torch.device("meta"), _Unfilled():
        make().load_state_dict(tensors, assign=True)


def built(make: Callable[[], Module], tensors: dict[str, Tensor]) -> Module:
    """The module from `make`, with these weights."""
    check_weights(make, tensors)  # first: a config may ask for far larger sizes than the file holds
    module = make()
    module.load_state_dict(tensors)
    return module


class _Unfilled(TorchFunctionMode):
    """Skips drawing initial values: on "meta", torch takes a second or two to prepare for it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        return kwargs["tensor"] if func is nn.init.normal_ else func(*args, **kwargs)


@contextmanager
def blame(source: str | Path) -> Iterator[None]:
    """Turns errors while a model is built from its files into a `ValueError` that names the source. Within, torch's defaults are float32
    on the CPU."""
    try:
        with torchs_defaults():
            yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else shorten(str(error), 1000, placeholder=" …")
        raise ValueError(f"the model in {source} does not fit this package ({what}); expected files written by save_pretrained") from error


def shipped_hint(name: str) -> str:
    """Which function loads the shipped models of this or a similar name; "" if there are none."""
    said = []
    for kind, loader in LOADERS.items():
        known = [path.name for path in (SHIPPED / kind).iterdir() if path.is_dir()]
        if nearest := get_close_matches(name, known, n=1):
            said.append(f"diffusion_lib.{loader}({nearest[0]!r}) loads the shipped {kind}")
    return f": {', '.join(said)}" if said else ""


def nearby_hint(path: Path) -> str:
    """A suggestion: the folder with the name nearest to a missing one; "" if there is none."""
    names: list[str] = []
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(path.parent) if entry.is_dir()]
    nearest = get_close_matches(path.name, names, n=1)
    return f". Did you mean {str(path.parent / nearest[0])!r}?" if nearest else ""


def _locate(source: str | Path) -> tuple[Path, Path]:
    """The paths of the model's two files, downloaded if necessary."""
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"{source!r} is of type {type(source).__name__}; expected the path of a folder, or a hub id 'owner/name'")
    expected, name = "expected a folder written by save_pretrained", str(source)
    if not name.strip():
        raise FileNotFoundError(f"{name!r} is not a folder; {expected}, or a hub id 'owner/name'")
    directory = as_path(source)
    if directory.is_dir():
        for file in (directory / CONFIG, directory / WEIGHTS):
            if not file.is_file():
                raise FileNotFoundError(f"{file} does not exist; {expected}{_within(directory)}")
        return directory / CONFIG, directory / WEIGHTS
    here, owner = "", name.partition("/")[0]
    if isinstance(source, str) and HUB_ID.fullmatch(name) and not OF_FILES.fullmatch(name):
        if not Path(owner).exists():
            return _download(name)
        here = f" ({owner} exists here, so this is read as a path)"
    elif isinstance(source, str) and re.fullmatch(r"[^./~][^/:\\]*/[^/:\\]+", name) and not OF_FILES.fullmatch(name):
        raise FileNotFoundError(f"{name!r} is neither a folder here nor a hub id; expected a path or a public 'owner/name'")
    if directory.is_file():
        folder = f": {directory.parent} is one" if (directory.parent / CONFIG).is_file() else ""
        hint = _within(directory) if directory.match("step-*.pt") else folder
    else:
        hint = ("" if "/" in name else shipped_hint(name)) or nearby_hint(directory)
    raise FileNotFoundError(f"{name} is not a folder{here}; {expected}, or a hub id 'owner/name'{hint}")


def _within(place: Path) -> str:
    """What can be loaded instead, from a folder without a model or from a file of a run."""
    found = [place] if place.is_file() else [*place.glob("step-*.pt"), *place.glob("checkpoints/step-*.pt")]
    if found:
        newest = max(found, key=lambda path: path.name)
        return (
            ": diffusion_lib.load_checkpoint loads the averaged weights from the newest checkpoint of an unfinished run, here "
            f"{newest.name}: diffusion_lib.load_checkpoint({str(place)!r})"
        )
    model = min(place.glob(f"*/{CONFIG}"), default=None)
    return f", such as {model.parent}" if model is not None else ""


def _download(hub_id: str) -> tuple[Path, Path]:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    reason = None
    try:  # once and briefly: the download itself retries for half a minute
        get_hf_file_metadata(hf_hub_url(hub_id, CONFIG), timeout=HUB_TIMEOUT)
    except Exception as error:  # its own errors, and those of its HTTP library
        reason = error
    paths = []
    for name in (CONFIG, WEIGHTS):
        try:
            paths.append(Path(hf_hub_download(hub_id, name, local_files_only=reason is not None)))
        except Exception as error:
            reason = reason or error
            raise FileNotFoundError(
                f"{hub_id!r} is not a folder here, and {name} could not be downloaded from a hub repository of that name "
                f"({type(reason).__name__}: {reason}); expected a path, or a public 'owner/name' and a network"
            ) from reason
    return paths[0], paths[1]
