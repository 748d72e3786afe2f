"""Says in one line what is wrong with samples, before anything is fitted on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone_export.errors import ExportError
from edgebone_export.heads.features.fitted import Samples

_MOST = 1e15
"""Squares of larger numbers leave float32."""


def check_vectors(samples: Samples, what: str, size: int | None = None) -> None:
    """Refuse vectors that nothing can be fitted on.

    Args:
        samples: The samples.
        what: What they are called, for messages.
        size: How many numbers each vector must have, where that is known.

    Raises:
        ExportError: There are none, shapes do not fit, or numbers are not finite or too large.
    """
    x, n = samples.x, len(samples.x)
    if x.ndim != 2 or not n or not x.shape[1]:
        raise ExportError(f"{what}: needs vectors of shape (n, d), got {list(x.shape)}")
    if size is not None and x.shape[1] != size:
        raise ExportError(f"{what}: its vectors have {x.shape[1]} numbers, those to fit on have {size}")
    if samples.picture.shape != (n,):
        raise ExportError(f"{what}: {n} vectors need the number of a picture each, got {list(samples.picture.shape)}")
    good = np.isfinite(x)
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise ExportError(
            f"{what}: {int((~good).any(axis=1).sum())} of {n} vectors have NaN or infinity, the first is row {row}, "
            f"number {column}; check what the backbone gives for that picture"
        )
    largest = float(np.abs(x).max())
    if largest > _MOST:
        raise ExportError(f"{what}: numbers up to {largest:.3g} overflow in float32; check what the backbone gives")


def check_varied(samples: Samples, what: str) -> None:
    """Refuse vectors that are all the same.

    Raises:
        ExportError: No number differs between any two vectors.
    """
    if (samples.x == samples.x[0]).all():
        raise ExportError(
            f"{what}: all {len(samples.x)} vectors are the same, so nothing can be told apart; give several pictures, "
            "and check what the backbone gives"
        )


def check_classes(samples: Samples, labels: Sequence[str], what: str) -> NDArray[np.int64]:
    """Each row's class, int64, shape (n,).

    Raises:
        ExportError: They are no integers, not one a row, or outside of the labels.
    """
    y = np.asarray(samples.y)
    if y.shape != (len(samples.x),) or y.dtype.kind not in "iu":
        raise ExportError(
            f"{what}: needs one integer class a row ({len(samples.x)}), got {y.dtype} of shape {list(y.shape)}"
        )
    wrong = (y < 0) | (y >= len(labels))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ExportError(f"{what}: row {row} has class {int(y[row])}, there are {len(labels)} labels (from 0)")
    return y.astype(np.int64)


def check_columns(samples: Samples, names: Sequence[str], what: str, kind: str) -> NDArray[Any]:
    """What each row should lead to, shape (n, names): bool for ``kind`` ``labels``, float64 for ``values``.

    Raises:
        ExportError: The shape or the values are others.
    """
    y = np.asarray(samples.y)
    if y.shape != (len(samples.x), len(names)) or not len(names):
        raise ExportError(
            f"{what}: needs {kind} of shape ({len(samples.x)}, {len(names)}), one column a name, got {list(y.shape)}"
        )
    if len(set(names)) < len(names):
        raise ExportError(f"the names of {kind} must differ, got {', '.join(names)}")
    if kind == "labels":
        if y.dtype != np.bool_ and not np.isin(y, (0, 1)).all():
            raise ExportError(f"{what}: labels are true or false each, got {y.dtype} with other values than 0 and 1")
        return y.astype(np.bool_)
    if y.dtype.kind not in "iuf" or not np.isfinite(y).all():
        raise ExportError(f"{what}: values must be finite numbers, got {y.dtype} with NaN, infinity or none at all")
    return y.astype(np.float64)
