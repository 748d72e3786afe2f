"""usearch's index over many entries: nearest neighbours without exhaustive search.

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

# Search widths for building and searching. Twice usearch's default for building would double the minutes that a million
# entries take; a wider search finds as many more neighbours, within a millisecond or two.
_EXPANSION_ADD = 64
_EXPANSION_SEARCH = 256
_SCALARS: dict[Storage, str] = {"float32": "f32", "float16": "f16", "int8": "i8"}


class Graph:
    """An immutable index; the caller filters out removed entries."""

    def __init__(self, index: Any, dtype: np.dtype[Any], content: NDArray[np.uint8] | None) -> None:
        self._index = index
        # Not stored in a saved index.
        index.expansion_search = _EXPANSION_SEARCH
        # The memory of a viewed index and possibly its copies, which usearch does not keep alive.
        self._content = content
        self._dtype = dtype
        # usearch allocates a workspace per thread of its own; two callers would share one.
        self._busy = threading.Lock()

    def __len__(self) -> int:
        """Return the number of entries that it was built from."""
        return len(self._index)

    def nearest(self, queries: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
        """Return the nearest entries of each query.

        Args:
            queries: float32, shape (m, d), of length one.
            k: The largest number of entries.

        Returns:
            Serials, int64 of shape (m, min(k, entries)), -1 if none was found; and cosines, best first.
        """
        if self._dtype == np.int8:
            queries = np.rint(queries * (127 / np.abs(queries).max(axis=1, keepdims=True)))
        k = min(k, len(self))
        with self._busy:
            # One thread for one query: waking others would take longer than the search.
            found = self._index.search(queries.astype(self._dtype), k, threads=1 if len(queries) == 1 else 0)
        if len(queries) == 1:
            keys, distances, counts = found.keys[None], found.distances[None], np.array([len(found)])
        else:
            keys, distances, counts = found.keys, found.distances, found.counts
        serials = keys.astype(np.int64)
        serials[np.arange(serials.shape[1]) >= counts[:, None]] = -1
        return serials, (1 - distances).astype(np.float32)

    def extended(self, serials: NDArray[np.int64], blocks: Sequence[Block]) -> Graph:
        """Return a copy with more entries; searches continue meanwhile on this one."""
        with self._busy:
            index = self._index.copy()
        _fill(index, serials, blocks)
        return Graph(index, self._dtype, self._content)

    def save(self, path: Path) -> None:
        """Write the index for :func:`open_graph`.

        Raises:
            OSError: It cannot be written.
        """
        try:
            with self._busy:
                self._index.save(str(path))
                size = self._index.serialized_length
        except RuntimeError as error:
            raise OSError(f"its index cannot be saved ({error}); is the disk full?") from error
        # usearch does not check the last bytes, which C's buffer writes when the file is closed.
        if (written := path.stat().st_size) != size:
            raise OSError(f"only {written} of its index's {size} bytes could be saved; is the disk full?")


def has_usearch() -> bool:
    """Return whether the package is installed."""
    return importlib.util.find_spec("usearch") is not None


def build_graph(serials: NDArray[np.int64], blocks: Sequence[Block], storage: Storage) -> Graph:
    """Build an index over entries; it copies their vectors.

    Raises:
        MissingDependencyError: usearch is not installed.
    """
    dimension = blocks[0].stored.shape[1]
    index = _usearch().Index(ndim=dimension, metric="cos", dtype=_SCALARS[storage])
    _fill(index, serials, blocks)
    return Graph(index, np.dtype(storage), None)


def open_graph(content: NDArray[np.uint8], dimension: int, storage: Storage, entries: int) -> Graph:
    """Open an index that :meth:`Graph.save` wrote, in place.

    A gallery may come from anyone, and usearch trusts every number in its index: all are checked first. Rebuilding it
    instead would take a hundred times as long.

    Raises:
        ValueError: It cannot be read, or does not match the gallery.
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
        # The cosine does not depend on the scale of int8 rows.
        index.add(serials[start : start + len(block)], block.stored)
        start += len(block)


def _usearch() -> Any:
    try:
        import usearch.index
    except ModuleNotFoundError as error:
        raise missing("usearch", "gallery", "the index of a large gallery") from error
    return usearch.index
