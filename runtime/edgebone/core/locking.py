"""Allows one writer at a time per path, across all processes and containers that share the volume."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from edgebone.core.errors import OutputError
from edgebone.core.limits import LOCK_TIMEOUT_S
from edgebone.core.writing import writing

T = TypeVar("T")

_POLL_S = 0.01
_WARN_AFTER_S = 1.0

_log = logging.getLogger("edgebone.writing")


@contextmanager
def locked(path: Path, timeout_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
    """Hold the lock of a path with its links resolved.

    The lock is a file beside it, ``NAME.lock``, held with flock(2): the kernel releases it when its holder dies, and
    it excludes writers in other containers, whose process ids mean nothing here. Readers need no lock.

    Args:
        path: The file or folder to write; its parent folder is created if missing.
        timeout_s: How long to wait for another writer.

    Raises:
        OutputError: Another writer still holds it, or the lock file cannot be created.
    """
    place = Path(os.path.realpath(path))
    lock = place.with_name(place.name + ".lock")
    with writing(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = wait_for(lambda: _take(lock), path, timeout_s)
    try:
        yield
    finally:
        # Removed while held: a process waiting for this file finds it gone and creates another.
        with suppress(OSError):
            lock.unlink()
        os.close(descriptor)


def _take(lock: Path) -> int | None:
    """Open and lock a lock file; None if another process holds it or has just removed it."""
    descriptor = _open(lock)
    try:
        if try_lock(descriptor) and _still_there(descriptor, lock):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _open(lock: Path) -> int:
    """Open or create a lock file; a link planted under its name is not followed (CWE-59)."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # Opened for writing: otherwise NFS rejects an exclusive lock.
        return os.open(lock, flags | os.O_CREAT | os.O_RDWR, 0o666)
    except PermissionError:
        # Left by a killed writer of another user.
        if not os.path.lexists(lock):
            raise
        return os.open(lock, flags | os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OutputError(f"{lock} is a link instead of a lock file; remove it") from error


def _still_there(descriptor: int, lock: Path) -> bool:
    """Return whether the locked file still has the name, and so excludes later processes."""
    try:
        return os.path.samestat(os.fstat(descriptor), lock.lstat())
    except FileNotFoundError:
        return False


def try_lock(descriptor: int) -> bool:
    """Acquire flock(2) on an open file; False if another open file holds it.

    Raises:
        OSError: The file system has no such locks.
    """
    # Imported here because Windows lacks it and does not need it.
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for(take: Callable[[], T | None], path: Path, timeout_s: float) -> T:
    """Retry a lock until it is acquired, and log a warning if that takes long.

    Args:
        take: Returns the lock, or None while another process holds it.
        path: The path to write, for the message.
        timeout_s: How long to wait.

    Raises:
        OutputError: It is still held.
    """
    began_s = time.monotonic()
    warned = False
    while (taken := take()) is None:
        waited_s = time.monotonic() - began_s
        if waited_s >= timeout_s:
            raise OutputError(
                f"{path} cannot be written: another process has been writing it for {waited_s:.0f} s; "
                "wait for it, or end it"
            )
        if waited_s >= _WARN_AFTER_S and not warned:
            warned = True
            _log.warning("waiting for another writer of %s", path)
        time.sleep(_POLL_S)
    return taken
