"""Which sizes a camera's frames can have."""

from __future__ import annotations

from edgebone.core import limits
from edgebone.core.manifest import FrameLayout
from edgebone_export.errors import ExportError

LARGEST_SIDE = 16384


def check_frame_size(size_hw: tuple[int, int], layout: FrameLayout) -> None:
    """Refuse a size that no camera's frames have.

    Raises:
        ExportError: A side is 0, larger than ``LARGEST_SIDE``, or odd with NV12; or there are too many pixels.
    """
    height, width = size_hw
    if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
        raise ExportError(f"a frame is 1x1 to {LARGEST_SIDE}x{LARGEST_SIDE} pixels, not {height}x{width}")
    if height * width > limits.FRAME_PIXELS:
        raise ExportError(f"a frame has {limits.FRAME_PIXELS:,} pixels at most, not {height}x{width}")
    if layout == "nv12" and (height % 2 or width % 2):
        raise ExportError(
            f"an NV12 frame has even sides, since two by two pixels share their colour, not {height}x{width}"
        )
