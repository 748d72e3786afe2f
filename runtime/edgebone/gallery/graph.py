"""usearch's index over many entries: near neighbours without looking at each.

HNSW: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
Small World graphs", 2016.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import missing
from edgebone.gallery.graph_layout import check_layout, vectors_of
from edgebone.gallery.vectors import Block, Floats, Storage

# How widely is looked around while building and searching. Twice usearch's own here would double the minutes that a
# million entries take to build; what that would find more, a wider search finds too, within a millisecond or two.
_EXPANSION_ADD = 64
_EXPANSION_SEARCH = 256
_SCALARS: dict[Storage, str] = {"float32": "f32", "float16": "f16", "int8": "i8"}


class Graph:
    """An index that stays as it is once made; entries that are gone are left out by whoever asks."""

    def __init__(self, index: Any, dtype: np.dtype[Any], content: NDArray[np.uint8] | None) -> None:
        self._index = index
        # Not kept with a saved index.
        index.expansion_search = _EXPANSION_SEARCH
        # What a viewed index reads from, and its copies may: usearch does not keep it alive.
        self._content = content
        self._dtype = dtype
        # usearch gives each of its own threads a place to work in; two callers would share one.
        self._busy = threading.Lock()

    def __len__(self) -> int:
        """How many entries it was made of."""
        return len(self._index)

    def nearest(self, queries: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        """The nearest entries of each query.

        Args:
            queries: float32, shape (m, d), of length one.
            k: How many at most.

        Returns:
            Serials, int64 of shape (m, min(k, entries)), -1 where none was found; and cosines, best first.
        """
        if self._dtype == np.int8:
            queries = np.rint(queries * (127 / np.abs(queries).max(axis=1, keepdims=True)))
        k = min(k, len(self))
        with self._busy:
            # One thread for one query: waking others takes longer than the search.
            found = self._index.search(queries.astype(self._dtype), k, threads=1 if len(queries) == 1 else 0)
        if len(queries) == 1:
            keys, distances, counts = found.keys[None], found.distances[None], np.array([len(found)])
        else:
            keys, distances, counts = found.keys, found.distances, found.counts
        serials = keys.astype(np.int64)
        serials[np.arange(serials.shape[1]) >= counts[:, None]] = -1
        return serials, (1 - distances).astype(np.float32)

    def extended(self, serials: NDArray[np.int64], blocks: Sequence[Block]) -> Graph:
        """A copy with more entries in it; searches go on meanwhile in this one."""
        with self._busy:
            index = self._index.copy()
        _fill(index, serials, blocks)
        return Graph(index, self._dtype, self._content)

    def save(self, path: Path) -> None:
        """Write what :func:`open_graph` reads.

        Raises:
            OSError: It cannot be written.
        """
        try:
            with self._busy:
                self._index.save(str(path))
                size = self._index.serialized_length
        except RuntimeError as error:
            raise OSError(f"its index cannot be saved ({error}); is the disk full?") from error
        # usearch does not ask what became of the last bytes, which C's buffer writes when the file is closed.
        if (written := path.stat().st_size) != size:
            raise OSError(f"only {written} of its index's {size} bytes could be saved; is the disk full?")


def has_usearch() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("usearch") is not None


def build_graph(serials: NDArray[np.int64], blocks: Sequence[Block], storage: Storage) -> Graph:
    """An index over entries, whose vectors it copies.

    Raises:
        MissingDependencyError: usearch is not installed.
    """
    dimension = blocks[0].stored.shape[1]
    index = _usearch().Index(ndim=dimension, metric="cos", dtype=_SCALARS[storage])
    _fill(index, serials, blocks)
    return Graph(index, np.dtype(storage), None)


def open_graph(content: NDArray[np.uint8], dimension: int, storage: Storage, entries: int) -> Graph:
    """An index as :meth:`Graph.save` wrote it, used where it lies.

    It comes with the gallery, from anybody, and usearch believes every number in it: all are checked first. Building it
    anew instead would take a hundred times as long.

    Raises:
        ValueError: It cannot be read, or is not the index that the gallery says.
        MissingDependencyError: usearch is not installed.
    """
    usearch, dtype = _usearch(), np.dtype(storage)
    row_bytes = dimension * dtype.itemsize
    empty = np.frombuffer(usearch.Index(ndim=dimension, metric="cos", dtype=_SCALARS[storage]).save(), np.uint8)
    check_layout(content, empty, entries, row_bytes)
    if dtype != np.int8:
        Block(vectors_of(content, entries * row_bytes).view(dtype).reshape(entries, dimension)).check_lengths()
    try:
        index = usearch.Index.restore(content, view=True)
    except Exception as error:
        raise ValueError(f"this usearch cannot read it ({error})") from error
    return Graph(index, dtype, content)


def _fill(index: Any, serials: NDArray[np.int64], blocks: Sequence[Block]) -> None:
    index.expansion_add = _EXPANSION_ADD
    start = 0
    for block in blocks:
        # The cosine does not mind the scale of int8 rows.
        index.add(serials[start : start + len(block)], block.stored)
        start += len(block)


def _usearch() -> Any:
    try:
        import usearch.index
    except ModuleNotFoundError as error:
        raise missing("usearch", "gallery", "the index of a large gallery") from error
    return usearch.index
