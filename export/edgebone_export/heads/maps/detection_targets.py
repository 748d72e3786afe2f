"""Targets of a single-stage detector at each cell, and the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BACKGROUND = -1
# Largest distance in cells from a cell to the centre of its box (FCOS's centre sampling).
_RADIUS = 1.5
# Largest distance in cells to the farthest side of a level's boxes (FCOS, section 3.2).
_REACH = 8.0
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0


@dataclass(frozen=True)
class Targets:
    """Targets of the cells of pictures.

    Attributes:
        classes: int64 (n, cells): a class id, or ``BACKGROUND``.
        sides: float32 (n, cells, 4): distances in pixels to the sides of the cell's box; ones without a box.
    """

    classes: Tensor
    sides: Tensor


def assign(boxes: Sequence[tuple[Tensor, Tensor]], centers: Tensor, strides: Tensor) -> Targets:
    """Assign each cell the smallest box that it is responsible for (Tian et al. 2019, section 3.1 and 3.2).

    A box smaller than a cell, for which no cell is responsible, is assigned to the nearest cell of its level.

    Args:
        boxes: Per picture: float32 (k, 4) as left, top, right, bottom in network pixels, and int64 (k,) class ids.
        centers: Centres of the cells, (cells, 2), in network pixels.
        strides: Strides of the cells, (cells,).
    """
    assigned = [_assign(xyxy, class_id, centers, strides) for xyxy, class_id in boxes]
    return Targets(torch.stack([item.classes for item in assigned]), torch.stack([item.sides for item in assigned]))


def _assign(xyxy: Tensor, class_id: Tensor, centers: Tensor, strides: Tensor) -> Targets:
    classes = torch.full((len(centers),), BACKGROUND, dtype=torch.int64)
    if not len(xyxy):
        return Targets(classes, torch.ones(len(centers), 4))
    # (cells, boxes, 4): distance of each centre inside each side.
    sides = torch.cat([centers[:, None] - xyxy[None, :, :2], xyxy[None, :, 2:] - centers[:, None]], dim=-1)
    middle = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    off = (centers[:, None] - middle[None]).abs().amax(dim=-1)
    farthest = sides.amax(dim=-1)
    levels = torch.unique(strides)
    reach = _REACH * strides
    reach[strides == levels[-1]] = torch.inf
    # A level's range starts where the finer one's ends; the finest has no lower limit.
    finer = torch.cat([torch.zeros(1), _REACH * levels[:-1]])
    least = finer[torch.searchsorted(levels, strides)]
    of_level = (farthest >= least[:, None]) & (farthest <= reach[:, None])
    mine = (sides.amin(dim=-1) > 0) & (off <= _RADIUS * strides[:, None]) & of_level
    lost = ~mine.any(dim=0)
    if lost.any():
        half = (xyxy[lost, 2:] - xyxy[lost, :2]).amax(dim=1) / 2
        level = levels[torch.searchsorted(_REACH * levels[:-1], half)]
        away = torch.where(strides[:, None] == level[None], off[:, lost], torch.inf)
        mine[away.argmin(dim=0), torch.nonzero(lost)[:, 0]] = True
    area = (xyxy[:, 2:] - xyxy[:, :2]).prod(dim=1)
    smallest, chosen = torch.where(mine, area[None], torch.inf).min(dim=1)
    has = torch.isfinite(smallest)
    classes[has] = class_id[chosen[has]]
    own = sides[torch.arange(len(centers)), chosen]
    return Targets(classes, torch.where(has[:, None], own, 1.0).clamp(min=0.1))


def loss(logits: Tensor, sides: Tensor, centerness: Tensor, targets: Targets) -> Tensor:
    """Focal loss of the classes, GIoU of the boxes, cross-entropy of the centreness; a sum per box, not per picture.

    Sources: Lin et al. 2017, https://arxiv.org/abs/1708.02002; Rezatofighi et al. 2019,
    https://arxiv.org/abs/1902.09630; Tian et al. 2019, https://arxiv.org/abs/1904.01355.

    Args:
        logits: (n, cells, classes).
        sides: (n, cells, 4), above 0.
        centerness: (n, cells), logits.
        targets: The targets.
    """
    of_box = targets.classes >= 0
    count = max(1, int(of_box.sum()))
    wanted = torch.zeros_like(logits)
    wanted[of_box] = F.one_hot(targets.classes[of_box], logits.shape[-1]).to(logits.dtype)
    probability = torch.sigmoid(logits)
    right = torch.where(wanted > 0, probability, 1 - probability)
    alpha = torch.where(wanted > 0, _FOCAL_ALPHA, 1 - _FOCAL_ALPHA)
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    focal = (alpha * (1 - right) ** _FOCAL_GAMMA * entropy).sum() / count
    if not of_box.any():
        return focal
    own, true = sides[of_box], targets.sides[of_box]
    centered = centerness_of(true)
    # Boxes predicted far from their centre count less, as they will be suppressed.
    overlap = (giou_loss(own, true) * centered).sum() / centered.sum()
    return focal + overlap + F.binary_cross_entropy_with_logits(centerness[of_box], centered)


def centerness_of(sides: Tensor) -> Tensor:
    """Return how central a cell is in its box, 0 to 1 (Tian et al. 2019, equation 3), from the sides (n, 4)."""
    pairs = sides.reshape(-1, 2, 2)
    shares = pairs.amin(dim=1) / pairs.amax(dim=1)
    return torch.sqrt(shares.prod(dim=1))


def giou_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - GIoU, 0 to 2, of boxes around the same point, described by the distances of their sides (n, 4)."""
    area_a, area_b = ((item[:, :2] + item[:, 2:]).prod(dim=1) for item in (a, b))
    inner, outer = torch.minimum(a, b), torch.maximum(a, b)
    shared = (inner[:, :2] + inner[:, 2:]).prod(dim=1)
    union = area_a + area_b - shared
    around = (outer[:, :2] + outer[:, 2:]).prod(dim=1)
    return 1 - shared / union + (around - union) / around
