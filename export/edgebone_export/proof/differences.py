"""How far two arrays of outputs are apart. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float, float]:
    """Largest absolute and relative difference, and smallest cosine of a row, of (n, values)."""
    max_abs = float(np.abs(a - b).max())
    max_rel = max_abs / max(float(np.abs(b).max()), 1e-12)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = float(np.divide((a * b).sum(axis=1), lengths, out=np.ones(len(a)), where=lengths > 0).min())
    return max_abs, max_rel, cosine
