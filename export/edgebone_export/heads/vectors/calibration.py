"""Calibrate scores to probabilities, on predictions for pictures that were not trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebone_export.heads.vectors.metrics import Floats, Rows, sigmoid

_LEAST, _MOST = 0.02, 50.0


def temperature_of(logits: Floats, y: Rows, n: int) -> float:
    """Return the temperature of logits that maximises the likelihood of probabilities (Guo et al., ICML 2017).

    The targets are smoothed by 1 / (n + 2), as Platt (1999) does: otherwise scores that are all right would become
    certain, however few they are.

    Args:
        logits: Shape (rows, classes), of rows that were not trained on.
        y: The true classes, shape (rows,).
        n: Number of independent rows, that is, pictures.
    """
    from scipy.optimize import minimize_scalar

    smoothing = 1 / (n + 2)
    shifted = np.asarray(logits - logits.max(axis=1, keepdims=True), np.float32)
    truth = (1 - smoothing) * shifted[np.arange(len(y)), y] + smoothing * shifted.mean(axis=1)

    def loss(log_temperature: float) -> float:
        factor = np.float32(np.exp(-log_temperature))
        return float((np.log(np.exp(shifted * factor).sum(axis=1)) - factor * truth).mean())

    found = minimize_scalar(loss, bounds=(np.log(_LEAST), np.log(_MOST)), method="bounded", options={"xatol": 1e-3})
    return float(np.exp(found.x))


def platt(logits: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the factor and offset from one label's scores to log-odds (Platt, 1999, with his smoothed targets).

    Args:
        logits: Shape (n,), of rows that were not trained on.
        positive: Whether the label holds, shape (n,).

    Returns:
        The factor, above 0 to keep the order, and the offset; (1, 0) without both kinds of rows.
    """
    from scipy.optimize import minimize

    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return 1.0, 0.0
    target = np.where(positive, (n + 1) / (n + 2), 1 / (m + 2))
    scores = logits.astype(np.float64)

    def loss(v: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        factor = np.exp(v[0])
        z = factor * scores + v[1]
        residual = sigmoid(z) - target
        gradient = np.array([(residual * scores).mean() * factor, residual.mean()])
        return float((np.logaddexp(0, z) - target * z).mean()), gradient

    bounds = [(-np.log(_MOST), -np.log(_LEAST)), (-_MOST, _MOST)]
    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(np.exp(found.x[0])), float(found.x[1])


def best_f1_threshold(probabilities: Floats, positive: NDArray[np.bool_]) -> float:
    """Return the probability threshold of a label with the highest F1; 0.5 without a positive row."""
    if not positive.any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    ranked = probabilities[order].astype(np.float64)
    hits = np.cumsum(positive[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + positive.sum())
    # No threshold lies between equal probabilities.
    f1[:-1][ranked[1:] == ranked[:-1]] = -1
    return cut(ranked, int(f1.argmax()))


def cut(ranked: Floats, last: int) -> float:
    """Return the threshold halfway between the descending probability at ``last`` and the next one."""
    below = float(ranked[last + 1]) if last + 1 < len(ranked) else 0.0
    return round((float(ranked[last]) + below) / 2, 6)
