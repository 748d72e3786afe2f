"""Converts decoded frames to upright BGR, or to NV12 if a network takes that."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.frame import Decode, Planes

Corners = tuple[int, int, int, int]
_STORED: Corners = (1, 0, 0, 1)
# FFmpeg's numbers of colour spaces: unspecified, which it reads as BT.601, and BT.601 itself in its three variants.
_BT_601 = frozenset({2, 4, 5, 6})
_FULL_RANGE = 2


def corners_of(frame: Any) -> Corners:
    """Return the displayed directions of the picture's axes, from its display matrix.

    Called once for many frames: PyAV creates a reference cycle with the frame, whose memory then stays until garbage
    collection.

    Args:
        frame: A decoded PyAV frame.

    Returns:
        The right and down components of the column axis and of the row axis, in arbitrary units.
    """
    from av.sidedata.sidedata import Type

    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    numbers = np.frombuffer(b"" if matrix is None else bytes(matrix), np.int32)
    if numbers.size != 9:
        return _STORED
    return int(numbers[0]), int(numbers[1]), int(numbers[3]), int(numbers[4])


def pixels_of(frame: Any, corners: Corners = _STORED) -> Decode | Planes:
    """Return the deferred conversion of a frame: planes if NV12 in BT.601 is equivalent.

    Args:
        frame: A PyAV frame in any format.
        corners: From :func:`corners_of`.
    """
    to_image = partial(to_bgr, frame, corners)
    size_hw = (frame.height, frame.width)
    right, right_down, down_right, down = corners
    upright = right > 0 and down > 0 and not right_down and not down_right
    alike = frame.format.name in ("yuv420p", "nv12") and frame.colorspace in _BT_601
    if not upright or not alike or frame.color_range == _FULL_RANGE or any(side % 2 for side in size_hw):
        return to_image
    return Planes(size_hw, partial(_to_nv12, frame), to_image)


def _to_nv12(frame: Any) -> NDArray[np.uint8]:
    return np.asarray(frame.to_ndarray(format="nv12", threads=1), np.uint8)


def to_bgr(frame: Any, corners: Corners) -> NDArray[np.uint8]:
    """Convert a decoded frame by its colour space and range, and rotate it upright.

    Non-square pixels are kept as stored.

    Args:
        frame: A PyAV frame in any format.
        corners: From :func:`corners_of`.

    Returns:
        uint8, shape (height, width, 3), BGR; contiguous.
    """
    # One thread: the conversion is short, and more threads cost more than they gain.
    bgr = np.asarray(frame.to_ndarray(format="bgr24", threads=1), np.uint8)
    right, right_down, down_right, down = corners
    if abs(right_down) > abs(right) and abs(down_right) > abs(down):
        bgr = np.asarray(cv2.transpose(bgr), np.uint8)
        right, down = down_right, right_down
    if right < 0 or down < 0:
        bgr = np.asarray(cv2.flip(bgr, -1 if right < 0 and down < 0 else int(right < 0)), np.uint8)
    return bgr
