"""Tracks objects' sides of a line and counts crossings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# Frames that an anchor must stay on a side, since it may jitter on the line.
STEADY_FRAMES = 2
# More objects than any tracker remembers.
_OBJECTS = 10_000

Direction = Literal["in", "out"]


@dataclass
class _Sides:
    """An object's side of the line, True for left, and the number of frames it has been on the other one."""

    steady: bool
    other: int = 0


class LineCounter:
    """Counts objects that cross a line, from the side where they last were steadily to the other one.

    An object's side is remembered as long as the tracker assigns the same id, whatever else is in the picture: only the
    tracker decides how long an object out of sight stays the same.

    Args:
        start_xy: The line's start, in pixels.
        end_xy: The line's end. ``in`` is towards its left, seen from the start.
    """

    def __init__(self, start_xy: tuple[float, float], end_xy: tuple[float, float]) -> None:
        self._start = np.asarray(start_xy, np.float64)
        self._along = np.asarray(end_xy, np.float64) - self._start
        self._sides: OrderedDict[Hashable, _Sides] = OrderedDict()

    def sides(self, points_xy: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the sides of points.

        Args:
            points_xy: float, shape (n, 2), in pixels.

        Returns:
            Whether each point has a side, shape (n,): it is beside the line, neither beyond an end nor on it; and
            whether that side is the left one.
        """
        offsets = np.asarray(points_xy, np.float64).reshape(-1, 2) - self._start
        share = offsets @ self._along / (self._along @ self._along)
        # In pictures y points down.
        left = offsets[:, 0] * self._along[1] - offsets[:, 1] * self._along[0]
        return (share >= 0) & (share <= 1) & (left != 0), left > 0

    def update(self, ids: list[Hashable], points_xy: NDArray[np.floating]) -> list[Direction | None]:
        """Process a frame.

        Args:
            ids: The object of each point.
            points_xy: float, shape (n, 2), in pixels.

        Returns:
            For each point the direction in which it crossed the line in this frame, or None.
        """
        has_side, is_left = self.sides(points_xy)
        return [
            self._move(key, left) if known else None
            for key, known, left in zip(ids, has_side.tolist(), is_left.tolist(), strict=True)
        ]

    def _move(self, key: Hashable, left: bool) -> Direction | None:
        sides = self._sides.get(key)
        if sides is None:
            self._sides[key] = _Sides(left)
            if len(self._sides) > _OBJECTS:
                self._sides.popitem(last=False)
            return None
        self._sides.move_to_end(key)
        sides.other = sides.other + 1 if left != sides.steady else 0
        if sides.other < STEADY_FRAMES:
            return None
        sides.steady, sides.other = left, 0
        return "in" if left else "out"
