"""What every sink can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results


class Sink(Protocol):
    """Takes results and events, one frame at a time."""

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Take one frame, its result, and what happened in it.

        Raises:
            OutputError: It cannot be written.
        """

    def close(self) -> None:
        """Finish what was written, so that it can be read, also after an interruption."""

    def discard(self) -> None:
        """Leave nothing half-written behind, after a failure."""
