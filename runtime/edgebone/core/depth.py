"""How far away every pixel of one picture is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgebone.core.geometry import Geometry
from edgebone.core.shown import Shown

DepthUnit = Literal["metres", "relative"]
"""``metres`` from the camera; or ``relative``: larger is nearer, up to a factor and an offset that only the picture
knows, as MiDaS, DPT and Depth Anything return it."""


@dataclass(frozen=True, repr=False)
class DepthMap(Shown):
    """The depth of one picture, in the network's cells.

    Attributes:
        values: float32, (rows, columns): one number per cell that the picture covers; cells of padding are left out.
        unit: What the numbers are, see :data:`DepthUnit`.
        geometry: How the picture lies on these cells: its network's pixels are the cells.
    """

    values: NDArray[np.float32]
    unit: DepthUnit
    geometry: Geometry

    def full_size(self) -> NDArray[np.float32]:
        """Return the depth of every pixel: float32, of the picture's height and width.

        Linear between the cells' centres; NaN where the network did not see the picture (cut off by a centre crop).
        """
        values = self.values
        seen = []
        for axis in (0, 1):
            place = self._cells(axis)
            seen.append((place >= -0.5) & (place < values.shape[axis] - 0.5))
            low = np.floor(place).astype(np.int64).clip(0, values.shape[axis] - 1)
            share = (place - low).clip(0, 1).astype(np.float32)
            first = values.take(low, axis)
            step = values.take((low + 1).clip(max=values.shape[axis] - 1), axis) - first
            values = first + step * (share[:, None] if axis == 0 else share)
        for axis in (0, 1):
            if not seen[axis].all():
                values[(slice(None),) * axis + (~seen[axis],)] = np.nan
        return values

    def _cells(self, axis: int) -> NDArray[np.float64]:
        """Return where each row (axis 0) or column (axis 1) of the picture lies, in cells; 0 is the first's centre."""
        geometry = self.geometry
        pixels = np.arange(geometry.source_hw[axis]) + 0.5
        return np.asarray(pixels * geometry.scale_xy[1 - axis] + geometry.offset_xy[1 - axis] - 0.5)

    @property
    def nearest_xy(self) -> tuple[int, int]:
        """The column and row of the picture's pixel at the centre of the nearest cell."""
        best = self.values.argmin() if self.unit == "metres" else self.values.argmax()
        row, column = np.unravel_index(int(best), self.values.shape)
        point = self.geometry.to_source(np.array([column + 0.5, row + 0.5]))
        height, width = self.geometry.source_hw
        x, y = np.floor(point).astype(int).clip(0, (width - 1, height - 1)).tolist()
        return x, y

    def to_dict(self) -> dict[str, Any]:
        """``{"depth": {"unit": …, "min": …, "median": …, "max": …, "nearest_xy": [x, y]}}``; no map."""
        low, middle, high = self._spread()
        return {
            "depth": {
                "unit": self.unit,
                "min": round(low, 6),
                "median": round(middle, 6),
                "max": round(high, 6),
                "nearest_xy": list(self.nearest_xy),
            }
        }

    def _spread(self) -> tuple[float, float, float]:
        return float(self.values.min()), float(np.median(self.values)), float(self.values.max())

    def __str__(self) -> str:
        """``depth 0.8 to 12.4 m, median 3.1 m, nearest at (120, 80)``; relative depth has no unit."""
        low, middle, high = self._spread()
        of, unit = ("depth", " m") if self.unit == "metres" else ("relative depth", "")
        return f"{of} {low:.3g} to {high:.3g}{unit}, median {middle:.3g}{unit}, nearest at {self.nearest_xy}"
