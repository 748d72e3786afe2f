"""Choose the range that eight bits cover from observed values."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgebone_export.quantization.observe import Observed

Method = Literal["minmax", "entropy", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)

# onnxruntime's and TensorRT's 99.99th percentile, of both sides together.
_OUTLIERS_PERCENT = 0.01
_STEPS = 255
_BINS, _QUANTIZED_BINS, _STRIDE = 2048, 128, 16


def find_range(observed: Observed, method: Method) -> tuple[float, float]:
    """Return the smallest and largest representable value; values outside are clipped.

    ``minmax`` clips nothing; ``percentile`` one value in ten thousand; ``mse`` finds the range with the least
    mean squared error, ``entropy`` for the one that keeps the most information (S. Migacz, "8-bit inference with
    TensorRT", GTC 2017).

    Returns:
        Low and high, with 0 between them, since padding and ReLU need it exactly.
    """
    low, high = observed.low, observed.high
    if method == "percentile" and not observed.constant:
        low, high = (
            float(item) for item in np.percentile(observed.sample, [_OUTLIERS_PERCENT, 100 - _OUTLIERS_PERCENT])
        )
    elif method == "mse" and not observed.constant:
        low, high = _least_error(observed.sample, low, high)
    elif method == "entropy" and not observed.constant:
        threshold = _most_information(observed.sample, max(abs(low), abs(high)))
        low, high = max(low, -threshold), min(high, threshold)
    return min(low, 0.0), max(high, 0.0)


def _least_error(sample: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    best, chosen = np.inf, (low, high)
    for share in np.linspace(1.0, 0.3, 36):
        a, b = min(low * share, 0.0), max(high * share, 0.0)
        step = (b - a) / _STEPS
        if step <= 0:
            continue
        rounded = np.clip(np.round((sample - a) / step), 0, _STEPS) * step + a
        error = float(np.mean((rounded - sample) ** 2))
        if error < best:
            best, chosen = error, (a, b)
    return chosen


def _most_information(sample: NDArray[np.float32], largest: float) -> float:
    counts, edges = np.histogram(np.abs(sample), bins=_BINS, range=(0, largest))
    # ReLU leaves half of all values at exactly 0, which any range represents: they are ignored.
    counts[0] = counts[1]
    best, threshold = np.inf, largest
    for bins in range(_QUANTIZED_BINS, _BINS + 1, _STRIDE):
        inside = counts[:bins].astype(np.float64)
        reference = inside.copy()
        reference[-1] += counts[bins:].sum()
        starts = np.arange(_QUANTIZED_BINS) * bins // _QUANTIZED_BINS
        filled = inside > 0
        width = np.diff(np.append(starts, bins))
        total = np.repeat(np.add.reduceat(inside, starts), width)
        occupied = np.repeat(np.add.reduceat(filled.astype(np.float64), starts), width)
        quantized = np.where(filled, total / np.maximum(occupied, 1), 0)
        divergence = _divergence(reference, quantized)
        if divergence < best:
            best, threshold = divergence, float(edges[bins])
    return threshold


def _divergence(reference: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    p, q = reference / max(reference.sum(), 1), other / max(other.sum(), 1)
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / np.maximum(q[there], 1e-9))))
