"""Exchanges two names atomically, which Python has no call for."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

# <fcntl.h>, <linux/fs.h>
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names of files or folders atomically: renameat2(2), RENAME_EXCHANGE.

    Returns:
        True if exchanged; False if the system, its C library or the file system has no such call.

    Raises:
        OSError: The call failed.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, TypeError, AttributeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    # EPERM: the system call filter of an older container.
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), os.fspath(one), None, os.fspath(other))
