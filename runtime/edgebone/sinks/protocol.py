"""The protocol of sinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results


class Sink(Protocol):
    """Takes results and events, one frame at a time."""

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Write one frame's result and events.

        Raises:
            OutputError: It cannot be written.
        """

    def close(self) -> None:
        """Finish the output, so that it can be read, also after an interruption."""

    def discard(self) -> None:
        """Remove partial output after a failure."""
