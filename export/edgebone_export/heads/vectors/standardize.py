"""Standardise features before fitting a head on them."""

from __future__ import annotations

import numpy as np

from edgebone_export.heads.features.fitted import Features
from edgebone_export.heads.vectors.graph import Standardize

_LEAST_SPREAD = 0.01
_ROUNDING = 1e-6
_LEAST_NUMBER = 1e-30


def standardizer(x: Features) -> Standardize:
    """Return the layer that standardises each feature to mean 0 and deviation 1.

    A feature that is constant except for rounding gets factor 0. One that hardly varies is not amplified: its deviation
    is assumed to be at least a hundredth of the typical one, since a channel that was almost always silent would
    otherwise drown all others once it is not.

    Args:
        x: float32 (n, d).
    """
    mean = x.mean(axis=0, dtype=np.float64)
    spread = np.empty(x.shape[1])
    # In blocks: a float64 copy of all features could take gigabytes.
    for start in range(0, x.shape[1], 256):
        block = slice(start, start + 256)
        spread[block] = x[:, block].std(axis=0, dtype=np.float64)
    moves = spread > _ROUNDING * np.abs(mean)
    usual = float(np.median(spread[moves])) if moves.any() else 1.0
    least = max(_LEAST_SPREAD * usual, _LEAST_NUMBER)
    return Standardize(mean, np.where(moves, 1 / np.maximum(spread, least), 0.0))
