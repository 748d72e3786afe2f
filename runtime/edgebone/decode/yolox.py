"""``yolox@1``: YOLOX's raw grid (Ge et al. 2021, https://arxiv.org/abs/2107.08430).

Each cell holds the box's centre as an offset from the cell's corner and its size as a logarithm, both in cells, then
objectness and class scores, after the sigmoid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgebone.core.bounded import Stride
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import misfit
from edgebone.decode.detections import BoxParams, BoxReader, Candidates, Floats, best_class, box_spec, from_cxcywh


class Params(BoxParams, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of ``yolox@1``.

    Attributes:
        strides: Network pixels per cell, one per level, in the order of the rows.
    """

    strides: tuple[Stride, ...] = (8, 16, 32)


def make_reader(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], size_hw: tuple[int, int]
) -> BoxReader:
    """Build the reader; the one output must be (batch, cells, 5 + classes)."""
    cells = sum(rows * columns for rows, columns in _levels(size_hw, params.strides))
    wanted = [cells, 5 + len(labels)]
    if len(outputs) != 1 or list(outputs[0].shape[1:]) != wanted:
        levels = ", ".join(map(str, params.strides))
        raise misfit(
            name,
            "yolox@1",
            f"one output of shape [batch, {wanted[0]}, {wanted[1]}] (the cells of {size_hw[1]}x{size_hw[0]} at "
            f"strides {levels}; 5 + {len(labels)} labels)",
            outputs,
        )
    corners, strides = grid(size_hw, params.strides)

    def candidates(tensors: Sequence[Floats]) -> Candidates:
        rows = tensors[0]
        # Nearly all cells have no object: dropping them first saves most of the work.
        rows_seen = np.flatnonzero(rows[:, 4] >= params.score)
        rows, stride = rows[rows_seen], strides[rows_seen]
        scores, class_id = best_class(rows[:, 5:])
        centers = (rows[:, :2] + corners[rows_seen]) * stride
        with np.errstate(over="ignore"):
            sizes = np.exp(rows[:, 2:4]) * stride
        return from_cxcywh(np.concatenate([centers, sizes], axis=1)), scores * rows[:, 4], class_id

    return candidates


def grid(size_hw: tuple[int, int], strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the cells of all levels, row by row.

    Args:
        size_hw: Height and width of the network's input, in pixels.
        strides: Network pixels per cell, one per level.

    Returns:
        The cells' corners as (x, y) in cells, shape (cells, 2), and their strides, shape (cells, 1).
    """
    levels = _levels(size_hw, strides)
    cells = sum(rows * columns for rows, columns in levels)
    corners, sizes = np.empty((cells, 2), np.float32), np.empty((cells, 1), np.float32)
    start = 0
    for stride, (rows, columns) in zip(strides, levels, strict=True):
        end = start + rows * columns
        level = corners[start:end].reshape(rows, columns, 2)
        level[..., 0] = np.arange(columns)
        level[..., 1] = np.arange(rows)[:, None]
        sizes[start:end] = stride
        start = end
    return corners, sizes


def _levels(size_hw: tuple[int, int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return the number of rows and columns of cells per level."""
    return [(size_hw[0] // stride, size_hw[1] // stride) for stride in strides]


SPEC = box_spec("yolox@1", Params, make_reader, in_graph="edgebone_export.importers.graph_decode:yolox")
