"""The folder that a reader named, or an error that says why there is none and which may have been meant."""

import os
import re
from difflib import get_close_matches
from pathlib import Path

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")


def existing_folder(name: str | os.PathLike) -> Path:
    """The folder called `name`, in which ~ and $VARIABLES are expanded. Raises `FileNotFoundError` or `ValueError` if it is none."""
    text = os.fspath(name)
    if not text.strip():
        raise ValueError("'folder:' names no folder; expected 'folder:PATH', as in 'folder:my_pictures': is a variable in it not set?")
    if not os.path.isdir(text):
        text = os.path.expandvars(os.path.expanduser(text))
    if not os.path.isdir(text):
        raise FileNotFoundError(f"{text} {_why_none(text)}")
    return Path(text)


def _why_none(text: str) -> str:
    path = Path(text)
    if os.path.isfile(path):
        if path.suffix.lower() in ARCHIVES:
            return f"is an archive; expected a folder: unpack it, and load 'folder:{path.with_suffix('')}' or as it is called then"
        return f"is a file; expected a folder: the one it is in is 'folder:{path.parent}'"
    unset = re.findall(r"\$\w+|\$\{\w+\}|%\w+%", text)
    if unset:
        return f"is no folder; expected one with images: the variable {unset[0]} is not set"
    if re.match(r"\w{2,}://", text):
        return "is an address; expected a folder on this machine: download it first"
    if os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", text):
        return "is a path of Windows, which this system does not know; expected one of its own (in WSL, C:\\ is /mnt/c/)"
    if os.path.islink(path):
        return f"is a link to {os.readlink(path)}, which is not there; expected a folder with images"
    nearest = _nearest(Path(text.strip().strip("'\"")))
    hint = f". Did you mean {' or '.join(repr(f'folder:{each}') for each in nearest)}?" if nearest else ""
    return f"is no folder; expected one with images, as in 'folder:my_pictures'{hint}"


def _nearest(path: Path) -> list[Path]:
    """Existing folders called nearly so: the first part of the path that is not there is replaced by its likely spellings."""
    if os.path.isdir(path):
        return [path]
    missing = next(each for each in (*reversed(path.parents), path) if not os.path.isdir(each))
    try:
        with os.scandir(missing.parent) as entries:
            siblings = {entry.name.casefold(): entry.name for entry in entries if entry.is_dir()}
    except OSError:
        return []
    candidates = [missing.with_name(siblings[name]) for name in get_close_matches(missing.name.casefold(), siblings, n=2)]
    below = path.relative_to(missing)
    return [each for candidate in candidates for each in (_nearest(candidate / below) or [candidate])]
