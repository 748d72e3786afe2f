"""Fit numeric values on the vectors of a frozen backbone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone_export.errors import ExportError
from edgebone_export.heads.data.sample_checks import check_columns, check_varied, check_vectors
from edgebone_export.heads.data.splits import folds_of
from edgebone_export.heads.features.fitted import FittedHead, OnVectors, Samples
from edgebone_export.heads.kinds import RegressionSettings
from edgebone_export.heads.report import Report, number_text, share_text, vector_lines
from edgebone_export.heads.vectors.cores import one_core_per_call
from edgebone_export.heads.vectors.graph import Affine, computed, folded, write_graph
from edgebone_export.heads.vectors.metrics import share
from edgebone_export.heads.vectors.standardize import standardizer
from edgebone_export.need_packages import need

Values = NDArray[np.float64]

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Regularisations to try, for rows of mean length 1."""
COVERAGE = 0.9
_WHAT = "the samples to fit on"


def fit_regression(
    train: Samples,
    held_out: Samples | None,
    names: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> FittedHead:
    """Fit values with ridge regression, and estimate their error.

    Args:
        train: Vectors and values (n, names) to fit on.
        held_out: Vectors and values to measure on.
        names: Name of each value.
        folds: Number of folds of cross-validation, which chooses the regularisation.
        seed: Seed of the folds. The same call produces the same graph.
        progress: Called with progress lines.

    Returns:
        The head, for the decoder ``regression@1``; its graph returns values in their own units. The parameter
        ``half_width`` is split-conformal (Vovk et al., "Algorithmic Learning in a Random World", 2005): nine of ten
        predictions for pictures like those of ``train`` are within it of the truth. It is computed from predictions for
        pictures that were not trained on.

    Raises:
        ExportError: The samples are not valid, or there are fewer pictures than folds.
        MissingDependencyError: onnx or threadpoolctl is not installed.
    """
    began = time.perf_counter()
    need("fitting heads", "heads", "onnx", "threadpoolctl")
    names = tuple(map(str, names))
    check_vectors(train, _WHAT)
    y = check_columns(train, names, _WHAT, "values")
    check_varied(train, _WHAT)
    pictures = len(np.unique(train.picture))
    if not 2 <= folds <= pictures:
        raise ExportError(f"cross-validation needs 2 folds or more and a picture each: found {folds} and {pictures}")
    folds = min(folds, len(np.unique(train.group)))
    if folds < 2:
        raise ExportError("all training pictures look alike, so none can be tested; add pictures of more scenes")
    mean, spread = y.mean(axis=0), y.std(axis=0)
    for name, value in zip(names, spread, strict=True):
        if not value:
            raise ExportError(f"{name!r} is the same for every training picture, so there is nothing to learn")
    truth = None
    if held_out is not None:
        check_vectors(held_out, "the held-out samples", train.x.shape[1])
        truth = check_columns(held_out, names, "the held-out samples", "values")
    scaling = standardizer(train.x)
    x = computed([scaling], train.x).astype(np.float64) / np.sqrt(train.x.shape[1])
    target = (y - mean) / spread
    fold = folds_of(np.zeros(len(y), np.int64), train.group, folds, seed)
    predicted = np.empty((len(STRENGTHS), *y.shape))

    def fit_without(number: int) -> list[tuple[Values, Values]]:
        return _ridge(x[fold != number], target[fold != number])

    with one_core_per_call(), ThreadPoolExecutor(min(folds + 1, os.cpu_count() or 1)) as pool:
        # Fold -1 does not exist: leaving it out keeps all rows.
        every, *parts = pool.map(fit_without, range(-1, folds))
    for number, fits in enumerate(parts):
        test = fold == number
        for place, (weight, bias) in enumerate(fits):
            predicted[place, test] = (x[test] @ weight + bias) * spread + mean
    tried = [
        {"strength": at, **_figures(guess, y, names, None)} for at, guess in zip(STRENGTHS, predicted, strict=True)
    ]
    means = [float(np.mean([row["r2"] for row in item["values"]])) for item in tried]
    best = int(np.argmax(means))
    progress(", ".join(f"strength {at:g}: R² {value:.4f}" for at, value in zip(STRENGTHS, means, strict=True)))
    # Errors of a picture's views are correlated: each picture counts once.
    first = np.unique(train.picture, return_index=True)[1]
    half_width = _half_width(np.abs(predicted[best] - y)[first])
    weight, bias = every[best]
    whole = folded([scaling, Affine(weight / np.sqrt(train.x.shape[1]) * spread, bias * spread + mean)])
    report: dict[str, Any] = {
        "task": "regression",
        "kind": "ridge",
        "features": train.x.shape[1],
        "train": {"rows": len(y), "pictures": pictures},
        "seed": seed,
        "chosen": {"strength": STRENGTHS[best]},
        "cross_validation": {
            "folds": folds,
            **_figures(predicted[best], y, names, None),
            "tried": [{"strength": item["strength"], "r2": [row["r2"] for row in item["values"]]} for item in tried],
        },
        "held_out": None,
    }
    if held_out is not None and truth is not None:
        report["held_out"] = _figures(computed(whole, held_out.x).astype(np.float64), truth, names, half_width)
    graph, outputs = write_graph(whole, train.x.shape[1], "values", len(names))
    params: dict[str, Any] = {"names": list(names)}
    if half_width is not None:
        params["half_width"] = half_width.tolist()
    report["seconds"] = round(time.perf_counter() - began, 2)
    return FittedHead(graph, outputs, "regression@1", (), params, report)


def _ridge(x: Values, y: Values) -> list[tuple[Values, Values]]:
    """Return weights (d, values) and offsets (values,) for each strength, computed in the smaller space."""
    centre, level = x.mean(axis=0), y.mean(axis=0)
    x, y = x - centre, y - level
    n, d = x.shape
    gram = x.T @ x if n >= d else x @ x.T
    right = x.T @ y if n >= d else y
    made = []
    for strength in STRENGTHS:
        weight = np.linalg.solve(gram + strength * n * np.eye(len(gram)), right)
        weight = weight if n >= d else x.T @ weight
        made.append((weight, level - centre @ weight))
    return made


def _half_width(off: Values) -> Values | None:
    """Return the error bound of nine of ten predictions from n errors (n, values); None if n is too small."""
    n = len(off)
    rank = int(np.ceil((n + 1) * COVERAGE))
    return None if rank > n else np.sort(off, axis=0)[rank - 1]


def _figures(predicted: Values, y: Values, names: Sequence[str], half_width: Values | None) -> dict[str, Any]:
    """Return R², mean absolute error (MAE), root mean squared error (RMSE) and coverage of the half width per value."""
    rows = []
    for at, name in enumerate(names):
        off = predicted[:, at] - y[:, at]
        total = float(((y[:, at] - y[:, at].mean()) ** 2).sum())
        row: dict[str, Any] = {
            "name": name,
            "r2": round(1 - float((off**2).sum()) / total, 6) if total else None,
            "mae": float(np.abs(off).mean()),
            "rmse": float(np.sqrt((off**2).mean())),
        }
        if half_width is not None:
            row["half_width"] = float(half_width[at])
            row["covered"] = share(np.abs(off) <= half_width[at])
        rows.append(row)
    return {"rows": len(y), "values": rows}


def fit_from_settings(given: OnVectors, settings: RegressionSettings) -> FittedHead:
    """See :func:`fit_regression`."""
    return fit_regression(
        given.train, given.held_out, given.names, **settings.said("columns"), seed=given.seed, progress=given.progress
    )


def lines(report: Report) -> list[str]:
    """Return the report of a regression as text lines."""
    return vector_lines(report, _measured)


def _measured(name: str, found: Report, _: Report) -> list[str]:
    lines = []
    for row in found["values"]:
        text = (
            f"{name}, {row['name']}: R² {number_text(row['r2'])}, mean error {number_text(row['mae'])}, "
            f"root mean square {number_text(row['rmse'])}"
        )
        if "half_width" in row:
            text += f"; {share_text(row['covered'])} within ± {number_text(row['half_width'])}"
        lines.append(text)
    return lines
