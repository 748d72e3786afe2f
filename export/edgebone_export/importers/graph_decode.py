"""Append decoding to a graph, so that only the best k boxes, or one class per pixel, leave the accelerator.

Uses only operators that onnxruntime, OpenVINO and TensorRT (including RTX) all run, in a form unchanged since opset 11:
no NonMaxSuppression, no data-dependent shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

from edgebone.core.manifest import Head
from edgebone.core.place import load_place
from edgebone.decode import spec_of
from edgebone.decode.yolox import grid
from edgebone_export.errors import ExportError
from edgebone_export.importers.late_decoding import Chosen, columns, is_share, largest, like

_LEAST_OPSET = 11


@dataclass(frozen=True)
class Decoding:
    """The decoding to append for one head.

    Attributes:
        head: The head as it reads the graph before decoding.
        output: Name of the output that replaces the head's.
        shapes: Shapes of the head's outputs, in its order, including the batch axis.
        boxes: Largest number of boxes that the graph returns.
    """

    head: Head
    output: str
    shapes: tuple[tuple[int, ...], ...]
    boxes: int


@dataclass(frozen=True)
class AppendDecoding:
    """Replace outputs with decoded ones; drop outputs that no head reads.

    Attributes:
        decodings: Decodings to append.
        outputs: The graph's outputs after decoding, in order.
        size_hw: Height and width of the network's input.
    """

    decodings: tuple[Decoding, ...]
    outputs: tuple[str, ...]
    size_hw: tuple[int, int]
    name: str = "append decoding"

    def requires(self, model: ir.Model) -> None:
        """Check for an opset that has the operators in their current form."""
        opset = model.opset_imports.get("", 0)
        if self.decodings and opset < _LEAST_OPSET:
            raise ExportError(
                f"the file has opset {opset}; decoding in the graph needs {_LEAST_OPSET} or more: "
                "decode on the host with --decode host"
            )

    def apply(self, model: ir.Model) -> ir.Model:
        """Change the graph in place."""
        graph = model.graph
        by_name = {value.name: value for value in graph.outputs}
        for decoding in self.decodings:
            build = Build(decoding.output)
            inputs = []
            for name, shape in zip(decoding.head.outputs, decoding.shapes, strict=True):
                # Shape inference fails on some graphs; they are still valid.
                by_name[name].shape = ir.Shape([(by_name[name].shape or [None])[0], *shape[1:]])
                inputs.append(build.floats(by_name[name]))
            append = load_place(spec_of(decoding.output, decoding.head).in_graph)
            result: ir.Value = append(build, inputs, decoding, self.size_hw, model.opset_imports[""])
            result.name = decoding.output
            build.add_to(graph)
            by_name[decoding.output] = result
        return with_outputs(model, [by_name[name] for name in self.outputs])

    def ensures(self, model: ir.Model) -> None:
        """Check that the graph has the expected outputs."""
        check_outputs(model, self.outputs)


def with_outputs(model: ir.Model, values: Sequence[ir.Value]) -> ir.Model:
    """Make values the graph's outputs, in place, and remove everything else."""
    model.graph.outputs[:] = values
    RemoveUnusedNodesPass()(model)
    return ShapeInferencePass()(model).model


def check_outputs(model: ir.Model, wanted: tuple[str, ...]) -> None:
    """Check the names and order of a graph's outputs.

    Raises:
        ExportError: They differ.
    """
    found = tuple(value.name for value in model.graph.outputs)
    if found != wanted:
        raise ExportError(f"expected outputs {wanted}, found {found}")


# The decoders' `in_graph` names these functions. Each takes the node builder, the head's outputs as floats, the
# decoding, height and width of the network's input, and the opset, and returns the output that replaces the head's.


def segmentation(build: Build, inputs: Sequence[ir.Value], decoding: Decoding, _: tuple[int, int], __: int) -> ir.Value:
    """Append the best class of every pixel, uint8."""
    threshold, shape = decoding.head.params.get("threshold"), decoding.shapes[0]
    if threshold is not None:
        best = build.op("Greater", inputs[0], build.constant(np.float32(threshold)))
    else:
        best = build.op("ArgMax", inputs[0], axis=1, keepdims=1)
    flat = build.op("Reshape", best, build.constant(np.array([0, *shape[2:]], np.int64)))
    return build.op("Cast", flat, to=ir.DataType.UINT8)


def yolov5(build: Build, inputs: Sequence[ir.Value], decoding: Decoding, _: tuple[int, int], opset: int) -> ir.Value:
    """Decode one row per box, with objectness, to (n, k, 6)."""
    best = _Best(build, inputs[0], decoding, opset, columns_axis=2, objectness=True)
    return build.rows(build.corners(best.columns(0, 4)), best.score, best.class_id)


def yolov8(build: Build, inputs: Sequence[ir.Value], decoding: Decoding, _: tuple[int, int], opset: int) -> ir.Value:
    """Decode one column per box, without objectness, to (n, k, 6)."""
    best = _Best(build, inputs[0], decoding, opset, columns_axis=1, objectness=False)
    return build.rows(build.corners(best.columns(0, 4)), best.score, best.class_id)


def yolov8_pose(
    build: Build, inputs: Sequence[ir.Value], decoding: Decoding, _: tuple[int, int], opset: int
) -> ir.Value:
    """Decode one column per box, with keypoints after the classes, to (n, k, 6 + …)."""
    return _with_more(build, inputs[0], decoding, opset, columns_axis=1, objectness=False)


def yolov8_obb(
    build: Build, inputs: Sequence[ir.Value], decoding: Decoding, _: tuple[int, int], opset: int
) -> ir.Value:
    """Decode one column per oriented box, with the angle after the classes, to (n, k, 7)."""
    best = _Best(build, inputs[0], decoding, opset, columns_axis=1, objectness=False)
    angle = best.columns(4 + len(decoding.head.labels), decoding.shapes[0][1])
    return build.rows(best.columns(0, 4), best.score, best.class_id, angle)


def yolov5_seg(
    build: Build, inputs: Sequence[ir.Value], decoding: Decoding, _: tuple[int, int], opset: int
) -> ir.Value:
    """Decode one row per box, with objectness and coefficients, to (n, k, 6 + coefficients)."""
    return _with_more(build, inputs[0], decoding, opset, columns_axis=2, objectness=True)


def yolov8_seg(
    build: Build, inputs: Sequence[ir.Value], decoding: Decoding, _: tuple[int, int], opset: int
) -> ir.Value:
    """Decode one column per box, with coefficients, to (n, k, 6 + coefficients)."""
    return _with_more(build, inputs[0], decoding, opset, columns_axis=1, objectness=False)


def _with_more(
    build: Build, output: ir.Value, decoding: Decoding, opset: int, columns_axis: int, objectness: bool
) -> ir.Value:
    best = _Best(build, output, decoding, opset, columns_axis, objectness)
    more = best.columns(4 + objectness + len(decoding.head.labels), decoding.shapes[0][columns_axis])
    return build.rows(build.corners(best.columns(0, 4)), best.score, best.class_id, more)


def detr(build: Build, inputs: Sequence[ir.Value], decoding: Decoding, size_hw: tuple[int, int], _: int) -> ir.Value:
    """Decode logits, and boxes as fractions of the picture, to (n, k, 6)."""
    scores, boxes = inputs
    classes, softmax = decoding.shapes[0][2], decoding.head.params.get("activation") == "softmax"
    if softmax:
        classes -= 1
        scores = build.columns(build.op("Softmax", scores, axis=2), 0, classes)
    place, score, class_id = build.best_pairs(scores, decoding, classes)
    if not softmax:
        score = build.op("Sigmoid", score)
    chosen = build.op("Mul", build.rows_at(boxes, place, 4), build.constant(_pixels(size_hw)))
    return build.rows(build.corners(chosen), score, class_id)


def ssd(build: Build, inputs: Sequence[ir.Value], decoding: Decoding, size_hw: tuple[int, int], _: int) -> ir.Value:
    """Decode class probabilities and box corners to (n, k, 6)."""
    scores, boxes = inputs
    params = decoding.head.params
    first = int(params.get("background", True))
    if first:
        scores = build.columns(scores, first)
    place, score, class_id = build.best_pairs(scores, decoding, decoding.shapes[0][2] - first)
    if first:
        class_id = build.op("Add", class_id, build.constant(np.float32(first)))
    chosen = build.rows_at(boxes, place, 4)
    if params.get("box_unit", "relative") == "relative":
        chosen = build.op("Mul", chosen, build.constant(_pixels(size_hw)))
    return build.rows(chosen, score, class_id)


def _pixels(size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Return the factors from fractions of the picture to pixels."""
    return np.array([size_hw[1], size_hw[0]] * 2, np.float32)


def yolox(
    build: Build, inputs: Sequence[ir.Value], decoding: Decoding, size_hw: tuple[int, int], opset: int
) -> ir.Value:
    """Decode offsets from grid cells to (n, k, 6)."""
    strides = decoding.head.params.get("strides", (8, 16, 32))
    corners, stride = grid(size_hw, strides)
    best = _Best(build, inputs[0], decoding, opset, columns_axis=2, objectness=True)
    chosen_stride = build.op("Gather", build.constant(stride), best.place, axis=0)
    centers = build.op("Add", best.columns(0, 2), build.op("Gather", build.constant(corners), best.place, axis=0))
    sizes = build.op("Exp", best.columns(2, 4))
    boxes = build.op("Mul", build.op("Concat", centers, sizes, axis=2), chosen_stride)
    return build.rows(build.corners(boxes), best.score, best.class_id)


class _Best:
    """The k best boxes of an output with one row or column per box: four values, objectness or not, classes, more.

    Attributes:
        place: Indices of the boxes, (n, k).
        score: (n, k, 1).
        class_id: (n, k, 1), as float.
    """

    def __init__(
        self,
        build: Build,
        output: ir.Value,
        decoding: Decoding,
        opset: int,
        columns_axis: int,
        objectness: bool,
    ) -> None:
        self._build, self._output, self._columns_axis = build, output, columns_axis
        self._boxes_axis = 3 - columns_axis
        k = min(decoding.boxes, decoding.shapes[0][self._boxes_axis])
        first = 4 + objectness
        scores = columns(build, output, columns_axis, first, first + len(decoding.head.labels))
        object_score = columns(build, output, columns_axis, 4, 5) if objectness else None
        # With no negative factor, the largest product is the product with the largest factor, rounded identically.
        later = object_score if object_score is not None and is_share(object_score) else None
        if object_score is not None and later is None:
            scores = like(build.op("Mul", scores, object_score), scores)
        best = largest(build, scores, columns_axis, opset)
        if later is not None:
            best = build.op("Mul", best, build.op("Reshape", later, build.constant(np.array([0, -1], np.int64))))
        score, self.place = build.top(best, k)
        self._chosen = Chosen(build, self.place, k, opset)
        class_id = build.op("ArgMax", self._chosen.at(scores, self._boxes_axis), axis=columns_axis, keepdims=0)
        self.score = build.column(score)
        self.class_id = build.column(build.op("Cast", class_id, to=ir.DataType.FLOAT))

    def columns(self, start: int, end: int) -> ir.Value:
        """Return columns of the chosen boxes: (n, k, end - start)."""
        found = self._chosen.at(columns(self._build, self._output, self._columns_axis, start, end), self._boxes_axis)
        return found if self._boxes_axis == 1 else self._build.op("Transpose", found, perm=[0, 2, 1])


class Build:
    """Builds nodes and constants whose names share a prefix."""

    def __init__(self, prefix: str) -> None:
        self.tape = ir.tape.Tape()
        self._prefix = prefix
        self._count = 0

    def op(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Add a node and return its first output."""
        value = self.tape.op(op_type, list(inputs), attributes or None, name=self._name(op_type))
        value.name = self._name("value")
        return value

    def constant(self, array: Any) -> ir.Value:
        """Add a constant and return its value."""
        return self.tape.initializer(ir.tensor(np.asarray(array)), name=self._name("constant"))

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}/{kind}_{self._count}"

    def floats(self, value: ir.Value) -> ir.Value:
        """Return the value as float32; half-precision networks return float16."""
        if value.dtype in (None, ir.DataType.FLOAT):
            return value
        cast = self.op("Cast", value, to=ir.DataType.FLOAT)
        cast.dtype = ir.DataType.FLOAT
        return like(cast, value)

    def add_to(self, graph: ir.Graph) -> None:
        """Append all nodes and constants to a graph."""
        for node in self.tape.nodes:
            graph.append(node)
        for value in self.tape.initializers:
            graph.register_initializer(value)

    def pick(self, value: ir.Value, columns: Sequence[int]) -> ir.Value:
        """Return ``value[..., columns]`` of (n, rows, columns)."""
        return self.op("Gather", value, self.constant(np.array(columns, np.int64)), axis=2)

    def columns(self, value: ir.Value, start: int, end: int | None = None) -> ir.Value:
        """Return ``value[..., start:end]`` of (n, rows, columns)."""
        last = np.iinfo(np.int64).max if end is None else end
        starts, ends, axes = (self.constant(np.array([item], np.int64)) for item in (start, last, 2))
        return self.op("Slice", value, starts, ends, axes)

    def top(self, scores: ir.Value, k: int) -> tuple[ir.Value, ir.Value]:
        """Return the k largest of (n, boxes) for each picture, descending, and their indices."""
        values, places = self.tape.op_multi_out(
            "TopK",
            [scores, self.constant(np.array([k], np.int64))],
            {"axis": 1, "largest": 1, "sorted": 1},
            num_outputs=2,
            name=self._name("TopK"),
        )
        values.name, places.name = self._name("value"), self._name("value")
        return values, places

    def best_pairs(self, scores: ir.Value, decoding: Decoding, classes: int) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Return the k best pairs of a box and a class of (n, boxes, classes), by score.

        Returns:
            Box indices (n, k), scores (n, k, 1) and class ids (n, k, 1) as float.
        """
        flat = self.op("Reshape", scores, self.constant(np.array([0, -1], np.int64)))
        best, pair = self.top(flat, min(decoding.boxes, decoding.shapes[0][1] * classes))
        count = self.constant(np.array(classes, np.int64))
        place = self.op("Div", pair, count)
        class_id = self.op("Sub", pair, self.op("Mul", place, count))
        return place, self.column(best), self.column(self.op("Cast", class_id, to=ir.DataType.FLOAT))

    def column(self, value: ir.Value) -> ir.Value:
        """Reshape (n, k) to (n, k, 1)."""
        return self.op("Reshape", value, self.constant(np.array([0, -1, 1], np.int64)))

    def rows_at(self, rows: ir.Value, place: ir.Value, width: int) -> ir.Value:
        """Return ``rows[n, place[n, k]]``: (n, k, width) of (n, rows, width)."""
        # Gathers whole rows, though four columns would do: OpenVINO 2026.4 moves a Slice past GatherElements, and
        # then rejects its own graph.
        wide = self.op("Expand", self.column(place), self.constant(np.array([1, 1, width], np.int64)))
        return self.op("GatherElements", rows, wide, axis=1)

    def corners(self, boxes: ir.Value) -> ir.Value:
        """Convert centre, width, height to left, top, right, bottom."""
        center, size = self.columns(boxes, 0, 2), self.columns(boxes, 2, 4)
        half = self.op("Mul", size, self.constant(np.float32(0.5)))
        return self.op("Concat", self.op("Sub", center, half), self.op("Add", center, half), axis=2)

    def rows(self, boxes: ir.Value, score: ir.Value, class_id: ir.Value, *more: ir.Value) -> ir.Value:
        """Concatenate boxes, scores, classes and what else there is to (n, k, 6 or more)."""
        return self.op("Concat", boxes, score, class_id, *more, axis=2)
