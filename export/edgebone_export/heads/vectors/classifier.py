"""Fit a classifier on the vectors of a frozen backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgebone_export.errors import ExportError
from edgebone_export.heads.data.sample_checks import check_classes, check_varied, check_vectors
from edgebone_export.heads.data.splits import folds_of
from edgebone_export.heads.features.fitted import Features, FittedHead, OnVectors, Samples
from edgebone_export.heads.kinds import ClassifierSettings
from edgebone_export.heads.report import MOST, Report, percent_text, share_text, vector_lines
from edgebone_export.heads.vectors import ridge
from edgebone_export.heads.vectors.calibration import platt, temperature_of
from edgebone_export.heads.vectors.cross_validation import Path, Start, Validated, fit, fit_and_validate
from edgebone_export.heads.vectors.graph import Layer, computed, folded, write_graph
from edgebone_export.heads.vectors.logistic import STRENGTHS, UNTRIED, LogisticPath
from edgebone_export.heads.vectors.metrics import Rows, classification_figures, log_loss, softmax
from edgebone_export.heads.vectors.mlp import EPOCHS, NetworkPath
from edgebone_export.heads.vectors.operating_points import (
    SETTINGS,
    Wanted,
    decision_figures,
    decision_lines,
    decoder_params,
)
from edgebone_export.heads.vectors.prototypes import PrototypePath
from edgebone_export.heads.vectors.standardize import standardizer
from edgebone_export.need_packages import need

Kind = Literal["linear", "logistic", "mlp", "prototype"]

_STEPS: dict[str, tuple[float, ...]] = {
    "linear": ridge.STRENGTHS,
    "logistic": STRENGTHS,
    "mlp": EPOCHS,
    "prototype": (0.0,),
}
_STEP_NAMES = {"linear": "strength", "logistic": "strength", "mlp": "epochs", "prototype": "step"}
_PATIENCE = {"linear": 1, "logistic": 1, "mlp": 5, "prototype": 0}
# Defaults for data without a class of two pictures, where nothing can be tested.
_UNTRIED = {"linear": ridge.UNTRIED, "logistic": UNTRIED, "mlp": 19, "prototype": 0}
_CLOSE = 1e-4


def fit_classifier(
    train: Samples,
    held_out: Samples | None,
    labels: Sequence[str],
    *,
    kind: Kind = "linear",
    balanced: bool = True,
    folds: int = 5,
    hidden: int = 256,
    positive: str | None = None,
    sensitivity: float | None = None,
    abstain: tuple[float, float] | None = None,
    abstain_below: float | None = None,
    decision_accuracy: float | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> FittedHead:
    """Fit a classifier, choose its settings by cross-validation, and calibrate it.

    All choices are made on ``train``: the regularisation or number of epochs, the temperature and the operating point,
    on predictions for pictures that the predicting model had not seen. ``held_out`` is only measured on.

    With a positive class, its probability is calibrated to its frequency among pictures like those of ``train``.
    Without one, and with ``balanced``, probabilities assume that all classes are equally frequent.

    Args:
        train: Vectors and int class ids to fit on.
        held_out: Vectors and int class ids to measure on.
        labels: Class names by id; each needs a picture in ``train``. A class with one picture is trained on but cannot
            be tested, which the report notes.
        kind: ``linear`` is ridge regression onto the classes, ``logistic`` multinomial logistic regression, ``mlp`` has
            one hidden layer, ``prototype`` compares with the mean direction of each class, for few pictures per class.
        balanced: Weight each class equally, whatever its number of pictures.
        folds: Number of folds of cross-validation.
        hidden: Size of the hidden layer of ``mlp``.
        positive: The positive class of two.
        sensitivity: Share of positive pictures that decisions must find; chooses the threshold.
        abstain: Two probabilities of the positive class between which the head abstains.
        abstain_below: For any number of classes: abstain if the best one is less probable.
        decision_accuracy: Share of decisions that must be right; chooses when to abstain: a band with
            ``positive``, ``abstain_below`` without.
        seed: Seed of folds, initial weights and dropout. The same call produces the same graph.
        progress: Called with progress lines.

    Returns:
        The head, for the decoder ``classification@1``; its graph returns calibrated logits.

    Raises:
        ExportError: Samples or settings are not valid, or the operating point cannot be reached.
        MissingDependencyError: scikit-learn, SciPy, torch or onnx is not installed.
    """
    began = time.perf_counter()
    need("fitting heads", "heads", "scipy", "sklearn", "torch", "onnx")
    labels = tuple(map(str, labels))
    wanted = Wanted(positive, sensitivity, abstain, abstain_below, decision_accuracy)
    y = _checked(train, held_out, labels, kind, folds, hidden)
    wanted.check(labels)
    scaling = standardizer(train.x)
    x = computed([scaling], train.x)
    start = _starter(kind, x, y, balanced, len(labels), hidden, seed)
    fold = folds_of(y, train.group, folds, seed)
    testable = bool((fold >= 0).any())
    if not testable and wanted.chosen_on_predictions:
        raise ExportError("an operating point is chosen on pictures not trained on: pass two or more of a class")
    tests: dict[str, tuple[Features, Rows, Rows]] = {}
    params = {"activation": "softmax", "top_k": min(5, len(labels))}
    if testable:
        found = _validated(kind, start, x, y, fold, balanced, progress)
        own, step = found.layers, found.step
        tests["cross_validation"] = (found.scores, y[found.rows], train.picture[found.rows])
        calibration = _calibration(
            found.scores, y[found.rows], len(np.unique(train.picture[found.rows])), labels, wanted.positive
        )
        params |= decoder_params(wanted, labels, softmax(calibration.of(found.scores)), y[found.rows])
    else:
        step, calibration = _UNTRIED[kind], _Calibration(1.0, np.zeros(len(labels)))
        own = fit(start, len(y), _STEPS[kind][: step + 1])
        params |= decoder_params(wanted, labels, np.empty((0, len(labels))), np.empty(0, np.int64))
    layers = folded([scaling, *own], calibration.temperature, calibration.offset)
    _check_same(layers, train.x, own, x, calibration)
    if held_out is not None:
        logits = computed(own, computed([scaling], held_out.x))
        tests["held_out"] = (logits, np.asarray(held_out.y, np.int64), held_out.picture)
    report: dict[str, Any] = {
        "task": "classification",
        "kind": kind,
        "features": train.x.shape[1],
        "train": _counts(y, train.picture, labels),
        "balanced": balanced,
        "seed": seed,
        "chosen": _chosen(kind, step, hidden),
        "temperature": round(calibration.temperature, 6),
        "offset": dict(zip(labels, calibration.offset.round(6).tolist(), strict=True)) if positive else None,
        "never_tested": [labels[index] for index in np.setdiff1d(y, y[fold >= 0])],
        "cross_validation": None,
        "held_out": None,
    }
    report |= {
        name: classification_figures(logits, calibration.of(logits), truth, picture, labels)
        for name, (logits, truth, picture) in tests.items()
    }
    if testable:
        report["cross_validation"] |= {**_folds(found, y), "tried": found.tried}
    if wanted.anything:
        report["decision"] = {name: value for name, value in params.items() if name in SETTINGS} | {
            name: decision_figures(params, labels, softmax(calibration.of(logits)), truth, len(np.unique(picture)))
            for name, (logits, truth, picture) in tests.items()
        }
    graph, outputs = write_graph(layers, train.x.shape[1], "logits", len(labels))
    report["seconds"] = round(time.perf_counter() - began, 2)
    return FittedHead(graph, outputs, "classification@1", labels, params, report)


@dataclass(frozen=True)
class _Calibration:
    """Calibration of scores: division by a temperature, and an offset per class."""

    temperature: float
    offset: NDArray[np.float64]

    def of(self, scores: Features) -> Features:
        """Return calibrated logits (n, classes)."""
        return np.asarray(scores / np.float32(self.temperature) + self.offset.astype(np.float32), np.float32)


def _calibration(
    scores: Features, y: Rows, pictures: int, labels: tuple[str, ...], positive: str | None
) -> _Calibration:
    """Return a temperature; with a positive class also an offset, so that its probability matches its frequency.

    A head fitted with equal class weights assumes that a rare class is as frequent as the others.
    """
    offset = np.zeros(len(labels))
    if positive is None:
        return _Calibration(temperature_of(scores, y, pictures), offset)
    place = labels.index(positive)
    factor, offset[place] = platt(scores[:, place] - scores[:, 1 - place], y == place)
    return _Calibration(1 / factor, offset)


def _checked(
    train: Samples, held_out: Samples | None, labels: tuple[str, ...], kind: str, folds: int, hidden: int
) -> Rows:
    """Check all arguments and return the training classes."""
    if kind not in _STEPS:
        raise ExportError(f"a classifier must be one of {', '.join(_STEPS)}, found {kind!r}")
    if folds < 2 or hidden < 1:
        raise ExportError(f"expected at least 2 folds and a hidden layer of at least 1, found {folds} and {hidden}")
    check_vectors(train, "the samples to fit on")
    y = check_classes(train, labels, "the samples to fit on")
    counts = np.bincount(y, minlength=len(labels))
    if (counts > 0).sum() < 2:
        raise ExportError(
            f"all pictures have one class ({labels[int(counts.argmax())]!r}); a classifier needs two or more"
        )
    if held_out is not None:
        check_vectors(held_out, "the held-out samples", train.x.shape[1])
        seen = np.bincount(check_classes(held_out, labels, "the held-out samples"), minlength=len(labels))
        only = [labels[index] for index in np.flatnonzero((counts == 0) & (seen > 0))]
        if only:
            raise ExportError(
                f"only the held-out samples have {', '.join(map(repr, only[:5]))}{' …' if len(only) > 5 else ''}: "
                "classes without training pictures cannot be recognised; add some"
            )
    empty = [labels[index] for index in np.flatnonzero(counts == 0)]
    if empty:
        raise ExportError(
            f"no training picture of {', '.join(map(repr, empty[:5]))}{' …' if len(empty) > 5 else ''}; add some, or "
            "remove it from the labels"
        )
    check_varied(train, "the samples to fit on")
    return y


def _row_weights(y: Rows, classes: int, balanced: bool) -> NDArray[np.float64]:
    counts = np.bincount(y, minlength=classes)
    return 1 / counts[y] if balanced else np.ones(len(y))


def _starter(kind: str, x: Features, y: Rows, balanced: bool, classes: int, hidden: int, seed: int) -> Start:
    weights = _row_weights(y, classes, balanced)
    kinds: dict[str, Callable[..., Path]] = {
        "linear": partial(ridge.RidgePath, balanced=balanced),
        "logistic": LogisticPath,
        "mlp": partial(NetworkPath, hidden=hidden, seed=seed),
        "prototype": PrototypePath,
    }
    return lambda rows: kinds[kind](x[rows], y[rows], weights[rows], classes)


def _validated(
    kind: str, start: Start, x: Features, y: Rows, fold: Rows, balanced: bool, progress: Callable[[str], None]
) -> Validated:
    weights = _row_weights(y, int(y.max()) + 1, balanced)

    def judge(scores: Features, rows: Rows) -> dict[str, float]:
        # Calibrated before it is judged, as the head will be: overconfidence alone does not make a model worse.
        calibrated = scores / np.float32(temperature_of(scores, y[rows], len(rows)))
        return {
            "accuracy": float((scores.argmax(axis=1) == y[rows]).mean()),
            "loss": log_loss(calibrated, y[rows], weights[rows]),
        }

    return fit_and_validate(start, x, fold, _STEPS[kind], judge, _PATIENCE[kind], progress, _STEP_NAMES[kind])


def _chosen(kind: str, step: int, hidden: int) -> dict[str, Any]:
    if kind == "prototype":
        return {}
    return {_STEP_NAMES[kind]: _STEPS[kind][step], **({"hidden": hidden} if kind == "mlp" else {})}


def _counts(y: Rows, picture: Rows, labels: tuple[str, ...]) -> dict[str, Any]:
    pairs = np.unique(np.stack([y, picture]), axis=1)
    pictures = np.bincount(pairs[0], minlength=len(labels)).tolist()
    return {
        "rows": len(y),
        "pictures": len(np.unique(picture)),
        "pictures_of": [[*row] for row in zip(labels, pictures, strict=True)],
    }


def _folds(validation: Validated, y: Rows) -> dict[str, Any]:
    hits = validation.scores.argmax(axis=1) == y[validation.rows]
    numbers = range(int(validation.fold.max()) + 1)
    accuracies = [round(float(hits[validation.fold == number].mean()), 6) for number in numbers]
    return {"folds": len(accuracies), "fold_accuracies": accuracies}


def _check_same(
    layers: Sequence[Layer], x: Features, own: Sequence[Layer], standardized: Features, calibration: _Calibration
) -> None:
    """Reject layers that lost accuracy to rounding, as with large numbers that hardly differ."""
    few = np.linspace(0, len(x) - 1, min(len(x), 256)).astype(int)
    off = np.abs(softmax(computed(layers, x[few])) - softmax(calibration.of(computed(own, standardized[few]))))
    if not off.max() <= _CLOSE:
        raise ExportError(
            f"the head's probabilities would be off by {off.max():.2g} from rounding: its features are large numbers "
            "that differ little; subtract their common part first"
        )


def fit_from_settings(given: OnVectors, settings: ClassifierSettings) -> FittedHead:
    """Fit the requested kind of classifier; see :func:`fit_classifier`."""
    kind: Kind = given.kind  # type: ignore[assignment]
    return fit_classifier(
        given.train, given.held_out, given.names,
        kind=kind, **settings.said(), seed=given.seed, progress=given.progress,
    )  # fmt: skip


def lines(report: Report) -> list[str]:
    """Return the report of a classifier as text lines."""
    return vector_lines(report, _measured)


def _measured(name: str, found: Report, report: Report) -> list[str]:
    text = [
        f"{name}: accuracy {share_text(found['accuracy'])}, macro F1 {found['macro_f1']:.3f}; calibration error "
        f"{percent_text(found['ece_before'])} before, {percent_text(found['ece'])} after"
    ]
    if "fold_accuracies" in found:
        text[0] += f"; the {found['folds']} parts: " + ", ".join(
            percent_text(value) for value in found["fold_accuracies"]
        )
    if name == "held out" or report["held_out"] is None:
        text += [
            f"  {row['true']} taken for {row['predicted']}: {row['count']} times ({percent_text(row['share_of_true'])})"
            for row in found["confusions"][:MOST]
        ]
    return text + decision_lines(name, report)
