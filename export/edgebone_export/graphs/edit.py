"""Prepare FP32 graphs for lower precisions: one opset, every node named, sizes known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from numpy.typing import NDArray

from edgebone.core.limits import ONNX_BYTES
from edgebone_export.errors import ExportError

QUANTIZED_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"})
# The oldest opset with per-channel quantization, and the opset of our own exports.
_LEAST_OPSET, _OPSET = 13, 18


def prepare(content: bytes, where: str, opset: int = _LEAST_OPSET) -> onnx.ModelProto:
    """Read an FP32 graph and prepare it for a lower precision.

    Args:
        content: The ONNX file.
        where: Name of the bundle, for messages.
        opset: The oldest opset to accept.

    Returns:
        The graph with unique node names, at this opset or a newer one.

    Raises:
        ExportError: It is already quantized, or cannot be converted to the opset.
    """
    proto = onnx.load_from_string(content)
    found = sorted({node.op_type for node in proto.graph.node} & QUANTIZED_OPS)
    if found:
        raise ExportError(
            f"{where}: its FP32 graph is already quantized (it contains {', '.join(found)}); quantize the network that "
            "it was made from"
        )
    proto = at_least(proto, opset, max(opset, _OPSET), where)
    # Infer the type of every value: it decides what is cast.
    proto = onnx.shape_inference.infer_shapes(proto)
    seen: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)
    return proto


def at_least(proto: onnx.ModelProto, opset: int, wanted: int, where: str) -> onnx.ModelProto:
    """Return a graph unchanged if its opset is recent enough, else converted.

    Args:
        proto: The graph.
        opset: The oldest opset to accept.
        wanted: The opset that an older graph is converted to.
        where: Name of the graph, for messages.

    Raises:
        ExportError: It cannot be converted.
    """
    current = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    if current >= opset:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, wanted)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        line = str(error).strip().split("\n", 1)[0]
        raise ExportError(f"{where}: the graph cannot be converted from opset {current} to {wanted}: {line}") from error


def checked_bytes(model: ir.Model, what: str) -> bytes:
    """Return a graph as the bytes of a valid ONNX file.

    Args:
        model: The graph.
        what: Description of the graph, for messages.

    Raises:
        ExportError: It is not valid, or larger than an ONNX file may be.
    """
    proto = ir.to_proto(model)
    if proto.ByteSize() > ONNX_BYTES:
        raise ExportError(f"{what} is {proto.ByteSize() / 2**30:.2f} GiB; an ONNX file holds at most 2")
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        line = str(error).strip().splitlines()[0]
        raise ExportError(f"{what} is not valid ONNX: {line}") from error
    content: bytes = proto.SerializeToString()
    return content


def float_activations(proto: onnx.ModelProto) -> list[str]:
    """Return the names of the float32 values that a prepared graph computes, in graph order."""
    floats = {
        value.name
        for value in (*proto.graph.value_info, *proto.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    fixed = {tensor.name for tensor in proto.graph.initializer}
    return [
        name
        for node in proto.graph.node
        if node.op_type != "Constant"
        for name in node.output
        if name in floats and name not in fixed
    ]


def sizes(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the bytes of every value of known shape, for a batch of one."""
    found = {}
    for value in (*proto.graph.value_info, *proto.graph.output):
        dims = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        found[value.name] = 4 * int(np.prod(dims, dtype=np.int64))
    return found


def new_constant(model: ir.Model, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Add an initializer under a new name."""
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.initializers[name] = value
    return value


def users(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """Return the nodes that read a value, each with the index of that input."""
    return [(use.node, use.idx) for use in value.uses()]


def remove_unused(model: ir.Model) -> None:
    """Drop initializers and nodes that nothing reads."""
    common_passes.RemoveUnusedNodesPass()(model)


def by_name(nodes: Iterable[ir.Node]) -> Mapping[str, ir.Node]:
    """Return nodes by name."""
    return {str(node.name): node for node in nodes}
