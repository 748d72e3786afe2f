"""Writing files: one clear error for all that can keep it from happening, and whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebone.core.errors import EdgeboneError, OutputError
from edgebone.core.staging import replace_file, staging


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


def write_whole(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file whole or not at all; who may read it is as for any new file.

    Args:
        path: The file.
        content: What it holds.
        durable: Flush it to the disk. Without, which is several times as fast, a power failure may leave an empty or
            broken file: for caches alone, whose readers notice.

    Raises:
        OSError: It cannot be written; an older one is as it was.
    """
    with staging(path) as folder:
        made = folder / "content"
        made.write_bytes(content)
        replace_file(made, path, durable)
