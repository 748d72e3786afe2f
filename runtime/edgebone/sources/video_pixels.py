"""From what a decoder gives to upright BGR."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_ONE = 1 << 16


def to_bgr(frame: Any) -> NDArray[np.uint8]:
    """Convert a decoded frame: its colour space and range are minded, and it is turned as its display matrix says.

    Pixels that are not square stay as they are stored.

    Args:
        frame: PyAV's, of whatever format.

    Returns:
        uint8, shape (height, width, 3), BGR; contiguous.
    """
    # One thread: the conversion is short, and others cost more than they bring.
    bgr = np.asarray(frame.to_ndarray(format="bgr24", threads=1), np.uint8)
    return _upright(bgr, frame) if frame.side_data else bgr


def _upright(bgr: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    from av.sidedata.sidedata import Type

    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return bgr
    # Rows of the picture's axes where they are shown, downwards and to the right, in 16.16 fixed point.
    numbers = np.frombuffer(bytes(matrix), np.int32)
    if numbers.size != 9:
        return bgr
    right_x, right_y, down_x, down_y = (int(numbers[place]) / _ONE for place in (0, 1, 3, 4))
    if abs(right_y) > abs(right_x) and abs(down_x) > abs(down_y):
        bgr = np.asarray(cv2.transpose(bgr), np.uint8)
        right_x, down_y = down_x, right_y
    if right_x < 0 or down_y < 0:
        bgr = np.asarray(cv2.flip(bgr, -1 if right_x < 0 and down_y < 0 else int(right_x < 0)), np.uint8)
    return bgr
