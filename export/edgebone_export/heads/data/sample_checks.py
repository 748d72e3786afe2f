"""Check samples before fitting, with one clear line per error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone_export.errors import ExportError
from edgebone_export.heads.features.fitted import Samples

_MOST = 1e15
"""Squares of larger numbers overflow float32."""


def check_vectors(samples: Samples, what: str, size: int | None = None) -> None:
    """Check that vectors can be fitted on.

    Args:
        samples: The samples.
        what: Name of the samples, for messages.
        size: Expected length of each vector, if known.

    Raises:
        ExportError: There are no vectors, shapes do not match, or values are not finite or too large.
    """
    x, n = samples.x, len(samples.x)
    if x.ndim != 2 or not n or not x.shape[1]:
        raise ExportError(f"{what}: expected vectors of shape (n, d), found {list(x.shape)}")
    if size is not None and x.shape[1] != size:
        raise ExportError(f"{what}: expected vectors of {size} numbers, as in training, found {x.shape[1]}")
    if samples.picture.shape != (n,):
        shape = list(samples.picture.shape)
        raise ExportError(f"{what}: expected a picture number for each of {n} vectors, found {shape}")
    good = np.isfinite(x)
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise ExportError(
            f"{what}: {int((~good).any(axis=1).sum())} of {n} vectors have NaN or infinity, the first in row {row}, "
            f"number {column}; check the backbone's output for that picture"
        )
    largest = float(np.abs(x).max())
    if largest > _MOST:
        raise ExportError(f"{what}: numbers up to {largest:.3g} overflow in float32; check the backbone's output")


def check_varied(samples: Samples, what: str) -> None:
    """Check that not all vectors are the same.

    Raises:
        ExportError: They are.
    """
    if (samples.x == samples.x[0]).all():
        raise ExportError(
            f"{what}: all {len(samples.x)} vectors are the same, so a head cannot distinguish them; pass several "
            "different pictures, and check the backbone's output"
        )


def check_classes(samples: Samples, labels: Sequence[str], what: str) -> NDArray[np.int64]:
    """Return each row's class, int64 (n,).

    Raises:
        ExportError: The classes are not integers, not one per row, or outside the labels.
    """
    y = np.asarray(samples.y)
    if y.shape != (len(samples.x),) or y.dtype.kind not in "iu":
        raise ExportError(
            f"{what}: expected one integer class per row ({len(samples.x)}), found {y.dtype} of shape {list(y.shape)}"
        )
    wrong = (y < 0) | (y >= len(labels))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ExportError(f"{what}: row {row} has class {int(y[row])}, but there are {len(labels)} labels (from 0)")
    return y.astype(np.int64)


def check_columns(samples: Samples, names: Sequence[str], what: str, kind: str) -> NDArray[Any]:
    """Return the targets of each row, (n, names): bool for ``kind`` ``labels``, float64 for ``values``.

    Raises:
        ExportError: The shape or the values are wrong.
    """
    y = np.asarray(samples.y)
    if y.shape != (len(samples.x), len(names)) or not len(names):
        raise ExportError(
            f"{what}: expected {kind} of shape ({len(samples.x)}, {len(names)}), one column per name, found "
            f"{list(y.shape)}"
        )
    if len(set(names)) < len(names):
        raise ExportError(f"the names of {kind} must differ, found {', '.join(names)}")
    if kind == "labels":
        if y.dtype != np.bool_ and not np.isin(y, (0, 1)).all():
            raise ExportError(f"{what}: labels must be true or false, found {y.dtype} with values other than 0 and 1")
        return y.astype(np.bool_)
    if y.dtype.kind not in "iuf" or not np.isfinite(y).all():
        raise ExportError(f"{what}: values must be finite numbers, found {y.dtype} with NaN, infinity or no values")
    return y.astype(np.float64)
