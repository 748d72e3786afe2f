"""Fits a classifier on the vectors of a frozen backbone."""

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
# Where no class has two pictures, nothing can be tried: what has served well otherwise.
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
    """Fit a classifier, choose what there is to choose by cross-validation, and calibrate it.

    All choices are made on ``train``: the regularisation or the number of epochs, the temperature and the operating
    point on predictions for pictures that the predicting model had not seen. ``held_out`` is only measured on.

    With a positive class, its probability is how often it is there among pictures like those of ``train``. Without one,
    and with ``balanced``, probabilities are those of a world in which all classes are as frequent.

    Args:
        train: Vectors and int class ids to fit on.
        held_out: The same to measure on.
        labels: The classes' names, by id; each needs a picture in ``train``. A class with one picture is learned from,
            but could not be tested: the report says so.
        kind: ``linear`` is ridge regression onto the classes, ``logistic`` multinomial logistic regression, ``mlp`` has
            one hidden layer, ``prototype`` compares with the mean direction of each class, for a few pictures a class.
        balanced: Let each class count the same, however many pictures it has.
        folds: How many parts cross-validation has.
        hidden: Size of the hidden layer of ``mlp``.
        positive: Of two classes, the one that decisions are about.
        sensitivity: The share of positive pictures that decisions must find; chooses the threshold.
        abstain: Probabilities of the positive class between which nothing is decided.
        abstain_below: For any number of classes: nothing is decided where the best one is less probable.
        decision_accuracy: The share of decisions that must be right; chooses what is abstained on: a band with
            ``positive``, ``abstain_below`` without.
        seed: Of folds, first weights and dropout. The same call gives the same graph.
        progress: Told what happens, in lines.

    Returns:
        The head, for the decoder ``classification@1``; its graph gives calibrated logits.

    Raises:
        ExportError: Samples or settings that nothing can be fitted on, or wishes that cannot be reached.
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
        raise ExportError("an operating point is chosen on pictures that were not learned from: give two of a class")
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
    """What makes probabilities of scores: they are divided by a temperature, and an offset a class is added."""

    temperature: float
    offset: NDArray[np.float64]

    def of(self, scores: Features) -> Features:
        """Calibrated logits (n, classes)."""
        return np.asarray(scores / np.float32(self.temperature) + self.offset.astype(np.float32), np.float32)


def _calibration(
    scores: Features, y: Rows, pictures: int, labels: tuple[str, ...], positive: str | None
) -> _Calibration:
    """A temperature; with a positive class an offset, too, so that its probability is how often it is there.

    Fitted with classes that count the same, a head takes a rare class for as frequent as the others.
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
    """The classes to fit on, once all is found to be in order."""
    if kind not in _STEPS:
        raise ExportError(f"a classifier is {', '.join(_STEPS)}, not {kind!r}")
    if folds < 2 or hidden < 1:
        raise ExportError(f"needs at least 2 folds and a hidden layer of at least 1, got {folds} and {hidden}")
    check_vectors(train, "the samples to fit on")
    y = check_classes(train, labels, "the samples to fit on")
    counts = np.bincount(y, minlength=len(labels))
    if (counts > 0).sum() < 2:
        raise ExportError(
            f"there are pictures of one class only ({labels[int(counts.argmax())]!r}); a classifier needs two or more"
        )
    if held_out is not None:
        check_vectors(held_out, "the held-out samples", train.x.shape[1])
        seen = np.bincount(check_classes(held_out, labels, "the held-out samples"), minlength=len(labels))
        only = [labels[index] for index in np.flatnonzero((counts == 0) & (seen > 0))]
        if only:
            raise ExportError(
                f"only the held-out samples have {', '.join(map(repr, only[:5]))}{' …' if len(only) > 5 else ''}: what "
                "was never learned from cannot be recognised; put pictures of it among those to fit on"
            )
    empty = [labels[index] for index in np.flatnonzero(counts == 0)]
    if empty:
        raise ExportError(
            f"there is no picture of {', '.join(map(repr, empty[:5]))}{' …' if len(empty) > 5 else ''} to fit on; give "
            "some, or leave it out of the labels"
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
        # Calibrated before it is judged, as the head will be: what is only too sure of itself is not worse for that.
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
    """Refuse layers that lost what was fitted to rounding, as large numbers that hardly differ do."""
    few = np.linspace(0, len(x) - 1, min(len(x), 256)).astype(int)
    off = np.abs(softmax(computed(layers, x[few])) - softmax(calibration.of(computed(own, standardized[few]))))
    if not off.max() <= _CLOSE:
        raise ExportError(
            f"the head's probabilities would be off by {off.max():.2g} from rounding: its features are large numbers "
            "that differ little; subtract what they have in common first"
        )


def fit_asked(given: OnVectors, settings: ClassifierSettings) -> FittedHead:
    """Fit the kind of classifier that is asked for; see :func:`fit_classifier`."""
    kind: Kind = given.kind  # type: ignore[assignment]
    return fit_classifier(
        given.train, given.held_out, given.names,
        kind=kind, **settings.said(), seed=given.seed, progress=given.progress,
    )  # fmt: skip


def lines(report: Report) -> list[str]:
    """The report of such a head, for a person."""
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
