"""Files that appear whole or not at all."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def write_whole(contents: dict[Path, bytes | memoryview]) -> None:
    """Writes files beside their places first and then renames them: who is killed meanwhile leaves what was there before. Of several
    that belong together, the last one is missing after a kill between two renamings: never is an old one taken for one of the new.

    Raises `OSError`, with the file's name, if one cannot be written; those that were there stay.
    """
    unfinished = {path: path.with_name(f"{path.name}.{token_hex(4)}.tmp") for path in contents}
    *_, last = contents
    try:
        for path, content in contents.items():
            with unfinished[path].open("xb") as file:  # x: follows no link that somebody may have put there
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if len(contents) > 1:
            last.unlink(missing_ok=True)
        for path in contents:
            os.replace(unfinished[path], path)
    except BaseException as error:
        for leftover in unfinished.values():
            with suppress(OSError):
                leftover.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        expected = "room for it on the disk" if error.errno in NO_ROOM else "a place that can be written to"
        raise OSError(f"{path} could not be written ({error.strerror or error}); expected {expected}") from error
