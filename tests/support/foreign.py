"""Small ONNX files as other people's exporters write them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HW = (64, 96)
CELLS = 8 * 12


class Foreign:
    """A small network in the form of a family: one convolution with random weights, then reshaping.

    Args:
        opset: The file's opset.
        half: Whether it computes in half precision.
        layout: ``nchw`` or ``nhwc``.
        free: Names for free axes of the input, by axis.
    """

    def __init__(
        self, opset: int = 17, half: bool = False, layout: str = "nchw", free: dict[int, str] | None = None
    ) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.opset = opset
        self.dtype = np.float16 if half else np.float32
        self.type = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        size: list[int | str] = [1, 3, *HW] if layout == "nchw" else [1, *HW, 3]
        for axis, name in (free or {}).items():
            size[axis] = name
        self.batch = size[0]
        self.input = helper.make_tensor_value_info("pixels", self.type, size)
        self.start = "pixels" if layout == "nchw" else self.node("Transpose", "pixels", perm=[0, 3, 1, 2])

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def cells(self, channels: int, scale: float, shift: float = 0.0) -> str:
        """(1, 96, channels): what a convolution makes of each 8x8 pixels."""
        weight = self.constant((self.rng.standard_normal((channels, 3, 8, 8)) * scale / 14).astype(self.dtype))
        bias = self.constant((self.rng.standard_normal(channels) * scale / 4 + shift).astype(self.dtype))
        maps = self.node("Conv", self.start, weight, bias, kernel_shape=[8, 8], strides=[8, 8])
        rows = self.node("Reshape", maps, self.constant(np.array([0, channels, CELLS], np.int64)))
        return self.node("Transpose", rows, perm=[0, 2, 1])

    def planes(self, channels: int, stride: int, scale: float) -> str:
        """(1, channels, n): what a convolution makes of each square of pixels."""
        weight = self.rng.standard_normal((channels, 3, stride, stride)) * scale / (stride * 1.75)
        maps = self.node("Conv", self.start, self.constant(weight.astype(self.dtype)), strides=[stride, stride])
        count = HW[0] * HW[1] // stride**2
        return self.node("Reshape", maps, self.constant(np.array([0, channels, count], np.int64)))

    def pyramid(self, channels: int = 8) -> str:
        """(1, 1, 1): a little of what maps of the strides 4, 8, 16 and 32 come to."""
        value, before = self.start, 3
        for step in (4, 2, 2, 2):
            weight = self.constant((self.rng.standard_normal((channels, before, step, step)) / 8).astype(self.dtype))
            maps = self.node("Conv", value, weight, kernel_shape=[step, step], strides=[step, step])
            # SiLU: what it reads, it reads twice, as YOLOX does.
            value, before = self.node("Mul", maps, self.node("Sigmoid", maps)), channels
        mean = self.node("ReduceMean", value, axes=[1, 2, 3], keepdims=0)
        small = self.node("Mul", mean, self.constant(np.array(1e-3, self.dtype)))
        return self.node("Reshape", small, self.constant(np.array([-1, 1, 1], np.int64)))

    def boxes(self, unit: Sequence[float]) -> str:
        """(1, 96, 4): centres all over the input and sizes of a fifth of it, in units of the input's sides."""
        relative = self.node("Sigmoid", self.cells(4, 3.0))
        scale = np.array([unit[0], unit[1], 0.4 * unit[0], 0.4 * unit[1]], self.dtype)
        return self.node("Mul", relative, self.constant(scale))

    def scores(self, classes: int) -> str:
        return self.node("Sigmoid", self.cells(classes, 4.0))

    def give(self, value: str, shape: Sequence[int | str], name: str = "out", kind: int | None = None) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, kind or self.type, [self.batch, *shape]))

    def save(self, path: Path, metadata: dict[str, str] | None = None) -> Path:
        graph = helper.make_graph(self.nodes, "foreign", [self.input], self.outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        if metadata:
            helper.set_model_props(model, metadata)
        onnx.save(model, path)
        return path


def yolox(path: Path, classes: int) -> Path:
    """YOLOX's form: a row a cell of 64x96 at the strides 8, 16 and 32, and maps of every stride on the way."""
    net = Foreign()
    # Its pictures are 0 to 255.
    net.start = net.node("Mul", net.start, net.constant(np.float32(1 / 255)))
    raw = net.node("Concat", net.cells(4, 1.0, 0.5), net.scores(1), net.scores(classes), axis=2)
    # The first 96 rows are the cells at stride 8, then 24 at 16 and 6 at 32.
    start, end, axis = (net.constant(np.array([item], np.int64)) for item in (0, 30, 1))
    both = net.node("Concat", raw, net.node("Slice", raw, start, end, axis), axis=1)
    net.give(net.node("Add", both, net.pyramid()), (126, 5 + classes))
    return net.save(path)


def ultralytics(path: Path, classes: int) -> Path:
    """YOLOv8's form, with the metadata that ultralytics' exporter writes."""
    net = Foreign()
    rows = net.node("Concat", net.boxes((HW[1], HW[0])), net.scores(classes), axis=2)
    net.give(net.node("Transpose", rows, perm=[0, 2, 1]), (4 + classes, CELLS))
    names = str({index: f"class {index}" for index in range(classes)})
    metadata = {"author": "Ultralytics", "stride": "32", "imgsz": str(list(HW)), "task": "detect", "names": names}
    return net.save(path, metadata)


def yolo11(path: Path, classes: int, bins: int = 4, **settings: Any) -> Path:
    """YOLO11's form: maps of two strides, and each side's distance as a distribution over bins (DFL)."""
    net = Foreign(**settings)
    strides = (8, 16)
    cells, anchors = [], []
    for stride in strides:
        y, x = np.mgrid[0 : HW[0] // stride, 0 : HW[1] // stride] + 0.5
        cells.append(x.size)
        anchors.append(np.stack([x.ravel(), y.ravel()]))
    count = sum(cells)
    anchor = net.constant(np.concatenate(anchors, axis=1)[None].astype(net.dtype))
    levels = [net.planes(4 * bins, stride, 3.0) for stride in strides]
    scores = [net.planes(classes, stride, 4.0) for stride in strides]
    shape = net.constant(np.array([0, 4, bins, count], np.int64))
    apart = net.node("Transpose", net.node("Reshape", net.node("Concat", *levels, axis=2), shape), perm=[0, 2, 1, 3])
    steps = net.constant(np.arange(bins, dtype=net.dtype).reshape(1, bins, 1, 1))
    distance = net.node("Conv", net.node("Softmax", apart, axis=1), steps)
    sides = net.node("Reshape", distance, net.constant(np.array([0, 4, count], np.int64)))
    start, middle, end, axis = (net.constant(np.array([i], np.int64)) for i in (0, 2, 4, 1))
    low = net.node("Sub", anchor, net.node("Slice", sides, start, middle, axis))
    high = net.node("Add", anchor, net.node("Slice", sides, middle, end, axis))
    center = net.node("Mul", net.node("Add", low, high), net.constant(np.array(0.5, net.dtype)))
    boxes = net.node("Concat", center, net.node("Sub", high, low), axis=1)
    pixels = net.node("Mul", boxes, net.constant(np.repeat(strides, cells)[None].astype(net.dtype)))
    shares = net.node("Sigmoid", net.node("Concat", *scores, axis=2))
    net.give(net.node("Concat", pixels, shares, axis=1), (4 + classes, count))
    return net.save(path)


def depth(path: Path, metadata: dict[str, str] | None = None, negative: bool = False) -> Path:
    """A distance per 8x8 pixels, larger where the picture is brighter in some way."""
    net = Foreign()
    value = net.cells(1, 2.0)
    value = value if negative else net.node("Exp", value)
    net.give(net.node("Reshape", value, net.constant(np.array([0, 1, 8, 12], np.int64))), (1, 8, 12), "depth")
    return net.save(path, metadata)


def yolo_pose(
    path: Path,
    classes: int,
    keypoints: int,
    dims: int,
    metadata: dict[str, str] | None = None,
    unit: Sequence[float] = (HW[1], HW[0]),
) -> Path:
    """YOLOv8-pose's form: a column per box of 64x96, with keypoints all over the input."""
    net = Foreign()
    spread = np.array([*unit, 1][:dims] * keypoints, np.float32)
    points = net.node("Mul", net.node("Sigmoid", net.cells(keypoints * dims, 3.0)), net.constant(spread))
    rows = net.node("Concat", net.boxes((HW[1], HW[0])), net.scores(classes), points, axis=2)
    net.give(net.node("Transpose", rows, perm=[0, 2, 1]), (4 + classes + keypoints * dims, CELLS))
    return net.save(path, metadata)


def yolo_obb(path: Path, classes: int, metadata: dict[str, str] | None = None, turn: float = np.pi) -> Path:
    """YOLOv8-obb's form: a column per box of 64x96, turned by up to three quarters of ``turn``."""
    net = Foreign()
    share = net.node("Sub", net.node("Sigmoid", net.cells(1, 3.0)), net.constant(np.float32(0.25)))
    angle = net.node("Mul", share, net.constant(np.float32(turn)))
    rows = net.node("Concat", net.boxes((HW[1], HW[0])), net.scores(classes), angle, axis=2)
    net.give(net.node("Transpose", rows, perm=[0, 2, 1]), (5 + classes, CELLS))
    return net.save(path, metadata)


def yolo26_seg(path: Path, classes: int, coefficients: int = 6, best: int = 20) -> Path:
    """YOLO26's form with masks: the best rows, gathered by slices that follow each other, and prototypes."""
    net = Foreign()
    boxes = net.boxes((HW[1], HW[0]))
    parts = (boxes, net.scores(classes), net.cells(coefficients, 1.0))
    ends = np.cumsum([0, 4, classes, coefficients])
    rows = net.node("Concat", *parts, axis=2)
    slices = [
        net.node("Slice", rows, *(net.constant(np.array([place], np.int64)) for place in (start, end, 2)))
        for start, end in pairwise(ends)
    ]
    highest = net.node("ReduceMax", slices[1], axes=[-1], keepdims=0)
    net.nodes.append(helper.make_node("TopK", [highest, net.constant(np.array([best]))], ["best", "index"], axis=1))
    index = net.node("Unsqueeze", "index", net.constant(np.array([-1])))
    found = []
    for part, width in zip(slices, np.diff(ends), strict=True):
        wide = net.node("Expand", index, net.constant(np.array([1, best, width])))
        found.append(net.node("GatherElements", part, wide, axis=1))
    size = net.node("Slice", found[0], *map(net.constant, ([2], [4], [2])))
    half = net.node("Mul", size, net.constant(np.float32(0.5)))
    center = net.node("Slice", found[0], *map(net.constant, ([0], [2], [2])))
    corners = net.node("Concat", net.node("Sub", center, half), net.node("Add", center, half), axis=2)
    score = net.node("Unsqueeze", "best", net.constant(np.array([-1])))
    label = net.node("Cast", net.node("ArgMax", found[1], axis=2, keepdims=1), to=TensorProto.FLOAT)
    net.give(net.node("Concat", corners, score, label, found[2], axis=2), (best, 6 + coefficients))
    prototypes = net.node("Transpose", net.cells(coefficients, 1.0), perm=[0, 2, 1])
    maps = net.node("Reshape", prototypes, net.constant(np.array([0, coefficients, 8, 12])))
    net.give(maps, (coefficients, 8, 12), "prototypes")
    names = str({index: f"class {index}" for index in range(classes)})
    return net.save(
        path, {"author": "Ultralytics", "stride": "32", "imgsz": str(list(HW)), "task": "segment", "names": names}
    )


def lanes(path: Path) -> Path:
    """TwinLiteNet's form: two outputs of two classes a pixel."""
    net = Foreign()
    for name in ("da", "ll"):
        maps = net.node("Transpose", net.cells(2, 2.0), perm=[0, 2, 1])
        net.give(net.node("Reshape", maps, net.constant(np.array([0, 2, 8, 12], np.int64))), (2, 8, 12), name)
    return net.save(path)
