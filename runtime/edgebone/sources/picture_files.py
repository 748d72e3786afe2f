"""Picture files as a source: one sequence of frames across files and pages."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.frame import Decode, Frame, raising
from edgebone.sources.images import Page, describe_pages, read_pages
from edgebone.sources.picture_formats import FORMATS

_PAGED = tuple(suffix for known in FORMATS if known.paged and known.name != "PNG" for suffix in known.suffixes)


class PictureFiles:
    """Picture files with a frame for each picture; together they are one sequence, like a video.

    A frame's ``source`` is the sequence's name, its ``path`` the file's path, its ``page`` the picture's number in the
    file. Frames have times (``position_s``) with ``fps``, and in a single animated file, by its own durations. An
    unreadable file is a damaged frame, and the next one follows.

    Args:
        paths: The files, in order.
        name: The user's name for them.
        fps: The rate at which they were taken, in pictures per second; None if unknown.

    Raises:
        SourceError: An invalid rate.
    """

    live = False
    in_memory = False

    def __init__(self, paths: Sequence[Path], name: str, fps: float | None = None) -> None:
        if fps is not None and not 0 < fps < math.inf:
            raise SourceError(f"{name}: fps must be more than 0, not {fps:g}")
        self.name = name
        self.fps = fps
        self.frame_count: int | None = len(paths)
        self._rate = fps
        self._paths = list(paths)
        self._opened = 0
        self._pages: Iterator[Page] | None = None
        self._index = 0
        self._good = 0
        self._shown_s = 0.0
        if len(self._paths) == 1:
            self._describe_animation()
        elif any(path.suffix.lower() in _PAGED for path in self._paths):
            self.frame_count = None

    def _describe_animation(self) -> None:
        try:
            self.frame_count, rate = describe_pages(self._paths[0])
        except SourceError:
            # Raised again on reading.
            return
        self.fps = self.fps or rate

    def read(self) -> Frame | None:
        """Return the next picture; the frame of an unreadable one raises when accessed.

        Raises:
            SourceError: The only file, or all of several, cannot be read.
        """
        while True:
            if self._pages is None:
                if self._opened == len(self._paths):
                    self._check_end()
                    return None
                self._pages = read_pages(self._paths[self._opened])
                self._opened += 1
            try:
                page = next(self._pages, None)
            except SourceError as error:
                self._pages = None
                if len(self._paths) == 1 and not self._good:
                    raise
                return self._frame(raising(error), None, None)
            if page is None:
                self._pages = None
                continue
            self._good += 1
            return self._frame(page.image, page.number, page.duration_s)

    def _frame(self, image: NDArray[np.uint8] | Decode, page: int | None, duration_s: float | None) -> Frame:
        path = str(self._paths[self._opened - 1])
        position_s = None if self._rate is None else self._index / self._rate
        if self._rate is None and len(self._paths) == 1 and duration_s is not None:
            position_s = self._shown_s
            self._shown_s += duration_s
        self._index += 1
        return Frame(image, self._index - 1, time.monotonic_ns(), self.name, position_s, path=path, page=page)

    def _check_end(self) -> None:
        if self._paths and not self._good:
            raise SourceError(f"{self.name}: none of its {len(self._paths)} pictures can be read")

    def interrupt(self) -> None:
        """A read never waits."""

    def close(self) -> None:
        """Close the open file, if any."""
        self._pages = None
