"""Write the graph that computes the network's input from a camera frame, as :mod:`edgebone.preprocess` does.

TensorRT has no antialiased resize and takes uint8 at its borders only. The graph therefore casts the picture first, and
resizes it by gathering rows and columns and multiplying them with the host's own weights. It casts to FP16, which holds
every byte exactly and moves half the memory of FP32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone.core.manifest import FrameLayout, Preprocess
from edgebone.preprocess import plan, takes_y_first
from edgebone_export.errors import ExportError
from edgebone_export.frame_input.resampling import (
    Taps,
    Window,
    bands,
    nearest_taps,
    opencv_taps,
    pillow_taps,
    windows,
)

_PREFIX = "frame_input"
# Limited range, BT.601, in OpenCV's 20 bits (modules/imgproc/src/color_yuv.simd.hpp).
_LUMA, _U_BLUE, _U_GREEN, _V_GREEN, _V_RED = np.array([1220542, 2116026, -409993, -852492, 1673527]) / (1 << 20)


@dataclass(frozen=True)
class FrameGraph:
    """A graph from a frame to the network's input.

    Attributes:
        nodes: Nodes in topological order.
        constants: The initializers that they use.
        network_input: float32 (n, height, width, 3), integers from 0 to 255, in the network's channel order.
    """

    nodes: list[ir.Node]
    constants: list[ir.Value]
    network_input: ir.Value


def frame_graph(spec: Preprocess, size_hw: tuple[int, int], layout: FrameLayout, frame: ir.Value) -> FrameGraph:
    """Write the graph for one frame size.

    Args:
        spec: The bundle's preprocessing.
        size_hw: The frame's height and width, in pixels.
        layout: ``bgr`` or ``nv12``.
        frame: The graph's input: uint8 (n, height, width, 3), or (n, height * 3 / 2, width) for NV12.

    Raises:
        ExportError: The preprocessing has no graph form: it pads before it resizes, or its filter is unknown.
    """
    if spec.pad == "before" or spec.interpolation in ("lanczos4", "area"):
        what = "pads before it resizes" if spec.pad == "before" else f"resizes with {spec.interpolation}"
        raise ExportError(f"the preprocessing {what}, which only the host can do: omit --frame")
    geometry = plan(spec, *size_hw)
    seen = windows(geometry)
    writer = _Writer(frame, size_hw[0], layout)
    if spec.interpolation == "nearest":
        rows, columns = nearest_taps(spec, size_hw, seen)
        value = writer.pick(rows.index[:, 0], columns.index[:, 0])
    elif spec.antialias:
        rows, columns = (pillow_taps(spec.interpolation, window) for window in seen)
        value = writer.as_pillow(rows, columns, takes_y_first(spec.interpolation, size_hw, geometry.resized_hw))
    else:
        value = writer.as_opencv(*(opencv_taps(spec.interpolation, window) for window in seen))
    if spec.color == "rgb":
        value = writer.swap_channels(value)
    value = writer.pad(value, seen, np.array(spec.padding, np.float64))
    return FrameGraph(writer.nodes, writer.constants, value)


class _Writer:
    """Appends nodes one by one."""

    def __init__(self, frame: ir.Value, height: int, layout: FrameLayout) -> None:
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []
        self._layout = layout
        self._height = height
        self._pixels = self._op("Cast", frame, to=ir.DataType.FLOAT16)

    def _op(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        node = ir.node(op_type, inputs, attributes=attributes, name=f"{_PREFIX}/{op_type}_{len(self.nodes)}")
        node.outputs[0].name = f"{node.name}_out"
        self.nodes.append(node)
        return node.outputs[0]

    def _constant(self, array: NDArray[Any]) -> ir.Value:
        array = np.asarray(array, np.float32 if array.dtype.kind == "f" else np.int64)
        name = f"{_PREFIX}/constant_{len(self.constants)}"
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.constants.append(value)
        return value

    def _number(self, op_type: str, value: ir.Value, number: float) -> ir.Value:
        return self._op(op_type, value, self._constant(np.array(number, np.float32)))

    def _reshape(self, value: ir.Value, *shape: int) -> ir.Value:
        """Change the shape after the batch axis, which is kept."""
        return self._op("Reshape", value, self._constant(np.array([0, *shape])))

    def _rounded(self, value: ir.Value) -> ir.Value:
        return self._op("Floor", self._number("Add", value, 0.5))

    def _bytes(self, value: ir.Value) -> ir.Value:
        """Clip to 0 to 255."""
        return self._op("Clip", value, *(self._constant(np.array(end, np.float32)) for end in (0, 255)))

    def pick(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> ir.Value:
        """Gather rows and columns of the frame: float32 (n, rows, columns, 3), BGR."""
        if self._layout == "bgr":
            return self._op("Cast", self._plane(rows, columns), to=ir.DataType.FLOAT)
        # Each block of 2x2 pixels shares its chroma, which is stored below the picture, U and V interleaved.
        below = self._height + rows // 2
        luma = self._op("Cast", self._plane(rows, columns), to=ir.DataType.FLOAT)
        u, v = (
            self._number("Sub", self._op("Cast", self._plane(below, at), to=ir.DataType.FLOAT), 128)
            for at in (columns // 2 * 2, columns // 2 * 2 + 1)
        )
        luma = self._number("Mul", self._op("Relu", self._number("Sub", luma, 16)), _LUMA)
        blue = self._op("Add", luma, self._number("Mul", u, _U_BLUE))
        tint = self._op("Add", self._number("Mul", u, _U_GREEN), self._number("Mul", v, _V_GREEN))
        green = self._op("Add", luma, tint)
        red = self._op("Add", luma, self._number("Mul", v, _V_RED))
        last = self._constant(np.array([3]))
        channels = [self._op("Unsqueeze", channel, last) for channel in (blue, green, red)]
        return self._bytes(self._rounded(self._op("Concat", *channels, axis=3)))

    def _plane(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> ir.Value:
        # Rows first: they are contiguous in memory.
        value = self._op("Gather", self._pixels, self._constant(rows), axis=1)
        return self._op("Gather", value, self._constant(columns), axis=2)

    def as_opencv(self, rows: Taps, columns: Taps) -> ir.Value:
        """Resize from a few neighbours per pixel, in OpenCV's fixed point: x exact, y truncated to fit 16 bits."""
        (height, row_taps), (width, column_taps) = rows.index.shape, columns.index.shape
        value = self.pick(rows.index.T.ravel(), columns.index.T.ravel())
        if rows.copies and columns.copies:
            return value
        value = self._reshape(value, row_taps, height, column_taps, width * 3)
        value = self._weighed(value, np.repeat(columns.weight.T, 3, axis=1), axis=3)
        if not rows.overshoots:
            # VResizeLinear: ((weight * (sum >> 4)) >> 16), added up and rounded by (… + 2) >> 2.
            value = self._op("Floor", self._number("Mul", value, 128))
            value = self._op("Mul", value, self._constant(rows.weight.T[:, :, None] / 32))
            value = self._op("ReduceSum", self._op("Floor", value), self._constant(np.array([1])), keepdims=0)
            value = self._op("Floor", self._number("Mul", self._number("Add", value, 2), 0.25))
        else:
            value = self._rounded(self._weighed(value, rows.weight.T[:, :, None], axis=1))
        return self._bytes(self._reshape(value, height, width, 3))

    def _weighed(self, value: ir.Value, weight: NDArray[np.float64], axis: int) -> ir.Value:
        value = self._op("Mul", value, self._constant(weight))
        return self._op("ReduceSum", value, self._constant(np.array([axis])), keepdims=0)

    def as_pillow(self, rows: Taps, columns: Taps, y_first: bool) -> ir.Value:
        """Resize from all source pixels under a pixel: along one axis, rounded to bytes, then along the other."""
        if y_first:
            value = self._sum_rows(self.pick(_gathered(rows), columns.span), rows, len(columns.span))
            value = self._op("Gather", value, self._constant(_gathered(columns) - columns.span[0]), axis=2)
            return self._sum_columns(value, columns, len(rows.index))
        value = self._sum_columns(self.pick(rows.span, _gathered(columns)), columns, len(rows.span))
        value = self._op("Gather", value, self._constant(_gathered(rows) - rows.span[0]), axis=1)
        return self._sum_rows(value, rows, len(columns.index))

    def _sum_rows(self, value: ir.Value, taps: Taps, width: int) -> ir.Value:
        """Sum gathered rows: (n, gathered, width, 3) to (n, height, width, 3)."""
        if taps.copies:
            return value
        matrix = bands(taps).matrix
        blocks, stretch, size = matrix.shape
        value = self._reshape(value, blocks, stretch, width * 3)
        sums = (self._op("MatMul", self._constant(part.transpose(0, 2, 1)[None]), value) for part in _halves(matrix))
        value = self._reshape(self._rounded_sum(*sums), blocks * size, width, 3)
        return self._cut(value, taps, axis=1)

    def _sum_columns(self, value: ir.Value, taps: Taps, height: int) -> ir.Value:
        """Sum gathered columns: (n, height, gathered, 3) to (n, height, width, 3)."""
        if taps.copies:
            return value
        matrix = bands(taps).matrix
        blocks, stretch, size = matrix.shape
        value = self._op("Transpose", self._reshape(value, height, blocks, stretch, 3), perm=[0, 2, 1, 4, 3])
        value = self._reshape(value, blocks, height * 3, stretch)
        sums = (self._op("MatMul", value, self._constant(part[None])) for part in _halves(matrix))
        value = self._reshape(self._rounded_sum(*sums), blocks, height, 3, size)
        value = self._reshape(self._op("Transpose", value, perm=[0, 2, 1, 4, 3]), height, blocks * size, 3)
        return self._cut(value, taps, axis=2)

    def _rounded_sum(self, high: ir.Value, low: ir.Value) -> ir.Value:
        """Round high + low without losing bits that single precision cannot hold."""
        high = self._number("Add", high, 0.5)
        whole = self._op("Floor", high)
        rest = self._op("Add", self._op("Sub", high, whole), low)
        return self._op("Add", whole, self._op("Floor", rest))

    def _cut(self, value: ir.Value, taps: Taps, axis: int) -> ir.Value:
        """Drop the last block's surplus and clip to 0 to 255."""
        start, end, along = (self._constant(np.array([number])) for number in (0, len(taps.index), axis))
        value = self._op("Slice", value, start, end, along)
        return self._bytes(value) if taps.overshoots else value

    def swap_channels(self, value: ir.Value) -> ir.Value:
        """BGR to RGB."""
        return self._op("Gather", value, self._constant(np.array([2, 1, 0])), axis=3)

    def pad(self, value: ir.Value, seen: tuple[Window, Window], color: NDArray[np.float64]) -> ir.Value:
        """Pad the picture with a colour."""
        rows, columns = seen
        pads = [0, rows.before, columns.before, 0, 0, rows.after, columns.after, 0]
        if not any(pads):
            return value
        # Pad has one value for all channels: subtract the colour, pad with zeros, add it back.
        if color.any():
            value = self._op("Sub", value, self._constant(color))
        value = self._op("Pad", value, self._constant(np.array(pads)))
        return self._op("Add", value, self._constant(color)) if color.any() else value


def _gathered(taps: Taps) -> NDArray[np.int64]:
    """Return the source pixels that the sums read, in order."""
    return taps.index[:, 0] if taps.copies else bands(taps).index.ravel()


def _halves(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split Pillow's 22-bit weights into a sum of two of 11 bits.

    Products of each half with bytes add up without rounding in FP32, and in TF32, which GPUs use for it. A value that
    is just below a half on the host must not be rounded up: in identical rows, such pixels would add up to more than
    one step.
    """
    high = np.round(matrix * 2**11) / 2**11
    return high, matrix - high
