"""The folder that the user named, or an error that explains the problem and suggests a folder."""

import os
import re
from difflib import get_close_matches
from pathlib import Path

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")


def existing_folder(name: str | os.PathLike) -> Path:
    """The folder called `name`, with ~ and $VARIABLES expanded. Raises `FileNotFoundError` or `ValueError` if there is none."""
    text = os.fspath(name)
    if not text.strip():
        raise ValueError("'folder:' names no folder; expected 'folder:PATH', as in 'folder:my_pictures': is a variable not set?")
    if not os.path.isdir(text):
        text = os.path.expandvars(os.path.expanduser(text))
    if not os.path.isdir(text):
        raise FileNotFoundError(f"{text} {_why_none(text)}")
    return Path(text)


def _why_none(text: str) -> str:
    path = Path(text)
    if os.path.isfile(path):
        if path.suffix.lower() in ARCHIVES:
            return f"is an archive; expected a folder: unpack it and load the folder, for example 'folder:{path.with_suffix('')}'"
        return f"is a file; expected a folder, such as the one that contains it: 'folder:{path.parent}'"
    unset = re.findall(r"\$\w+|\$\{\w+\}|%\w+%", text)
    if unset:
        return f"is not a folder; expected one with images: the variable {unset[0]} is not set"
    if re.match(r"\w{2,}://", text):
        return "is an address; expected a folder on this machine: download it first"
    if os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", text):
        return "is a Windows path, but this is another system; expected one of its paths (in WSL, C:\\ is /mnt/c/)"
    if os.path.islink(path):
        return f"is a link to {os.readlink(path)}, which does not exist; expected a folder with images"
    nearest = _nearest(Path(text.strip().strip("'\"")))
    hint = f". Did you mean {' or '.join(repr(f'folder:{each}') for each in nearest)}?" if nearest else ""
    return f"is not a folder; expected one with images, as in 'folder:my_pictures'{hint}"


def _nearest(path: Path) -> list[Path]:
    """Existing folders with similar paths: the first missing part of the path is replaced by likely spellings."""
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
