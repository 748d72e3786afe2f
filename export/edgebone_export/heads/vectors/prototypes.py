"""Classes as directions: a picture belongs to the class whose mean direction is nearest.

After Wang et al., "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot Learning", 2019: features are
centred and scaled to length 1. One picture per class is enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone_export.heads.features.fitted import Features
from edgebone_export.heads.vectors.graph import Affine, Layer, Unit, computed

_SCALE = 10.0
"""Factor from cosines to logits, before a temperature is found."""


class PrototypePath:
    """The mean direction of each class, without any tuning."""

    def __init__(self, x: Features, y: NDArray[Any], weights: NDArray[np.float64], width: int) -> None:
        """Compute the means.

        Args:
            x: Standardised features, float32 (n, d).
            y: int64 classes (n,).
            weights: Weight of each row in its class (n,).
            width: Number of classes.
        """
        unit = computed([Unit()], x).astype(np.float64)
        means = np.zeros((width, x.shape[1]))
        np.add.at(means, y, unit * weights[:, None])
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        self._layers = (Unit(), Affine(_SCALE * (means / np.maximum(lengths, 1e-12)).T, np.zeros(width)))

    def advance(self, _step: float) -> None:
        """Do nothing."""

    def scores(self, x: Features) -> Features:
        """Return logits (n, width) of standardised features (n, d)."""
        return computed(self._layers, x)

    def layers(self) -> tuple[Layer, ...]:
        """Return layers that compute the same scores."""
        return self._layers
