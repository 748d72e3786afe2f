"""Compares lists of boxes: overlaps, and the boxes that both lists have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Two lists come from the same network if their boxes agree this well; scores are 0 to 1.
SAME_IOU = 0.99
SAME_SCORE = 1e-3
# A twentieth of a pixel: the effect of rounding on a box without an area, whose IoU means nothing.
SAME_PX = 0.05


def iou_matrix(a_xyxy: NDArray[Any], b_xyxy: NDArray[Any]) -> NDArray[np.float64]:
    """Return the intersection over union of each box of one list with each box of another.

    Args:
        a_xyxy: (n, 4) as left, top, right, bottom.
        b_xyxy: (m, 4).

    Returns:
        float64, (n, m), 0 to 1; 0 where neither has an area.
    """
    a, b = a_xyxy.astype(np.float64)[:, None], b_xyxy.astype(np.float64)[None]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = width.clip(0) * height.clip(0)
    union = _area(a) + _area(b) - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def _area(xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    area: NDArray[np.float64] = (xyxy[..., 2] - xyxy[..., 0]) * (xyxy[..., 3] - xyxy[..., 1])
    return area


def same_place(a_xyxy: NDArray[Any], b_xyxy: NDArray[Any], iou: float) -> NDArray[np.bool_]:
    """Return which boxes of one list overlap another by ``iou``, or equal it but for rounding: bool (n, m)."""
    near = np.ones((len(a_xyxy), len(b_xyxy)), np.bool_)
    for side in range(4):
        near &= np.abs(a_xyxy[:, None, side] - b_xyxy[None, :, side]) <= SAME_PX
    overlap: NDArray[np.bool_] = iou_matrix(a_xyxy, b_xyxy) >= iou
    return overlap | near


def matched_share(
    a: NDArray[Any],
    b: NDArray[Any],
    *,
    min_score: float,
    full: bool,
    iou: float = SAME_IOU,
    score_within: float = SAME_SCORE,
    alike: NDArray[np.bool_] | None = None,
) -> float:
    """Return the share of each list's boxes that the other list also has: the smaller of both directions.

    Args:
        a: Rows of left, top, right, bottom, score, class: (n, 6).
        b: The same, (m, 6).
        min_score: Boxes with a lower score are not looked for.
        full: The lists were cut to a number of best boxes. Boxes as good as the other list's last one may have been cut
            by rounding, and are not looked for either.
        iou: The overlap from which two boxes are the same.
        score_within: How far the scores of the same box may differ.
        alike: bool, (n, m): the pairs that are the same in what rows do not hold, such as masks; None for all.

    Returns:
        0 to 1; 1 where there is nothing to look for.
    """
    back = None if alike is None else alike.T
    return min(
        _found(a, b, min_score, full, iou, score_within, alike), _found(b, a, min_score, full, iou, score_within, back)
    )


def _found(
    looked_for: NDArray[Any],
    among: NDArray[Any],
    min_score: float,
    full: bool,
    iou: float,
    within: float,
    alike: NDArray[np.bool_] | None,
) -> float:
    lowest = min_score
    if full and len(among):
        last = float(among[:, 4].min())
        if last >= min_score:
            lowest = last + within
    clear = looked_for[:, 4] >= lowest
    rows = looked_for[clear]
    if not len(rows):
        return 1.0
    same = np.abs(rows[:, None, 4] - among[None, :, 4]) <= within
    same &= rows[:, None, 5] == among[None, :, 5]
    if alike is not None:
        same &= alike[clear]
    return float((same_place(rows[:, :4], among[:, :4], iou) & same).any(axis=1).mean())
