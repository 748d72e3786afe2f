"""Edit graphs: join a head to a backbone, add taps as outputs, remove unused nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from edgebone.core.manifest import Tap
from edgebone.core.tensors import TensorSpec
from edgebone_export.errors import ExportError
from edgebone_export.graphs.edit import at_least, checked_bytes, new_constant, remove_unused
from edgebone_export.heads.features.fitted import OPSET
from edgebone_export.heads.features.taps import read_graph, values_of


def open_backbone(content: bytes, where: str) -> ir.Model:
    """Read a variant's graph, and convert it to the opset of heads if it is older.

    Raises:
        ExportError: It cannot be converted to that opset.
    """
    return read_graph(at_least(onnx.load_from_string(content), OPSET, OPSET, where))


def tap_value(model: ir.Model, name: str, tap: Tap, where: str) -> ir.Value:
    """Return the float32 value of a tap: a vector, or maps; a transformer's tokens are converted to maps.

    Raises:
        ExportError: The graph has no such value.
    """
    value = values_of(model).get(tap.value)
    if value is None:
        raise ExportError(f"{where}: its graph has no value {tap.value}, which is tap {name} in the FP32 graph")
    if value.dtype != ir.DataType.FLOAT:
        value = _append(model, "Cast", [value], f"{name}/float", to=ir.DataType.FLOAT)
    if value.shape is not None and len(value.shape) == 3 and len(tap.shape) == 3:
        value = _maps(model, value, name, tap.shape)
    return value


def _maps(model: ir.Model, tokens: ir.Value, name: str, shape: tuple[int, ...]) -> ir.Value:
    """Reshape (batch, tokens, channels) to (batch, channels, height, width): the last tokens are patches, by rows."""
    channels, height, width = shape

    made = values_of(model).get(f"{name}/maps")
    if made is not None:
        # Added for another head.
        return made

    def numbers(label: str, values: Sequence[int]) -> ir.Value:
        return new_constant(model, f"{name}/{label}", np.asarray(values, np.int64))

    starts, ends, axes = numbers("first", [-height * width]), numbers("last", [2**31 - 1]), numbers("axis", [1])
    patches = _append(model, "Slice", [tokens, starts, ends, axes], f"{name}/patches")
    columns = _append(model, "Transpose", [patches], f"{name}/columns", perm=[0, 2, 1])
    return _append(model, "Reshape", [columns, numbers("shape", [0, channels, height, width])], f"{name}/maps")


def _append(model: ir.Model, op: str, inputs: Sequence[ir.Value], name: str, **attributes: object) -> ir.Value:
    """Append a node; reuse one of the same name, added for another head."""
    known = values_of(model).get(name)
    if known is not None:
        return known
    node = ir.node(op, list(inputs), attributes=attributes, name=name)  # type: ignore[arg-type]
    node.outputs[0].name = name
    node.outputs[0].dtype = ir.DataType.FLOAT
    model.graph.append(node)
    return node.outputs[0]


def join(
    model: ir.Model, name: str, graph: bytes, reads: Mapping[str, ir.Value], outputs: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """Append a head's nodes to a backbone's.

    Args:
        model: The backbone's graph; changed in place.
        name: Name of the head, the prefix of its nodes, values and outputs.
        graph: The head's ONNX file.
        reads: The backbone's value for each of the head's inputs.
        outputs: Outputs of the head.

    Returns:
        The new outputs of the graph, ``name/output``, with the backbone's batch.
    """
    opset = model.opset_imports.get("", OPSET)
    head = ir.from_proto(at_least(onnx.load_from_string(graph), opset, opset, f"head {name}"))
    given = {str(value.name): value for value in head.graph.outputs}
    renamed: dict[int, str] = {}
    for value in list(head.graph.initializers.values()):
        renamed[id(value)] = f"{name}/{value.name}"
    for node in head.graph:
        node.name = f"{name}/{node.name}"
        for value in node.outputs:
            renamed[id(value)] = f"{name}/{value.name}"
    for value in head.graph.inputs:
        value.replace_all_uses_with(reads[str(value.name)])
    constants = list(head.graph.initializers.values())
    head.graph.initializers.clear()
    head.graph.outputs.clear()
    nodes = list(head.graph)
    head.graph.remove(nodes)
    for value in constants:
        value.name = renamed[id(value)]
        model.graph.register_initializer(value)
    for node in nodes:
        for value in node.outputs:
            value.name = renamed[id(value)]
    model.graph.extend(nodes)
    batch = _batch(model)
    specs = []
    for spec in outputs:
        value = given[spec.name]
        value.shape = ir.Shape([batch, *spec.shape[1:]])
        model.graph.outputs.append(value)
        specs.append(TensorSpec(str(value.name), spec.dtype, (batch, *spec.shape[1:])))
    return specs


def expose(model: ir.Model, name: str, value: ir.Value, shape: Sequence[int]) -> TensorSpec:
    """Add a tap's value as a float32 output of the graph, named ``tap/NAME``."""
    output = f"tap/{name}"
    given = _append(model, "Identity", [value], output)
    spec = TensorSpec(output, "float32", (_batch(model), *shape))
    if all(given is not known for known in model.graph.outputs):
        given.shape = ir.Shape(list(spec.shape))
        model.graph.outputs.append(given)
    return spec


def _batch(model: ir.Model) -> int | str:
    shape = model.graph.inputs[0].shape
    assert shape is not None, "a bundle's graph has the shape of its input"
    size = shape[0]
    return size if isinstance(size, int) else str(size.value or "batch")


def remove_outputs(model: ir.Model, names: Sequence[str], needed: Sequence[ir.Value] = ()) -> None:
    """Remove outputs, and every node and constant that only they needed, except those of ``needed`` values."""
    kept = [value for value in model.graph.outputs if value.name not in names]
    model.graph.outputs.clear()
    model.graph.outputs.extend([*kept, *needed])
    remove_unused(model)
    model.graph.outputs.clear()
    model.graph.outputs.extend(kept)


def graph_with_taps(content: bytes, taps: Mapping[str, Tap], where: str) -> tuple[bytes, dict[str, TensorSpec]]:
    """Return a graph whose only outputs are taps.

    Args:
        content: A variant's ONNX file.
        taps: Taps by name.
        where: Name of the variant, for messages.

    Returns:
        The ONNX file, and its output of each tap.
    """
    model = open_backbone(content, where)
    specs = {key: expose(model, key, tap_value(model, key, tap, where), tap.shape) for key, tap in taps.items()}
    names = {spec.name for spec in specs.values()}
    remove_outputs(model, [str(value.name) for value in model.graph.outputs if value.name not in names])
    return checked_bytes(model, f"{where}: the graph of its taps"), specs
