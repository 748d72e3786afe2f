"""Results as JSON lines, one a frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from edgebone.core.frame import Frame
from edgebone.core.limits import LINE_LOCK_TIMEOUT_S
from edgebone.core.locking import try_lock, wait_for
from edgebone.core.reading import open_regular
from edgebone.core.results import Results, results_to_dict
from edgebone.core.writing import as_utf8, writing


def to_line(frame: Frame, result: Results) -> bytes:
    """One line of JSON, newline included: source, picture file, frame index, time within the video, and the result."""
    record = {
        "source": as_utf8(frame.source),
        **({} if frame.path is None else {"path": as_utf8(frame.path)}),
        **({} if frame.page is None else {"page": frame.page}),
        "frame": frame.index,
        "position_s": None if frame.position_s is None else round(frame.position_s, 6),
        **({} if frame.origin_xy == (0, 0) else {"origin_xy": list(frame.origin_xy)}),
        **results_to_dict(result),
    }
    return msgspec.json.encode(record) + b"\n"


class JsonLines:
    """Writes a file of JSON lines; whoever follows the file sees whole lines only.

    The file is opened at the first result, so that a run that fails before it leaves an older file as it was. Several
    processes may append to one file.

    Args:
        path: The file; replaced if it exists.
        append: Keep what it holds already.
    """

    def __init__(self, path: Path, append: bool = False) -> None:
        self._path = path
        self._append = append
        self._descriptor: int | None = None

    def write(self, frame: Frame, result: Results) -> None:
        """Append a frame's line."""
        self.write_line(to_line(frame, result))

    def write_line(self, line: bytes) -> None:
        """Append a line, newline included.

        Raises:
            OutputError: It cannot be written; the lines before it are whole.
        """
        with writing(self._path, left="the lines before it are whole"):
            is_first = self._descriptor is None
            if self._descriptor is None:
                self._descriptor = _open(self._path, self._append)
            with _alone(self._descriptor, self._path):
                if is_first and _breaks_off(self._path):
                    # A killed writer's last line: it is lost, the one after it need not be.
                    line = b"\n" + line
                _write_all(self._descriptor, line)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def discard(self) -> None:
        """Close the file; the lines of the frames before the failure are whole, and stay."""
        self.close()


def _open(path: Path, append: bool) -> int:
    # Always to append: a file that others truncate, as logrotate does, would be filled up with zeros.
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return os.open(path, flags if append else flags | os.O_TRUNC, 0o666)


@contextmanager
def _alone(descriptor: int, path: Path) -> Iterator[None]:
    """Keep other processes that append from writing into a line, and from being cut off with one."""
    import fcntl

    wait_for(lambda: try_lock(descriptor) or None, path, LINE_LOCK_TIMEOUT_S)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _breaks_off(path: Path) -> bool:
    """Whether a file ends amid a line."""
    try:
        with open_regular(path) as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:
        # It is empty, or nothing that can be read.
        return False


def _write_all(descriptor: int, line: bytes) -> None:
    """Write a line; where a full disk takes a part of it only, that part is removed again."""
    start_bytes = os.fstat(descriptor).st_size
    written = 0
    try:
        while written < len(line):
            written += os.write(descriptor, memoryview(line)[written:])
    except BaseException:
        # Not of a device; and what failed first is what to tell.
        with suppress(OSError):
            # Not where something else than edgebone, which asks for no lock, has appended to it.
            if os.fstat(descriptor).st_size == start_bytes + written:
                os.ftruncate(descriptor, start_bytes)
        raise
