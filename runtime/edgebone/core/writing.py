"""Writing files: one clear error for all that can keep it from happening, whole or not at all, one writer at a time."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebone.core.errors import EdgeboneError, OutputError


def as_utf8(text: str) -> str:
    """The text as UTF-8 can hold it: a file's name need not be UTF-8, what is written must be."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


@contextmanager
def writing(target: Path, left: str = "nothing was left behind") -> Iterator[None]:
    """Turn a failure to write into one clear error.

    Args:
        target: What is written.
        left: What a failure leaves of it, in words.

    Raises:
        OutputError: Instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        # Some of ours are OSErrors, too: a source that cannot be read is not a file that cannot be written.
        if isinstance(error, EdgeboneError):
            raise
        reason = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "permission is denied",
            errno.ENOENT: "its folder does not exist",
            errno.ENOTDIR: "part of its path is a file",
            errno.EEXIST: "part of its path is a file",
        }.get(error.errno or 0, error.strerror or str(error))
        raise OutputError(f"{target} cannot be written: {reason}; {left}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file beside what a path leads to; waits for other processes, whatever links they go by."""
    # Not on Windows, where nothing else that is imported with this file needs it.
    import fcntl

    # Path.resolve raises where a link leads to itself.
    place = Path(os.path.realpath(path))
    with writing(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        file = place.with_name(place.name + ".lock").open("a")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; who may read it is as for any new file."""
    # Not tempfile's, which nobody else may read.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
