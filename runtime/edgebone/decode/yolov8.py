"""``yolov8@1``: YOLOv8, v9, 11, 12 and others with the same output: centre, width, height in network pixels, then
class scores (after the sigmoid), one column per box."""

from __future__ import annotations

from collections.abc import Sequence

from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import misfit
from edgebone.decode.detections import BoxParams, BoxReader, Candidates, Floats, box_spec, from_cxcywh, yolov8_rows


def make_reader(
    name: str, params: BoxParams, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> BoxReader:
    """Build the reader; the one output must be (batch, 4 + classes, boxes)."""
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[1] != 4 + len(labels):
        wanted = f"one output of shape [batch, {4 + len(labels)}, boxes] (4 + {len(labels)} labels)"
        raise misfit(name, "yolov8@1", wanted, outputs)

    def candidates(tensors: Sequence[Floats]) -> Candidates:
        boxes, scores, class_id, _ = yolov8_rows(tensors[0], len(labels), params.score)
        return from_cxcywh(boxes), scores, class_id

    return candidates


SPEC = box_spec("yolov8@1", BoxParams, make_reader, in_graph="edgebone_export.importers.graph_decode:yolov8")
