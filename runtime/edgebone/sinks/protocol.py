"""What every sink can do."""

from __future__ import annotations

from typing import Protocol

from edgebone.core.frame import Frame
from edgebone.core.results import Results


class Sink(Protocol):
    """Takes results, one frame at a time."""

    def write(self, frame: Frame, result: Results) -> None:
        """Take one frame and its result.

        Raises:
            OutputError: It cannot be written.
        """

    def close(self) -> None:
        """Finish what was written, so that it can be read, also after an interruption."""

    def discard(self) -> None:
        """Leave nothing half-written behind, after a failure."""
