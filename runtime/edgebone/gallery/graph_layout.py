"""Checks a saved usearch index before usearch follows the numbers in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Little-endian and without gaps, as in usearch's index_dense.hpp and index.hpp.
_SIZES = np.dtype([("rows", "<u4"), ("row_bytes", "<u4")])
_HEAD = np.dtype(
    [
        ("magic", "S7"), ("major", "<u2"), ("minor", "<u2"), ("patch", "<u2"), ("kinds", "u1", 4), ("present", "<u8"),
        ("deleted", "<u8"), ("dimensions", "<u8"), ("multi", "u1"), ("vacant", "u1", 22),
    ]
)  # fmt: skip
_SHAPE = np.dtype([("size", "<u8"), ("links", "<u8"), ("base_links", "<u8"), ("top_level", "<u8"), ("entry", "<u8")])
# Earlier versions number the scalar types differently.
_FIRST_MINOR = 10
_PIECE_ROWS = 1 << 16


def check_layout(content: NDArray[np.uint8], empty: NDArray[np.uint8], entries: int, row_bytes: int) -> None:
    """Check everything that usearch trusts: every number in the file that addresses memory.

    A file holds the sizes of the vectors, the vectors, a header, the shape of the graph, each node's level, and the
    nodes: key, level, and for each level from 0 to its own the number of neighbours and their numbers, in a fixed
    space.

    Args:
        content: The file.
        empty: The file that this usearch writes for an empty index of the same kind.
        entries: The expected number of entries.
        row_bytes: The size of one vector.

    Raises:
        ValueError: The layout differs, or a number in it is out of range.
    """
    sizes, head, shape, rest = _parts(content, entries * row_bytes)
    _, like, like_shape, _ = _parts(empty, 0)
    if (sizes["rows"], sizes["row_bytes"]) != (entries, row_bytes):
        raise ValueError(f"it holds {sizes['rows']} vectors of {sizes['row_bytes']} bytes")
    for name in ("magic", "major", "kinds", "deleted", "dimensions", "multi", "vacant"):
        if np.any(head[name] != like[name]):
            raise ValueError(f"its {name} is {head[name]} instead of {like[name]}")
    if head["minor"] < _FIRST_MINOR or head["present"] != entries or shape["size"] != entries:
        raise ValueError("it is of an old version, or of another number of entries")
    if (shape["links"], shape["base_links"]) != (like_shape["links"], like_shape["base_links"]):
        raise ValueError(f"its nodes have {shape['links']} and {shape['base_links']} links")
    if entries:
        _check_nodes(rest, entries, int(shape["links"]), int(shape["base_links"]), shape)


def vectors_of(content: NDArray[np.uint8], vector_bytes: int) -> NDArray[np.uint8]:
    """Return the bytes of the vectors in a checked file."""
    return content[_SIZES.itemsize : _SIZES.itemsize + vector_bytes]


def _parts(content: NDArray[np.uint8], vector_bytes: int) -> tuple[Any, Any, Any, NDArray[np.uint8]]:
    found, start = [], 0
    for part, gap in ((_SIZES, vector_bytes), (_HEAD, 0), (_SHAPE, 0)):
        end = start + part.itemsize
        if len(content) < end + gap:
            raise ValueError("it is truncated")
        found.append(content[start:end].view(part)[0])
        start = end + gap
    return found[0], found[1], found[2], content[start:]


def _check_nodes(rest: NDArray[np.uint8], entries: int, links: int, base_links: int, shape: Any) -> None:
    base = np.dtype([("key", "<i8"), ("level", "<i2"), *_neighbours(base_links)])
    upper = np.dtype(_neighbours(links))
    levels = rest[: 2 * entries].view("<i2").astype(np.int64)
    if len(levels) != entries or levels.min() < 0:
        raise ValueError("its levels are truncated or negative")
    starts = 2 * entries + np.cumsum(base.itemsize + levels * upper.itemsize)
    starts = np.concatenate([[2 * entries], starts])
    if starts[-1] != len(rest):
        raise ValueError(f"its nodes take {starts[-1]} bytes of {len(rest)}")
    if not (shape["entry"] < entries and shape["top_level"] == levels.max() == levels[int(shape["entry"])]):
        raise ValueError("its entry is not on its highest level")
    keys = []
    for first in range(0, entries, _PIECE_ROWS):
        nodes = _taken(rest, starts[first : min(first + _PIECE_ROWS, entries)], base)
        if (nodes["level"] != levels[first : first + _PIECE_ROWS]).any():
            raise ValueError("a node's level differs from the listed one")
        keys.append(nodes["key"])
        _check_neighbours(nodes, 0, levels)
    distinct = np.unique(np.concatenate(keys))
    if len(distinct) != entries or distinct[0] < 0:
        raise ValueError("its keys are negative or not unique")
    for level in range(1, int(levels.max()) + 1):
        here = starts[:-1][levels >= level] + base.itemsize + (level - 1) * upper.itemsize
        _check_neighbours(_taken(rest, here, upper), level, levels)


def _neighbours(links: int) -> list[Any]:
    return [("count", "<u4"), ("neighbours", "<u4", links)]


def _taken(rest: NDArray[np.uint8], starts: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]:
    rows = np.lib.stride_tricks.sliding_window_view(rest, dtype.itemsize)[starts]
    return rows.view(dtype)[:, 0]


def _check_neighbours(nodes: NDArray[Any], level: int, levels: NDArray[np.int64]) -> None:
    neighbours = nodes["neighbours"]
    room = neighbours.shape[1]
    if nodes["count"].max() > room:
        raise ValueError(f"a node has more than {room} neighbours")
    listed = neighbours[np.arange(room) < nodes["count"][:, None]]
    if len(listed) and (listed.max() >= len(levels) or (level and levels[listed].min() < level)):
        raise ValueError(f"a neighbour on level {level} does not exist")
