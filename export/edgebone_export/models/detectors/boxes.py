"""Arithmetic on batches of boxes: left, top, right, bottom, in pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# torchvision/models/detection/_utils.py: keeps exp() from overflowing.
_LARGEST_LOG = math.log(1000.0 / 16)


def decode_deltas(deltas: Tensor, anchors: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Apply regressed offsets to anchors (Ren et al. 2015, https://arxiv.org/abs/1506.01497, equation 2).

    Args:
        deltas: (..., 4): shift of the centre and logarithm of the growth.
        anchors: (..., 4), broadcast against ``deltas``.
        weights: Factors of the four deltas in training.

    Returns:
        (..., 4).
    """
    sizes = anchors[..., 2:] - anchors[..., :2]
    centers = anchors[..., :2] + 0.5 * sizes
    shift = deltas[..., :2] / deltas.new_tensor(weights[:2])
    growth = (deltas[..., 2:] / deltas.new_tensor(weights[2:])).clamp(max=_LARGEST_LOG)
    new_centers = shift * sizes + centers
    half = 0.5 * torch.exp(growth) * sizes
    return torch.cat([new_centers - half, new_centers + half], dim=-1)


def clip(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Clip boxes (..., 4) to the picture."""
    height, width = size_hw
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def is_larger_than(boxes: Tensor, least: float) -> Tensor:
    """Return which boxes (..., 4) have both sides of at least ``least`` pixels."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    return (sizes >= least).all(dim=-1)


def rows_at(rows: Tensor, place: Tensor) -> Tensor:
    """Return ``rows[n, place[n, k]]``: (n, k, columns) of (n, rows, columns)."""
    return rows.gather(1, place.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))


def best_pairs(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k best pairs of a box and a class.

    Args:
        scores: (n, boxes, classes).
        k: Number of pairs; fewer if there are fewer.

    Returns:
        Scores (n, k), descending; box indices (n, k); classes (n, k).
    """
    classes = scores.shape[-1]
    flat = scores.flatten(1)
    best, pair = flat.topk(min(k, flat.shape[1]), dim=1)
    place = pair // classes
    return best, place, pair - place * classes


def to_rows(boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """Return (n, k, 6): left, top, right, bottom, score, class."""
    return torch.cat([boxes, scores.unsqueeze(-1), classes.unsqueeze(-1).to(boxes.dtype)], dim=-1)
