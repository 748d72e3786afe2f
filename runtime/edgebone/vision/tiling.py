"""Splits pictures into overlapping tiles, and merges the boxes found in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgebone.core.detections import Detections, joined

Floats = NDArray[np.float64]

# A detector's sides are off by a few pixels; within this share of the tile a box counts as cut off by its border.
_BORDER = 0.02
# What two tiles saw of one object, in the part that both see, overlaps at least this much.
_SAME_IOU = 0.5
# A cut-off part is another box's if this share of it lies within it.
_PART = 0.7
# Pairs of boxes compared at a time: their arrays are 10 MB.
_PAIRS_AT_A_TIME = 1 << 15


def tiles_of(size_hw: tuple[int, int], columns: int, rows: int, overlap: float) -> NDArray[np.int64]:
    """Return the tiles of a picture, all of one size, row by row.

    Args:
        size_hw: The picture's height and width.
        columns: The number of tiles side by side.
        rows: The number of tiles one above the other.
        overlap: The share of a tile's side that neighbours share, 0 to below 1. Rounding may add to it.

    Returns:
        int64, (columns × rows, 4): left, top, right, bottom in pixels.
    """
    (tops, height), (lefts, width) = (
        _spans(size, parts, overlap) for size, parts in zip(size_hw, (rows, columns), strict=True)
    )
    return np.array([(left, top, left + width, top + height) for top in tops for left in lefts], np.int64)


def _spans(size: int, parts: int, overlap: float) -> tuple[list[int], int]:
    length = min(size, math.ceil(size / (parts - (parts - 1) * overlap)))
    return [round(start) for start in np.linspace(0, size - length, parts)], length


def merge_tiles(found: Sequence[Detections], tiles: NDArray[np.int64], size_hw: tuple[int, int]) -> Detections:
    """Return the boxes of all tiles, each object once.

    Two boxes of one class from different tiles are the same object if they agree within the part of the picture that
    both tiles see. Of an object that one tile sees whole, that box stays; one that every tile cuts off gets the box
    around all its parts. A group has at most one box of a tile, so neighbours that one tile tells apart stay two.

    Args:
        found: Each tile's boxes, in the tile's pixels.
        tiles: The tiles, (n, 4); one may be the whole picture.
        size_hw: The picture's height and width.

    Returns:
        The boxes in the picture's pixels, best first.
    """
    height, width = size_hw
    moved = [
        Detections(
            boxes.xyxy + np.tile(tile[:2], 2).astype(np.float32),
            boxes.confidence,
            boxes.class_id,
            {**boxes.data, "tile": np.full(len(boxes), number, np.int64)},
        )
        for number, (boxes, tile) in enumerate(zip(found, tiles, strict=True))
    ]
    boxes = joined(moved, "tile")
    if not len(boxes):
        return Detections.empty()
    tile = boxes.data["tile"]
    xyxy, own = boxes.xyxy.astype(np.float64), tiles[tile].astype(np.float64)
    cut = _cut_off(xyxy, own, (width, height))
    same = _same(xyxy, own, cut, (tile[:, None] != tile) & (boxes.class_id[:, None] == boxes.class_id))
    xyxy, confidence, kept = xyxy.copy(), boxes.confidence.copy(), []
    free = np.ones(len(boxes), bool)
    # Whole boxes first, since a better part must not lead; both are ordered by score already.
    for leader in np.argsort(cut, kind="stable").tolist():
        if not free[leader]:
            continue
        group = _group(leader, same, tile, free)
        free[group] = False
        confidence[leader] = boxes.confidence[group].max()
        if cut[leader]:
            corners = boxes.xyxy[group]
            xyxy[leader] = [*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0)]
        kept.append(leader)
    data = {name: array[kept] for name, array in boxes.data.items() if name != "tile"}
    merged = Detections(xyxy[kept].astype(np.float32), confidence[kept], boxes.class_id[kept], data)
    return joined([merged])


def _cut_off(xyxy: Floats, tile: Floats, size_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """Return whether each box ends at a border of its tile that is not one of the picture."""
    near = _BORDER * np.tile(tile[:, 2:] - tile[:, :2], 2)
    at_border = np.abs(xyxy - tile) <= near
    inner = tile != np.array([0, 0, *size_wh])
    return np.asarray((at_border & inner).any(axis=1))


def _same(xyxy: Floats, tile: Floats, cut: NDArray[np.bool_], asked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the pairs asked for agree within the part of the picture that both their tiles see: (n, n)."""
    near = _BORDER * np.tile(tile[:, 2:] - tile[:, :2], 2) * (-1, -1, 1, 1)
    grown = xyxy + near
    # Most boxes are nowhere near each other.
    touching = asked & (grown[:, None, 0] <= grown[:, 2]) & (grown[:, None, 1] <= grown[:, 3])
    touching &= touching.T
    same = np.zeros_like(asked)
    pairs = np.argwhere(np.triu(touching))
    for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
        a, b = pairs[start : start + _PAIRS_AT_A_TIME].T
        low = np.maximum(tile[a, :2], tile[b, :2])
        high = np.maximum(low, np.minimum(tile[a, 2:], tile[b, 2:]))
        # Each box, clipped to what its tile and the other's see.
        one, other = (
            np.concatenate([xyxy[row, :2].clip(low, high), xyxy[row, 2:].clip(low, high)], axis=1) for row in (a, b)
        )
        shared, union = _shared(one, other), _area(one) + _area(other)
        union -= shared
        agree = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0) >= _SAME_IOU
        # A sliver at a border agrees badly in size; nearly all of it lies within the other box, as far as sides are
        # known.
        for part, whole in ((a, b), (b, a)):
            within = _shared(xyxy[part], grown[whole]) / np.maximum(_area(xyxy[part]), 1e-9) >= _PART
            agree |= within & cut[part] & ~cut[whole]
        same[a, b] = same[b, a] = agree
    return same


def _area(xyxy: Floats) -> NDArray[np.float64]:
    return np.asarray((xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1))


def _shared(a: Floats, b: Floats) -> NDArray[np.float64]:
    """Return the area that pairs of boxes, (n, 4) each, share."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return np.asarray(sides.clip(0).prod(axis=1))


def _group(leader: int, same: NDArray[np.bool_], tile: NDArray[np.int64], free: NDArray[np.bool_]) -> list[int]:
    """Return the boxes of the leader's object: one of a tile, each the same as one that is in already."""
    group, tiles = [leader], {int(tile[leader])}
    for member in group:
        for other in np.flatnonzero(same[member] & free).tolist():
            if int(tile[other]) not in tiles:
                # The loop goes on over what is added.
                group.append(other)
                tiles.add(int(tile[other]))
    return group
