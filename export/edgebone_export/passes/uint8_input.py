"""Moves normalisation into the graph, so that it takes raw uint8 pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgebone.core.manifest import Preprocess
from edgebone_export.errors import ExportError

SUBTRACT, SCALE = "normalize_subtract", "normalize_scale"


@dataclass(frozen=True)
class Uint8Input:
    """Replaces the float32 NCHW input by a uint8 NHWC one, followed by (x - 255 mean) / (255 std).

    Attributes:
        preprocess: Says mean and standard deviation.
    """

    preprocess: Preprocess
    name: str = "uint8 input"

    def requires(self, model: ir.Model) -> None:
        """One float32 input of shape (n, 3, height, width)."""
        inputs = model.graph.inputs
        shape = inputs[0].shape if len(inputs) == 1 else None
        if shape is None or inputs[0].dtype != ir.DataType.FLOAT or list(shape[1:]) != [3, *self.preprocess.size_hw]:
            raise ExportError(
                f"the input should be float32 (n, 3, {self.preprocess.size_hw[0]}, {self.preprocess.size_hw[1]}), "
                f"found {[str(value) for value in inputs]}"
            )

    def apply(self, model: ir.Model) -> ir.Model:
        """Put four nodes before the network."""
        graph = model.graph
        old = graph.inputs[0]
        assert old.shape is not None and old.name is not None
        batch, channels, height, width = old.shape
        name = old.name
        old.name = f"{name}_float"
        new = ir.Value(
            name=name,
            shape=ir.Shape([batch, height, width, channels]),
            type=ir.TensorType(ir.DataType.UINT8),
        )
        planes = ir.node("Transpose", [new], attributes={"perm": [0, 3, 1, 2]}, name="normalize_transpose")
        floats = ir.node("Cast", planes.outputs, attributes={"to": ir.DataType.FLOAT}, name="normalize_cast")
        offset = _constant(f"{SUBTRACT}_by", 255 * np.array(self.preprocess.mean))
        factor = _constant(f"{SCALE}_by", 1 / (255 * np.array(self.preprocess.std)))
        centered = ir.node("Sub", [floats.outputs[0], offset], name=SUBTRACT)
        scaled = ir.node("Mul", [centered.outputs[0], factor], name=SCALE)
        nodes = [planes, floats, centered, scaled]
        for node in nodes:
            node.outputs[0].name = f"{node.name}_out"
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        planes.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
        graph.register_initializer(offset)
        graph.register_initializer(factor)
        ir.convenience.replace_all_uses_with(old, scaled.outputs[0])
        graph.inputs[0] = new
        graph.insert_before(graph[0], nodes)
        return model

    def ensures(self, model: ir.Model) -> None:
        """One uint8 input, channels last."""
        (new,) = model.graph.inputs
        if new.dtype != ir.DataType.UINT8 or new.shape is None or new.shape[3] != 3:
            raise ExportError(f"the input should be uint8 (n, height, width, 3), found {new}")


def _constant(name: str, per_channel: np.ndarray) -> ir.Value:
    values = per_channel.astype(np.float32).reshape(1, -1, 1, 1)
    return ir.Value(
        name=name,
        shape=ir.Shape(values.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(values, name=name),
    )
