"""Move normalisation into the graph, so that it takes raw uint8 pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgebone.core.manifest import Preprocess
from edgebone_export.errors import ExportError

SUBTRACT, SCALE = "normalize_subtract", "normalize_scale"
_DTYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.UINT8)


@dataclass(frozen=True)
class Uint8Input:
    """Replace the float input with a uint8 NHWC one, followed by (x - 255 mean) / (255 std).

    A mean of zero, or a standard deviation of 1/255, adds nothing to the graph. A network that already takes bytes
    normalises them itself.

    Attributes:
        preprocess: Preprocessing with mean and standard deviation.
    """

    preprocess: Preprocess
    name: str = "uint8 input"

    def requires(self, model: ir.Model) -> None:
        """Check for one float input of shape (n, 3, height, width) or (n, height, width, 3)."""
        inputs = model.graph.inputs
        height, width = self.preprocess.size_hw
        shape = inputs[0].shape if len(inputs) == 1 else None
        if (
            shape is None
            or inputs[0].dtype not in _DTYPES
            or list(shape[1:]) not in ([3, height, width], [height, width, 3])
        ):
            raise ExportError(
                f"expected one input float32 (n, 3, {height}, {width}), found {[str(value) for value in inputs]}"
            )

    def apply(self, model: ir.Model) -> ir.Model:
        """Insert up to six nodes before the network."""
        graph = model.graph
        old = graph.inputs[0]
        assert old.shape is not None and old.name is not None and old.dtype is not None
        planes, as_bytes = old.shape[1] == 3, old.dtype == ir.DataType.UINT8
        if as_bytes and not planes:
            return model
        name = old.name
        old.name = f"{name}_float"
        new = ir.Value(
            name=name,
            shape=ir.Shape([old.shape[0], *self.preprocess.size_hw, 3]),
            type=ir.TensorType(ir.DataType.UINT8),
        )
        nodes: list[ir.Node] = []

        def add(op_type: str, what: str, *inputs: ir.Value, dtype: ir.DataType, **attributes: Any) -> ir.Value:
            node = ir.node(op_type, inputs, attributes=attributes, name=what)
            node.outputs[0].name = f"{what}_out"
            node.outputs[0].type = ir.TensorType(dtype)
            nodes.append(node)
            return node.outputs[0]

        # Transposing bytes would move a quarter of the memory, but the only uint8 operation in TensorRT is a cast.
        value = add("Cast", "normalize_cast", new, dtype=ir.DataType.FLOAT, to=ir.DataType.FLOAT)
        if planes:
            value = add("Transpose", "normalize_transpose", value, dtype=ir.DataType.FLOAT, perm=[0, 3, 1, 2])
        shape = (1, -1, 1, 1) if planes else (1, 1, 1, -1)
        offset = 255 * np.array(self.preprocess.mean)
        factor = 1 / (255 * np.array(self.preprocess.std))
        if offset.any() and not as_bytes:
            value = add(
                "Sub", SUBTRACT, value, _constant(graph, f"{SUBTRACT}_by", offset, shape), dtype=ir.DataType.FLOAT
            )
        if not np.allclose(factor, 1, rtol=1e-7) and not as_bytes:
            value = add("Mul", SCALE, value, _constant(graph, f"{SCALE}_by", factor, shape), dtype=ir.DataType.FLOAT)
        if old.dtype != ir.DataType.FLOAT:
            value = add("Cast", "normalize_type", value, dtype=old.dtype, to=old.dtype)
        ir.convenience.replace_all_uses_with(old, value)
        graph.inputs[0] = new
        graph.insert_before(graph[0], nodes)
        return model

    def ensures(self, model: ir.Model) -> None:
        """Check for one uint8 input, channels last."""
        (new,) = model.graph.inputs
        if new.dtype != ir.DataType.UINT8 or new.shape is None or new.shape[3] != 3:
            raise ExportError(f"expected an input uint8 (n, height, width, 3), found {new}")


def _constant(graph: ir.Graph, name: str, per_channel: np.ndarray, shape: tuple[int, ...]) -> ir.Value:
    values = per_channel.astype(np.float32).reshape(shape)
    value = ir.Value(
        name=name,
        shape=ir.Shape(values.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(values, name=name),
    )
    graph.register_initializer(value)
    return value
