"""A place beside a target where it is made, and the step that gives what is finished the target's name."""

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
    """A hidden folder beside a target, removed at the end; nobody else can look into it or know its name before.

    Its writer holds flock(2) on it. By that, and by no process id, which says nothing across containers, the next
    writer of the same target tells what is in use from what a killed writer left, and removes the latter.

    Raises:
        OSError: It cannot be made.
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
            # Before it was owned, another writer took it for a killed one's.
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
        BlockingIOError: Its writer is at work.
        OSError: It is gone, or no folder.
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
    """Remove what killed writers of a target left; what one had moved aside gets its name back.

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
    """Give a finished folder or file its name; what had the name before goes with the staging folder.

    Whoever is killed, at any moment, leaves the old or the new one under the name. Only where the file system cannot
    exchange two names there is a moment without either, in which a kill leaves the old one to the next writer, who
    puts it back.

    Args:
        made: A folder or file, right in a staging folder.
        target: What it becomes.

    Raises:
        OSError: It cannot be put there; what was there is still there.
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
        # Ctrl-C between the two, too: the old one must not go with the staging folder.
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise


def replace_file(made: Path, target: Path, durable: bool = True) -> None:
    """Give a finished file its name, on the disk if it is to be durable; a folder or device of that name is refused.

    Raises:
        OSError: It cannot be put there; what was there is still there.
    """
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(target))
    if durable:
        sync_tree(made)
    made.replace(target)
    if durable:
        _sync_folder(target.absolute().parent)


def sync_tree(made: Path) -> None:
    """Flush a file, or a folder with all in it, to the disk: a name must not get there before its content.

    Raises:
        OSError: The disk did not take it.
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
        # Some network file systems have no such thing for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
