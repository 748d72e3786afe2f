"""Pictures in memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from edgebone.core.frame import Frame


class Arrays:
    """A list of pictures: arrays (uint8, height × width × 3, BGR) or frames."""

    live = False
    in_memory = True
    fps = None

    def __init__(self, images: Sequence[NDArray[Any] | Frame], name: str = "arrays") -> None:
        self.name = name
        self.frame_count: int | None = len(images)
        self._images = images
        self._next = 0

    def read(self) -> Frame | None:
        """Return the next picture; frames are passed through."""
        if self._next >= len(self._images):
            return None
        image = self._images[self._next]
        self._next += 1
        if isinstance(image, Frame):
            return image
        return Frame(image, self._next - 1, time.monotonic_ns(), self.name)

    def interrupt(self) -> None:
        """A read never waits."""

    def close(self) -> None:
        """Nothing is held."""
