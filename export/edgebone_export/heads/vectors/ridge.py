"""Ridge regression onto class indicators, in closed form: the linear classifier that frozen features are kindest to.

Where features outnumber the pictures of a class, logistic regression has to be stopped early or held back hard, and
takes minutes to try; this takes one matrix product, and on groceries it was seven points better.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebone_export.heads.features.fitted import Features
from edgebone_export.heads.vectors.graph import Affine, Layer

STRENGTHS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)
"""The regularisations that are tried, as shares of the features' mean variance."""
UNTRIED = STRENGTHS.index(1e-2)
"""The place of what has served well otherwise, for where nothing can be tried."""
# Between one vote a picture, which forgets rare classes, and one a class, which overrates them.
_HALF = 0.5


class RidgePath:
    """Fits with any regularisation, given the features' covariance once.

    Args:
        x: Standardised features, float32, shape (n, d).
        y: int64 classes, shape (n,).
        weights: Not looked at: ``balanced`` says how much classes count.
        classes: How many classes; one that has no row is never the answer.
        balanced: Let rare classes count more: each class's scores are divided by the root of its share.
    """

    def __init__(
        self, x: Features, y: NDArray[np.int64], weights: NDArray[np.float64], classes: int, balanced: bool
    ) -> None:
        import torch

        rows = torch.from_numpy(x)
        counts = np.bincount(y, minlength=classes).astype(np.float64)
        self._share = counts / len(y)
        self._mean = x.mean(axis=0, dtype=np.float64)
        sums = torch.zeros(classes, x.shape[1]).index_add_(0, torch.from_numpy(y), rows).numpy().astype(np.float64)
        self._moved = (sums - counts[:, None] * self._mean) / len(y)
        gram = (rows.T @ rows).numpy().astype(np.float64) / len(y)
        self._covariance = gram - np.outer(self._mean, self._mean)
        self._spread = float(np.trace(self._covariance)) / x.shape[1]
        self._weigh = np.where(counts > 0, np.maximum(self._share, 1e-12) ** -(_HALF if balanced else 0.0), 0.0)
        self._weight = np.zeros((x.shape[1], classes))
        self._bias = np.zeros(classes)

    def advance(self, strength: float) -> None:
        """Fit with this regularisation."""
        from scipy.linalg import solve

        ridge = max(strength * self._spread, 1e-12)
        system = self._covariance + ridge * np.eye(len(self._covariance))
        weight = solve(system, self._moved.T, assume_a="pos", check_finite=False)
        self._weight = weight * self._weigh
        self._bias = (self._share - self._mean @ weight) * self._weigh

    def scores(self, x: Features) -> Features:
        """Scores (n, classes) of standardised features (n, d): no log-odds until a temperature makes them."""
        return np.asarray(x @ self._weight.astype(np.float32) + self._bias.astype(np.float32), np.float32)

    def layers(self) -> tuple[Layer, ...]:
        """What computes the same scores."""
        return (Affine(self._weight, self._bias),)
