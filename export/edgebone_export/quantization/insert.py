"""Insert QuantizeLinear and DequantizeLinear into a graph as a dialect requires."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone_export.graphs.edit import by_name, new_constant, remove_unused, users
from edgebone_export.quantization.dialects import CLIPPING, MOVING, Dialect
from edgebone_export.quantization.layers import INT4_BLOCK, Layer, channel_axis, weight_of
from edgebone_export.quantization.observe import Observed

Ranges = Mapping[str, tuple[float, float]]

_FP8_LARGEST = 448.0
# A smaller step is noise of an almost zero tensor, and would overflow an int32 bias.
_LEAST_STEP = 1e-12
_INT32_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Grid:
    """The grid that a tensor is rounded to.

    Attributes:
        scale: Step size, float32; one per tensor, or one per channel.
        zero_point: The integer that represents 0, of the quantized type.
        axis: Channel axis; None for one step per tensor.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.generic]
    axis: int | None = None


def activation_grid(low: float, high: float, dialect: Dialect) -> Grid:
    """Return the grid of an activation whose range includes 0."""
    largest = max(-low, high)
    if dialect.activation == ir.DataType.FLOAT8E4M3FN:
        scale = max(largest / _FP8_LARGEST, _LEAST_STEP)
        return Grid(np.array(scale, np.float32), np.array(0, ml_dtypes.float8_e4m3fn))
    if dialect.symmetric:
        return Grid(np.array(max(largest / 127, _LEAST_STEP), np.float32), np.array(0, np.int8))
    scale = max((high - low) / 255, _LEAST_STEP)
    return Grid(np.array(scale, np.float32), np.array(round(-low / scale), np.uint8))


def weight_grid(weight: NDArray[np.float32], axis: int, dialect: Dialect) -> Grid:
    """Return the grid of a weight: one step per output channel, zero-point 0."""
    others = tuple(place for place in range(weight.ndim) if place != axis)
    largest = np.abs(weight).max(axis=others)
    limit, kind = (_FP8_LARGEST, ml_dtypes.float8_e4m3fn) if dialect.precision == "fp8" else (127.0, np.int8)
    scale = np.where(largest > _LEAST_STEP, largest / limit, 1.0).astype(np.float32)
    return Grid(scale, np.zeros(scale.shape, kind), axis)


def round_to(values: NDArray[np.float32], grid: Grid) -> NDArray[np.generic]:
    """Quantize values to the grid's integers, or FP8."""
    scaled = values / _steps(grid, values.ndim)
    kind = grid.zero_point.dtype
    if kind == ml_dtypes.float8_e4m3fn:
        rounded: NDArray[np.generic] = scaled.astype(kind)
        return rounded
    limits = np.iinfo(kind)  # type: ignore[type-var]
    # -128 has no positive counterpart: TensorRT and onnxruntime both limit weights to ±127.
    return np.clip(np.round(scaled), -127 if limits.min < 0 else 0, limits.max).astype(kind)


def restore(values: NDArray[np.generic], grid: Grid) -> NDArray[np.float32]:
    """Dequantize integers."""
    result: NDArray[np.float32] = values.astype(np.float32) * _steps(grid, values.ndim)
    return result


def _steps(grid: Grid, dimensions: int) -> NDArray[np.float32]:
    """Return the steps in a shape that broadcasts to values of ``dimensions`` axes."""
    shape = [1] * dimensions
    if grid.axis is not None:
        shape[grid.axis] = -1
    return grid.scale.reshape(shape)


def rounded_weight(node: ir.Node, layer: Layer, dialect: Dialect) -> NDArray[np.float32]:
    """Return a layer's weight, rounded."""
    weight = weight_of(node)
    assert weight is not None
    if dialect.weight != ir.DataType.INT4:
        grid = weight_grid(weight, layer.axis, dialect)
        return restore(round_to(weight, grid), grid)
    whole, steps, _ = _int4(weight, layer.axis)
    rounded: NDArray[np.float32] = whole.astype(np.float32) * steps.repeat(INT4_BLOCK, axis=1 - layer.axis)
    return rounded


@dataclass(frozen=True)
class Places:
    """The places where a dialect rounds.

    Attributes:
        inputs: Node and index of each input that reads a rounded value.
        outputs: Names of the values that are rounded for all readers.
        shared: Name of the value whose range another value shares.
    """

    inputs: tuple[tuple[ir.Node, int], ...]
    outputs: frozenset[str]
    shared: Mapping[str, str]


def find_places(model: ir.Model, layers: Iterable[Layer], dialect: Dialect) -> Places:
    """Find where activations are rounded when these layers are lowered."""
    nodes = by_name(model.graph)
    chosen = list(layers)
    lowered = {layer.name for layer in chosen}
    inputs: list[tuple[ir.Node, int]] = []
    outputs: set[str] = set()
    shared: dict[str, str] = {}
    if dialect.activation is None:
        return Places((), frozenset(), {})
    for layer in chosen:
        node = nodes[layer.name]
        for place in layer.activations:
            value = node.inputs[place]
            if value is None or _is_restored(value):
                continue
            if not (layer.op_type in CLIPPING and _is_fused_into(value, lowered)):
                inputs.append((node, place))
        if dialect.outputs and not _ends(node, layer, model):
            output = node.outputs[0]
            if not _is_clipped(output, lowered):
                outputs |= {str(item.name) for item in node.outputs}
        if dialect.outputs and layer.op_type in MOVING and node.inputs[0] is not None:
            source = str(node.inputs[0].name)
            for item in node.outputs:
                shared[str(item.name)] = shared.get(source, source)
    return Places(tuple(inputs), frozenset(outputs), shared)


def _is_restored(value: ir.Value) -> bool:
    """Return whether a value is already dequantized."""
    producer = value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _ends(node: ir.Node, layer: Layer, model: ir.Model) -> bool:
    """Return whether a node's output leaves the lowered part: rounding it again would only lose accuracy."""
    if any(output in model.graph.outputs for output in node.outputs):
        return True
    # onnxruntime's integer matrix products may return floats.
    return layer.op_type in ("Gemm", "MatMul") and not _feeds_kernel(node)


def _feeds_kernel(node: ir.Node) -> bool:
    return any(
        user.op_type in ("Relu", "Clip", "Add", "Mul", "Reshape", "Gemm", "MatMul", "Sigmoid", "LeakyRelu")
        for output in node.outputs
        for user, _ in users(output)
    )


def _is_clipped(output: ir.Value, lowered: Collection[str]) -> bool:
    """Return whether the only reader is a lowered clip, whose own rounding is enough."""
    readers = users(output)
    return len(readers) == 1 and readers[0][0].op_type in CLIPPING and readers[0][0].name in lowered


def _is_fused_into(value: ir.Value, lowered: Collection[str]) -> bool:
    """Return whether a lowered operator computes a value that only a clip reads."""
    producer = value.producer()
    return producer is not None and producer.name in lowered and _is_clipped(value, lowered)


def quantize_graph(
    proto: onnx.ModelProto,
    layers: Iterable[Layer],
    dialect: Dialect,
    ranges: Ranges,
    observed: Mapping[str, Observed],
) -> bytes:
    """Quantize layers of an FP32 graph.

    Args:
        proto: The graph; not changed.
        layers: The layers to lower.
        dialect: The dialect.
        ranges: Low and high of each activation, with 0 between them.
        observed: Statistics of the activations that layers with weights read: their means let the bias compensate the
            average shift from rounding the weights (Nagel et al., "Data-free quantization through weight equalization
            and bias correction", ICCV 2019).

    Returns:
        The ONNX file.
    """
    model = ir.from_proto(proto)
    chosen = list(layers)
    nodes = by_name(model.graph)
    places = find_places(model, chosen, dialect)
    rounded = _Rounded(model, dialect, ranges, places.shared)
    for layer in chosen:
        if layer.weight is not None:
            node = nodes[layer.name]
            source = node.inputs[0]
            assert source is not None
            _lower_weight(model, node, layer, dialect, rounded, observed.get(str(source.name)))
    for node, place in places.inputs:
        value = node.inputs[place]
        assert value is not None
        if value.name not in places.outputs:
            node.replace_input_with(place, rounded.of(value))
    for node in list(nodes.values()):
        for output in node.outputs:
            if output.name in places.outputs:
                readers = users(output)
                result = rounded.of(output)
                for reader, place in readers:
                    reader.replace_input_with(place, result)
    remove_unused(model)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


class _Rounded:
    """Makes the pair of nodes that rounds a value, once per value."""

    def __init__(self, model: ir.Model, dialect: Dialect, ranges: Ranges, shared: Mapping[str, str]) -> None:
        self._model = model
        self._dialect = dialect
        self._ranges = ranges
        self._shared = shared
        self._made: dict[str, ir.Value] = {}
        self._constants: dict[str, tuple[ir.Value, ir.Value]] = {}

    def grid(self, name: str) -> Grid:
        low, high = self._ranges[self._shared.get(name, name)]
        return activation_grid(low, high, self._dialect)

    def of(self, value: ir.Value) -> ir.Value:
        name = str(value.name)
        if name not in self._made:
            owner = self._shared.get(name, name)
            if owner not in self._constants:
                grid = self.grid(owner)
                self._constants[owner] = (
                    new_constant(self._model, f"{owner}_scale", np.asarray(grid.scale)),
                    new_constant(self._model, f"{owner}_zero_point", grid.zero_point),
                )
            scale, zero_point = self._constants[owner]
            quantize = ir.node("QuantizeLinear", [value, scale, zero_point], name=f"{name}_quantize")
            restored = ir.node("DequantizeLinear", [quantize.outputs[0], scale, zero_point], name=f"{name}_dequantize")
            quantize.outputs[0].name, restored.outputs[0].name = f"{name}_quantized", f"{name}_dequantized"
            producer = value.producer()
            assert producer is not None
            self._model.graph.insert_after(producer, [quantize, restored])
            self._made[name] = restored.outputs[0]
        return self._made[name]


def _lower_weight(
    model: ir.Model,
    node: ir.Node,
    layer: Layer,
    dialect: Dialect,
    rounded: _Rounded,
    seen: Observed | None,
) -> None:
    weight = weight_of(node)
    assert weight is not None
    name = f"{node.name}_weight"
    if dialect.weight == ir.DataType.INT4:
        _set_weight(model, node, *_int4(weight, layer.axis), name, axis=1 - layer.axis, block=INT4_BLOCK)
        return
    grid = weight_grid(weight, layer.axis, dialect)
    bias_at = 2
    bias = _constant_bias(node, bias_at)
    source = node.inputs[0]
    assert source is not None
    if dialect.bias and node.op_type in ("Conv", "Gemm"):
        step = float(rounded.grid(str(source.name)).scale)
        if bias is not None:
            # A bias that is huge relative to the steps of input and weight would not fit its int32.
            least = np.abs(bias) / (step * (_INT32_LARGEST // 2))
            grid = Grid(np.maximum(grid.scale, least.astype(np.float32)), grid.zero_point, grid.axis)
    integers = round_to(weight, grid)
    _set_weight(model, node, integers, grid.scale, grid.zero_point, name, axis=layer.axis)
    shift = None if seen is None else _shift(node, restore(integers, grid) - weight, seen)
    if shift is not None and node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        bias = -shift if bias is None else bias - shift
    elif shift is not None:
        _correct_addition(model, node, shift)
    if bias is None or (
        len(node.inputs) > bias_at and node.inputs[bias_at] is not None and _constant_bias(node, bias_at) is None
    ):
        return
    if len(node.inputs) <= bias_at:
        node.resize_inputs(bias_at + 1)
    name = f"{node.name}_bias"
    if not dialect.bias:
        node.replace_input_with(bias_at, new_constant(model, name, bias.astype(np.float32)))
        return
    steps = (grid.scale * step).astype(np.float32)
    whole = np.clip(np.round(bias / steps), -_INT32_LARGEST, _INT32_LARGEST).astype(np.int32)
    _set_weight(model, node, whole, steps, np.zeros(steps.shape, np.int32), name, axis=0, place=bias_at)


def _constant_bias(node: ir.Node, place: int) -> NDArray[np.float64] | None:
    value = node.inputs[place] if len(node.inputs) > place else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None or len(tensor.shape) != 1 or _gemm_scales(node):
        return None
    return tensor.numpy().astype(np.float64)


def _gemm_scales(node: ir.Node) -> bool:
    factors = [node.attributes.get(name) for name in ("alpha", "beta")]
    return node.op_type == "Gemm" and any(item is not None and item.as_float() != 1 for item in factors)


def _transposes_input(node: ir.Node) -> bool:
    attribute = node.attributes.get("transA")
    return attribute is not None and attribute.as_int() != 0


def _set_weight(
    model: ir.Model,
    node: ir.Node,
    integers: NDArray[np.generic],
    scale: NDArray[np.float32],
    zero_point: NDArray[np.generic] | None,
    name: str,
    axis: int,
    place: int = 1,
    block: int | None = None,
) -> None:
    inputs = [new_constant(model, f"{name}_quantized", integers), new_constant(model, f"{name}_scale", scale)]
    if zero_point is not None:
        inputs.append(new_constant(model, f"{name}_zero_point", zero_point))
    attributes = {"axis": axis} if block is None else {"axis": axis, "block_size": block}
    restored = ir.node("DequantizeLinear", inputs, attributes, name=f"{name}_dequantize")
    restored.outputs[0].name = name if name not in model.graph.initializers else f"{name}_dequantized"
    model.graph.insert_before(node, restored)
    node.replace_input_with(place, restored.outputs[0])


def _int4(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.generic], NDArray[np.float32], None]:
    """Quantize a matrix in blocks along its inputs: -7 to 7, one step per block."""
    by_input = weight if axis == 1 else weight.T
    blocks = by_input.reshape(-1, INT4_BLOCK, by_input.shape[1])
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / 7, 1.0).astype(np.float32)
    whole = np.clip(np.round(blocks / scale), -7, 7).reshape(by_input.shape)
    steps = scale[:, 0, :]
    if axis == 0:
        whole, steps = whole.T, steps.T
    return np.ascontiguousarray(whole).astype(ml_dtypes.int4), np.ascontiguousarray(steps), None


def _shift(node: ir.Node, error: NDArray[np.float32], seen: Observed) -> NDArray[np.float64] | None:
    """Return the average shift of each output channel from rounding the weights."""
    if node.op_type == "Conv":
        mean = seen.second_mean
        outputs, inputs = error.shape[:2]
        each = error.reshape(outputs, inputs, -1).sum(axis=2, dtype=np.float64)
        groups = len(mean) // inputs
        own = mean.reshape(groups, inputs)[np.arange(outputs) * groups // outputs]
        shift: NDArray[np.float64] = (each * own).sum(axis=1)
        return shift
    if node.op_type == "ConvTranspose":
        return None
    if channel_axis(node) == 0:
        error = error.T
    if node.op_type == "Gemm" and (_gemm_scales(node) or _transposes_input(node)):
        return None
    result: NDArray[np.float64] = seen.last_mean @ error
    return result


def _correct_addition(model: ir.Model, node: ir.Node, shift: NDArray[np.float64]) -> None:
    """Correct the bias in the addition after a matrix product, which has none of its own."""
    readers = users(node.outputs[0])
    if len(readers) != 1 or readers[0][0].op_type != "Add":
        return
    addition, place = readers[0]
    other = addition.inputs[1 - place]
    tensor = None if other is None else ir.convenience.get_const_tensor(other)
    if tensor is not None and tuple(tensor.shape) == shift.shape:
        corrected = (tensor.numpy() - shift).astype(np.float32)
        addition.replace_input_with(1 - place, new_constant(model, f"{node.name}_bias", corrected))
