"""Checks whether a fixed camera still shows its original view."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

_WIDTH_PX = 192
# With fewer edges a shift cannot be found: photographs of shelves have edges at half of their pixels.
_EDGE, _LEAST_EDGES = 20.0, 0.3
# Phase correlation, 0 to 1: 0.1 to 0.2 for a shelf that is restocked entirely, 0.4 to 1 for a shifted one.
_SURE = 0.35
# Correlation of edges: 0.3 for a sold-out shelf, 0.5 for a half-covered one, 0 for another scene or in the dark.
_SAME_SCENE = 0.1
_BETTER = 0.15

Edges = NDArray[np.float32]


class Standing:
    """Compares each picture with the first one by its edges, which light and single products hardly change.

    Args:
        tolerance_px: The largest shift that is ignored, in pixels of the picture.
    """

    def __init__(self, tolerance_px: float) -> None:
        self._tolerance_px = tolerance_px
        self._first: Edges | None = None
        self._window: Edges | None = None

    def why_not(self, image_bgr: NDArray[np.uint8]) -> str | None:
        """Check a picture; all must have the same size.

        Args:
            image_bgr: uint8, shape (height, width, 3), BGR.

        Returns:
            None if the view is unchanged or cannot be compared; else the reason.
        """
        edges, scale = _edges(image_bgr)
        if self._first is None or self._window is None:
            # For example in the dark, the picture is no reference.
            if float((edges > _EDGE).mean()) >= _LEAST_EDGES:
                self._first = edges
                self._window = cv2.createHanningWindow(edges.shape[::-1], cv2.CV_32F).astype(np.float32)
            return None
        # With a window argument OpenCV would modify its inputs for sizes that suit its transform.
        (x, y), response = cv2.phaseCorrelate(self._first * self._window, edges * self._window)
        if response >= _SURE and math.hypot(x, y) / scale <= self._tolerance_px:
            return None
        there = _correlation(self._first, edges)
        if response < _SURE:
            return "the camera does not see the shelf" if there < _SAME_SCENE else None
        moved = _correlation(*_overlap(self._first, edges, round(x), round(y)))
        if moved > there + _BETTER:
            return f"the camera has moved: the picture is shifted by {x / scale:.0f}, {y / scale:.0f} pixels"
        return None


def _edges(image_bgr: NDArray[np.uint8]) -> tuple[Edges, float]:
    """Return the edge strength of the shrunk picture, float32, shape (height, width), and its scale."""
    height, width = image_bgr.shape[:2]
    scale = min(1.0, _WIDTH_PX / width)
    grey = cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA).astype(np.float32)
    across, down = (cv2.Sobel(small, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    return np.asarray(cv2.magnitude(across, down), np.float32), scale


def _overlap(first: Edges, now: Edges, x: int, y: int) -> tuple[Edges, Edges]:
    """Return the parts that both show, with the second one shifted against the first."""
    height, width = first.shape
    left, top, right, bottom = max(0, -x), max(0, -y), width - max(0, x), height - max(0, y)
    return first[top:bottom, left:right], now[top + y : bottom + y, left + x : right + x]


def _correlation(one: Edges, other: Edges) -> float:
    """Return Pearson's correlation, -1 to 1; 0 if one of them is constant."""
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else 0.0
