"""An immutable snapshot of a gallery's entries, so that searches need no lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgebone.gallery.graph import Graph, build_graph
from edgebone.gallery.vectors import Block, Floats, Storage, joined, pack

# Removals copy one block at a time, and small blocks are joined.
BLOCK_ROWS = 65_536
_SMALL_ROWS = 4096
# Queries are batched as long as their cosines fit into this many numbers.
_COSINES = 1 << 24
# The index is rebuilt when this share of its entries has been removed.
_GONE = 0.2


@dataclass(frozen=True, eq=False)
class Entries:
    """Vectors and their labels; row i of every array belongs to entry i.

    Attributes:
        blocks: The vectors.
        ids: int64, shape (n,), unique: the user's ids.
        serials: int64, shape (n,), ascending, never reused: the index's ids.
        label_index: int32, shape (n,), into ``labels``.
        labels: Unique names; some may no longer have an entry.
        sources: Where the entries came from, n names; empty if unknown.
        graph: An index over the first blocks, or None.
        graph_blocks: The number of blocks that it covers.
        next_serial: The first free serial.
    """

    blocks: tuple[Block, ...]
    ids: NDArray[np.int64]
    serials: NDArray[np.int64]
    label_index: NDArray[np.int32]
    labels: tuple[str, ...]
    sources: tuple[str, ...]
    graph: Graph | None = None
    graph_blocks: int = 0
    next_serial: int = 0

    @classmethod
    def none(cls) -> Entries:
        """No entry."""
        return cls((), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int32), (), ())

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unindexed(self) -> int:
        """The number of entries that are searched one by one."""
        return sum(map(len, self.blocks[self.graph_blocks :]))

    def _rows_of(self, serials: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the rows of serials, -1 for removed entries."""
        rows = np.minimum(np.searchsorted(self.serials, serials), len(self) - 1)
        return np.where(self.serials[rows] == serials, rows, -1)

    def nearest(self, queries: Floats, k: int) -> tuple[NDArray[np.intp], Floats]:
        """Return the rows nearest to each query.

        Args:
            queries: float32, shape (m, d), of length one.
            k: The largest number of rows.

        Returns:
            Rows, shape (m, min(k, n)), -1 where the index found no more; and cosines, best first.
        """
        k = min(k, len(self))
        if not len(queries) or not k:
            return np.empty((len(queries), k), np.intp), np.empty((len(queries), k), np.float32)
        found: list[tuple[NDArray[np.intp], Floats]] = []
        start = 0
        if self.graph is not None:
            found.append(self._indexed(self.graph, queries, k))
            start = len(self) - self.unindexed
        for block in self.blocks[self.graph_blocks :]:
            found.append(_exact(block, queries, k, start))
            start += len(block)
        return _best(np.concatenate([r for r, _ in found], axis=1), np.concatenate([s for _, s in found], axis=1), k)

    def _indexed(self, graph: Graph, queries: Floats, k: int) -> tuple[NDArray[np.intp], Floats]:
        """Search the index, asking for more until enough entries remain that were not removed."""
        gone = len(graph) - (len(self) - self.unindexed)
        asked = k
        while True:
            serials, similarity = graph.nearest(queries, asked)
            rows = self._rows_of(serials)
            if asked >= min(k + gone, len(graph)) or ((rows >= 0).sum(axis=1) >= k).all():
                return rows, np.where(rows >= 0, similarity, -np.inf).astype(np.float32)
            asked = min(4 * asked, k + gone)

    def parts(self, rows: int) -> Iterator[tuple[int, Block]]:
        """Yield all vectors in parts of at most ``rows``, each with its first row; nothing is copied."""
        start = 0
        for block in self.blocks:
            for first in range(0, len(block), rows):
                yield start + first, block.part(first, first + rows)
            start += len(block)

    def unit(self, rows: NDArray[np.intp]) -> Floats:
        """Return some entries' unit vectors as float32; the rows must be ascending."""
        parts, start = [], 0
        for block in self.blocks:
            parts.append(block.unit(rows[(rows >= start) & (rows < start + len(block))] - start))
            start += len(block)
        return np.concatenate(parts)

    def with_more(
        self, unit: Floats, storage: Storage, ids: NDArray[np.int64], labels: Sequence[str], sources: Sequence[str]
    ) -> Entries:
        """Return the entries with more at the end; the index is unchanged."""
        known = {label: index for index, label in enumerate(self.labels)}
        index = np.array([known.setdefault(label, len(known)) for label in labels], np.int32)
        blocks = list(self.blocks)
        for start in range(0, len(unit), BLOCK_ROWS):
            block = pack(unit[start : start + BLOCK_ROWS], storage)
            if len(blocks) > self.graph_blocks and len(blocks[-1]) + len(block) <= _SMALL_ROWS:
                block = joined([blocks.pop(), block])
            blocks.append(block)
        return replace(
            self,
            blocks=tuple(blocks),
            ids=np.concatenate([self.ids, ids]),
            serials=np.concatenate([self.serials, self.next_serial + np.arange(len(ids))]),
            next_serial=self.next_serial + len(ids),
            label_index=np.concatenate([self.label_index, index]),
            labels=tuple(known),
            sources=(*self.sources, *sources),
        )

    def without(self, rows: NDArray[np.intp]) -> Entries:
        """Return the entries without some rows; unaffected blocks are shared."""
        keep = np.ones(len(self), bool)
        keep[rows] = False
        blocks: list[Block] = []
        start, graph_blocks = 0, 0
        for number, block in enumerate(self.blocks):
            kept = keep[start : start + len(block)]
            start += len(block)
            if kept.any():
                blocks.append(block if kept.all() else block.take(kept))
                graph_blocks += number < self.graph_blocks
        used = np.unique(self.label_index[keep])
        return replace(
            self,
            blocks=tuple(blocks),
            ids=self.ids[keep],
            serials=self.serials[keep],
            label_index=np.searchsorted(used, self.label_index[keep]).astype(np.int32),
            labels=tuple(self.labels[index] for index in used),
            sources=tuple(source for source, kept_ in zip(self.sources, keep, strict=True) if kept_),
            graph=self.graph if graph_blocks else None,
            graph_blocks=graph_blocks,
        )

    @property
    def graph_is_stale(self) -> bool:
        """Whether so many of the index's entries were removed that repeated searches take too long."""
        return self.graph is not None and len(self) - self.unindexed < (1 - _GONE) * len(self.graph)

    def indexed(self, storage: Storage) -> Entries:
        """Return the entries with all of them in the index; takes minutes for a million.

        Raises:
            MissingDependencyError: usearch is not installed.
        """
        if self.graph is None:
            graph = build_graph(self.serials, self.blocks, storage)
        else:
            covered = len(self) - self.unindexed
            graph = self.graph.extended(self.serials[covered:], self.blocks[self.graph_blocks :])
        return replace(self, graph=graph, graph_blocks=len(self.blocks))


def _exact(block: Block, queries: Floats, k: int, first_row: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the best rows of one block by exhaustive search."""
    step = max(1, _COSINES // len(block))
    parts = []
    for start in range(0, len(queries), step):
        similarity = block.similarity(queries[start : start + step])
        rows = np.broadcast_to(np.arange(first_row, first_row + len(block)), similarity.shape)
        parts.append(_best(rows, similarity, k))
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([similarity for _, similarity in parts])


def _best(rows: NDArray[np.intp], similarity: Floats, k: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the k best columns of each query, best first; ties go to the earlier entry."""
    if similarity.shape[1] > k:
        chosen = np.argpartition(similarity, -k, axis=1)[:, -k:]
        chosen.sort(axis=1)
        rows, similarity = np.take_along_axis(rows, chosen, 1), np.take_along_axis(similarity, chosen, 1)
    order = np.argsort(-similarity, axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1), np.take_along_axis(similarity, order, 1)
