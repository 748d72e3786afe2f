"""One clear error for everything that can keep a file from being written."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgebone.core.errors import OutputError


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
        if isinstance(error, OutputError):
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
