"""Creates files and folders beside their target, and moves them into place when finished."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgebone.core.exchange import exchange

_REPLACED = "replaced"


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Provide a hidden folder beside a target, removed at the end; it is private and its name unpredictable.

    Its writer holds flock(2) on it. By this lock, not by a process id, which means nothing across containers, the next
    writer of the same target tells folders in use from those that a killed writer left, and removes the latter.

    Raises:
        OSError: It cannot be created.
    """
    target = target.absolute()
    remove_left(target)
    folder, descriptor = _make(target)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _make(target: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        try:
            descriptor = _own(folder)
        except (BlockingIOError, FileNotFoundError):
            # Another writer took it for a killed writer's before it was locked.
            continue
        except BaseException:
            folder.rmdir()
            raise
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _own(folder: Path) -> int:
    """Lock a folder.

    Raises:
        BlockingIOError: Its writer is active.
        OSError: It is missing, or not a folder.
    """
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_left(target: Path) -> None:
    """Remove what killed writers of a target left, and restore a target that one had moved aside.

    Raises:
        OSError: The target's folder cannot be read.
    """
    for left in target.parent.iterdir():
        if not re.fullmatch(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.partial", left.name):
            continue
        with suppress(OSError):
            descriptor = _own(left)
            try:
                if not target.exists():
                    with suppress(FileNotFoundError):
                        (left / _REPLACED).rename(target)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)


def put_in_place(made: Path, target: Path) -> None:
    """Move a finished folder or file to its target; the previous one is removed with the staging folder.

    A kill at any moment leaves the old or the new one under the name. Only where the file system cannot exchange two
    names is there a moment without either; after a kill in it, the next writer restores the old one.

    Args:
        made: A folder or file, directly in a staging folder.
        target: Its final path.

    Raises:
        OSError: It cannot be moved; the previous one is intact.
    """
    sync_tree(made)
    if not target.exists() or (made.is_file() and target.is_file()):
        made.replace(target)
    elif not exchange(made, target):
        _rename_both(made, target)
    _sync_folder(target.parent)


def _rename_both(made: Path, target: Path) -> None:
    replaced = made.with_name(_REPLACED)
    try:
        target.rename(replaced)
        made.rename(target)
    except BaseException:
        # Also on Ctrl-C between the two: the old one must not be removed with the staging folder.
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise


def replace_file(made: Path, target: Path, durable: bool = True) -> None:
    """Move a finished file to its target, flushed to disk if durable; reject a folder or device of that name.

    Raises:
        OSError: It cannot be moved; the previous one is intact.
    """
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(target))
    if durable:
        sync_tree(made)
    made.replace(target)
    if durable:
        _sync_folder(target.absolute().parent)


def sync_tree(made: Path) -> None:
    """Flush a file, or a folder and its content, to disk: a name must not reach the disk before its content.

    Raises:
        OSError: The flush failed.
    """
    if made.is_dir():
        for inner in made.iterdir():
            sync_tree(inner)
        _sync_folder(made)
        return
    with made.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
