"""Check the sizes of camera frames."""

from __future__ import annotations

from edgebone.core import limits
from edgebone.core.manifest import FrameLayout
from edgebone_export.errors import ExportError

LARGEST_SIDE = 16384


def check_frame_size(size_hw: tuple[int, int], layout: FrameLayout) -> None:
    """Check a frame size.

    Raises:
        ExportError: A side is 0, larger than ``LARGEST_SIDE``, or odd with NV12; or the frame has too many pixels.
    """
    height, width = size_hw
    if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
        raise ExportError(f"a frame must be 1x1 to {LARGEST_SIDE}x{LARGEST_SIDE} pixels, found {width}x{height}")
    if height * width > limits.FRAME_PIXELS:
        raise ExportError(f"a frame must have at most {limits.FRAME_PIXELS:,} pixels, found {width}x{height}")
    if layout == "nv12" and (height % 2 or width % 2):
        raise ExportError(
            f"an NV12 frame must have even sides, since 2x2 pixels share one colour; found {width}x{height}"
        )
