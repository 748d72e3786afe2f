"""A source that could not be opened, while others continue."""

from __future__ import annotations

from edgebone.core.errors import SourceError
from edgebone.core.frame import Frame


class Unopened:
    """Raises when read, like a source that fails later, so that both are forgiven alike.

    Args:
        name: The user's name for it, without secrets.
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
        """Raise the error.

        Raises:
            SourceError: Always.
        """
        raise self._error

    def interrupt(self) -> None:
        """A read never waits."""

    def close(self) -> None:
        """Nothing is open."""
