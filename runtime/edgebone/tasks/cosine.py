"""How alike two arrays' directions are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The cosine of two arrays, each taken as one vector; 1 where both are zero, 0 where one is or it is not finite."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    if not length:
        return float(not x.any() and not y.any())
    found = float(x @ y) / length
    return found if np.isfinite(found) else 0.0
