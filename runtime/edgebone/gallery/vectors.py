"""Unit vectors, kept in full or in fewer bits, and the cosine against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgebone.gallery.errors import GalleryError

Storage = Literal["float32", "float16", "int8"]
STORAGES: tuple[Storage, ...] = ("float32", "float16", "int8")

Floats = NDArray[np.float32]

# Rows that are turned into float32 at a time, small enough for the processor's cache.
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Block:
    """Some vectors, which stay as they are.

    Attributes:
        stored: Shape (n, d). float32 and float16: of length one. int8: the largest value of a row is 127 or -127.
        lengths: float32, shape (n,): the stored rows' lengths. None where they are one.
    """

    stored: NDArray[Any]
    lengths: Floats | None = None

    def __len__(self) -> int:
        return len(self.stored)

    def similarity(self, queries: Floats) -> Floats:
        """Cosines, float32 of shape (m, n), against unit vectors of shape (m, d)."""
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

    def take(self, rows: NDArray[Any]) -> Block:
        """Some of the rows, by a mask or by their numbers."""
        return Block(self.stored[rows], None if self.lengths is None else self.lengths[rows])

    def part(self, start: int, end: int) -> Block:
        """Some rows that follow each other; nothing is copied."""
        return Block(self.stored[start:end], None if self.lengths is None else self.lengths[start:end])

    def unit(self, rows: NDArray[np.intp]) -> Floats:
        """Some of the rows as float32 of length one."""
        part = np.asarray(self.stored[rows], np.float32)
        return part if self.lengths is None else part / self.lengths[rows, None]


def pack(unit: Floats, storage: Storage) -> Block:
    """Keep unit vectors; int8 takes a scale a vector, since of a thousand numbers all are far below one."""
    if storage == "int8":
        scale = 127 / np.abs(unit).max(axis=1, keepdims=True)
        stored = np.rint(unit * scale).astype(np.int8)
        return Block(stored, np.linalg.norm(stored.astype(np.float32), axis=1))
    return Block(unit.astype(storage, copy=False))


def off_unit(block: Block, within: float) -> int | None:
    """The first row whose length is not one, NaN and infinity included; None where there is none.

    Args:
        block: Rows as they were read.
        within: How far off a length may be.
    """
    step = max(1, _PIECE_BYTES // (4 * block.stored.shape[1]))
    for start in range(0, len(block), step):
        part = block.part(start, start + step)
        rows = np.asarray(part.stored, np.float32)
        with np.errstate(all="ignore"):
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows)) / (1 if part.lengths is None else part.lengths)
            wrong = np.flatnonzero(~(np.abs(lengths - 1) <= within))
        if len(wrong):
            return start + int(wrong[0])
    return None


def joined(blocks: Sequence[Block]) -> Block:
    """Several blocks as one."""
    if len(blocks) == 1:
        return blocks[0]
    lengths = [block.lengths for block in blocks if block.lengths is not None]
    return Block(np.concatenate([block.stored for block in blocks]), np.concatenate(lengths) if lengths else None)


def as_unit(vectors: ArrayLike, dimension: int) -> Floats:
    """Vectors as float32 of length one, shape (n, d); a single one of shape (d,) counts as one row.

    Raises:
        GalleryError: Another dimension, NaN or infinity, or a vector that is zero and so points nowhere.
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
        raise GalleryError(f"vector {wrong[0]} is zero, or has NaN or infinity in it: nothing can be like it")
    unit: Floats = rows / lengths
    return unit
