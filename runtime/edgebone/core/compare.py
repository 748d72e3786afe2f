"""Compares raw outputs with a reference, within tolerances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgebone.core.boxes import SAME_IOU, SAME_SCORE, matched_share
from edgebone.core.keypoints import same_keypoints
from edgebone.core.manifest import Head
from edgebone.core.oriented import hull_rows, same_oriented
from edgebone.core.tensors import Array

Comparison = Literal["values", "scores", "boxes", "instances", "oriented", "keypoints_xy", "keypoints_xyc", "classes"]
"""How an output is compared: as values; as class scores with their best class; as rows of boxes (n, k, 6), of boxes
with a vector (n, k, 6 + …), of oriented boxes (n, k, 7) or of boxes with keypoints of two values or three
(n, k, 6 + …); or as class maps."""
ROWS = frozenset[Comparison](("boxes", "instances", "oriented", "keypoints_xy", "keypoints_xyc"))
"""The comparisons of rows, in which a box of the same class, score and place is searched for."""

_LEAST_SIZE = 1e-12


@dataclass(frozen=True)
class Tolerance:
    """How far outputs may be off.

    Attributes:
        max_rel: Largest allowed difference of a value, as a share of the largest reference value.
        max_abs: Largest absolute difference that is allowed whatever that share.
        cosine: Least allowed cosine similarity of a picture's values.
        matched: Least share of a picture's boxes that match the reference, 0 to 1.
        equal: Least share of a picture's pixels that have the reference class, 0 to 1.
        iou: The overlap from which two boxes are the same.
        score_within: How far the scores of the same box may differ.
        vector: Least cosine similarity of what a box has beside its six numbers.
        full: The lists were cut to a number of best boxes; see :func:`edgebone.core.boxes.matched_share`.
    """

    max_rel: float = np.inf
    max_abs: float = 0.0
    cosine: float = -np.inf
    # Where boxes and classes are chosen by score, rounding decides between equal scores; a wrong decoding matches none.
    matched: float = 0.99
    equal: float = 0.999
    iou: float = SAME_IOU
    score_within: float = SAME_SCORE
    vector: float = 0.999
    full: bool = True


# FP32 sums in another order differ in the sixth digit; in deep networks this adds up to a few times that.
FP32 = Tolerance(max_rel=1e-3, cosine=0.9999)
# BF16 keeps 8 bits of each number: outputs point in the same direction but differ by a few percent. A correct box moves
# a little, a wrong one a lot.
REDUCED = Tolerance(cosine=0.99, matched=0.9, equal=0.97, iou=0.5, score_within=0.15, vector=0.9, full=False)
# A head's graph against the head itself, in FP32: only the rounding of another order of sums.
HEAD = Tolerance(max_rel=1e-4, max_abs=1e-4)
# With fewer bits an engine fuses the rounding of a tap with what follows it, so that values move by a step.
REDUCED_HEAD = replace(REDUCED, cosine=0.98)
# The same network on the same input, at the same precision: only the order of sums may differ.
SAME_INPUT = replace(REDUCED, cosine=0.9999, matched=0.99, equal=0.99)


@dataclass(frozen=True)
class Difference:
    """The difference of an output from the reference, for its worst picture; None where a figure does not apply.

    Attributes:
        max_abs: Largest difference of a value.
        max_rel: The same as a share of the largest reference value.
        cosine: Smallest cosine similarity of a picture's values.
        matched: Smallest share of a picture's boxes that match the reference, 0 to 1.
        equal: Smallest share of a picture's pixels that have the reference class, 0 to 1.
        top1: Share of the pictures with the same best class, 0 to 1.
        finite: Whether the output is free of NaN and infinity.
    """

    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = None
    matched: float | None = None
    equal: float | None = None
    top1: float | None = None
    finite: bool = True


def comparison_of(head: Head | None, dtype: np.dtype[Any], axes: int = 3) -> Comparison:
    """Return how an output of a dtype and a number of axes is compared; ``head`` is the head that reads it, if any."""
    decoder = head.decoder if head is not None else ""
    if decoder.startswith("boxes@"):
        return "boxes"
    if axes == 3 and decoder.startswith(("instances@", "roi-masks@")):
        return "instances"
    if decoder.startswith("oriented@"):
        return "oriented"
    if head is not None and decoder.startswith("keypoints@"):
        return "keypoints_xy" if head.params.get("dims") == 2 else "keypoints_xyc"
    if dtype.kind in "ui":
        return "classes"
    return "scores" if decoder.startswith("classification@") else "values"


def compare_shown(have: Array, want: Array, head: Head | None, tolerance: Tolerance) -> Difference:
    """Compare a head's output; boxes from the head's score threshold up, or from the nearest score below it."""
    how = comparison_of(head, want.dtype, want.ndim)
    shown = nearest_score(want, float(head.params["score"])) if head is not None and how in ROWS else 0.0
    return compare(have, want, how, tolerance, shown)


def compare(have: Array, want: Array, how: Comparison, tolerance: Tolerance, least_score: float = 0.0) -> Difference:
    """Compare an output of several pictures.

    Args:
        have: The output, (n, …).
        want: The reference, of the same shape.
        how: How it is compared.
        tolerance: Defines which boxes are the same.
        least_score: Boxes with a lower score are not looked for.
    """
    if not np.isfinite(have).all():
        return Difference(np.inf, np.inf, 0.0, 0.0, 0.0, finite=False)
    if how in ROWS:
        # Rounding changes the order by score, so boxes are searched for, not compared row by row.
        shares = [
            matched_share(
                *((hull_rows(a), hull_rows(b)) if how == "oriented" else (a, b)),
                min_score=least_score,
                full=tolerance.full,
                iou=tolerance.iou,
                score_within=tolerance.score_within,
                alike=_alike(a, b, how, tolerance),
            )
            for a, b in zip(have, want, strict=True)
        ]
        return Difference(matched=min(shares))
    if how == "classes":
        return Difference(equal=float(_rows(have == want).mean(axis=1).min()))
    a, b = _rows(have.astype(np.float64)), _rows(want.astype(np.float64))
    top1 = float(np.mean(a.argmax(axis=1) == b.argmax(axis=1))) if how == "scores" else None
    return Difference(*_largest(a, b), float(_cosines(a, b).min()), top1=top1)


def _alike(a: Array, b: Array, how: Comparison, tolerance: Tolerance) -> NDArray[np.bool_] | None:
    """Return which rows are the same in what a box does not say: bool (n, m); None if boxes say all."""
    if how == "oriented":
        return same_oriented(a, b, tolerance.iou)
    if how == "instances":
        return _same_direction(a[:, 6:], b[:, 6:], tolerance.vector)
    return None if how == "boxes" else same_keypoints(a, b, tolerance.iou, 2 if how == "keypoints_xy" else 3)


def _same_direction(a: Array, b: Array, cosine: float) -> NDArray[np.bool_] | None:
    """Return which vectors of one list point the same way as which of another, (n, m); None for vectors of nothing."""
    if not a.shape[1]:
        return None
    a, b = (rows.astype(np.float64) for rows in (a, b))
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    same: NDArray[np.bool_] = a @ b.T >= cosine * lengths
    return same


def worst(differences: Sequence[Difference]) -> Difference:
    """Return the worst of each figure."""
    found: dict[str, Any] = {"finite": all(item.finite for item in differences)}
    for name, pick in (
        ("max_abs", max), ("max_rel", max), ("cosine", min), ("matched", min), ("equal", min), ("top1", min),
    ):  # fmt: skip
        figures = [figure for item in differences if (figure := getattr(item, name)) is not None]
        found[name] = pick(figures) if figures else None
    return Difference(**found)


def fault(difference: Difference, tolerance: Tolerance) -> str:
    """Describe what is wrong, except for values (see :func:`values_within`); empty if nothing is."""
    if not difference.finite:
        return "NaN or infinity in the outputs"
    if difference.matched is not None and difference.matched < tolerance.matched:
        return f"{100 * tolerance.matched:g} % of the boxes must be the recorded ones"
    if difference.equal is not None and difference.equal < tolerance.equal:
        return f"{100 * tolerance.equal:g} % of the pixels must have the recorded class"
    return ""


def values_within(difference: Difference, tolerance: Tolerance) -> bool:
    """Return whether values are within the tolerance; boxes and classes have no values."""
    if difference.max_abs is None or difference.max_rel is None or difference.cosine is None:
        return True
    near = difference.max_abs <= tolerance.max_abs or difference.max_rel <= tolerance.max_rel
    return near and difference.cosine >= tolerance.cosine


def nearest_score(want: Array, least_score: float) -> float:
    """Return the lowest score of boxes (…, 6 or more) to look for: ``least_score``, at most half the best score."""
    return min(least_score, float(want[..., 4].max(initial=0.0)) / 2)


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the cosine similarity of two arrays, each taken as one vector, -1 to 1.

    Two zero vectors have 1, since they are equal; one zero vector has 0, and so does a number that is not finite.
    """
    return float(_cosines(a.astype(np.float64).reshape(1, -1), b.astype(np.float64).reshape(1, -1))[0])


def _cosines(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows, of (n, values)."""
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        both_zero = np.asarray(~a.any(axis=1) & ~b.any(axis=1), np.float64)
        cosines = np.divide((a * b).sum(axis=1), lengths, out=both_zero, where=lengths != 0)
    return np.where(np.isfinite(cosines), cosines, 0.0)


def _largest(have: NDArray[np.float64], want: NDArray[np.float64]) -> tuple[float, float]:
    """Return the largest difference, absolute and as a share of the largest reference value; infinite if not finite."""
    with np.errstate(all="ignore"):
        max_abs = float(np.abs(have - want).max(initial=0.0))
    if not np.isfinite(max_abs):
        return np.inf, np.inf
    return max_abs, max_abs / max(float(np.abs(want).max(initial=0.0)), _LEAST_SIZE)


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    """Return one row per picture."""
    return array.reshape(len(array), -1)
