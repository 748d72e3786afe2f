"""Compare class maps with masks: intersection over union, and accuracy of borders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

IGNORED = 255
# A border counts as found within this share of the picture's diagonal (Csurka et al. 2013).
_TOLERANCE = 0.0075
Masks = NDArray[np.uint8]


def nearest_cells(pixels: int, cells: int) -> NDArray[np.int64]:
    """Return the cell of a coarser row that contains each pixel's centre."""
    return ((np.arange(pixels) + 0.5) * cells / pixels).astype(np.int64)


def spread(maps: Masks, size_hw: tuple[int, int]) -> Masks:
    """Resize class maps (n, h, w) to (n, height, width): each pixel gets its cell's class."""
    rows, columns = (nearest_cells(pixels, cells) for pixels, cells in zip(size_hw, maps.shape[1:], strict=True))
    return maps.take(columns, axis=2).take(rows, axis=1)


def confusion(found: Masks, truth: Masks, classes: int) -> NDArray[np.int64]:
    """Count pixels by true class (rows) and found class (columns), without ignored ones."""
    counted = truth != IGNORED
    pairs = truth[counted].astype(np.int64) * classes + found[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def ious(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return intersection over union of each class; NaN for one that neither occurs nor is found."""
    both = np.diag(counts)
    either = counts.sum(axis=0) + counts.sum(axis=1) - both
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def mean_iou(counts: NDArray[np.int64]) -> float:
    """Return the mean over the classes that occur or are found, 0 to 1."""
    found = ious(counts)
    return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0


def border_f1(pairs: Iterable[tuple[Masks, Masks]], classes: int, size_hw: tuple[int, int]) -> tuple[list[Any], int]:
    """Return how accurate each class's borders are, within a few pixels (Csurka et al. 2013, BMVC, section 3.2).

    This distinguishes thin things slightly off their place, with hardly any IoU, from those not found.

    Args:
        pairs: Found and true class map of each picture, (height, width).
        classes: Number of classes.
        size_hw: The maps' height and width.

    Returns:
        F1 by class, 0 to 1, None for a class without a border; the tolerance in pixels. Precision and recall are those
        of the border pixels of all pictures together.
    """
    tolerance = max(2, round(_TOLERANCE * float(np.hypot(*size_hw))))
    # Border pixels near one of the other side, and all border pixels: found and true.
    near, all_ = np.zeros((classes, 2)), np.zeros((classes, 2))
    for found, truth in pairs:
        ignored = truth == IGNORED
        for index in range(classes):
            sides = [_border((item == index) & ~ignored) for item in (found, truth)]
            for side, other in ((0, 1), (1, 0)):
                count = int(sides[side].sum())
                all_[index, side] += count
                if count and sides[other].any():
                    away = cv2.distanceTransform((~sides[other]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                    near[index, side] += int((away[sides[side]] <= tolerance).sum())
    shares = near / np.maximum(all_, 1)
    both = shares.sum(axis=1)
    f1 = np.divide(2 * shares.prod(axis=1), both, out=np.zeros(classes), where=both > 0)
    return [round(float(f1[index]), 6) if all_[index].any() else None for index in range(classes)], tolerance


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask with a neighbour outside it; the picture's edge is not a border."""
    pixels = mask.astype(np.uint8)
    inner = cv2.erode(pixels, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return np.asarray((pixels == 1) & (inner == 0))


def by_label(values: Sequence[Any], labels: Sequence[str]) -> dict[str, float]:
    """Return rounded values by label, without those that are not numbers."""
    pairs = zip(labels, values, strict=True)
    return {label: round(float(value), 6) for label, value in pairs if value is not None and np.isfinite(value)}
