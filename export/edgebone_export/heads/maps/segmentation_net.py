"""Light decoders that turn the maps of a frozen backbone into one class per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from edgebone_export.heads.maps.layers import Standardized, resize, separable

DecoderKind = Literal["lraspp", "linear"]
_LEAST_SHARE = 1e-9
Statistics = Sequence[tuple[Tensor, Tensor]]
"""Mean and deviation of each tap's channels, finest tap first."""


class LrAspp(nn.Module):
    """Lite R-ASPP (Howard et al. 2019, https://arxiv.org/abs/1905.02244, section 6.4), joined a little earlier.

    The coarsest maps are gated by the content of the whole picture, as in the paper. The paper then adds class scores
    of finer maps; here features are added and mixed by one separable convolution per level, which finds thin things,
    such as lane markings, far better at almost no cost.

    Args:
        statistics: Statistics of the taps' channels.
        classes: Number of classes.
        width: Channels of the gated branch; the finer levels have half as many.
    """

    def __init__(self, statistics: Statistics, classes: int, width: int) -> None:
        super().__init__()
        half = max(1, width // 2)
        mean, deviation = statistics[-1]
        self.context = nn.Sequential(Standardized(mean, deviation, width, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.gate = Standardized(mean, deviation, width)
        self.reduce = nn.Conv2d(width, half, 1)
        self.laterals = nn.ModuleList(Standardized(*item, half) for item in statistics[:-1])
        self.mixers = nn.ModuleList(
            nn.Sequential(nn.ReLU(), *separable(half), nn.BatchNorm2d(half), nn.ReLU()) for _ in statistics[:-1]
        )
        self.classes = nn.Conv2d(half, classes, 1)

    def forward(self, *maps: Tensor) -> Tensor:
        """Map each tap's maps, finest first, to logits (n, classes, h, w) of the finest tap's size."""
        whole = maps[-1].mean(dim=(2, 3), keepdim=True)
        value = self.reduce(self.context(maps[-1]) * torch.sigmoid(self.gate(whole)))
        for level in range(len(maps) - 2, -1, -1):
            size_hw = (int(maps[level].shape[2]), int(maps[level].shape[3]))
            value = self.mixers[level](resize(value, size_hw) + self.laterals[level](maps[level]))
        logits: Tensor = self.classes(value)
        return logits


class Linear(nn.Module):
    """A 1x1 convolution on all maps, resized to one size and concatenated.

    Computed tap by tap and summed, coarsest first, which is equivalent and moves less data.

    Args:
        statistics: Statistics of the taps' channels.
        classes: Number of classes.
    """

    def __init__(self, statistics: Statistics, classes: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Standardized(*item, classes) for item in statistics)

    def forward(self, *maps: Tensor) -> Tensor:
        """Map each tap's maps, finest first, to logits (n, classes, h, w) of the finest tap's size."""
        size_hw = (int(maps[0].shape[2]), int(maps[0].shape[3]))
        logits: Tensor = self.parts[0](maps[0])
        for part, item in zip(list(self.parts)[1:], maps[1:], strict=True):
            logits = logits + resize(part(item), size_hw)
        return logits


class Classes(nn.Module):
    """Returns the best class of each cell of a map of a given size.

    Args:
        decoder: Module that computes the logits.
        cells_hw: Height and width of the class map.
    """

    def __init__(self, decoder: nn.Module, cells_hw: tuple[int, int]) -> None:
        super().__init__()
        self.decoder = decoder
        self._cells_hw = cells_hw

    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """Map each tap's maps, finest first, to (n, classes, height, width)."""
        return resize(self.decoder(*maps), self._cells_hw)

    def forward(self, *maps: Tensor) -> Tensor:
        """Map each tap's maps, finest first, to uint8 (n, height, width)."""
        return self.logits(maps).argmax(dim=1).to(torch.uint8)


def build(kind: DecoderKind, statistics: Statistics, shares: Tensor, width: int, cells_hw: tuple[int, int]) -> Classes:
    """Build a decoder with fresh weights.

    Args:
        kind: Kind of decoder.
        statistics: Statistics of the taps' channels.
        shares: (classes,): each class's share of the pixels; the decoder starts from it, so a class that never occurs
            is never found.
        width: Channels of ``lraspp``.
        cells_hw: Height and width of the class map.
    """
    classes = len(shares)
    decoder = LrAspp(statistics, classes, width) if kind == "lraspp" else Linear(statistics, classes)
    last = decoder.classes if isinstance(decoder, LrAspp) else decoder.parts[0]
    assert isinstance(last, (nn.Conv2d, Standardized)) and last.bias is not None, "both are built with a bias"
    with torch.no_grad():
        last.bias.copy_(torch.log(shares.clamp(min=_LEAST_SHARE)))
    return Classes(decoder, cells_hw)
