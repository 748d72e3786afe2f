"""Writes files atomically, with one clear error for every failure."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebone.core.errors import EdgeboneError, OutputError
from edgebone.core.staging import replace_file, staging


def as_utf8(text: str) -> str:
    """Return text that UTF-8 can encode: file names need not be UTF-8, written text must be."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


@contextmanager
def writing(target: Path, left: str = "nothing was left behind") -> Iterator[None]:
    """Turn a failure to write into one clear error.

    Args:
        target: The path that is written.
        left: The state after a failure, in words.

    Raises:
        OutputError: Replaces any OSError.
    """
    try:
        yield
    except OSError as error:
        # Some of our errors are OSErrors too: an unreadable source is not an unwritable file.
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


def write_whole(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file atomically, with the permissions of any new file.

    Args:
        path: The file.
        content: Its content.
        durable: Flush it to disk. Without it, which is several times faster, a power failure may leave an empty or
            broken file: only for caches, whose readers detect it.

    Raises:
        OSError: It cannot be written; the previous file is intact.
    """
    with staging(path) as folder:
        made = folder / "content"
        made.write_bytes(content)
        replace_file(made, path, durable)
