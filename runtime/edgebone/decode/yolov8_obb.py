"""``yolov8-obb@1``: YOLOv8-obb, 11 and others with the same output: as ``yolov8@1``, then the angle in radians."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgebone.core.tensors import TensorSpec
from edgebone.decode.contract import misfit
from edgebone.decode.detections import BoxParams, Floats, yolov8_rows
from edgebone.decode.oriented import Turned, oriented_spec


def make_reader(
    name: str, params: BoxParams, labels: tuple[str, ...], outputs: tuple[TensorSpec, ...], _size_hw: tuple[int, int]
) -> Callable[[Sequence[Floats]], Turned]:
    """Build the reader; the one output must be (batch, 4 + classes + 1, boxes)."""
    end = 4 + len(labels)
    if len(outputs) != 1 or len(outputs[0].shape) != 3 or outputs[0].shape[1] != end + 1:
        wanted = f"one output of shape [batch, {end + 1}, boxes] (4 + {len(labels)} labels + the angle)"
        raise misfit(name, "yolov8-obb@1", wanted, outputs)

    def read(tensors: Sequence[Floats]) -> Turned:
        return yolov8_rows(tensors[0], len(labels), params.score)

    return read


SPEC = oriented_spec("yolov8-obb@1", make_reader, in_graph="edgebone_export.importers.graph_decode:yolov8_obb")
