"""``anomaly@1``: a score per picture and a distance map, resized to the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.anomaly import Anomaly
from edgebone.core.geometry import Geometry
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, as_float32, misfit, not_finite
from edgebone.tasks.anomaly import ANOMALY


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of ``anomaly@1``.

    Attributes:
        threshold: Scores above it are anomalous.
    """

    threshold: float

    def __post_init__(self) -> None:
        """Reject implausible values."""
        if not 0 <= self.threshold < float("inf"):
            raise ValueError(f"threshold must be a distance, 0 or more, got {self.threshold}")


def make(
    name: str, params: Params, _labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder; the outputs must be float scores (batch,) and maps (batch, height, width)."""
    is_float = all(spec.dtype.startswith("float") for spec in outputs)
    if not is_float or [len(spec.shape) for spec in outputs] != [1, 3]:
        raise misfit(name, "anomaly@1", "two float outputs, [batch] and [batch, height, width]", outputs)

    def decode(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> Anomaly:
        score, cells = float(tensors[0]), as_float32(tensors[1])
        if not np.isfinite(score + cells.sum(dtype=np.float64)):
            raise not_finite(name)
        return Anomaly(score, params.threshold, to_source(cells, geometry))

    return decode


def to_source(cells: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    """Resample values per cell (height, width) to the picture's pixels, linear between the cells' centres.

    Pixels that the network did not see are 0.
    """
    size = np.array(cells.shape[::-1])
    scale, offset = np.array(geometry.scale_xy), np.array(geometry.offset_xy)
    cells_a_pixel = size / np.array(geometry.network_hw[::-1])
    factor = scale * cells_a_pixel
    # Map a pixel's index to a cell's: centres are at one half.
    shift = (0.5 * scale + offset) * cells_a_pixel - 0.5
    height, width = geometry.source_hw
    place = np.array([[factor[0], 0, shift[0]], [0, factor[1], shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(cells, place, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    result = np.asarray(warped, np.float32)
    for axis, pixels in ((0, height), (1, width)):
        network = (np.arange(pixels) + 0.5) * scale[1 - axis] + offset[1 - axis]
        unseen = (network < 0) | (network >= geometry.network_hw[axis])
        if unseen.any():
            result[(slice(None),) * axis + (unseen,)] = 0
    return result


SPEC = DecoderSpec("anomaly@1", ANOMALY, Params, make)
