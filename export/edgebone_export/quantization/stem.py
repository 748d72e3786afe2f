"""Feed the picture's bytes to the first integer kernel directly, instead of floats that are rounded back to bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone_export.graphs.edit import new_constant, users
from edgebone_export.quantization.dialects import MOVING
from edgebone_export.quantization.layers import weight_of


@dataclass(frozen=True)
class Stem:
    """A graph that takes the picture as bytes.

    Attributes:
        proto: The graph.
        ranges: Low and high of the values that are the picture's bytes less a constant; their step is exactly 1.
        nodes: Names of the nodes that move these bytes to the first layer.
    """

    proto: onnx.ModelProto
    ranges: dict[str, tuple[float, float]]
    nodes: frozenset[str]


def integer_stem(proto: onnx.ModelProto) -> Stem:
    """Read the uint8 input with a DequantizeLinear instead of a Cast, and fold a subtracted mean into the first layer.

    The mean differs per channel, a zero-point does not: the zero-point is the middle of the means, and the remainder is
    added to the bias. The result differs only at the picture's border, where zeros are padded, by at most the distance
    of a mean from the middle. A graph of another form is returned unchanged.
    """
    model = ir.from_proto(proto)
    picture = model.graph.inputs[0]
    readers = users(picture)
    if picture.dtype != ir.DataType.UINT8 or len(readers) != 1 or readers[0][0].op_type != "Cast":
        return Stem(proto, {}, frozenset())
    cast = readers[0][0]
    zero_point = _take_in_mean(model, cast)
    scale = new_constant(model, f"{picture.name}_scale", np.array(1, np.float32))
    zero = new_constant(model, f"{picture.name}_zero_point", np.array(zero_point, np.uint8))
    restored = ir.node("DequantizeLinear", [picture, scale, zero], name=f"{picture.name}_dequantize")
    restored.outputs[0].name = f"{picture.name}_floats"
    restored.outputs[0].dtype = ir.DataType.FLOAT
    model.graph.insert_after(cast, restored)
    for reader, place in users(cast.outputs[0]):
        reader.replace_input_with(place, restored.outputs[0])
    model.graph.remove(cast, safe=True)
    span = (-float(zero_point), 255.0 - zero_point)
    ranges = {str(restored.outputs[0].name): span}
    moving = set()
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None and not value.is_initializer()]
        moves = node.op_type in MOVING - {"Resize"} or node.op_type == "Concat"
        computed = [value for value in inputs if ir.convenience.get_const_tensor(value) is None]
        if moves and computed and all(value.name in ranges for value in computed):
            ranges |= {str(output.name): span for output in node.outputs}
            moving.add(str(node.name))
    return Stem(ir.to_proto(model), ranges, frozenset(moving))


def _take_in_mean(model: ir.Model, cast: ir.Node) -> int:
    """Remove a per-channel mean subtraction before convolutions; return the zero-point that replaces it."""
    value = cast.outputs[0]
    readers = users(value)
    while len(readers) == 1 and readers[0][0].op_type == "Transpose":
        value = readers[0][0].outputs[0]
        readers = users(value)
    if len(readers) != 1 or readers[0][0].op_type != "Sub" or readers[0][1] != 0:
        return 0
    subtract = readers[0][0]
    constant = subtract.inputs[1]
    tensor = None if constant is None else ir.convenience.get_const_tensor(constant)
    layers = users(subtract.outputs[0])
    kernels = [weight_of(node) for node, _ in layers]
    if tensor is None or subtract.outputs[0] in model.graph.outputs:
        return 0
    mean: NDArray[np.float64] = tensor.numpy().astype(np.float64).reshape(-1)
    if mean.size != 3 or mean.min() < 0 or mean.max() > 255:
        return 0
    if any(
        node.op_type != "Conv" or place != 0 or kernel is None or kernel.shape[1] != 3
        for (node, place), kernel in zip(layers, kernels, strict=True)
    ):
        return 0
    middle = round(float(mean.min() + mean.max()) / 2)
    for (node, _), kernel in zip(layers, kernels, strict=True):
        assert kernel is not None
        node.replace_input_with(0, value)
        shift = (kernel.sum(axis=(2, 3), dtype=np.float64) * (middle - mean)).sum(axis=1)
        bias = ir.convenience.get_const_tensor(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        total = shift if bias is None else bias.numpy() + shift
        node.replace_input_with(2, new_constant(model, f"{node.name}_stem_bias", total.astype(np.float32)))
    model.graph.remove(subtract, safe=True)
    return middle
