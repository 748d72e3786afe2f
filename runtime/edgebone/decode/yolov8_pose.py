"""``yolov8-pose@1``: YOLOv8-pose, 11 and others with the same output: as ``yolov8@1``, then each keypoint's values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgebone.core.tensors import TensorSpec
from edgebone.decode.detections import Floats, from_cxcywh, yolov8_rows
from edgebone.decode.keypoints import KeypointParams, Objects, keypoint_spec, misfit_of


def make_reader(
    name: str,
    params: KeypointParams,
    labels: tuple[str, ...],
    outputs: tuple[TensorSpec, ...],
    _size_hw: tuple[int, int],
) -> Callable[[Sequence[Floats]], Objects]:
    """Build the reader; the one output must be (batch, 4 + classes + keypoints·dims, boxes)."""
    columns = 4 + len(labels) + len(params.keypoints) * params.dims
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[1] != columns:
        form = f"one output of shape [batch, {columns}, boxes] with 4 + {len(labels)} labels"
        raise misfit_of(name, "yolov8-pose@1", params, form, outputs)

    def read(tensors: Sequence[Floats]) -> Objects:
        boxes, scores, class_id, values = yolov8_rows(tensors[0], len(labels), params.score)
        return from_cxcywh(boxes), scores, class_id, values

    return read


SPEC = keypoint_spec("yolov8-pose@1", make_reader, in_graph="edgebone_export.importers.graph_decode:yolov8_pose")
