"""Fit an embedding of a frozen backbone's vectors: similar pictures are close to each other on a sphere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone_export.errors import ExportError
from edgebone_export.heads.data.sample_checks import check_classes, check_varied, check_vectors
from edgebone_export.heads.data.splits import folds_of
from edgebone_export.heads.features.fitted import Features, FittedHead, OnVectors, Samples
from edgebone_export.heads.kinds import EmbeddingSettings
from edgebone_export.heads.report import Report, percent_text, share_text, vector_lines
from edgebone_export.heads.vectors.cores import one_core_per_call
from edgebone_export.heads.vectors.graph import Affine, Layer, Unit, computed, write_graph
from edgebone_export.heads.vectors.metrics import Rows, share
from edgebone_export.need_packages import need

_WHAT = "the samples to fit on"
# Directions that vary less than this share of the most varied one are noise, which whitening would amplify.
_LEAST_VARIANCE = 1e-4
# Share of the spread within classes that is assumed equal in all directions.
_SHRINKAGE = 0.1
_MOST_FOR_LDA = 512
# Half whitening: full whitening lost 4 % of the nearest neighbours of groceries in other shops, also at 256 numbers.
_WHITENING = 0.5
_ENOUGH = 2
_KINDS = ("plain", "pca", "lda")
_USUAL_DIMENSION = 256
_BLOCK = 1024


@dataclass(frozen=True)
class _Principal:
    """Mean (d,), directions of length 1 (d, k), and the spread of vectors along them (k,); float64."""

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    spreads: NDArray[np.float64]


def fit_embedding(
    train: Samples,
    labels: Sequence[str] = (),
    held_out: Samples | None = None,
    *,
    dimension: int | None = None,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> FittedHead:
    """Fit the projection of vectors onto a sphere that finds pictures of the same class best.

    Candidates are the plain vectors (``plain``), ``pca`` with each direction divided by the square root of its spread,
    and linear discriminant analysis (``lda``) with shrinkage, compared by the share of pictures whose nearest neighbour
    among the other folds' pictures has the same class. PCA sees all vectors, since it does not use classes. Without
    classes the choice is ``pca`` if there are enough pictures for it.

    Args:
        train: Vectors to fit on, and int class ids; without classes ``y`` is empty, or -1 for all.
        labels: Class names; empty without classes.
        held_out: Vectors and class ids to measure whether the nearest neighbour in ``train`` has the same class.
        dimension: Largest length of a vector; None limits a projected one to 256, and keeps the size of plain vectors.
        folds: Number of folds of cross-validation.
        seed: Seed of the folds. The same call produces the same graph.
        progress: Called with progress lines.

    Returns:
        The head, for the decoder ``embedding@1``; its graph returns vectors of length 1, or zeros for zeros.

    Raises:
        ExportError: The samples are not valid.
        MissingDependencyError: onnx or threadpoolctl is not installed.
    """
    began = time.perf_counter()
    need("fitting heads", "heads", "onnx", "threadpoolctl")
    check_vectors(train, _WHAT)
    check_varied(train, _WHAT)
    most = _USUAL_DIMENSION if dimension is None else dimension
    if most < 1 or folds < 2:
        raise ExportError(f"expected a dimension of 1 or more and 2 folds or more, found {most} and {folds}")
    kinds = _KINDS if dimension is None or train.x.shape[1] <= most else _KINDS[1:]
    y = _classes(train, labels)
    pictures = len(np.unique(train.picture))
    report: dict[str, Any] = {
        "task": "embedding",
        "features": train.x.shape[1],
        "train": {"rows": len(train.x), "pictures": pictures},
        "seed": seed,
        "cross_validation": None,
        "held_out": None,
    }
    fold = np.full(len(train.x), -1) if y is None else folds_of(y, train.group, folds, seed)
    with one_core_per_call():
        principal = _principal(train.x)
        if y is not None and (fold >= 0).any():
            hits = {kind: _hits(kind, principal, train.x, y, fold, most) for kind in kinds}
            tried = {kind: round(float(own.mean()), 6) for kind, own in hits.items()}
            # On a tie, the simplest.
            kind = max(tried, key=lambda name: tried[name])
            report["cross_validation"] = {
                "folds": int(fold.max()) + 1,
                "accuracy": share(hits[kind], len(np.unique(train.picture[fold >= 0]))),
                "tried": [{"kind": name, "accuracy": accuracy} for name, accuracy in tried.items()],
            }
            progress(", ".join(f"{name}: {100 * accuracy:.1f} %" for name, accuracy in tried.items()))
        else:
            # The spread along a direction is known only after a few samples of it.
            enough = pictures >= _ENOUGH * min(most, train.x.shape[1])
            kind = "pca" if enough or "plain" not in kinds else "plain"
            report["why"] = f"no classes to compare by; {kind} suits {pictures} pictures in {most} dimensions"
        layers = _projection(kind, principal, train.x, y, most)
    width = next((layer.weight.shape[1] for layer in layers if isinstance(layer, Affine)), train.x.shape[1])
    if y is not None and held_out is not None:
        check_vectors(held_out, "the held-out samples", train.x.shape[1])
        truth = check_classes(held_out, labels, "the held-out samples")
        right = _nearest_is_alike(layers, train.x, y, held_out.x, truth)
        report["held_out"] = {"accuracy": share(right, len(np.unique(held_out.picture)))}
    report["kind"] = kind
    report["chosen"] = {"kind": kind, "dimension": width}
    # Not named embedding: the tap that such a head usually reads, and so its input, has that name.
    graph, outputs = write_graph(layers, train.x.shape[1], "unit_vector", width)
    report["seconds"] = round(time.perf_counter() - began, 2)
    return FittedHead(graph, outputs, "embedding@1", (), {}, report)


def _classes(train: Samples, labels: Sequence[str]) -> Rows | None:
    y = np.asarray(train.y)
    if not y.size or (y == -1).all():
        return None
    classes = check_classes(train, labels, _WHAT)
    return classes if len(np.unique(classes)) > 1 else None


def _hits(kind: str, principal: _Principal, x: Features, y: Rows, fold: Rows, dimension: int) -> NDArray[np.bool_]:
    """Return whether each tested row's nearest neighbour, in a space fitted without its class, has its class."""
    hits = np.zeros(len(x), np.bool_)
    for number in range(int(fold.max()) + 1):
        test, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        layers = _projection(kind, principal, x[rest], y[rest], dimension)
        hits[test] = _nearest_is_alike(layers, x[rest], y[rest], x[test], y[test])
    return hits[fold >= 0]


def _nearest_is_alike(layers: Sequence[Layer], known: Features, y: Rows, x: Features, truth: Rows) -> NDArray[np.bool_]:
    """Return whether the nearest neighbour of each row of x among the known rows has its class."""
    vectors = computed(layers, known)
    found = [
        y[(computed(layers, x[start : start + _BLOCK]) @ vectors.T).argmax(axis=1)]
        for start in range(0, len(x), _BLOCK)
    ]
    return np.asarray(np.concatenate(found) == truth, np.bool_)


def _projection(kind: str, principal: _Principal, x: Features, y: Rows | None, dimension: int) -> tuple[Layer, ...]:
    if kind == "plain":
        return (Unit(),)
    directions = principal.directions[:, :dimension] / principal.spreads[:dimension] ** _WHITENING
    if kind == "lda" and y is not None:
        every = principal.directions[:, :_MOST_FOR_LDA] / principal.spreads[:_MOST_FOR_LDA]
        offset = principal.mean @ every
        narrow = computed([Affine(every, -offset)], x).astype(np.float64)
        directions = every @ _discriminants(narrow, y)[:, :dimension]
    return (Affine(directions, -principal.mean @ directions), Unit())


def _principal(x: Features) -> _Principal:
    """Return the directions in which vectors vary, largest first, computed in the smaller of the two spaces."""
    mean = x.mean(axis=0, dtype=np.float64)
    off = x - mean.astype(np.float32)
    scale = float(np.abs(off).max())
    off /= np.float32(scale)
    n, d = off.shape
    # In float32: the kept directions vary enough for it, and it takes a tenth of the time.
    variances, vectors = np.linalg.eigh((off.T @ off if n >= d else off @ off.T) / n)
    kept = variances > _LEAST_VARIANCE * variances[-1]
    variances, vectors = variances[kept][::-1].astype(np.float64), vectors[:, kept][:, ::-1].astype(np.float64)
    if n < d:
        vectors = off.T @ vectors / np.sqrt(n * variances)
    return _Principal(mean, vectors, scale * np.sqrt(variances))


def _discriminants(z: NDArray[np.float64], y: Rows) -> NDArray[np.float64]:
    """Return the directions (k, m) with the largest variance between classes relative to within (Fisher, 1936)."""
    classes, place = np.unique(y, return_inverse=True)
    counts = np.bincount(place)
    means = np.zeros((len(classes), z.shape[1]))
    np.add.at(means, place, z)
    means /= counts[:, None]
    off = z - means[place]
    within = off.T @ off / len(z)
    even = np.trace(within) / len(within) + np.finfo(float).tiny
    variances, vectors = np.linalg.eigh((1 - _SHRINKAGE) * within + _SHRINKAGE * even * np.eye(len(within)))
    # Coordinates in which classes have variance 1 in every direction.
    to_even = vectors / np.sqrt(variances)
    spread = (means - z.mean(axis=0)) @ to_even
    _, best = np.linalg.eigh((spread * counts[:, None]).T @ spread)
    return np.asarray(to_even @ best[:, ::-1][:, : min(len(classes) - 1, z.shape[1])])


def fit_from_settings(given: OnVectors, settings: EmbeddingSettings) -> FittedHead:
    """See :func:`fit_embedding`."""
    return fit_embedding(
        given.train, given.names, given.held_out, **settings.said(), seed=given.seed, progress=given.progress
    )


def lines(report: Report) -> list[str]:
    """Return the report of an embedding as text lines."""
    return vector_lines(report, _measured)


def _measured(name: str, found: Report, _: Report) -> list[str]:
    tried = ", ".join(f"{row['kind']} {percent_text(row['accuracy'])}" for row in found.get("tried", ()))
    line = f"{name}: nearest neighbour of the same class {share_text(found['accuracy'])}"
    return [line + f"; tried: {tried}" * bool(tried)]
