"""The areas of objects, kept at the network's resolution and made full-size only when asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.rle import compressed, runs_of

# Pixels of an area that are interpolated at a time: 16 MB of intermediate values.
_PIXELS_AT_A_TIME = 1 << 20


@dataclass(frozen=True, eq=False)
class Masks:
    """One area per object of a picture.

    The network's values around each object are kept, a few thousand each: an area is where they, interpolated between
    their cells, are more than the threshold, within the object's pixels. Indexing is as for
    :class:`edgebone.core.detections.Detections`.

    Attributes:
        values: n arrays, float32, each of its own shape (rows, columns).
        cells: float64, shape (n, 4): left, top, right, bottom in the picture, in pixels, of what each array covers.
        pixels: int64, shape (n, 4): left, top, right, bottom of the object's pixels; right and bottom are exclusive. An
            area ends there. They lie within the picture.
        threshold: The value above which a pixel belongs to the object.
        size_hw: Height and width of the picture.

    Example:
        >>> import numpy as np
        >>> place = np.array([[0, 0, 3, 2]])
        >>> masks = Masks((np.ones((1, 1), np.float32),), place.astype(np.float64), place, 0.5, (4, 6))
        >>> masks.full().shape, masks.area.tolist()
        ((1, 4, 6), [6])
    """

    values: tuple[NDArray[np.float32], ...]
    cells: NDArray[np.float64]
    pixels: NDArray[np.int64]
    threshold: float
    size_hw: tuple[int, int]

    def __post_init__(self) -> None:
        """Reject arrays whose shapes do not match."""
        n = len(self.values)
        if self.cells.shape != (n, 4) or self.pixels.shape != (n, 4):
            raise ValueError(
                f"masks need cells (n, 4) and pixels (n, 4) for n values, got {self.cells.shape} and "
                f"{self.pixels.shape} for {n}"
            )

    def __len__(self) -> int:
        """Return the number of areas."""
        return len(self.values)

    def __getitem__(self, index: int | slice | list[int] | list[bool] | NDArray[Any]) -> Masks:
        """Return the chosen areas.

        Raises:
            IndexError: An integer past the end.
        """
        chosen = np.asarray(index, None if index else np.int64) if isinstance(index, list) else index
        rows = np.atleast_1d(np.arange(len(self))[chosen])
        values = tuple(self.values[row] for row in rows)
        return Masks(values, self.cells[rows], self.pixels[rows], self.threshold, self.size_hw)

    def bitmap(self, index: int) -> tuple[NDArray[np.bool_], tuple[int, int]]:
        """Return one area within the object's own pixels.

        Returns:
            bool, (h, w), and where its left and its top lie in the picture.
        """
        left, top, right, bottom = self.pixels[index].tolist()
        first_x, first_y, last_x, last_y = self.cells[index].tolist()
        values = self.values[index]
        up, down, below = _between(top, bottom, first_y, last_y, values.shape[0])
        west, east, beside = _between(left, right, first_x, last_x, values.shape[1])
        found = np.zeros((max(bottom - top, 0), max(right - left, 0)), np.bool_)
        step = max(1, _PIXELS_AT_A_TIME // max(found.shape[1], 1))
        for start in range(0, len(found), step):
            some = slice(start, start + step)
            rows = values[up[some]]
            rows += (values[down[some]] - rows) * below[some, None]
            part = rows[:, west]
            part += (rows[:, east] - part) * beside
            np.greater(part, self.threshold, out=found[some])
        return found, (left, top)

    def has_pixel(self, index: int) -> bool:
        """Return whether an area has a pixel."""
        values = self.values[index]
        row, column = np.unravel_index(int(values.argmax()), values.shape)
        if not values[row, column] > self.threshold:
            return False
        # The pixel nearest to the largest value nearly always has it, and costs less than all of them.
        first_x, first_y, last_x, last_y = self.cells[index].tolist()
        x = math.floor(first_x + (int(column) + 0.5) * (last_x - first_x) / values.shape[1])
        y = math.floor(first_y + (int(row) + 0.5) * (last_y - first_y) / values.shape[0])
        left, top, right, bottom = self.pixels[index].tolist()
        x, y = min(max(x, left), right - 1), min(max(y, top), bottom - 1)
        near = replace(self[index], pixels=np.array([[x, y, x + 1, y + 1]]))
        inside = left < right and top < bottom
        return inside and bool(near.bitmap(0)[0].any() or self.bitmap(index)[0].any())

    def full(self) -> NDArray[np.bool_]:
        """Return every area in the picture's size: bool, (n, height, width), n * height * width bytes."""
        whole = np.zeros((len(self), *self.size_hw), np.bool_)
        for canvas, (bitmap, (left, top)) in zip(whole, self._bitmaps(), strict=True):
            canvas[top : top + bitmap.shape[0], left : left + bitmap.shape[1]] = bitmap
        return whole

    @property
    def area(self) -> NDArray[np.int64]:
        """int64, shape (n,): pixels of each area."""
        return np.array([np.count_nonzero(bitmap) for bitmap, _ in self._bitmaps()], np.int64)

    def to_rle(self) -> list[dict[str, Any]]:
        """Return ``{"size": [height, width], "counts": …}`` for each area: COCO's compressed run lengths."""
        return [
            {"size": list(self.size_hw), "counts": compressed(runs_of(bitmap, left_top, self.size_hw))}
            for bitmap, left_top in self._bitmaps()
        ]

    def _bitmaps(self) -> Iterator[tuple[NDArray[np.bool_], tuple[int, int]]]:
        """Make one area at a time: a thousand of them in a frame of 4K would not fit."""
        return (self.bitmap(index) for index in range(len(self)))


def _between(
    start: int, end: int, first: float, last: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Return for pixels of one axis the cells on either side of their centres, and the share of the second cell."""
    place = (np.arange(start, end) + 0.5 - first) * (count / (last - first)) - 0.5
    place = place.clip(0, count - 1)
    before = place.astype(np.int64)
    return before, np.minimum(before + 1, count - 1), (place - before).astype(np.float32)


def mask_iou(a: Masks, b: Masks, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the intersection over union of pairs of areas of one picture.

    Args:
        a: n areas.
        b: m areas.
        asked: bool, (n, m): the pairs to compare.

    Returns:
        float64, (n, m), 0 to 1; 0 for pairs that were not asked for, 1 for two areas without a pixel.
    """
    found = np.zeros(asked.shape)
    for row in np.flatnonzero(asked.any(axis=1)).tolist():
        one, at = a.bitmap(row)
        for column in np.flatnonzero(asked[row]).tolist():
            other, there = b.bitmap(column)
            shared = np.count_nonzero(_overlap(one, at, there, other) & _overlap(other, there, at, one))
            union = np.count_nonzero(one) + np.count_nonzero(other) - shared
            found[row, column] = shared / union if union else 1.0
    return found


def _overlap(
    bitmap: NDArray[np.bool_], at: tuple[int, int], there: tuple[int, int], other: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the part of a bitmap that another one covers too."""
    (left, top), (x, y) = at, there
    return bitmap[
        max(y - top, 0) : max(y + other.shape[0] - top, 0), max(x - left, 0) : max(x + other.shape[1] - left, 0)
    ]
