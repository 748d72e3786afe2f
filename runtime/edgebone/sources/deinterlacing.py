"""Turns each interlaced frame into a progressive one."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

# Fewer rows have no neighbours to interpolate from.
_LEAST_ROWS = 8


class Deinterlacer:
    """Interpolates the second field's rows of frames marked as interlaced, with FFmpeg's bwdif.

    The number, order and rate of frames stay the same, not those of fields: a network trained on pictures sees no
    combing, and nothing is counted twice. A recording without interlaced frames costs nothing; otherwise progressive
    frames pass unchanged. bwdif uses the neighbouring frames, so a frame is returned after the next one was put in.

    Args:
        av: PyAV.
    """

    def __init__(self, av: Any) -> None:
        self._av = av
        self._graph: Any = None
        self._layout: tuple[int, int, str] | None = None
        self._count = 0

    def put(self, frame: Any) -> list[Any]:
        """Add a frame; return those that are done."""
        layout = (frame.width, frame.height, frame.format.name)
        done: list[Any] = []
        if self._graph is not None and layout != self._layout:
            done = self.finish()
        if self._graph is None:
            if not frame.interlaced_frame or frame.height < _LEAST_ROWS:
                return [*done, frame]
            self._open(*layout)
        # Times are tracked elsewhere; the filter only needs an order.
        frame.pts, frame.time_base = self._count, Fraction(1, 25)
        self._count += 1
        self._graph.vpush(frame)
        return [*done, *self._pull()]

    def finish(self) -> list[Any]:
        """Return the remaining frames."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        done = self._pull()
        self._graph = self._layout = None
        return done

    def _open(self, width: int, height: int, form: str) -> None:
        self._graph = self._av.filter.Graph()
        self._layout = (width, height, form)
        source = self._graph.add_buffer(width=width, height=height, format=form, time_base=Fraction(1, 25))
        middle = self._graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        self._graph.link_nodes(source, middle, self._graph.add("buffersink"))
        self._graph.configure()

    def _pull(self) -> list[Any]:
        found: list[Any] = []
        while True:
            try:
                found.append(self._graph.vpull())
            except (self._av.error.BlockingIOError, self._av.error.EOFError):
                return found
