"""Fold normalisation into the first layer where only rounding changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgebone_export.errors import ExportError
from edgebone_export.graphs.passes.uint8_input import SCALE, SUBTRACT


@dataclass(frozen=True)
class FoldNormalization:
    """Fold the scale, and without padding also the offset, into the first convolution.

    A scale always folds: zero padding stays zero when scaled. An offset does not
    fold into a padded convolution, since the padding represents the mean, not black.
    """

    name: str = "fold normalisation"

    def requires(self, model: ir.Model) -> None:
        """Accept any graph: one whose first layer is no convolution is left unchanged."""

    def apply(self, model: ir.Model) -> ir.Model:
        """Fold scale and offset in place where possible."""
        scale = _node(model, SCALE)
        if scale is not None and (convs := _only_convs(scale)):
            factor = _array(scale.inputs[1])
            for conv in convs:
                _replace_weight(model, conv, 1, _array(conv.inputs[1]) * factor)
            _bypass(model, scale)
        offset = _node(model, SUBTRACT)
        if offset is not None and (convs := _only_convs(offset)) and not any(map(_is_padded, convs)):
            mean = _array(offset.inputs[1])
            for conv in convs:
                weight = _array(conv.inputs[1])
                bias = _array(conv.inputs[2]) if len(conv.inputs) > 2 else np.zeros(weight.shape[0])
                _replace_weight(model, conv, 2, bias - (weight * mean).sum(axis=(1, 2, 3)))
            _bypass(model, offset)
        _drop_unused(model)
        return model

    def ensures(self, model: ir.Model) -> None:
        """Check that the remaining normalisation nodes are in order."""
        names = [node.name for node in model.graph if node.name in (SUBTRACT, SCALE)]
        if names not in ([], [SUBTRACT], [SCALE], [SUBTRACT, SCALE]):
            raise ExportError(f"the normalisation is out of order: {names}")


def _node(model: ir.Model, name: str) -> ir.Node | None:
    return next((node for node in model.graph if node.name == name), None)


def _only_convs(node: ir.Node) -> list[ir.Node]:
    """Return the convolutions that use a node's output, if nothing else does and their weights can be changed."""
    users = [use.node for use in node.outputs[0].uses()]
    good = all(
        user.op_type == "Conv"
        and user.inputs[0] is node.outputs[0]
        and user.inputs[1] is not None
        and user.inputs[1].const_value is not None
        and (group is None or group.as_int() == 1)
        for user in users
        for group in [user.attributes.get("group")]
    )
    return users if good else []


def _is_padded(conv: ir.Node) -> bool:
    pads, auto = conv.attributes.get("pads"), conv.attributes.get("auto_pad")
    return (pads is not None and any(pads.as_ints())) or (auto is not None and auto.as_string() != "NOTSET")


def _array(value: ir.Value | None) -> np.ndarray:
    assert value is not None and value.const_value is not None
    return value.const_value.numpy().astype(np.float64)


def _replace_weight(model: ir.Model, conv: ir.Node, place: int, values: np.ndarray) -> None:
    """Replace a convolution's weight with a new constant: another layer may share the old one."""
    name = f"{conv.outputs[0].name}_normalized_{place}"
    array = values.astype(np.float32)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.FLOAT),
        const_value=ir.tensor(array, name=name),
    )
    model.graph.register_initializer(value)
    if place >= len(conv.inputs):
        conv.resize_inputs(place + 1)
    conv.replace_input_with(place, value)


def _bypass(model: ir.Model, node: ir.Node) -> None:
    """Remove a node and connect its users to its first input."""
    assert node.inputs[0] is not None
    ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])
    model.graph.remove(node, safe=True)


def _drop_unused(model: ir.Model) -> None:
    """Remove constants that folding left unused."""
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and value not in model.graph.outputs:
            del model.graph.initializers[name]
