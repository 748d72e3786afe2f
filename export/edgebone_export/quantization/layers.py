"""Find the operators of a graph that a dialect can lower."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone_export.graphs.edit import users
from edgebone_export.quantization.dialects import CLIPPING, MOVING, WEIGHTED, Dialect

INT4_BLOCK = 128
_SELECTION = frozenset({"TopK", "ArgMax", "ArgMin", "NonMaxSuppression", "NonZero"})
_SAMPLING = frozenset({"GridSample", "RoiAlign"})


@dataclass(frozen=True)
class Layer:
    """One operator that can be lowered on its own.

    Attributes:
        name: Name of its node.
        op_type: The operator.
        activations: Indices of the computed inputs.
        weight: Index of the input that is a constant matrix or kernel; None if there is none.
        axis: Output channel axis of the weight.
    """

    name: str
    op_type: str
    activations: tuple[int, ...]
    weight: int | None = None
    axis: int = 0


def find_layers(
    model: ir.Model, dialect: Dialect, activations: Collection[str], stem: Collection[str] = ()
) -> list[Layer]:
    """Find the operators to lower: those with weights, and those between them that the dialect has kernels for.

    Operators after the last one with weights stay in FP32: eight bits would round boxes to a 256th of
    the picture.

    Args:
        model: The FP32 graph.
        dialect: The dialect.
        activations: Names of the computed float32 values.
        stem: Names of the nodes that move the picture's bytes to the first layer.
    """
    inner = inner_nodes(model)
    found = []
    for node in model.graph:
        if node.op_type not in dialect.ops or node.domain not in ("", "ai.onnx"):
            continue
        places = tuple(
            place for place, value in enumerate(node.inputs) if value is not None and value.name in activations
        )
        layer = _layer(node, places, dialect)
        if layer is not None and (node in inner or layer.name in stem):
            found.append(layer)
    return found


def inner_nodes(model: ir.Model) -> set[ir.Node]:
    """Return the nodes with weights, and those between two of them except arithmetic on coordinates.

    A two-stage detector computes boxes between its stages: eight bits round them to a 256th of the picture, and FP16
    rounds 1000 to half a pixel.
    """
    between = _with_weights_upstream(model) & _with_weights_downstream(model)
    weighted = {node for node in model.graph if _weighted(node)}
    return (between - _after_selection(model) - _before_sampling(model)) | weighted


def last_layers(model: ir.Model) -> list[ir.Value]:
    """Return the outputs of the last operators with weights, which heads are read from."""
    before = _with_weights_downstream(model)
    return [node.outputs[0] for node in model.graph if _weighted(node) and node not in before]


def _after_selection(model: ir.Model) -> set[ir.Node]:
    """Return the nodes from a selection to the sampling of features or a layer with weights."""
    found: set[ir.Node] = set()
    for node in model.graph:
        sources = [None if value is None else value.producer() for value in node.inputs]
        if node.op_type in _SAMPLING:
            # The sampled features matter, not the positions.
            sources = sources[:1]
        if node.op_type in _SELECTION or (not _weighted(node) and any(source in found for source in sources if source)):
            found.add(node)
    return found


def _before_sampling(model: ir.Model) -> set[ir.Node]:
    """Return the nodes that compute sampling positions, back to a layer with weights."""
    found: set[ir.Node] = set()
    values = [value for node in model.graph if node.op_type in _SAMPLING for value in node.inputs[1:]]
    while values:
        value = values.pop()
        node = None if value is None else value.producer()
        if node is not None and node not in found and not _weighted(node):
            found.add(node)
            values += node.inputs
    return found


def _layer(node: ir.Node, places: tuple[int, ...], dialect: Dialect) -> Layer | None:
    name = str(node.name)
    if node.op_type in WEIGHTED:
        weight = weight_of(node)
        if weight is None or 0 not in places:
            product = node.op_type == "MatMul" and len(places) == 2 and dialect.outputs
            return Layer(name, node.op_type, places) if product else None
        axis = channel_axis(node)
        if dialect.weight == ir.DataType.INT4 and weight.shape[1 - axis] % INT4_BLOCK:
            return None
        return Layer(name, node.op_type, (0,), 1, axis)
    if not places or (node.outputs[0].dtype != ir.DataType.FLOAT and node.outputs[0].dtype is not None):
        return None
    if not dialect.outputs:
        branch = _residual_branch(node, places)
        return None if branch is None else Layer(name, node.op_type, (branch,))
    if node.op_type in MOVING | CLIPPING:
        return Layer(name, node.op_type, places[:1]) if places[0] == 0 else None
    if node.op_type in ("Add", "Mul") and len(places) < 2:
        # A constant factor or addend: its integer form is not worth a kernel.
        return None
    return Layer(name, node.op_type, places)


def _residual_branch(node: ir.Node, places: tuple[int, ...]) -> int | None:
    """Return the input of a residual addition that no convolution computes, if one computes the other."""
    if len(places) != 2:
        return None
    own = [_is_convolution(node.inputs[place]) for place in places]
    if not any(own):
        return None
    # Of two convolutions, one fuses the addition; the other's result is read like any branch.
    return places[1] if own[0] else places[0]


def _is_convolution(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "Conv" and len(users(producer.outputs[0])) == 1


def weight_of(node: ir.Node) -> NDArray[np.float32] | None:
    """Return the constant float32 kernel or matrix of an operator, or None."""
    tensor = _weight_tensor(node)
    return None if tensor is None else tensor.numpy()


def _weight_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) < 2:
        return None
    if node.op_type == "MatMul" and len(tensor.shape) != 2:
        return None
    return tensor


def channel_axis(node: ir.Node) -> int:
    """Return the output channel axis of a weight."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = node.attributes.get("transB")
        return 0 if transposed is not None and transposed.as_int() else 1
    return 1


def _with_weights_upstream(model: ir.Model) -> set[ir.Node]:
    found: set[ir.Node] = set()
    for node in model.graph:
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if producer is not None and (producer in found or _weighted(producer)):
                found.add(node)
                break
    return found


def _with_weights_downstream(model: ir.Model) -> set[ir.Node]:
    found: set[ir.Node] = set()
    for node in reversed(model.graph):
        if any(user in found or _weighted(user) for output in node.outputs for user, _ in users(output)):
            found.add(node)
    return found


def _weighted(node: ir.Node) -> bool:
    # The tensor only: its values may be hundreds of megabytes.
    return node.op_type in WEIGHTED and _weight_tensor(node) is not None
