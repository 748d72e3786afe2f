"""Layers of heads on vectors, computed in NumPy and written as a small ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgebone.core.tensors import TensorSpec
from edgebone_export.errors import ExportError
from edgebone_export.heads.features.fitted import OPSET, VECTOR, Features

_IR_VERSION = 8
_LEAST_LENGTH = 1e-12


@dataclass(frozen=True)
class Standardize:
    """Shift and scale of each feature.

    Attributes:
        mean: float64 (d,).
        factor: float64 (d,): 0 for a feature without information.
    """

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]


@dataclass(frozen=True)
class Affine:
    """A matrix and an offset: shapes (d, k) and (k,), float64."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]


@dataclass(frozen=True)
class Relu:
    """Rectification: negative values become 0."""


@dataclass(frozen=True)
class Unit:
    """Scaling of each vector to length 1; zeros stay zeros."""


Layer = Standardize | Affine | Relu | Unit


def folded(
    layers: Sequence[Layer], divide_by: float = 1.0, add: NDArray[np.float64] | float = 0.0
) -> tuple[Layer, ...]:
    """Fold every shift and scale into the matrix that follows it.

    Args:
        layers: First to last.
        divide_by: Divisor of the outputs, such as a temperature; requires a matrix as last layer.
        add: Offset to add afterwards, (k,).
    """
    made: list[Layer] = []
    for layer in layers:
        before = made[-1] if made else None
        if isinstance(layer, Affine) and isinstance(before, Standardize):
            weight = layer.weight * before.factor[:, None]
            made[-1] = Affine(weight, layer.bias - before.mean @ weight)
        else:
            made.append(layer)
    if divide_by != 1 or np.any(add):
        last = made[-1]
        assert isinstance(last, Affine)
        made[-1] = Affine(last.weight / divide_by, last.bias / divide_by + add)
    return tuple(made)


def computed(layers: Sequence[Layer], x: NDArray[Any]) -> Features:
    """Apply layers to vectors (n, d), in float32 as an engine does; return (n, k)."""
    value = np.asarray(x, np.float32)
    for layer in layers:
        if isinstance(layer, Affine):
            value = value @ layer.weight.astype(np.float32) + layer.bias.astype(np.float32)
        elif isinstance(layer, Standardize):
            value = (value - layer.mean.astype(np.float32)) * layer.factor.astype(np.float32)
        elif isinstance(layer, Relu):
            value = np.maximum(value, 0)
        else:
            value = value / np.maximum(np.linalg.norm(value, axis=1, keepdims=True), np.float32(_LEAST_LENGTH))
    return value


def write_graph(layers: Sequence[Layer], size: int, name: str, width: int) -> tuple[bytes, tuple[TensorSpec, ...]]:
    """Write layers as ONNX.

    Args:
        layers: First to last.
        size: Length of the input ``vector``.
        name: Name of the output.
        width: Length of the output.

    Returns:
        The ONNX file and its outputs. The same layers produce the same bytes.

    Raises:
        ExportError: A weight is not finite in float32.
    """
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(label: str, values: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(values), label))
        return label

    def weight(label: str, values: NDArray[np.float64]) -> str:
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise ExportError(
                f"the head's {label} do not fit in float32: its features are too small, too large or too different; "
                "check the backbone's output"
            )
        return constant(label, narrow)

    value = VECTOR
    for place, layer in enumerate(layers):
        after = name if place == len(layers) - 1 else f"layer_{place}"

        def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [output], name=f"{output}/{kind}", **attributes))
            return output

        if isinstance(layer, Affine):
            inputs = [value, weight(f"weights_{place}", layer.weight), weight(f"bias_{place}", layer.bias)]
            value = node("Gemm", inputs, after)
        elif isinstance(layer, Standardize):
            shifted = node("Sub", [value, weight(f"mean_{place}", layer.mean)], f"shifted_{place}")
            value = node("Mul", [shifted, weight(f"factor_{place}", layer.factor)], after)
        elif isinstance(layer, Relu):
            value = node("Relu", [value], after)
        else:
            axes = constant(f"axes_{place}", np.array([1], np.int64))
            least = constant(f"least_{place}", np.array(_LEAST_LENGTH, np.float32))
            length = node("ReduceL2", [value, axes], f"length_{place}", keepdims=1)
            value = node("Div", [value, node("Max", [length, least], f"divisor_{place}")], after)
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info(VECTOR, TensorProto.FLOAT, ["batch", size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])],
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="edgebone"
    )
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True), (TensorSpec(name, "float32", ("batch", width)),)
