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
    same = _same(xyxy, own, cut)
    same &= (tile[:, None] != tile) & (boxes.class_id[:, None] == boxes.class_id)
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


def _same(xyxy: Floats, tile: Floats, cut: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which pairs of boxes agree within the part of the picture that both their tiles see: (n, n)."""
    low = np.maximum(tile[:, None, :2], tile[None, :, :2])
    high = np.minimum(tile[:, None, 2:], tile[None, :, 2:])
    # Each box, clipped to what it and the other's tile see.
    left_top = xyxy[:, None, :2].clip(low, np.maximum(low, high))
    right_bottom = xyxy[:, None, 2:].clip(low, np.maximum(low, high))
    area = (right_bottom - left_top).prod(axis=2)
    shared = np.minimum(right_bottom, right_bottom.transpose(1, 0, 2)) - np.maximum(
        left_top, left_top.transpose(1, 0, 2)
    )
    overlap = shared.clip(0).prod(axis=2)
    union = area + area.T - overlap
    agree = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0) >= _SAME_IOU
    # A sliver at a border agrees badly in size; nearly all of it lies within the other box, as far as sides are known.
    near = _BORDER * np.tile(tile[:, 2:] - tile[:, :2], 2) * (-1, -1, 1, 1)
    grown = xyxy + near
    own_area = np.maximum((xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1), 1e-9)
    sides = np.minimum(xyxy[:, None, 2:], grown[None, :, 2:]) - np.maximum(xyxy[:, None, :2], grown[None, :, :2])
    within = sides.clip(0).prod(axis=2) / own_area[:, None] >= _PART
    part = within & cut[:, None] & ~cut[None]
    return np.asarray(agree | part | part.T)


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
