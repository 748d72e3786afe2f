"""Stores unit vectors in float32, float16 or int8, and computes cosines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgebone.gallery.errors import GalleryError

Storage = Literal["float32", "float16", "int8"]

Floats = NDArray[np.float32]

# Rows converted to float32 at a time, few enough for the processor's cache.
_PIECE_BYTES = 1 << 20
# float16 changes a length by at most 0.05 %.
_LENGTH_OFF = 0.002


@dataclass(frozen=True, eq=False)
class Block:
    """An immutable block of vectors.

    Attributes:
        stored: Shape (n, d). float32 and float16: of length one. int8: the largest value of a row is 127 or -127.
        lengths: float32, shape (n,): the stored rows' lengths. None if they are one.
    """

    stored: NDArray[Any]
    lengths: Floats | None = None

    def __len__(self) -> int:
        return len(self.stored)

    def similarity(self, queries: Floats) -> Floats:
        """Return the cosines with unit vectors of shape (m, d): float32, shape (m, n)."""
        if self.stored.dtype == np.float32:
            found = np.asarray(queries @ self.stored.T)
        else:
            found = np.empty((len(queries), len(self)), np.float32)
            step = max(1, _PIECE_BYTES // (4 * self.stored.shape[1]))
            piece = np.empty((step, self.stored.shape[1]), np.float32)
            for start in range(0, len(self), step):
                rows = self.stored[start : start + step]
                np.copyto(piece[: len(rows)], rows)
                found[:, start : start + step] = queries @ piece[: len(rows)].T
        if self.lengths is not None:
            found /= self.lengths
        return found

    def check_lengths(self) -> None:
        """Check that every vector has its declared length: a longer one would be similar to everything.

        Raises:
            ValueError: A length differs, or a vector has NaN or infinity.
        """
        step = max(1, _PIECE_BYTES // (4 * self.stored.shape[1]))
        for start in range(0, len(self), step):
            part = self.part(start, start + step)
            found = np.linalg.norm(part.stored.astype(np.float32), axis=1)
            claimed = np.ones_like(found) if part.lengths is None else part.lengths
            # Comparisons with NaN are false, and no length may be infinite.
            good = (np.abs(found - claimed) <= _LENGTH_OFF * np.minimum(found, claimed)) & (claimed > 0)
            if not good.all():
                row = int(np.argmin(good))
                raise ValueError(f"vector {start + row} has the length {found[row]:g} instead of {claimed[row]:g}")

    def take(self, rows: NDArray[Any]) -> Block:
        """Return some of the rows, by a mask or by row numbers."""
        return Block(self.stored[rows], None if self.lengths is None else self.lengths[rows])

    def part(self, start: int, end: int) -> Block:
        """Return consecutive rows without copying."""
        return Block(self.stored[start:end], None if self.lengths is None else self.lengths[start:end])

    def unit(self, rows: NDArray[np.intp]) -> Floats:
        """Return some of the rows as float32 unit vectors."""
        part = np.asarray(self.stored[rows], np.float32)
        return part if self.lengths is None else part / self.lengths[rows, None]


def pack(unit: Floats, storage: Storage) -> Block:
    """Store unit vectors; int8 needs a scale per vector, since each of a thousand values is far below one."""
    if storage == "int8":
        scale = 127 / np.abs(unit).max(axis=1, keepdims=True)
        stored = np.rint(unit * scale).astype(np.int8)
        return Block(stored, np.linalg.norm(stored.astype(np.float32), axis=1))
    return Block(unit.astype(storage, copy=False))


def joined(blocks: Sequence[Block]) -> Block:
    """Join several blocks."""
    if len(blocks) == 1:
        return blocks[0]
    lengths = [block.lengths for block in blocks if block.lengths is not None]
    return Block(np.concatenate([block.stored for block in blocks]), np.concatenate(lengths) if lengths else None)


def as_unit(vectors: ArrayLike, dimension: int) -> Floats:
    """Return unit vectors as float32, shape (n, d); a single one of shape (d,) becomes one row.

    Raises:
        GalleryError: Another dimension, NaN or infinity, or a zero vector, which has no direction.
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    if rows.ndim != 2 or rows.shape[1] != dimension:
        raise GalleryError(
            f"the gallery holds vectors of {dimension} numbers, got an array of shape {list(np.shape(vectors))}; "
            "use the network that the gallery was made with"
        )
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(wrong):
        raise GalleryError(f"vector {wrong[0]} is zero, or has NaN or infinity: nothing can be similar to it")
    unit: Floats = rows / lengths
    return unit
