"""Metrics of predictions, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.int64]

BINS = 15
_Z95 = 1.959963984540054


def wilson(share: float, n: int) -> list[float]:
    """Return the 95 % interval of a share of n (Wilson, 1927): within 0 to 1, and also right for small n."""
    if n == 0:
        return [0.0, 1.0]
    z2 = _Z95**2 / n
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * float(np.sqrt(share * (1 - share) / n + z2 / (4 * n)))
    return [round(max(0.0, middle - half), 6), round(min(1.0, middle + half), 6)]


def share(hits: NDArray[Any], n: int | None = None) -> dict[str, Any]:
    """Return the share of ``hits`` that are true, with its interval.

    Args:
        hits: bool (rows,).
        n: Number of independent rows: pictures, if rows are views of them.
    """
    n = len(hits) if n is None else n
    if not len(hits):
        return {"value": None, "interval95": [0.0, 1.0], "n": 0}
    value = float(hits.mean())
    return {"value": round(value, 6), "interval95": wilson(value, n), "n": n}


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Convert logits (n, classes) to probabilities of the same shape."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def sigmoid(logits: Floats) -> NDArray[np.float64]:
    """Convert logits to probabilities of independent labels."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))))


def log_loss(logits: Floats, y: Rows, weights: Floats | None = None) -> float:
    """Return the mean negative log-likelihood (NLL) in nats.

    Args:
        logits: Shape (n, classes).
        y: The true classes, shape (n,).
        weights: Weight of each row.
    """
    top = logits.max(axis=1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    losses = total - logits[np.arange(len(y)), y]
    return float(np.average(losses, weights=weights))


def calibration_error(probabilities: Floats, y: Rows) -> float:
    """Return the expected calibration error (ECE): confidence against accuracy over 15 even bins.

    After Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        probabilities: Shape (n, classes).
        y: The true classes, shape (n,).
    """
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == y
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=hits - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(y))


def f1(truth: NDArray[np.bool_], called: NDArray[np.bool_]) -> float:
    """Return the harmonic mean of precision and recall; 0 if nothing is true and nothing is predicted."""
    either = int(truth.sum()) + int(called.sum())
    return 2 * int((truth & called).sum()) / either if either else 0.0


def macro_f1(y: Rows, predicted: Rows) -> float:
    """Return the mean F1 over the classes that occur."""
    return float(np.mean([f1(y == index, predicted == index) for index in np.union1d(y, predicted)]))


def confusions(y: Rows, predicted: Rows, labels: Sequence[str], most: int = 10) -> list[dict[str, Any]]:
    """Return the pairs of classes that are confused most often, by count."""
    wrong = y != predicted
    pairs, counts = np.unique(np.stack([y[wrong], predicted[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    support = np.bincount(y, minlength=len(labels))
    return [
        {
            "true": labels[a],
            "predicted": labels[b],
            "count": int(counts[place]),
            "share_of_true": round(float(counts[place] / support[a]), 6),
        }
        for place in order
        for a, b in [pairs[:, place].tolist()]
    ]


def worst_classes(y: Rows, predicted: Rows, labels: Sequence[str], most: int = 10) -> list[dict[str, Any]]:
    """Return the classes with the lowest recall, with their number of rows."""
    support = np.bincount(y, minlength=len(labels))
    hits = np.bincount(y[y == predicted], minlength=len(labels))
    seen = np.flatnonzero(support)
    recall = hits[seen] / support[seen]
    order = np.lexsort((-support[seen], recall))[:most]
    return [
        {"label": labels[seen[place]], "support": int(support[seen[place]]), "recall": round(float(recall[place]), 6)}
        for place in order
    ]


def classification_figures(
    logits: Floats, calibrated: Floats, y: Rows, picture: Rows, labels: Sequence[str]
) -> dict[str, Any]:
    """Return the metrics of class scores as JSON values.

    Args:
        logits: Scores before calibration, shape (n, classes).
        calibrated: Scores after calibration.
        y: The true classes, shape (n,).
        picture: Each row's picture: intervals count pictures, since views of one are not independent.
        labels: Class names.
    """
    predicted = calibrated.argmax(axis=1)
    return {
        "rows": len(y),
        "pictures": len(np.unique(picture)),
        "accuracy": share(predicted == y, len(np.unique(picture))),
        "macro_f1": round(macro_f1(y, predicted), 6),
        "nll_before": round(log_loss(logits, y), 6),
        "nll": round(log_loss(calibrated, y), 6),
        "ece_before": round(calibration_error(softmax(logits), y), 6),
        "ece": round(calibration_error(softmax(calibrated), y), 6),
        "confusions": confusions(y, predicted, labels),
        "worst_classes": worst_classes(y, predicted, labels),
    }


def auroc(positive: NDArray[np.bool_], scores: Floats) -> float | None:
    """Return the share of positive-negative pairs that scores order correctly; None without both."""
    from sklearn.metrics import roc_auc_score

    return round(float(roc_auc_score(positive, scores)), 6) if 0 < positive.sum() < len(positive) else None


def average_precision(positive: NDArray[np.bool_], scores: Floats) -> float | None:
    """Return the average precision of scores; None without a positive row."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(positive, scores)) if positive.any() else None
