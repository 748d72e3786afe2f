"""How a picture was scaled, cropped and padded on its way into the network, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Geometry:
    """An axis-aligned map from source pixels to network pixels: ``network = source * scale + offset``.

    Coordinates are continuous: (0, 0) is the outer corner of the first pixel, not its centre.

    Attributes:
        source_hw: Height and width of the picture, in pixels.
        network_hw: Height and width of the network's input, in pixels.
        scale_xy: Network pixels per source pixel, along x and y.
        offset_xy: Where the source's corner falls in the network's input, in network pixels.
    """

    source_hw: tuple[int, int]
    network_hw: tuple[int, int]
    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    @property
    def resized_hw(self) -> tuple[int, int]:
        """Height and width of the whole picture after resizing, before it is cropped or padded, in network pixels."""
        return round(self.source_hw[0] * self.scale_xy[1]), round(self.source_hw[1] * self.scale_xy[0])

    def to_network(self, points_xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map source points, shape (..., 2) as (x, y) in pixels, into the network's input."""
        return np.asarray(points_xy, np.float64) * self.scale_xy + self.offset_xy

    def to_source(self, points_xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map network points, shape (..., 2) as (x, y) in pixels, back into the source picture.

        Points outside the picture stay outside: clip them where a result must not leave it.
        """
        return (np.asarray(points_xy, np.float64) - self.offset_xy) / self.scale_xy
