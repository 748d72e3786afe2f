"""Compute distances of a picture's patches to the nearest normal ones in a graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgebone_export.heads.maps.layers import resize

# Below a hundredth a distance is rounding error: nearly equal squares are subtracted.
_LEAST_SQUARE = 1e-4
_SHARE, _LEAST_PATCHES = 0.01, 5


class Patches(nn.Module):
    """Computes a vector for each cell of the finest maps, from all maps there (PatchCore, section 3.1).

    Channels are scaled to mean 0 and about the same spread, so that each tap counts the same whatever its number of
    channels, and a vector's length is about 1. With more channels than ``dimensions``, they are projected onto random
    orthogonal directions, which preserves distances (Johnson and Lindenstrauss 1984). The projection comes first:
    averaging and resizing commute with it, and then process less.

    Args:
        statistics: Mean and deviation of each tap's channels, finest tap first.
        dimensions: Largest length of the vectors.
        seed: Seed of the directions.
    """

    def __init__(self, statistics: Sequence[tuple[Tensor, Tensor]], dimensions: int, seed: int) -> None:
        super().__init__()
        channels = [len(mean) for mean, _ in statistics]
        total = sum(channels)
        directions = np.eye(total)
        if total > dimensions:
            drawn = np.random.default_rng(seed).normal(size=(total, dimensions))
            directions = np.linalg.qr(drawn)[0].T * np.sqrt(total / dimensions)
        offset = np.zeros(len(directions))
        weights = []
        parts = np.split(directions, np.cumsum(channels)[:-1], axis=1)
        for (mean, deviation), part in zip(statistics, parts, strict=True):
            variance = deviation.numpy().astype(np.float64) ** 2
            # Halfway to the tap's own deviation: a nearly silent channel would drown all others when active.
            spread = np.sqrt((variance + variance.mean()) / 2)
            weights.append(part / (spread * np.sqrt(len(mean) * len(channels))))
            offset -= weights[-1] @ mean.numpy().astype(np.float64)
        biases = [offset, *[None] * (len(weights) - 1)]
        self.projections = nn.ModuleList(map(_convolution, weights, biases))

    def forward(self, *maps: Tensor) -> Tensor:
        """Map each tap's maps, finest first, to (n, dimensions, h, w) of the finest tap's size."""
        size_hw = (int(maps[0].shape[2]), int(maps[0].shape[3]))
        vectors = _around(self.projections[0](maps[0]))
        for projection, item in zip(list(self.projections)[1:], maps[1:], strict=True):
            vectors = vectors + resize(_around(projection(item)), size_hw)
        return vectors


def _convolution(weight: np.ndarray, bias: np.ndarray | None) -> nn.Conv2d:
    made = nn.Conv2d(weight.shape[1], weight.shape[0], 1, bias=bias is not None).requires_grad_(False)
    made.weight.copy_(torch.from_numpy(np.asarray(weight, np.float32))[:, :, None, None])
    if bias is not None and made.bias is not None:
        made.bias.copy_(torch.from_numpy(np.asarray(bias, np.float32)))
    return made


def _around(maps: Tensor) -> Tensor:
    """Return the mean of each cell and its neighbours."""
    return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False)


class NearestNormal(nn.Module):
    """Computes each patch's distance to the nearest normal one, and the mean of a picture's largest distances.

    The mean is over one patch in a hundred, at least five: the paper's single patch is too easily an outlier.

    Args:
        patches: Module that computes the vectors.
        memory: Normal vectors, float32 (m, dimensions).
        cells: Number of patches of a picture.
    """

    def __init__(self, patches: Patches, memory: np.ndarray, cells: int) -> None:
        super().__init__()
        self.patches = patches
        self._cells = cells
        self._largest = min(cells, max(_LEAST_PATCHES, round(_SHARE * cells)))
        # |x - m|² is |x|² + |m|² - 2 x·m: the last two terms are a convolution, the first needs no search.
        self.memory = _convolution(-2 * memory, (memory.astype(np.float64) ** 2).sum(axis=1))

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        """Map each tap's maps, finest first, to scores (n,) and distances (n, h, w)."""
        vectors = self.patches(*maps)
        nearest = self.memory(vectors).amin(dim=1) + (vectors * vectors).sum(dim=1)
        distances = torch.sqrt(nearest.clamp(min=_LEAST_SQUARE))
        largest = distances.reshape(-1, self._cells).topk(self._largest, dim=1).values
        return largest.mean(dim=1), distances
