"""Rectangles of a picture around boxes, in whole pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rectangles(
    xyxy: NDArray[Any], size_hw: tuple[int, int], margin: float = 0.0, square: bool = False
) -> NDArray[np.int64]:
    """Return the pixels to cut out around each box.

    A rectangle has every pixel that the box touches, and stays within the picture.

    Args:
        xyxy: Boxes in pixels, (n, 4): left, top, right, bottom; they may leave the picture.
        size_hw: The picture's height and width.
        margin: What is added on each side, as a share of the box's width and height.
        square: Extend the shorter side. At the picture's edge the square is moved inwards; only where the picture is
            smaller does it stay a rectangle.

    Returns:
        int64, (n, 4): left, top, right, bottom. All 0 for a box without pixels in the picture.
    """
    height, width = size_hw
    limit = np.array([width, height], np.float64)
    low, high = np.split(xyxy.astype(np.float64).reshape(-1, 4), 2, axis=1)
    visible = (np.minimum(high, limit) > np.maximum(low, 0)).all(axis=1, keepdims=True)
    grown = (high - low) * margin
    low, high = low - grown, high + grown
    if square:
        half = (high - low).max(axis=1, keepdims=True) / 2
        low = np.clip((low + high) / 2 - half, 0, np.maximum(limit - 2 * half, 0))
        high = low + 2 * half
    found = np.concatenate([np.floor(np.maximum(low, 0)), np.ceil(np.minimum(high, limit))], axis=1)
    # Also where a box is not a number, which is nowhere.
    return np.where(visible, found, 0).astype(np.int64)


def pixels(image: NDArray[np.uint8], rectangle: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return a rectangle's pixels, as a view: uint8, (height, width, 3)."""
    left, top, right, bottom = rectangle.tolist()
    return image[top:bottom, left:right]
