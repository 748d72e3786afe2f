"""Checks additions to a gallery, also for duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgebone.core.writing import as_utf8
from edgebone.gallery.entries import Entries
from edgebone.gallery.errors import GalleryError
from edgebone.gallery.vectors import Floats

_COSINES = 1 << 24
_PIECE_ROWS = 1024


@dataclass(frozen=True)
class Duplicate:
    """A vector that is the same as an entry, or nearly so.

    Attributes:
        row: The row of the vector among the additions.
        of: The id of the similar entry.
        label: That entry's label, which may differ.
        similarity: The cosine of the two.
    """

    row: int
    of: int
    label: str
    similarity: float


@dataclass(frozen=True)
class Added:
    """The result of an addition.

    Attributes:
        ids: int64: the new entries' ids, in order, without skipped ones.
        duplicates: The vectors that were already present.
    """

    ids: NDArray[np.int64]
    duplicates: tuple[Duplicate, ...]


def one_each(given: str | Sequence[str], count: int, what: str) -> list[str]:
    """Return one text per vector, in UTF-8, from one for all or one each.

    Raises:
        GalleryError: Their number differs from the vectors'.
    """
    texts = [given] * count if isinstance(given, str) else list(given)
    if len(texts) != count:
        raise GalleryError(f"{count} vectors need {count} {what}, or one for all; got {len(texts)}")
    return [as_utf8(text) for text in texts]


def as_ids(given: int | Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return entries' ids as int64, shape (n,).

    Raises:
        GalleryError: One is too large for an id.
    """
    try:
        return np.asarray(given, np.int64).reshape(-1)
    except OverflowError as error:
        wrong = max(np.ravel(np.asarray(given, object)), key=abs)
        raise GalleryError(f"an entry's id is 0 to {np.iinfo(np.int64).max}, not {wrong}") from error


def new_ids(entries: Entries, given: Sequence[int] | NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    """Return the new entries' ids: the given ones, or consecutive new ones.

    Raises:
        GalleryError: An id already exists, occurs twice or is below 0, or their number differs from the vectors'.
    """
    if given is None:
        first = max(entries.next_serial, int(entries.ids.max(initial=-1)) + 1)
        if first + count > np.iinfo(np.int64).max:
            raise GalleryError(f"the largest id is {first - 1}, so no further id is free; give ids")
        return np.arange(first, first + count, dtype=np.int64)
    ids = as_ids(given)
    if len(ids) != count:
        raise GalleryError(f"{count} vectors need {count} ids, got {len(ids)}")
    values, times = np.unique(ids, return_counts=True)
    wrong = values[(values < 0) | (times > 1) | np.isin(values, entries.ids)]
    if len(wrong):
        raise GalleryError(f"ids must be 0 or more, unique and new to the gallery; {wrong[0]} is not")
    return ids


def duplicates(
    entries: Entries, unit: Floats, ids: NDArray[np.int64], labels: Sequence[str], same: float, skip: bool
) -> tuple[Duplicate, ...]:
    """Compare new vectors with the entries, and with the new ones before them.

    The time grows with the square of the number of new vectors.

    Args:
        entries: The existing entries.
        unit: The new unit vectors: float32, shape (m, d).
        ids: Their ids.
        labels: Their labels.
        same: The similarity from which one is a duplicate.
        skip: Whether duplicates are skipped, so that nothing can be a duplicate of them.
    """
    found = []
    for row, of, similarity in _pairs(entries, unit, same, skip):
        if of < len(entries):
            label = entries.labels[entries.label_index[of]]
            found.append(Duplicate(row, int(entries.ids[of]), label, similarity))
        else:
            twin = of - len(entries)
            found.append(Duplicate(row, int(ids[twin]), labels[twin], similarity))
    return tuple(found)


def _pairs(entries: Entries, unit: Floats, same: float, skip: bool) -> Iterator[tuple[int, int, float]]:
    """Yield a duplicate's row, the most similar row and the similarity; new rows are numbered after the entries."""
    dropped = np.zeros(len(unit), bool)
    step = max(1, min(_PIECE_ROWS, _COSINES // max(1, len(unit))))
    for start in range(0, len(unit), step):
        piece = unit[start : start + step]
        rows, known = entries.nearest(piece, 1)
        fresh = piece @ unit[: start + len(piece)].T
        fresh[:, np.flatnonzero(dropped[: start + len(piece)])] = -np.inf
        for number in range(len(piece)):
            row = start + number
            of, similarity = (int(rows[number, 0]), float(known[number, 0])) if rows.shape[1] else (-1, -np.inf)
            if row:
                twin = int(fresh[number, :row].argmax())
                if fresh[number, twin] > similarity:
                    of, similarity = len(entries) + twin, float(fresh[number, twin])
            if similarity >= same:
                yield row, of, similarity
                if skip:
                    dropped[row] = True
                    fresh[:, row] = -np.inf
