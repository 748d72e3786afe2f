"""Instances whose areas are sums of prototypes (YOLACT, https://arxiv.org/abs/1904.02689): the boxes of a detector with
coefficients, and prototypes (batch, coefficients, height, width) that cover the network's input.

An area is where the sum is above 0, within its box, as in ultralytics 8.4: ``utils/ops.py``, ``process_mask``. Sums are
made for the boxes that are shown only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.detections import Detections, class_names
from edgebone.core.geometry import Geometry
from edgebone.core.masks import Masks
from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import Decoder, DecoderSpec, misfit
from edgebone.decode.detections import (
    BoxParams,
    Floats,
    best_class,
    decoded_rows,
    finite,
    from_cxcywh,
    survivors,
    yolov8_rows,
)
from edgebone.tasks.instances import INSTANCES

RowReader = Callable[[Sequence[Floats]], tuple[Floats, Floats, NDArray[np.int64], Floats]]
"""Returns boxes (n, 4), scores (n,), class ids (n,) and coefficients (n, c), in network pixels."""
# Sums of that many boxes are made at a time: 160x160 cells of 64 boxes are 6.5 MB.
_AT_A_TIME = 64
_THRESHOLD = 0.0


def _spec(
    name: str, before: int, axis: int, read: Callable[[BoxParams, int], RowReader], in_graph: str = ""
) -> DecoderSpec:
    """Return the row of a decoder.

    Args:
        name: Its ``name@version``.
        before: Numbers of a box before its class scores; 6 for boxes with their score and class, without class scores.
        axis: The axis with a box's numbers, 1 or 2.
        read: Builds the reader, from the settings and the number of classes.
        in_graph: Place of the function that appends the same decoding to a graph.
    """

    def make_reader(
        head: str, params: BoxParams, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _: tuple[int, int]
    ) -> RowReader:
        classes = len(labels) if before != 6 else 0
        shapes = [spec.shape for spec in outputs]
        sizes = shapes[0][axis] if [len(shape) for shape in shapes] == [3, 4] else None
        counts = shapes[1][1] if sizes is not None else None
        if not isinstance(sizes, int) or not isinstance(counts, int) or sizes != before + classes + counts:
            said = f"{before} + {classes} labels + coefficients" if classes else f"{before} + coefficients"
            wide = f"[batch, boxes, {said}]" if axis == 2 else f"[batch, {said}, boxes]"
            wanted = f"boxes {wide}, then their prototypes [batch, coefficients, height, width]"
            raise misfit(head, name, wanted, outputs)
        return read(params, classes)

    def make(
        head: str, params: BoxParams, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], size_hw: tuple[int, int]
    ) -> Decoder:
        reader = make_reader(head, params, labels, outputs, size_hw)
        names = class_names(labels)

        def decode(tensors: Sequence[NDArray[Any]], geometry: Geometry) -> Detections:
            floats = finite(head, tensors)
            xyxy, scores, class_id, coefficients = reader(floats)
            found, index = survivors(head, params, names, (xyxy, scores, class_id), geometry)
            return with_areas(found, xyxy[index], coefficients[index], floats[1], geometry)

        return decode

    return DecoderSpec(
        name, INSTANCES, BoxParams, make, make_reader, may_be_empty=True, in_graph=in_graph, decoded="instances@1"
    )


def with_areas(
    found: Detections, xyxy: Floats, coefficients: Floats, prototypes: Floats, geometry: Geometry
) -> Detections:
    """Return detections with their masks, without those whose area has no pixel.

    Args:
        found: n detections.
        xyxy: Their boxes in network pixels, (n, 4).
        coefficients: (n, c).
        prototypes: (c, height, width).
        geometry: The picture's.
    """
    channels, height, width = prototypes.shape
    flat = prototypes.reshape(channels, -1)
    cell = np.array([geometry.network_hw[1] / width, geometry.network_hw[0] / height] * 2)
    # A cell more on every side: a pixel lies between the centres of cells.
    reach = xyxy / cell
    bounds = np.concatenate([np.floor(reach[:, :2] - 0.5), np.ceil(reach[:, 2:] + 0.5)], axis=1)
    bounds = bounds.clip(0, (width, height, width, height)).astype(np.int64)
    # A box beyond the network's input has no cell of its own; it takes the last one.
    bounds[:, :2] = np.minimum(bounds[:, :2], (width - 1, height - 1))
    bounds[:, 2:] = np.maximum(bounds[:, 2:], bounds[:, :2] + 1)
    values = []
    for start in range(0, len(found), _AT_A_TIME):
        sums = (coefficients[start : start + _AT_A_TIME] @ flat).reshape(-1, height, width)
        for one, (left, top, right, bottom) in zip(sums, bounds[start:].tolist(), strict=False):
            values.append(one[top:bottom, left:right].copy())
    cells = geometry.to_source((bounds * cell).reshape(-1, 2)).reshape(-1, 4)
    # A pixel belongs to a box from the first whose index is not below its side, as in ops.crop_mask.
    pixels = np.ceil(found.xyxy).astype(np.int64)
    masks = Masks(tuple(values), cells, pixels, _THRESHOLD, geometry.source_hw)
    keep = np.array([masks.has_pixel(index) for index in range(len(masks))], np.bool_)
    return Detections(found.xyxy, found.confidence, found.class_id, found.data, mask=masks)[keep]


def _decoded(_: BoxParams, __: int) -> RowReader:
    def read(tensors: Sequence[Floats]) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
        return decoded_rows(tensors[0])

    return read


def _yolov5(params: BoxParams, classes: int) -> RowReader:
    def read(tensors: Sequence[Floats]) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
        rows = tensors[0]
        rows = rows[np.flatnonzero(rows[:, 4] >= params.score)]
        scores, class_id = best_class(rows[:, 5 : 5 + classes])
        return from_cxcywh(rows[:, :4]), scores * rows[:, 4], class_id, rows[:, 5 + classes :]

    return read


def _yolov8(params: BoxParams, classes: int) -> RowReader:
    def read(tensors: Sequence[Floats]) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
        boxes, scores, class_id, coefficients = yolov8_rows(tensors[0], classes, params.score)
        return from_cxcywh(boxes), scores, class_id, coefficients

    return read


DECODED = _spec("instances@1", 6, 2, _decoded)
"""``instances@1``: rows of left, top, right, bottom in network pixels, score, class and coefficients; prototypes."""
YOLOV5 = _spec("yolov5-seg@1", 5, 2, _yolov5, "edgebone_export.importers.graph_decode:yolov5_seg")
"""``yolov5-seg@1``: as ``yolov5@1``, with coefficients after the class scores; prototypes."""
YOLOV8 = _spec("yolov8-seg@1", 4, 1, _yolov8, "edgebone_export.importers.graph_decode:yolov8_seg")
"""``yolov8-seg@1``: as ``yolov8@1``, with coefficients after the class scores; prototypes."""
