"""The layers that dense heads are built of; all that is folded at the end becomes a convolution's own weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Standardized(nn.Module):
    """A 1x1 convolution on maps whose channels are brought to mean 0 and spread 1.

    The standardising is done to the weights, not to the maps, so that nothing of it is left in the graph.

    Args:
        mean: Of each channel, (channels,).
        deviation: Of each channel, (channels,), above 0.
        outputs: Number of output channels.
        bias: Whether the outputs have an offset of their own.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, outputs: int, bias: bool = True) -> None:
        super().__init__()
        made = nn.Conv2d(len(mean), outputs, 1)
        self.weight = made.weight
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", mean[None, :, None, None])
        self.register_buffer("deviation", deviation[None, :, None, None])

    def forward(self, maps: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, outputs, h, w)."""
        weight = self.weight / self.deviation
        offset = -(weight * self.mean).sum(dim=(1, 2, 3))
        return F.conv2d(maps, weight, offset if self.bias is None else self.bias + offset)


def separable(width: int) -> list[nn.Module]:
    """A depthwise 3x3 and a 1x1 convolution, width to width; a batch norm is to follow."""
    return [
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
    ]


def resize(maps: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Linear between the cells' centres, to (n, channels, height, width)."""
    if tuple(maps.shape[2:]) == tuple(size_hw):
        return maps
    return F.interpolate(maps, size=size_hw, mode="bilinear", align_corners=False)
