"""Fit independent labels on the vectors of a frozen backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone_export.errors import ExportError
from edgebone_export.heads.data.sample_checks import check_columns, check_varied, check_vectors
from edgebone_export.heads.data.splits import folds_of, rarest_label
from edgebone_export.heads.features.fitted import Features, FittedHead, OnVectors, Samples
from edgebone_export.heads.kinds import MultilabelSettings
from edgebone_export.heads.report import MOST, Report, number_text, percent_text, vector_lines
from edgebone_export.heads.vectors.calibration import best_f1_threshold, platt
from edgebone_export.heads.vectors.cross_validation import fit, fit_and_validate
from edgebone_export.heads.vectors.graph import Affine, computed, folded, write_graph
from edgebone_export.heads.vectors.logistic import STRENGTHS, UNTRIED, LogisticPath
from edgebone_export.heads.vectors.metrics import Floats, Rows, average_precision, f1, sigmoid
from edgebone_export.heads.vectors.standardize import standardizer
from edgebone_export.need_packages import need

_WHAT = "the samples to fit on"


def fit_multilabel(
    train: Samples,
    held_out: Samples | None,
    labels: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> FittedHead:
    """Fit one logistic regression per label, and choose a threshold for each.

    Each label's probability is calibrated (Platt, 1999), and its threshold chosen for the highest F1, on predictions
    for pictures of ``train`` that the predicting model had not seen. ``held_out`` is only measured on.

    Args:
        train: Vectors and bool labels (n, labels) to fit on.
        held_out: Vectors and bool labels to measure on.
        labels: Label names; each needs a picture in ``train`` with it and one without it.
        folds: Number of folds of cross-validation.
        seed: Seed of the folds. The same call produces the same graph.
        progress: Called with progress lines.

    Returns:
        The head, for the decoder ``multilabel@1``; its graph returns calibrated log-odds.

    Raises:
        ExportError: The samples are not valid.
        MissingDependencyError: scikit-learn, SciPy, torch or onnx is not installed.
    """
    began = time.perf_counter()
    need("fitting heads", "heads", "scipy", "sklearn", "torch", "onnx")
    labels = tuple(map(str, labels))
    if folds < 2:
        raise ExportError(f"cross-validation needs at least 2 folds, found {folds}")
    check_vectors(train, _WHAT)
    y = check_columns(train, labels, _WHAT, "labels")
    check_varied(train, _WHAT)
    for place, label in enumerate(labels):
        if y[:, place].all() or not y[:, place].any():
            raise ExportError(
                f"the label {label!r} applies to {'every' if y[:, place].all() else 'no'} training picture; add "
                "pictures of both kinds, or remove the label"
            )
    if held_out is not None:
        check_vectors(held_out, "the held-out samples", train.x.shape[1])
        held_out = Samples(
            held_out.x, check_columns(held_out, labels, "the held-out samples", "labels"), held_out.picture
        )
    scaling = standardizer(train.x)
    x = computed([scaling], train.x)
    weights = np.ones((len(y), 1))

    def start(rows: NDArray[Any]) -> LogisticPath:
        return LogisticPath(x[rows], y[rows], weights[rows], len(labels))

    def judge(scores: Features, rows: Rows) -> dict[str, float]:
        found = _mean_precision(scores, y[rows])
        return {"mAP": found, "loss": 1 - found}

    fold = folds_of(rarest_label(y), train.group, folds, seed)
    report: dict[str, Any] = {
        "task": "multilabel",
        "kind": "linear",
        "features": train.x.shape[1],
        "train": {
            "rows": len(y),
            "pictures": len(np.unique(train.picture)),
            "pictures_of": [[label, len(np.unique(train.picture[y[:, place]]))] for place, label in enumerate(labels)],
        },
        "seed": seed,
        "cross_validation": None,
        "held_out": None,
    }
    thresholds = np.full(len(labels), 0.5)
    if (fold >= 0).any():
        found = fit_and_validate(start, x, fold, STRENGTHS, judge, 1, progress, "strength")
        truth = y[found.rows]
        factors, offsets = np.array([platt(found.scores[:, at], truth[:, at]) for at in range(len(labels))]).T
        shares = sigmoid(found.scores * factors + offsets)
        thresholds = np.array([best_f1_threshold(shares[:, at], truth[:, at]) for at in range(len(labels))])
        layers, step = found.layers, found.step
        report["never_tested"] = [label for at, label in enumerate(labels) if not truth[:, at].any()]
        report["cross_validation"] = {
            "folds": int(found.fold.max()) + 1, **_figures(shares, truth, thresholds, labels), "tried": found.tried
        }  # fmt: skip
    else:
        step = UNTRIED
        layers = fit(start, len(y), STRENGTHS[: step + 1])
        factors, offsets = np.ones(len(labels)), np.zeros(len(labels))
        report["never_tested"] = list(labels)
    last = layers[-1]
    assert isinstance(last, Affine)
    whole = folded([scaling, *layers[:-1], Affine(last.weight * factors, last.bias * factors + offsets)])
    if held_out is not None:
        report["held_out"] = _figures(sigmoid(computed(whole, held_out.x)), held_out.y, thresholds, labels)
    report["chosen"] = {"strength": STRENGTHS[step]}
    graph, outputs = write_graph(whole, train.x.shape[1], "logits", len(labels))
    report["seconds"] = round(time.perf_counter() - began, 2)
    params = {"thresholds": thresholds.tolist()}
    return FittedHead(graph, outputs, "multilabel@1", labels, params, report)


def _mean_precision(scores: Floats, y: NDArray[np.bool_]) -> float:
    found = [average_precision(y[:, place], scores[:, place]) for place in range(y.shape[1])]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else 0.0


def _figures(
    shares: Floats, y: NDArray[np.bool_], thresholds: NDArray[np.float64], labels: Sequence[str]
) -> dict[str, Any]:
    """Return mAP over the labels that occur, and F1 over all decisions (micro) and as mean over labels (macro)."""
    called = shares >= thresholds
    rows = []
    for at, label in enumerate(labels):
        precision = average_precision(y[:, at], shares[:, at])
        rows.append(
            {
                "label": label,
                "support": int(y[:, at].sum()),
                "average_precision": None if precision is None else round(precision, 6),
                "f1": round(f1(y[:, at], called[:, at]), 6),
            }
        )
    seen = [row for row in rows if row["support"]]
    return {
        "rows": len(y),
        "mAP": round(_mean_precision(shares, y), 6),
        "micro_f1": round(f1(y.ravel(), called.ravel()), 6),
        "macro_f1": round(float(np.mean([row["f1"] for row in seen])), 6) if seen else None,
        "labels": rows,
    }


def fit_from_settings(given: OnVectors, settings: MultilabelSettings) -> FittedHead:
    """See :func:`fit_multilabel`."""
    return fit_multilabel(
        given.train, given.held_out, given.names, **settings.said(), seed=given.seed, progress=given.progress
    )


def lines(report: Report) -> list[str]:
    """Return the report of a multilabel head as text lines."""
    return vector_lines(report, _measured)


def _measured(name: str, found: Report, _: Report) -> list[str]:
    worst = sorted((row for row in found["labels"] if row["support"]), key=lambda row: row["f1"])[:MOST]
    return [
        f"{name}: mAP {percent_text(found['mAP'])}, F1 of all decisions {number_text(found['micro_f1'])}, mean over "
        f"labels {number_text(found['macro_f1'])}",
        *(f"  {row['label']}: F1 {row['f1']:.3f}, {row['support']} rows" for row in worst),
    ]
