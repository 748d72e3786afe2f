"""The protocol of sources."""

from __future__ import annotations

from typing import Protocol

from edgebone.core.frame import Frame


class Source(Protocol):
    """A sequence of frames.

    Attributes:
        name: The user's name for it.
        live: True if frames arrive whether they are read or not: the newest counts, older ones are dropped. False if
            every frame is processed and none is lost.
        in_memory: True if ``read`` never waits, so that it needs no thread.
        fps: Frames per second as stated by the source; None if it has no rate.
        frame_count: The number of frames; None if unknown.
    """

    @property
    def name(self) -> str:
        """See above."""

    @property
    def live(self) -> bool:
        """See above."""

    @property
    def in_memory(self) -> bool:
        """See above."""

    @property
    def fps(self) -> float | None:
        """See above."""

    @property
    def frame_count(self) -> int | None:
        """See above."""

    def read(self) -> Frame | None:
        """Return the next frame, or None at the end.

        Raises:
            SourceError: The frame cannot be read; the message names the file or camera.
        """

    def interrupt(self) -> None:
        """Make a waiting ``read`` in another thread return soon; may be called at any time."""

    def close(self) -> None:
        """Free the file or camera; no ``read`` may be in progress."""
