"""Layers of dense heads; normalisation is folded into the weights of convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Standardized(nn.Module):
    """A 1x1 convolution on maps whose channels are standardised to mean 0 and deviation 1.

    The standardisation is applied to the weights, not the maps, so it leaves no nodes in the graph.

    Args:
        mean: Mean of each channel, (channels,).
        deviation: Standard deviation of each channel, (channels,), above 0.
        outputs: Number of output channels.
        bias: Whether to add a bias to the outputs.
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
        """Map (n, channels, h, w) to (n, outputs, h, w)."""
        weight = self.weight / self.deviation
        offset = -(weight * self.mean).sum(dim=(1, 2, 3))
        return F.conv2d(maps, weight, offset if self.bias is None else self.bias + offset)


def separable(width: int) -> list[nn.Module]:
    """Return a depthwise 3x3 and a 1x1 convolution, width to width, for a following batch norm."""
    return [
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
    ]


def resize(maps: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Resize maps to (n, channels, height, width), linearly between the cells' centres."""
    if tuple(maps.shape[2:]) == tuple(size_hw):
        return maps
    return F.interpolate(maps, size=size_hw, mode="bilinear", align_corners=False)
