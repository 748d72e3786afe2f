"""Two names swapped in one step, which Python has no call for."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

# <fcntl.h>, <linux/fs.h>
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def exchange(one: Path, other: Path) -> bool:
    """Swap two names, folders too, so that at no moment one of them is missing: renameat2(2), RENAME_EXCHANGE.

    Returns:
        Whether it was done; False where the system, its C library or the file system has no such call.

    Raises:
        OSError: It has, and refuses.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, TypeError, AttributeError):
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    # EPERM: an older container's filter of system calls.
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), os.fspath(one), None, os.fspath(other))
