"""Files that appear whole or not at all."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

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
    """The path, where a leading ~ is the user's home folder, as in a shell."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~name of a user that is not there
        return Path(path)
