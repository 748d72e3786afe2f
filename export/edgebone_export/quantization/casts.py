"""Write half precision into the graph as casts; values that would overflow or underflow stay in FP32.

Builder flags cannot express this: TensorRT 11 takes precision from the graph only, and TensorRT 10 can.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone_export.graphs.edit import by_name, new_constant, remove_unused, users
from edgebone_export.quantization.emulation import Points
from edgebone_export.quantization.layers import inner_nodes
from edgebone_export.quantization.observe import Observed

HALVES = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# The first opset in which convolutions support the type.
LEAST_OPSET = {"fp16": 13, "bf16": 22}

# These sum many values or raise them to powers: engines compute them in FP32 at almost no cost.
_ALWAYS_FP32 = frozenset(
    {
        "LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization", "LpNormalization",
        "Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "CumSum", "Cast", "Constant",
        "If", "Loop", "Scan", "QuantizeLinear", "DequantizeLinear", "TopK", "NonMaxSuppression", "RoiAlign",
    }
)  # fmt: skip
# Found by compiling with TensorRT-RTX 1.7.
_NO_BF16 = frozenset({"ConvTranspose", "HardSwish", "HardSigmoid"})
_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "GlobalAveragePool"})
# Their other inputs keep their own types.
_FIRST_INPUT_ONLY = frozenset({"Resize", "Upsample"})
# FP16's largest number, less two bits of margin for pictures outside the calibration set.
_FP16_SAFE = 65504 / 4
_FP16_LARGEST = 65504
# Below FP16's smallest normal number precision fades.
_FP16_LEAST = 2.0**-14


def find_half_layers(
    proto: onnx.ModelProto, observed: Mapping[str, Observed], precision: str
) -> tuple[list[str], dict[str, str]]:
    """Find the nodes that can compute in half precision, from measured activations.

    Nodes after the last operator with weights stay in FP32: FP16 rounds 1000 to 0.5, which is half a pixel.

    Args:
        proto: The FP32 graph.
        observed: Statistics of every float32 activation.
        precision: ``fp16`` or ``bf16``.

    Returns:
        Names of these nodes, and the reasons against the others by name.
    """
    model = ir.from_proto(proto)
    inner = inner_nodes(model)
    low: list[str] = []
    reasons: dict[str, str] = {}
    for node in model.graph:
        name = str(node.name)
        if node not in inner or not any(output.name in observed for output in node.outputs):
            continue
        reason = _reason(node, observed, precision)
        if reason:
            reasons[name] = reason
        else:
            low.append(name)
    return low, reasons


def _reason(node: ir.Node, observed: Mapping[str, Observed], precision: str) -> str:
    """Return why a node must stay in FP32; empty if it need not."""
    if node.op_type in _ALWAYS_FP32:
        return f"{node.op_type} sums values or raises them to powers"
    if precision == "bf16" and node.op_type in _NO_BF16:
        return f"TensorRT has no BF16 kernel for {node.op_type}"
    if precision == "bf16":
        return "BF16 keeps 8 bits of a sum" if node.op_type in _REDUCTIONS else ""
    for value in (*node.inputs, *node.outputs):
        if value is None:
            continue
        if value.name in observed:
            seen = observed[str(value.name)]
            largest = max(abs(seen.low), abs(seen.high))
            if largest > _FP16_SAFE:
                return f"{value.name} reaches {largest:.3g}, above FP16's {_FP16_LARGEST}"
            if 0 < largest < _FP16_LEAST:
                return f"{value.name} is at most {largest:.2g}, too small for FP16"
            if node.op_type in _REDUCTIONS and value is node.inputs[0] and largest * _count(value) > _FP16_LARGEST:
                return f"the sum over {value.name} may reach {largest * _count(value):.3g}"
        elif (tensor := ir.convenience.get_const_tensor(value)) is not None and tensor.dtype == ir.DataType.FLOAT:
            magnitudes = np.abs(tensor.numpy())
            least = magnitudes[magnitudes > 0].max(initial=0)
            if magnitudes.max(initial=0) > _FP16_LARGEST or 0 < least < _FP16_LEAST:
                return f"the constant {value.name} is outside FP16's range"
    return ""


def _count(value: ir.Value) -> int:
    """Return how many values a reduction may sum: those of one channel."""
    shape = [size for size in (value.shape or ()) if isinstance(size, int)]
    return max(int(np.prod(shape[-2:], dtype=np.int64)) if shape else 1, 1)


def half_points(proto: onnx.ModelProto, low: Sequence[str], precision: str) -> list[Points]:
    """Return where half precision rounds, node by node: the constants that a node reads, and its outputs."""
    model = ir.from_proto(proto)
    nodes = by_name(model.graph)
    return [
        Points(
            name,
            values=tuple(str(output.name) for output in nodes[name].outputs),
            weights=tuple(
                (name, place, _rounded(array, precision)) for place, array in _float_constants(nodes[name]).items()
            ),
        )
        for name in low
    ]


def lower_to_half(proto: onnx.ModelProto, low: Collection[str], precision: str) -> bytes:
    """Make nodes compute in half precision; the graph's inputs and outputs keep their types.

    Args:
        proto: The FP32 graph; not changed.
        low: Names of the nodes.
        precision: ``fp16`` or ``bf16``.

    Returns:
        The ONNX file.
    """
    model = ir.from_proto(proto)
    half = HALVES[precision]
    lowered: set[ir.Value] = set()
    casts: dict[tuple[str, ir.DataType], ir.Value] = {}
    chosen = set(low)

    def cast(value: ir.Value, to: ir.DataType, before: ir.Node) -> ir.Value:
        key = (str(value.name), to)
        if key not in casts:
            node = ir.node("Cast", [value], {"to": int(to)}, name=f"{value.name}_to_{to.name.lower()}")
            node.outputs[0].name, node.outputs[0].dtype = f"{node.name}_out", to
            node.outputs[0].shape = value.shape
            producer = value.producer()
            if producer is None:
                model.graph.insert_before(before, node)
            else:
                model.graph.insert_after(producer, node)
            casts[key] = node.outputs[0]
        return casts[key]

    for node in list(model.graph):
        low_node = node.name in chosen
        constants = _float_constants(node) if low_node else {}
        for place, value in enumerate(node.inputs):
            if value is None:
                continue
            if place in constants:
                key = f"{value.name}_{precision}"
                there = model.graph.initializers.get(key)
                node.replace_input_with(place, there or new_constant(model, key, constants[place].astype(half.numpy())))
            elif low_node and value not in lowered and _is_float(value) and _castable(node, place):
                node.replace_input_with(place, cast(value, half, node))
            elif not low_node and value in lowered:
                node.replace_input_with(place, cast(value, ir.DataType.FLOAT, node))
        if low_node:
            for output in node.outputs:
                if _is_float(output):
                    lowered.add(output)
                    output.dtype = half
    _restore_outputs(model, lowered)
    remove_unused(model)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def simulate_half(proto: onnx.ModelProto, low: Collection[str], precision: str) -> bytes:
    """Return the network in FP32, rounding each value that :func:`lower_to_half` computes in half precision.

    Engines for CPUs have no half-precision kernels, or omit the rounding between two of them. The result equals a
    GPU's except for the order of sums, which a GPU keeps in FP32.
    """
    model = ir.from_proto(proto)
    half = HALVES[precision]
    nodes = by_name(model.graph)
    for name in low:
        node = nodes[name]
        for place, array in _float_constants(node).items():
            node.replace_input_with(place, new_constant(model, f"{name}_{place}_rounded", _rounded(array, precision)))
        for output in node.outputs:
            if not _is_float(output):
                continue
            readers = users(output)
            there = ir.node("Cast", [output], {"to": int(half)}, name=f"{output.name}_there")
            back = ir.node("Cast", [there.outputs[0]], {"to": int(ir.DataType.FLOAT)}, name=f"{output.name}_back")
            there.outputs[0].name, back.outputs[0].name = f"{output.name}_half", f"{output.name}_rounded"
            back.outputs[0].dtype, back.outputs[0].shape = ir.DataType.FLOAT, output.shape
            model.graph.insert_after(node, [there, back])
            for reader, place in readers:
                reader.replace_input_with(place, back.outputs[0])
            _rename_output(model, output, back.outputs[0])
    remove_unused(model)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content


def _restore_outputs(model: ir.Model, lowered: Collection[ir.Value]) -> None:
    for output in list(model.graph.outputs):
        producer = output.producer()
        if output not in lowered or producer is None:
            continue
        node = ir.node("Cast", [output], {"to": int(ir.DataType.FLOAT)}, name=f"{output.name}_to_float")
        node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, output.shape
        model.graph.insert_after(producer, node)
        _rename_output(model, output, node.outputs[0])


def _rename_output(model: ir.Model, old: ir.Value, new: ir.Value) -> None:
    """Replace an output with a value under the same name."""
    for place, output in enumerate(model.graph.outputs):
        if output is old:
            name = old.name
            old.name = f"{name}_before"
            new.name = name
            model.graph.outputs[place] = new


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT


def _castable(node: ir.Node, place: int) -> bool:
    return place == 0 or node.op_type not in _FIRST_INPUT_ONLY


def _float_constants(node: ir.Node) -> dict[int, NDArray[np.float32]]:
    found = {}
    for place, value in enumerate(node.inputs):
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        if tensor is not None and tensor.dtype == ir.DataType.FLOAT and _castable(node, place):
            found[place] = tensor.numpy()
    return found


def _rounded(array: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        result: NDArray[np.float32] = array.astype(HALVES[precision].numpy()).astype(np.float32)
    return result
