"""A small single-stage detector on the maps of a frozen backbone, and the graph that returns its boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgebone_export.heads.maps.layers import Standardized, resize, separable
from edgebone_export.models.detectors.boxes import clip, to_rows

# Focal loss starts with everything as background (Lin et al. 2017, section 4.1).
_FIRST_PROBABILITY = 0.01
# exp() of it is four hundred cells, more than any map has, and fits in FP16.
_LARGEST_LOG = 6.0


def locations(strides: Sequence[int], cells_hw: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Return the centres of all cells, level by level, row by row.

    Returns:
        Network pixels (cells, 2) as x, y; the cells' strides (cells,).
    """
    centers, sizes = [], []
    for stride, (height, width) in zip(strides, cells_hw, strict=True):
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centers.append((torch.stack([x, y], dim=-1).reshape(-1, 2).float() + 0.5) * stride)
        sizes.append(torch.full((height * width,), float(stride)))
    return torch.cat(centers), torch.cat(sizes)


class _Tower(nn.Module):
    """Separable convolutions shared by the levels, with a batch norm per level: levels differ in scale.

    Folded, each level has weights of its own.
    """

    def __init__(self, width: int, blocks: int, levels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(*separable(width)) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(blocks * levels))
        self._levels = levels

    def forward(self, maps: Tensor, level: int) -> Tensor:
        """Map one level's maps to maps of the same shape."""
        for index, block in enumerate(self.blocks):
            maps = torch.relu(self.norms[index * self._levels + level](block(maps)))
        return maps


class DetectorNet(nn.Module):
    """FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355) with separable convolutions.

    Coarser levels are added to finer ones, as in a feature pyramid.

    Args:
        statistics: Mean and deviation of each level's channels, finest level first.
        strides: Network pixels per cell, one per level.
        cells_hw: Height and width of the levels' maps.
        classes: Number of classes.
        width: Channels of the towers.
        blocks: Convolutions of each of the two towers.
    """

    def __init__(
        self,
        statistics: Sequence[tuple[Tensor, Tensor]],
        strides: Sequence[int],
        cells_hw: Sequence[tuple[int, int]],
        classes: int,
        width: int,
        blocks: int,
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(Standardized(mean, deviation, width) for mean, deviation in statistics)
        self.class_tower = _Tower(width, blocks, len(strides))
        self.box_tower = _Tower(width, blocks, len(strides))
        self.classes = nn.Conv2d(width, classes, 3, padding=1)
        self.sides = nn.Conv2d(width, 4, 3, padding=1)
        self.centerness = nn.Conv2d(width, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.full((len(strides),), math.log(4.0)))
        first = -math.log((1 - _FIRST_PROBABILITY) / _FIRST_PROBABILITY)
        for layer, bias in ((self.classes, first), (self.sides, 0.0), (self.centerness, 0.0)):
            assert layer.bias is not None, "a convolution has a bias by default"
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, bias)
        self.strides = tuple(strides)
        self.cells_hw = tuple(cells_hw)

    def levels(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return class logits (n, classes, h, w), distances to the sides in pixels (n, 4, h, w), centreness logits."""
        pyramid = [lateral(item) for lateral, item in zip(self.laterals, maps, strict=True)]
        for level in range(len(pyramid) - 2, -1, -1):
            pyramid[level] = pyramid[level] + resize(pyramid[level + 1], self.cells_hw[level])
        found = []
        for level, value in enumerate(pyramid):
            active = torch.relu(value)
            of_class, of_box = self.class_tower(active, level), self.box_tower(active, level)
            logs = self.sides(of_box) + self.scales[level]
            sides = torch.exp(logs.clamp(max=_LARGEST_LOG)) * self.strides[level]
            found.append((self.classes(of_class), sides, self.centerness(of_box)))
        return found

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map levels, finest first, to logits (n, cells, classes), sides (n, cells, 4), centreness (n, cells).

        The sides are distances in network pixels from a cell's centre to left, top, right, bottom.
        """
        levels = self.levels(maps)
        logits, sides, centerness = (torch.cat([item[part].flatten(2) for item in levels], dim=2) for part in range(3))
        return logits.transpose(1, 2), sides.transpose(1, 2), centerness[:, 0]


class BestBoxes(nn.Module):
    """Returns a detector's best boxes, one class each, without the last suppression.

    Args:
        net: The detector.
        size_hw: Height and width of the network's input, in pixels.
        boxes: Number of boxes to return; fewer if there are fewer cells.

    Attributes:
        boxes: Number of boxes that it returns.
    """

    def __init__(self, net: DetectorNet, size_hw: tuple[int, int], boxes: int) -> None:
        super().__init__()
        self.net = net
        self._size_hw = size_hw
        self._cells = [height * width for height, width in net.cells_hw]
        self.boxes = min(boxes, int(np.sum(self._cells)))
        centers, _ = locations(net.strides, net.cells_hw)
        self.centers: Tensor
        self.register_buffer("centers", torch.cat([centers, centers], dim=1).T.contiguous())
        self.outward: Tensor
        self.register_buffer("outward", torch.tensor([-1.0, -1.0, 1.0, 1.0])[:, None])

    def forward(self, *maps: Tensor) -> Tensor:
        """Map each level's maps, finest first, to (n, boxes, 6): left, top, right, bottom, score, class; best first."""
        best, classes, sides, centerness = [], [], [], []
        for cells, (logits, distances, centers) in zip(self._cells, self.net.levels(maps), strict=True):
            # Reshaped with constants, so that the graph computes no shapes.
            best.append(logits.amax(dim=1).reshape(-1, cells))
            classes.append(logits.argmax(dim=1).reshape(-1, cells))
            sides.append(distances.reshape(-1, 4, cells))
            centerness.append(centers.reshape(-1, cells))
        shares = torch.sigmoid(torch.cat(best, dim=1)) * torch.sigmoid(torch.cat(centerness, dim=1))
        score, place = torch.sqrt(shares).topk(self.boxes, dim=1)
        every = self.centers + self.outward * torch.cat(sides, dim=2)
        chosen = every.gather(2, torch.stack([place] * 4, dim=1)).transpose(1, 2)
        return to_rows(clip(chosen, self._size_hw), score, torch.cat(classes, dim=1).gather(1, place))
