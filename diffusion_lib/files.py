"""Files that appear whole or not at all."""

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
    """Writes files beside their places first and then renames them: who is killed meanwhile leaves what was there before. Of several
    that belong together, the last one is missing after a kill between two renamings: never is an old one taken for one of the new.

    contents: of each file, its bytes, or what writes them to the path that it is called with.

    Raises `OSError`, with the file's name, if one cannot be written; those that were there stay.
    """
    unfinished = {path: _beside(path) for path in contents}
    *_, last = contents
    aside, renamed = None, False
    try:
        for path, content in contents.items():
            with unfinished[path].open("xb") as file:  # x: follows no link that somebody may have put there
                if not callable(content):
                    file.write(content)
            if callable(content):
                content(unfinished[path])
            with unfinished[path].open("rb+") as file:  # which may be another one by now: safetensors writes beside it, too
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
        # torch tells a full disk as a RuntimeError
        if not isinstance(error, OSError) and not (isinstance(error, RuntimeError) and callable(contents[path])):
            raise
        known = isinstance(error, OSError) and error.errno not in NO_ROOM
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        expected = "a place that can be written to" if known else "room for it on the disk"
        raise OSError(f"{path} could not be written ({reason}); expected {expected}") from error
    for path in contents:  # what was set aside, and what others who were killed have left
        for leftover in path.parent.glob(f"{path.name}.*.tmp"):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{token_hex(4)}.tmp")


def as_path(path: str | os.PathLike) -> Path:
    """The path, where a leading ~ is the user's home folder and $VARIABLES are expanded, as in a shell.

    Raises `TypeError` for what is no path, `ValueError` for an empty one, `FileNotFoundError` if a variable in it is not set.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"path={path!r} is of type {type(path).__name__}; expected a path, as a string or a Path")
    if not text.strip():
        raise ValueError(f"path={text!r} is empty; expected a path: is a variable in it not set? ('.' is the current folder)")
    place = Path(os.path.expanduser(text))
    if any("$" in each.name and each.exists() for each in (place, *place.parents)):  # which is then its name
        return place
    for variable in re.findall(r"\$\w+|\$\{\w+\}", text):
        if variable.strip("${}") not in os.environ:
            raise FileNotFoundError(f"path={text!r}, but the variable {variable} is not set; expected a path: set it, or leave it out")
    return Path(os.path.expandvars(place))


def as_folder(name: str, path: Any) -> Path:
    """The path of a folder that is there or can be made. Raises as `as_path`, with the argument's name; `NotADirectoryError` if a file is
    in its place."""
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
