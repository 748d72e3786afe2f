"""``depth@1``: a number per cell, the distance in metres or a relative depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.depth import DepthMap, DepthUnit
from edgebone.core.geometry import Geometry
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, misfit, not_finite
from edgebone.tasks.depth import DEPTH


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of ``depth@1``.

    Attributes:
        unit: What the numbers are, see :data:`edgebone.core.depth.DepthUnit`.
    """

    unit: DepthUnit


def make(
    name: str, params: Params, _labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder; the one output must be float (batch, height, width) or (batch, 1, height, width)."""
    shape = outputs[0].shape if len(outputs) == 1 else ()
    if not (len(shape) == 3 or (len(shape) == 4 and shape[1] == 1)) or not outputs[0].dtype.startswith("float"):
        wanted = "one float output of shape [batch, height, width] or [batch, 1, height, width]"
        raise misfit(name, "depth@1", wanted, outputs)

    def decode(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> DepthMap:
        cells: NDArray[Any] = tensors[0].reshape(tensors[0].shape[-2:])
        if not np.isfinite(cells.sum(dtype=np.float64)):
            raise not_finite(name)
        rows, columns = cells.shape[0], cells.shape[1]
        scale_x, scale_y = columns / geometry.network_hw[1], rows / geometry.network_hw[0]
        scale_xy = geometry.scale_xy[0] * scale_x, geometry.scale_xy[1] * scale_y
        x, y = geometry.offset_xy[0] * scale_x, geometry.offset_xy[1] * scale_y
        height, width = geometry.source_hw
        left, right = _covered(columns, x, x + width * scale_xy[0])
        top, bottom = _covered(rows, y, y + height * scale_xy[1])
        values = np.array(cells[top:bottom, left:right], np.float32)
        place = Geometry(geometry.source_hw, (bottom - top, right - left), scale_xy, (x - left, y - top))
        return DepthMap(values, params.unit, place)

    return decode


def _covered(cells: int, start: float, end: float) -> tuple[int, int]:
    """Return the first cell whose centre lies between two places, and the one after the last; at least one cell."""
    first = min(max(math.ceil(start - 0.5), 0), cells - 1)
    return first, max(min(math.ceil(end - 0.5), cells), first + 1)


SPEC = DecoderSpec("depth@1", DEPTH, Params, make)
