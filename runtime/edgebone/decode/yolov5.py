"""``yolov5@1``: YOLOv5, v6 and v7: rows of centre, width, height in network pixels, objectness, class scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import misfit
from edgebone.decode.detections import BoxParams, BoxReader, Candidates, Floats, best_class, box_spec, from_cxcywh


def make_reader(
    name: str, params: BoxParams, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> BoxReader:
    """Build the reader; the one output must be (batch, boxes, 5 + classes), with all scores after the sigmoid."""
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[2] != 5 + len(labels):
        wanted = f"one output of shape [batch, boxes, {5 + len(labels)}] (5 + {len(labels)} labels)"
        raise misfit(name, "yolov5@1", wanted, outputs)

    def candidates(tensors: Sequence[Floats]) -> Candidates:
        rows = tensors[0]
        rows = rows[np.flatnonzero(rows[:, 4] >= params.score)]
        scores, class_id = best_class(rows[:, 5:])
        return from_cxcywh(rows[:, :4]), scores * rows[:, 4], class_id

    return candidates


SPEC = box_spec("yolov5@1", BoxParams, make_reader, in_graph="edgebone_export.importers.graph_decode:yolov5")
