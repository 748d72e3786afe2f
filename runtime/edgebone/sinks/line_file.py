"""A file of lines for long runs: it may be rotated, be a FIFO, or be already open in this process."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgebone.core.errors import OutputError
from edgebone.core.limits import LINE_LOCK_TIMEOUT_S
from edgebone.core.locking import try_lock, wait_for
from edgebone.core.reading import open_regular
from edgebone.core.writing import writing

_OWN = re.compile(r"/dev/(?:(stdout)|(stderr)|fd/(\d{1,6}))|/proc/self/fd/(\d{1,6})|(-)")
_LOOK_FOR_READER_S = 0.05

_log = logging.getLogger("edgebone.sinks")


def descriptor_of(path: Path) -> int | None:
    """Return the open descriptor that a path such as ``-``, ``/dev/stdout`` or ``/dev/fd/3`` stands for; else None."""
    found = _OWN.fullmatch(str(path))
    if found is None:
        return None
    if found[2]:
        return 2
    return int(found[3] or found[4] or 1)


class LineFile:
    """Appends whole lines.

    A file is opened at its first line, so that a run that fails earlier leaves the previous file intact; after others
    have renamed or removed it, a new one is created under its name. Several processes may append to one file. The first
    line for a FIFO waits for a reader; lines without a reader later on are lost, with a warning. Descriptors that are
    already open (``-``, ``/dev/stdout``, ``/dev/stderr``, ``/dev/fd/3``) are written to directly.

    Args:
        path: The file; replaced if it exists.
        append: Keep the existing content.
    """

    def __init__(self, path: Path, append: bool = False) -> None:
        self._path = path
        self._own = descriptor_of(path)
        self._append = append
        self._descriptor: int | None = None
        self._lost = 0

    def write_line(self, line: bytes) -> None:
        """Append a line, newline included.

        Raises:
            OutputError: It cannot be written; the previous lines are whole.
            BrokenPipeError: The reader of this process's output has stopped.
        """
        try:
            with writing(self._path, left="the previous lines are whole"):
                self._write(line)
        except OutputError as error:
            if self._own is not None and isinstance(error.__cause__, BrokenPipeError):
                raise error.__cause__ from None
            raise

    def _write(self, line: bytes) -> None:
        if self._descriptor is not None and self._own is None and not _is_at(self._descriptor, self._path):
            self.close()
        is_first = self._descriptor is None
        if self._descriptor is None:
            self._descriptor = self._open()
            if self._descriptor is None:
                self._lost += 1
                return
        if self._own == 1:
            sys.stdout.flush()
        kind = os.fstat(self._descriptor).st_mode
        if not stat.S_ISREG(kind):
            self._write_to_reader(self._descriptor, line)
            return
        with _alone(self._descriptor, self._path):
            if is_first and self._own is None and _breaks_off(self._path):
                # A killed writer's partial line is lost; the next one need not be.
                line = b"\n" + line
            _write_all(self._descriptor, line)

    def _open(self) -> int | None:
        """Open it; None for a FIFO whose reader has gone."""
        if self._own is not None:
            return os.dup(self._own)
        if _is_fifo(self._path):
            return self._open_fifo()
        # Always in append mode: otherwise a file truncated by others, as logrotate does, would be filled with zeros.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._path, flags if self._append else flags | os.O_TRUNC, 0o666)
        # A file opened later must not be truncated by this run.
        self._append = True
        return descriptor

    def _open_fifo(self) -> int | None:
        warned = False
        while True:
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            else:
                os.set_blocking(descriptor, True)
                if self._lost:
                    _log.warning("%s is read again, after %d lost lines", self._path, self._lost)
                    self._lost = 0
                return descriptor
            if self._lost:
                return None
            if not warned:
                warned = True
                _log.warning("%s is a FIFO: waiting for a reader", self._path)
            time.sleep(_LOOK_FOR_READER_S)

    def _write_to_reader(self, descriptor: int, line: bytes) -> None:
        """Write to a pipe, a terminal or a device."""
        try:
            left = memoryview(line)
            while left:
                left = left[os.write(descriptor, left) :]
        except BrokenPipeError:
            if self._own is not None:
                raise
            self.close()
            self._lost = 1
            _log.warning("%s has no reader any more; lines are lost until it is read again", self._path)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _is_fifo(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _alone(descriptor: int, path: Path) -> Iterator[None]:
    """Keep other appending processes from writing within a line or truncating it."""
    import fcntl

    wait_for(lambda: try_lock(descriptor) or None, path, LINE_LOCK_TIMEOUT_S)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _breaks_off(path: Path) -> bool:
    """Return whether a file ends within a line."""
    try:
        with open_regular(path) as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        # It is empty or unreadable.
        return False


def _write_all(descriptor: int, line: bytes) -> None:
    """Write a line; remove a partial line that a full disk leaves."""
    start_bytes = os.fstat(descriptor).st_size
    written = 0
    try:
        while written < len(line):
            written += os.write(descriptor, memoryview(line)[written:])
    except BaseException:
        # Report the first failure.
        with suppress(OSError):
            # Not if another program, which takes no lock, has appended to the file.
            if os.fstat(descriptor).st_size == start_bytes + written:
                os.ftruncate(descriptor, start_bytes)
        raise
