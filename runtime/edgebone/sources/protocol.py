"""What every source can do."""

from __future__ import annotations

from typing import Protocol

from edgebone.core.frame import Frame


class Source(Protocol):
    """A sequence of frames.

    Attributes:
        name: What the user called it.
        live: True where frames come whether they are read or not: the newest counts, older ones are dropped.
            False where every frame is to be processed and none is lost.
        in_memory: True where ``read`` never waits, so that no thread of its own is needed.
        fps: Frames a second, as the source says; None where it has no rate.
        frame_count: How many frames there are; None where that is not known.
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
        """The next frame, or None at the end.

        Raises:
            SourceError: The frame cannot be read; the message names the file or camera.
        """

    def interrupt(self) -> None:
        """Make a ``read`` that waits in another thread return soon; may be called at any time."""

    def close(self) -> None:
        """Free the file or camera; no ``read`` may be under way."""
