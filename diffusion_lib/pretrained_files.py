"""A model on disk: a folder with `config.json` and `model.safetensors`. No pickle is read or written."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write(directory: str | Path, config: dict, tensors: dict[str, Tensor]) -> None:
    """Writes the model into `directory`, made if it is not there; what it held under these names is replaced."""
    from safetensors.torch import save_file

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, directory / WEIGHTS)
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read(directory_or_hub_id: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Config and tensors of the model in a folder, or in a repository "owner/name" of the Hugging Face hub (cached by its library).

    Raises `FileNotFoundError` if there is no such model and `ValueError` if its files are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config_path, weights_path = (_locate(directory_or_hub_id, name) for name in (CONFIG, WEIGHTS))
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{config_path} is damaged ({error}); expected a JSON config: save or download the model again") from error
    try:
        return config, load_file(weights_path)
    except SafetensorError as error:
        raise ValueError(f"{weights_path} is damaged ({error}); expected a safetensors file: save or download the model again") from error


@contextmanager
def blame(source: str | Path) -> Iterator[None]:
    """Turns what goes wrong while a model is built from its files into a `ValueError` that names them."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"the model in {source} does not fit this package ({what}); expected what save_pretrained writes") from error


def _locate(directory_or_hub_id: str | Path, name: str) -> Path:
    directory = Path(directory_or_hub_id)
    if directory.is_dir():
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory / name} is not there; expected a folder that save_pretrained wrote")
        return directory / name
    if isinstance(directory_or_hub_id, Path) or str(directory_or_hub_id).count("/") != 1:
        raise FileNotFoundError(f"{directory} is no folder; expected one that save_pretrained wrote, or a hub id 'owner/name'")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(str(directory_or_hub_id), name))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(
            f"{directory_or_hub_id!r} is no folder here, and {name} of a hub repository of that name could not be had "
            f"({type(error).__name__}: {error}); expected a path or a public 'owner/name', and a network for the latter"
        ) from error
