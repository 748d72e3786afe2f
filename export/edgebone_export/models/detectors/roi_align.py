"""RoIAlign (He et al. 2017, https://arxiv.org/abs/1703.06870) over several feature maps with one GridSample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign

from edgebone_export.errors import ExportError

# Far outside the map, where GridSample returns 0.
_OUTSIDE = -3.0


class GridSampleRoIAlign(nn.Module):
    """``torchvision.ops.MultiScaleRoIAlign`` for fixed sizes of feature maps and a fixed number of boxes.

    The maps are stacked vertically on one sheet, and every box samples its own map's part of it: each box is pooled
    once, from its level, though no shape depends on how many boxes a level has.

    Args:
        pool: torchvision's module, for its settings.
        maps_hw: Height and width of each feature map that it pools from, finest first.
        size_hw: Height and width of the network's input, in pixels.

    Raises:
        ExportError: The number of samples per bin depends on the box (``sampling_ratio`` 0 or less).
    """

    def __init__(self, pool: MultiScaleRoIAlign, maps_hw: Sequence[tuple[int, int]], size_hw: tuple[int, int]) -> None:
        super().__init__()
        if pool.sampling_ratio <= 0:
            raise ExportError(
                "RoIAlign with a sampling_ratio of 0 takes as many samples as a box has pixels: set it to 2"
            )
        self._out_hw = (int(pool.output_size[0]), int(pool.output_size[1]))
        self._samples = int(pool.sampling_ratio)
        self._canonical = (float(pool.canonical_scale), float(pool.canonical_level))
        # As torchvision infers it: the nearest power of two.
        scales = [2.0 ** round(float(torch.log2(torch.tensor(maps[0] / size_hw[0])))) for maps in maps_hw]
        levels = [-int(torch.log2(torch.tensor(scale))) for scale in (scales[0], scales[-1])]
        self._levels = (levels[0], levels[1])
        self._sheet_hw = (sum(height for height, _ in maps_hw), max(width for _, width in maps_hw))
        tops = [sum(height for height, _ in maps_hw[:place]) for place in range(len(maps_hw))]
        table = [
            (scale, float(height), float(width), float(top))
            for scale, (height, width), top in zip(scales, maps_hw, tops, strict=True)
        ]
        self.table: Tensor
        self.register_buffer("table", torch.tensor(table))
        self.across: Tensor
        self.down: Tensor
        for name, bins in (("down", self._out_hw[0]), ("across", self._out_hw[1])):
            steps = torch.arange(bins)[:, None] + (torch.arange(self._samples) + 0.5) / self._samples
            self.register_buffer(name, steps.flatten())

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Pool the features of boxes.

        Args:
            maps: (n, channels, height, width) each, finest first.
            boxes: (n, k, 4) in network pixels, within the picture.

        Returns:
            (n * k, channels, out height, out width).
        """
        channels, k = maps[0].shape[1], boxes.shape[1]
        scale, height, width, top = self.table[self._level(boxes)].unsqueeze(-2).unbind(-1)
        start_x, start_y = boxes[..., 0:1] * scale, boxes[..., 1:2] * scale
        bin_w = (boxes[..., 2:3] * scale - start_x).clamp(min=1.0) / self._out_hw[1]
        bin_h = (boxes[..., 3:4] * scale - start_y).clamp(min=1.0) / self._out_hw[0]
        x = self._normalized(start_x + bin_w * self.across, width, 0.0, self._sheet_hw[1])
        y = self._normalized(start_y + bin_h * self.down, height, top, self._sheet_hw[0])
        rows, columns = self.down.shape[0], self.across.shape[0]
        grid = torch.stack(
            [x.unsqueeze(2).expand(-1, -1, rows, -1), y.unsqueeze(3).expand(-1, -1, -1, columns)], dim=-1
        ).flatten(1, 2)
        sheet = torch.cat([F.pad(item, (0, self._sheet_hw[1] - item.shape[3])) for item in maps], dim=2)
        samples = F.grid_sample(sheet, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
        pooled = F.avg_pool2d(samples, self._samples)
        return pooled.reshape(-1, channels, k, *self._out_hw).transpose(1, 2).reshape(-1, channels, *self._out_hw)

    def _level(self, boxes: Tensor) -> Tensor:
        """Return each box's index in the list of maps, by its size (Lin et al. 2016, equation 1)."""
        size, level = self._canonical
        sides = boxes[..., 2:] - boxes[..., :2]
        found = torch.floor(level + torch.log2(torch.sqrt(sides[..., 0] * sides[..., 1]) / size) + 1e-6)
        return found.clamp(*self._levels).to(torch.int64) - self._levels[0]

    @staticmethod
    def _normalized(cells: Tensor, length: Tensor, first: Tensor | float, sheet: int) -> Tensor:
        """Convert sample positions in cells of a map to GridSample's -1 to 1 on the sheet.

        As in torchvision, positions before the first cell or after the last one take that cell's value, and
        those more than a cell outside the map return 0.
        """
        inside = torch.minimum(cells.clamp(min=0), length - 1) + first
        normalized = inside * (2.0 / max(sheet - 1, 1)) - 1.0
        return torch.where(cells > length, torch.full_like(normalized, _OUTSIDE), normalized)
