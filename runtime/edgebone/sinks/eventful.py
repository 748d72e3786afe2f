"""Selects frames with events."""

from __future__ import annotations

from collections.abc import Sequence

from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.sinks.protocol import Sink


class Eventful:
    """Passes on only frames with events.

    Args:
        sink: The sink for these frames.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Pass on a frame with events."""
        if events:
            self._sink.write(frame, result, events)

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()

    def discard(self) -> None:
        """Remove partial output."""
        self._sink.discard()
