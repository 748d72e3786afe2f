"""One picture on its way through the runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One picture and where it came from.

    Attributes:
        image: uint8, shape (height, width, 3), channels in BGR order.
        index: Counts the frames of its source from 0; gaps are frames that were dropped.
        captured_at_ns: Monotonic clock (``time.monotonic_ns``), taken when the source gave the frame.
        source: The source's name: a path, ``usb:0``, ``synthetic://640x480@30``.
        position_s: The frame's own time within a recorded source, in seconds; None where there is none.
    """

    image: NDArray[np.uint8]
    index: int
    captured_at_ns: int
    source: str
    position_s: float | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]
