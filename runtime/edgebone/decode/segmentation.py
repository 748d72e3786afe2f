"""``segmentation@1``: class scores or the best class per pixel to a class map of the picture's size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.bounded import Finite
from edgebone.core.errors import EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.segmentation import SegmentationMap
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, misfit, not_finite
from edgebone.tasks.segmentation import SEGMENTATION

_MOST_CLASSES = 256


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of ``segmentation@1``.

    Attributes:
        threshold: For one channel: values above it are the second label.
    """

    threshold: Finite | None = None


def make(
    name: str, params: Params, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Decoder:
    """Build the decoder.

    The one output must be scores (batch, classes, height, width), or the best class as integers (batch, height,
    width); with ``threshold`` it must be (batch, 1, height, width), and there must be two labels.
    """
    channels = 1 if params.threshold is not None else len(labels)
    shape = outputs[0].shape if len(outputs) == 1 else ()
    scores = len(shape) == 4 and shape[1] == channels and outputs[0].dtype.startswith("float")
    best = len(shape) == 3 and outputs[0].dtype.startswith(("uint", "int")) and params.threshold is None
    if not (scores or best) or len(labels) > _MOST_CLASSES or (params.threshold is not None and len(labels) != 2):
        wanted = (
            "2 labels and one float output [batch, 1, height, width]"
            if params.threshold is not None
            else f"one float output [batch, {len(labels)} labels, height, width], or integers [batch, height, width]"
        )
        raise misfit(name, "segmentation@1", wanted, outputs)

    def decode(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> SegmentationMap:
        tensor = tensors[0]
        if scores:
            if not np.isfinite(tensor.sum(dtype=np.float64)):
                raise not_finite(name)
            tensor = tensor[0] > params.threshold if params.threshold is not None else _argmax(tensor)
        class_id = to_source(np.asarray(tensor, np.uint8), geometry)
        most = int(class_id.max(initial=0))
        if most >= len(labels):
            raise EngineError(f"head {name}: the network returned class {most}, the bundle has {len(labels)} labels")
        return SegmentationMap(class_id, labels)

    return decode


def _argmax(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the best class of (classes, height, width)."""
    # For two classes a comparison takes a tenth of the time.
    return np.asarray(scores[1] > scores[0] if len(scores) == 2 else scores.argmax(axis=0))


def to_source(mask: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Resample a class map (height, width) of the network to the picture's size by the nearest cell.

    The map may be coarser than the network's input. Pixels that the network did not see are 0.
    """
    rows, rows_seen = _cells(mask.shape[0], geometry, axis=0)
    columns, columns_seen = _cells(mask.shape[1], geometry, axis=1)
    # Whole rows first: they are contiguous in memory.
    result = mask.take(columns, axis=1).take(rows, axis=0)
    if not rows_seen.all():
        result[~rows_seen] = 0
    if not columns_seen.all():
        result[:, ~columns_seen] = 0
    return result


def _cells(cells: int, geometry: Geometry, axis: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the map's cell for each row (axis 0) or column (axis 1) of the picture, and whether there is one."""
    scale, offset = geometry.scale_xy[1 - axis], geometry.offset_xy[1 - axis]
    network = (np.arange(geometry.source_hw[axis]) + 0.5) * scale + offset
    place = np.floor(network * (cells / geometry.network_hw[axis])).astype(np.int64)
    return place.clip(0, cells - 1), (place >= 0) & (place < cells)


SPEC = DecoderSpec(
    "segmentation@1", SEGMENTATION, Params, make, in_graph="edgebone_export.importers.graph_decode:segmentation"
)
