"""Files written atomically, and paths as users write them."""

import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def write_whole(contents: dict[Path, bytes | Callable[[Path], None]]) -> None:
    """Writes each file beside its place and then renames it, so that a killed process leaves the previous files intact. If the process
    dies between two renames of a set, the last file is missing: an old file is never taken for a new one.

    contents: the bytes of each file, or a function that writes them to the path it receives.

    Raises `OSError` with the file's name if one cannot be written; existing files stay.
    """
    unfinished = {path: _beside(path) for path in contents}
    *_, last = contents
    aside, renamed = None, False
    try:
        for path, content in contents.items():
            with unfinished[path].open("xb") as file:  # x: does not follow a link that somebody may have put there
                if not callable(content):
                    file.write(content)
            if callable(content):
                content(unfinished[path])
            with unfinished[path].open("rb+") as file:  # may be a different file by now: safetensors also writes beside it and renames
                os.fsync(file.fileno())
        if len(contents) > 1 and last.exists():
            path, place = last, _beside(last)
            os.replace(last, place)
            aside = place
        for path in contents:
            os.replace(unfinished[path], path)
            renamed = True
    except BaseException as error:
        if aside is not None and not renamed:
            with suppress(OSError):
                os.replace(aside, last)
        for leftover in unfinished.values():
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
        # torch reports a full disk as a RuntimeError
        if not isinstance(error, OSError) and not (isinstance(error, RuntimeError) and callable(contents[path])):
            raise
        known = isinstance(error, OSError) and error.errno not in NO_ROOM
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        expected = "a writable place" if known else "free space on the disk"
        raise OSError(f"{path} could not be written ({reason}); expected {expected}") from error
    for path in contents:  # files set aside, and leftovers of killed processes
        for leftover in path.parent.glob(f"{path.name}.*.tmp"):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{token_hex(4)}.tmp")


def as_path(path: str | os.PathLike) -> Path:
    """The path with ~ and $VARIABLES expanded, as in a shell.

    Raises `TypeError` for anything but a path, `ValueError` for an empty one, `FileNotFoundError` if a variable in it is not set.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"path={path!r} is of type {type(path).__name__}; expected a path, as a string or a Path")
    if not text.strip():
        raise ValueError(f"path={text!r} is empty; expected a path: is a variable not set? ('.' is the current folder)")
    place = Path(os.path.expanduser(text))
    if any("$" in each.name and each.exists() for each in (place, *place.parents)):  # a literal $ in the name
        return place
    for variable in re.findall(r"\$\w+|\$\{\w+\}", text):
        if variable.strip("${}") not in os.environ:
            raise FileNotFoundError(f"path={text!r}, but {variable} is not set; expected a path: set the variable, or leave it out")
    return Path(os.path.expandvars(place))


def as_folder(name: str, path: Any) -> Path:
    """The path of a folder that exists or can be created. Raises like `as_path`, naming the argument, and `NotADirectoryError` if a file
    has that path."""
    try:
        directory = as_path(path)
    except (TypeError, ValueError, FileNotFoundError) as error:
        raise type(error)(str(error).replace("path=", f"{name}=", 1)) from None
    for place in (directory, *directory.parents):
        if place.exists():
            if not place.is_dir():
                raise NotADirectoryError(f"{name}={str(path)!r}, but {place} is a file; expected a folder, or a new name")
            break
    return directory
