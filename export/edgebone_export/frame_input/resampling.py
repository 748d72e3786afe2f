"""The host's resize filters as numbers: the source pixels and weights that make each pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Interpolation, Preprocess
from edgebone.preprocess import preprocess

# Pixels per block of the banded matrices: larger blocks multiply more zeros, smaller ones cost more to launch.
_BLOCK = 16
# OpenCV's and Pillow's fixed point.
_OPENCV_ONE = 1 << 11
_PILLOW_ONE = 1 << 22


@dataclass(frozen=True)
class Window:
    """The part of the network's input that the picture covers, along one axis.

    Attributes:
        before: Padding before the window, in network pixels.
        start: First pixel of the window within the whole resized picture.
        size: Window size in pixels.
        after: Padding after the window, in network pixels.
        whole: Size of the whole resized picture in pixels.
        source: Size of the source picture in pixels.
        scale: Network pixels per source pixel.
    """

    before: int
    start: int
    size: int
    after: int
    whole: int
    source: int
    scale: float


def windows(geometry: Geometry) -> tuple[Window, Window]:
    """Return the windows of a picture that the network sees: along y and along x."""
    found = []
    for axis in (0, 1):
        net, source, scale = geometry.network_hw[axis], geometry.source_hw[axis], geometry.scale_xy[1 - axis]
        offset, whole = int(geometry.offset_xy[1 - axis]), geometry.resized_hw[axis]
        first, end = max(offset, 0), min(offset + whole, net)
        found.append(Window(first, first - offset, end - first, net - end, whole, source, scale))
    return found[0], found[1]


@dataclass(frozen=True)
class Taps:
    """How each pixel along one axis is computed from source pixels.

    Attributes:
        index: Source pixels, int64 (pixels, taps).
        weight: Weight of each, float64 (pixels, taps); 0 for unused taps.
    """

    index: NDArray[np.int64]
    weight: NDArray[np.float64]

    @property
    def copies(self) -> bool:
        """Whether every pixel is a copy of one source pixel."""
        return len(self.weight[0]) == 1

    @property
    def span(self) -> NDArray[np.int64]:
        """All source pixels from the first to the last that any pixel needs."""
        return np.arange(int(self.index.min()), int(self.index.max()) + 1)

    @property
    def overshoots(self) -> bool:
        """Whether sums can fall outside 0 to 255."""
        return bool((self.weight < 0).any())


def _taps(index: NDArray[np.int64], weight: NDArray[np.float64], source: int) -> Taps:
    index = np.clip(index, 0, source - 1)
    if np.all((weight == 1).sum(axis=1) == 1) and np.all((weight != 0).sum(axis=1) == 1):
        best = weight.argmax(axis=1)[:, None]
        return Taps(np.take_along_axis(index, best, axis=1), np.ones((len(index), 1)))
    return Taps(index, weight)


def _triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def _box(x: float) -> float:
    return float(-0.5 < x <= 0.5)


def _bicubic(x: float) -> float:
    a, x = -0.5, abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0


def _lanczos(x: float) -> float:
    return float(np.sinc(x) * np.sinc(x / 3)) if -3 <= x < 3 else 0.0


# Pillow's filters (src/libImaging/Resample.c) and half their width, in source pixels per network pixel.
_PILLOW: dict[Interpolation, tuple[Callable[[float], float], float]] = {
    "box": (_box, 0.5),
    "bilinear": (_triangle, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


@dataclass(frozen=True)
class _Part:
    """The part that the host crops along one axis before it resizes.

    Attributes:
        start: First source pixel.
        size: Size in pixels.
        box: The range that becomes the window, in pixels of the part; single precision, as in Pillow.
    """

    start: int
    size: int
    box: tuple[float, float]


def _part(interpolation: Interpolation, window: Window) -> _Part:
    box = window.start / window.scale, (window.start + window.size) / window.scale
    reach = _PILLOW[interpolation][1] * max(1.0, (box[1] - box[0]) / window.size) + 1
    start, end = max(0, math.floor(box[0] - reach)), min(window.source, math.ceil(box[1] + reach))
    inner = max(box[0] - start, 0.0), min(box[1] - start, float(end - start))
    return _Part(start, end - start, (float(np.float32(inner[0])), float(np.float32(inner[1]))))


def pillow_taps(interpolation: Interpolation, window: Window) -> Taps:
    """Return Pillow's weights for an antialiased resize: ``precompute_coeffs`` in src/libImaging/Resample.c.

    A filter that reaches past the picture is cut there, and the remaining weights are normalised to 1.
    """
    filter_, half_width = _PILLOW[interpolation]
    part = _part(interpolation, window)
    scale = float(np.float32(part.box[1] - part.box[0])) / window.size
    stretch = max(scale, 1.0)
    reach = half_width * stretch
    rows = []
    for pixel in range(window.size):
        center = part.box[0] + (pixel + 0.5) * scale
        first, end = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), part.size)
        weights = np.array([filter_((at - center + 0.5) * (1 / stretch)) for at in range(first, end)])
        rows.append((part.start + first, np.round(weights / weights.sum() * _PILLOW_ONE) / _PILLOW_ONE))
    most = max(len(weights) for _, weights in rows)
    index = np.array([np.arange(first, first + most) for first, _ in rows], np.int64)
    weight = np.array([np.pad(weights, (0, most - len(weights))) for _, weights in rows])
    return _taps(index, weight, window.source)


def opencv_taps(interpolation: Interpolation, window: Window) -> Taps:
    """Return OpenCV's weights for a resize without antialiasing, ``cv2.INTER_LINEAR`` or ``cv2.INTER_CUBIC``.

    Only a pixel's neighbours count, however much the picture shrinks; 11-bit weights (modules/imgproc/src/resize.cpp).
    """
    pixels = np.arange(window.start, window.start + window.size)
    scale = 1 / (window.whole / window.source)
    at = ((pixels + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    share = (at - first).astype(np.float32)
    if interpolation == "bilinear":
        share[(first < 0) | (first >= window.source - 1)] = 0
        first = np.clip(first, 0, window.source - 1)
        weights = np.stack([1 - share, share], axis=1)
    else:
        first = first - 1
        weights = _opencv_cubic(share)
    index = first[:, None] + np.arange(weights.shape[1])
    return _taps(index, np.rint(weights * np.float32(_OPENCV_ONE)).astype(np.float64) / _OPENCV_ONE, window.source)


def _opencv_cubic(x: NDArray[np.float32]) -> NDArray[np.float32]:
    a, one = np.float32(-0.75), np.float32(1)
    before = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    left = ((a + 2) * x - (a + 3)) * x * x + one
    y = one - x
    right = ((a + 2) * y - (a + 3)) * y * y + one
    return np.stack([before, left, right, one - before - left - right], axis=1)


def nearest_taps(spec: Preprocess, size_hw: tuple[int, int], seen: tuple[Window, Window]) -> tuple[Taps, Taps]:
    """Return the pixels that the host picks along y and x, found by resizing a picture of row and column numbers."""
    found = []
    for window, numbers in zip(seen, np.indices(size_hw, np.uint16), strict=True):
        coded = np.stack([numbers & 255, numbers >> 8, np.zeros_like(numbers)], axis=-1).astype(np.uint8)
        out = np.zeros((*spec.size_hw, 3), np.uint8)
        preprocess(msgspec.structs.replace(spec, color="bgr"), coded, out)
        inside = out[seen[0].before :, seen[1].before :].astype(np.int64)
        line = inside[:, 0] if window is seen[0] else inside[0]
        index = (line[: window.size, 0] + 256 * line[: window.size, 1])[:, None]
        found.append(Taps(index, np.ones(index.shape)))
    return found[0], found[1]


@dataclass(frozen=True)
class Bands:
    """Taps as small dense matrices: each computes a block of pixels from the stretch of source that it needs.

    A single matrix for the whole axis would be zero except for a narrow band.

    Attributes:
        index: Source pixels, int64 (blocks, stretch).
        matrix: float64 (blocks, stretch, pixels per block); the last block's surplus pixels are 0.
    """

    index: NDArray[np.int64]
    matrix: NDArray[np.float64]


def bands(taps: Taps) -> Bands:
    """Split an axis into blocks."""
    starts = range(0, len(taps.index), _BLOCK)
    firsts = [int(taps.index[at : at + _BLOCK].min()) for at in starts]
    stretch = max(int(taps.index[at : at + _BLOCK].max()) - first for at, first in zip(starts, firsts, strict=True)) + 1
    # Blocks at the far edge start earlier, so that none reaches past the picture.
    firsts = [min(first, int(taps.index.max()) + 1 - stretch) for first in firsts]
    matrix = np.zeros((len(firsts), stretch, _BLOCK))
    for pixel, (index, weight) in enumerate(zip(taps.index, taps.weight, strict=True)):
        block = pixel // _BLOCK
        np.add.at(matrix[block, :, pixel % _BLOCK], index - firsts[block], weight)
    return Bands(np.array(firsts)[:, None] + np.arange(stretch), matrix)
