"""Writes results as JSON lines, one per frame, and events, one each."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results, results_to_dict
from edgebone.core.writing import as_utf8
from edgebone.sinks.line_file import LineFile


def to_line(frame: Frame, result: Results) -> bytes:
    """Return one line of JSON with newline: source, picture file, frame index, time in the video, and the result."""
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


def event_line(event: Event) -> bytes:
    """Return one line of JSON with newline."""
    return msgspec.json.encode(event.to_dict()) + b"\n"


class JsonLines(LineFile):
    """Writes a file of JSON lines, one per frame; readers that follow the file see only whole lines.

    Args:
        path: The file, a FIFO, or an open descriptor of this process; see :class:`LineFile`.
        append: Keep the existing content.
    """

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Append a frame's line."""
        self.write_line(to_line(frame, result))

    def discard(self) -> None:
        """Close the file; the lines of earlier frames are whole and stay."""
        self.close()


class EventLines(LineFile):
    """Writes a file of JSON lines, one per event.

    Args:
        path: The file, a FIFO, or an open descriptor of this process; see :class:`LineFile`.
        append: Keep the existing content.
    """

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Append a line for each event, all at once.

        Raises:
            OutputError: They cannot be written; none of them is.
        """
        if events:
            self.write_line(b"".join(map(event_line, events)))

    def discard(self) -> None:
        """Close the file; the lines of earlier frames are whole and stay."""
        self.close()
