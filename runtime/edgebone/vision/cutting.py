"""Cuts boxes out of a picture: upright ones in whole pixels, turned ones straightened."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class Cut(NamedTuple):
    """A part of a picture.

    Attributes:
        pixels: uint8, (height, width, 3), BGR.
        to_picture: float64, (2, 3): maps (x, y, 1) in the part's pixels to the picture's.
    """

    pixels: NDArray[np.uint8]
    to_picture: NDArray[np.float64]

    def boxes_in_picture(self, xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes found in the part, (n, 4), in the picture's pixels: upright ones around what was found."""
        moved = self.points_in_picture(xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2))
        return np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)

    def points_in_picture(self, xy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return points of the part, (…, 2), in the picture's pixels."""
        moved = xy.astype(np.float64) @ self.to_picture[:, :2].T + self.to_picture[:, 2]
        return moved.astype(np.float32)


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


def cut_out(image: NDArray[np.uint8], rectangle: NDArray[np.int64]) -> Cut:
    """Return a rectangle as a part of a picture."""
    left, top = rectangle[:2].tolist()
    return Cut(pixels(image, rectangle), np.array([[1, 0, left], [0, 1, top]], np.float64))


def masked_out(
    image: NDArray[np.uint8], rectangle: NDArray[np.int64], area: NDArray[np.bool_], area_xy: tuple[int, int]
) -> Cut:
    """Return a rectangle as a part of a picture, black outside an object's area.

    Args:
        image: uint8, (height, width, 3), BGR.
        rectangle: Left, top, right, bottom in pixels.
        area: The object's pixels, (h, w).
        area_xy: Where the left and the top of ``area`` lie in the picture.
    """
    left, top, right, bottom = rectangle.tolist()
    kept = np.zeros((bottom - top, right - left), np.bool_)
    x, y = area_xy
    first_x, first_y = max(left, x), max(top, y)
    inside = area[first_y - y : max(bottom - y, 0), first_x - x : max(right - x, 0)]
    kept[first_y - top :, first_x - left :][: inside.shape[0], : inside.shape[1]] = inside
    part = cut_out(image, rectangle)
    return part._replace(pixels=np.where(kept[..., None], part.pixels, np.uint8(0)))


def straightened(image: NDArray[np.uint8], corners_xy: NDArray[Any], margin: float = 0.0, square: bool = False) -> Cut:
    """Return a turned box, turned back by the smallest angle that makes its sides upright.

    The pixels are turned at the picture's own scale. What lies beyond the picture repeats its edge.

    Args:
        image: uint8, (height, width, 3), BGR.
        corners_xy: The box's corners in pixels, (4, 2), in order around it.
        margin: What is added on each side, as a share of the box's width and height.
        square: Extend the shorter side.
    """
    corners = corners_xy.astype(np.float64).reshape(4, 2)
    one, other = corners[1] - corners[0], corners[2] - corners[1]
    # The side nearest to the horizontal is the width; it runs to the right.
    across = one if abs(one[0]) * np.hypot(*other) >= abs(other[0]) * np.hypot(*one) else other
    along = across / max(float(np.hypot(*across)), 1e-9) * (1 if across[0] >= 0 else -1)
    down = np.array([-along[1], along[0]])
    sides = np.array([np.ptp(corners @ along), np.ptp(corners @ down)]) * (1 + 2 * margin)
    # A box far larger than the picture would need memory for what nobody sees.
    sides = np.minimum(sides.max() if square else sides, np.hypot(*image.shape[:2]))
    # A thousandth less, so that rounding adds no pixel to whole sides.
    width, height = (max(1, int(side)) for side in np.broadcast_to(np.ceil(sides - 1e-3), 2))
    matrix = np.column_stack([along, down, corners.mean(axis=0) - along * width / 2 - down * height / 2])
    # OpenCV counts from the middle of the first pixel.
    by_index = matrix.copy()
    by_index[:, 2] += (along + down) / 2 - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    turned = cv2.warpAffine(image, by_index, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return Cut(np.asarray(turned, np.uint8), matrix)
