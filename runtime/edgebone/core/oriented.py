"""Oriented boxes: rectangles that are turned, as centre, width, height and angle, or as four corners."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.boxes import SAME_PX, iou_matrix, same_place

CORNERS, ANGLE = "xyxyxyxy", "angle"
"""The entries of ``Detections.data`` that make boxes oriented; the first is supervision's name, too."""
_BOX = [0, 1, 2, 3, 6]
_EPSILON = 1e-9
# Pairs that are compared at once: bounds the memory.
_AT_ONCE = 1 << 14


def corners_of(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the corners of boxes, (n, 4, 2), from centre, width, height and angle in radians, (n, 5).

    The angle turns the x axis towards the y axis, which points down, to the side that has the width. The first two
    corners are the ends of one side that has the height, and the others follow around the box, as in ultralytics.
    """
    x, y, width, height, angle = boxes.astype(np.float64).T
    center = np.stack([x, y], axis=1)
    along = np.stack([np.cos(angle), np.sin(angle)], axis=1) * width[:, None] / 2
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=1) * height[:, None] / 2
    signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
    return np.stack([center + a * along + b * across for a, b in signs], axis=1)


def hulls_of(corners: NDArray[Any]) -> NDArray[Any]:
    """Return the upright boxes around corners (n, 4, 2), as left, top, right, bottom: (n, 4)."""
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def rotated_iou(a: NDArray[Any], b: NDArray[Any], pairs: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the intersection over union of each box of one list with each box of another.

    Args:
        a: Corners of convex boxes, (n, 4, 2), in the order around the box.
        b: The same, (m, 4, 2).
        pairs: bool, (n, m): those that are asked for; None for all.

    Returns:
        float64, (n, m), 0 to 1; 0 where neither has an area, and where it was not asked for.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    found = np.zeros((len(a), len(b)))
    # Most pairs lie apart.
    rows, columns = np.nonzero(iou_matrix(hulls_of(a), hulls_of(b)) > 0 if pairs is None else pairs)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE], columns[start : start + _AT_ONCE]
        one, other = a[some[0]], b[some[1]]
        shared = _shared_area(one, other)
        union = areas_of(one) + areas_of(other) - shared
        found[some] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def areas_of(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas of polygons, from their corners in order, (n, corners, 2): (n,)."""
    following = np.roll(corners, -1, axis=1)
    return np.asarray(np.abs(_cross(corners, following).sum(axis=1)) / 2)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _shared_area(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shared area of pairs of boxes, (n, 4, 2) each: (n,).

    The corners of the shared area are the corners of each box inside the other, and where sides cross.
    """
    # Around the origin, where small differences of large coordinates are exact enough.
    middle = a.mean(axis=1, keepdims=True)
    a, b = a - middle, b - middle
    along_a, along_b = (np.roll(item, -1, axis=1) - item for item in (a, b))
    # The cross of every side of one with every side of the other, and of what leads from the one to the other.
    crossed = _cross(along_a[:, :, None], along_b[:, None])
    apart = b[:, None] - a[:, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        share_a = _cross(apart, along_b[:, None]) / crossed
        share_b = _cross(apart, along_a[:, :, None]) / crossed
    crosses = (share_a >= 0) & (share_a <= 1) & (share_b >= 0) & (share_b <= 1)
    meeting = a[:, :, None] + np.where(crosses, share_a, 0)[..., None] * along_a[:, :, None]
    points = np.concatenate([a, b, meeting.reshape(len(a), 16, 2)], axis=1)
    valid = np.concatenate([_inside(a, b), _inside(b, a), crosses.reshape(len(a), 16)], axis=1)
    count = valid.sum(axis=1)
    center = (points * valid[..., None]).sum(axis=1) / np.maximum(count, 1)[:, None]
    points = points - center[:, None]
    # Others are moved onto the first valid one, where they add no area.
    first = points[np.arange(len(points)), valid.argmax(axis=1)]
    points = np.where(valid[..., None], points, first[:, None])
    order = np.argsort(np.arctan2(points[..., 1], points[..., 0]), axis=1)
    area = areas_of(np.take_along_axis(points, order[..., None], axis=1))
    return np.where(count >= 3, area, 0.0)


def _inside(points: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points, (n, p, 2), lie in their box, (n, 4, 2), or on its edge: (n, p)."""
    along = np.roll(box, -1, axis=1) - box
    side = _cross(along[:, None], points[:, :, None] - box[:, None])
    spare = _EPSILON * np.maximum(np.abs(along).max(axis=(1, 2)), 1)[:, None, None]
    return np.asarray((side >= -spare).all(axis=2) | (side <= spare).all(axis=2))


def hull_rows(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return rows of the upright boxes around oriented ones: left, top, right, bottom, score, class, (n, 6).

    Args:
        rows: Centre, width, height, score, class, angle: (n, 7), as ``oriented@1`` reads them.
    """
    return np.concatenate([hulls_of(corners_of(rows[:, _BOX])), rows[:, 4:6]], axis=1, dtype=np.float64)


def same_oriented(a: NDArray[Any], b: NDArray[Any], iou: float) -> NDArray[np.bool_]:
    """Return which of two lists' rows, as of :func:`hull_rows`, overlap by ``iou``, as turned and upright: bool (n, m).

    Boxes that are equal but for rounding do, too.
    """
    have, want = corners_of(a[:, _BOX]), corners_of(b[:, _BOX])
    pairs = same_place(hulls_of(have), hulls_of(want), iou)
    same = rotated_iou(have, want, pairs) >= iou
    rows, columns = np.nonzero(pairs)
    same[rows, columns] |= np.abs(have[rows] - want[columns]).max(axis=(1, 2), initial=0) <= SAME_PX
    return same
