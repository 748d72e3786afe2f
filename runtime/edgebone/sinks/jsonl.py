"""Results as JSON lines, one a frame."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import IO, Literal

import msgspec

from edgebone.core.frame import Frame
from edgebone.core.results import Results, results_to_dict
from edgebone.core.writing import as_utf8, writing


def to_line(frame: Frame, result: Results) -> bytes:
    """One line of JSON, newline included: source, frame index, time within the video, and the result."""
    record = {
        "source": as_utf8(frame.source),
        "frame": frame.index,
        "position_s": None if frame.position_s is None else round(frame.position_s, 6),
        **({} if frame.origin_xy == (0, 0) else {"origin_xy": list(frame.origin_xy)}),
        **results_to_dict(result),
    }
    return msgspec.json.encode(record) + b"\n"


class JsonLines:
    """Writes a file of JSON lines; whoever follows the file sees whole lines only.

    The file is opened at the first result, so that a run that fails before it leaves an older file as it was.

    Args:
        path: The file; replaced if it exists.
        append: Keep what it holds already.
    """

    def __init__(self, path: Path, append: bool = False) -> None:
        self._path = path
        self._mode: Literal["ab", "wb"] = "ab" if append else "wb"
        self._file: IO[bytes] | None = None
        self._good_bytes = 0

    def write(self, frame: Frame, result: Results) -> None:
        """Append a frame's line."""
        self.write_line(to_line(frame, result))

    def write_line(self, line: bytes) -> None:
        """Append a line, newline included.

        Raises:
            OutputError: It cannot be written; the lines before it are whole.
        """
        with writing(self._path, left="the lines before it are whole"):
            if self._file is None:
                self._file = self._path.open(self._mode, buffering=0)
                self._good_bytes = self._file.tell()
            try:
                _write_all(self._file, line)
            except OSError:
                # A full disk takes a part of the line; what stays must be whole lines.
                with contextlib.suppress(OSError):
                    # Not of a device; and what failed first is what to tell.
                    self._file.truncate(self._good_bytes)
                raise
        self._good_bytes += len(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Close the file; the lines of the frames before the failure are whole, and stay."""
        self.close()


def _write_all(file: IO[bytes], line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[file.write(rest) :]
