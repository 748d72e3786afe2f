"""One progressive frame from each interlaced one."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

# Fewer rows have nothing between them to look at.
_LEAST_ROWS = 8


class Deinterlacer:
    """Fills in the rows of the second field where a frame says that it is interlaced, by FFmpeg's bwdif.

    As many frames come out as go in, in the same order and at the rate of frames, not of fields: a network that was
    trained on pictures sees no combs, and nobody counts anything twice. A recording that never says so costs nothing;
    in one that does, progressive frames pass unchanged. bwdif looks at the frames before and after, so that a frame
    comes out when the next one has gone in.

    Args:
        av: PyAV.
    """

    def __init__(self, av: Any) -> None:
        self._av = av
        self._graph: Any = None
        self._layout: tuple[int, int, str] | None = None
        self._count = 0

    def put(self, frame: Any) -> list[Any]:
        """Take a frame, and give those that are done."""
        layout = (frame.width, frame.height, frame.format.name)
        done: list[Any] = []
        if self._graph is not None and layout != self._layout:
            done = self.finish()
        if self._graph is None:
            if not frame.interlaced_frame or frame.height < _LEAST_ROWS:
                return [*done, frame]
            self._open(*layout)
        # Times are kept elsewhere; the filter only needs an order.
        frame.pts, frame.time_base = self._count, Fraction(1, 25)
        self._count += 1
        self._graph.vpush(frame)
        return [*done, *self._pull()]

    def finish(self) -> list[Any]:
        """Give the frames that were kept back."""
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
