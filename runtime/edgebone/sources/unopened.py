"""A source that could not be opened, beside others that go on."""

from __future__ import annotations

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame


class Unopened:
    """Fails when it is read, as a source does that fails later: whoever forgives the one forgives the other.

    Args:
        name: What the user called it, without secrets.
        error: Why it cannot be opened.
    """

    live = False
    in_memory = False
    fps = None
    frame_count = None

    def __init__(self, name: str, error: SourceError) -> None:
        self.name = name
        self._error = error

    def read(self) -> Frame | None:
        """Never gives a frame.

        Raises:
            SourceError: Always.
        """
        raise self._error

    def interrupt(self) -> None:
        """A read never waits."""

    def close(self) -> None:
        """Nothing is open."""
