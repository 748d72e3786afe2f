"""Prepend preprocessing to a network."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from edgebone.core.manifest import FrameLayout, Preprocess, frame_shape
from edgebone_export.frame_input.graph import frame_graph
from edgebone_export.graphs.edit import checked_bytes, prepare

# The first opset whose ReduceSum and Unsqueeze take their axes as inputs.
_LEAST_OPSET = 13


def with_frame_input(
    content: bytes, spec: Preprocess, size_hw: tuple[int, int], layout: FrameLayout, where: str
) -> bytes:
    """Return a network that takes frames instead of its input; the rest of its graph is unchanged.

    Args:
        content: The variant's ONNX file, with one input: uint8 (n, height, width, 3).
        spec: The bundle's preprocessing.
        size_hw: The frames' height and width, in pixels.
        layout: ``bgr`` or ``nv12``.
        where: Name of the variant, for messages.

    Raises:
        ExportError: The graph with its new input is not valid, or exceeds the size limit of an ONNX file.
    """
    model = ir.from_proto(onnx.load_from_string(content))
    if model.opset_imports.get("", 0) < _LEAST_OPSET:
        model = ir.from_proto(prepare(content, where, _LEAST_OPSET))
    network = model.graph
    old = network.inputs[0]
    frame = _frame(str(old.name), old, size_hw, layout)
    old.name = f"{old.name}_network"
    made = frame_graph(spec, size_hw, layout, frame)
    network.insert_before(network[0], made.nodes)
    for constant in made.constants:
        network.register_initializer(constant)
    # Networks that begin with a cast take the floats directly: TensorRT has no uint8 inside a graph.
    readers = [(use.node, use.idx) for use in old.uses()]
    raw = [(node, place) for node, place in readers if node.op_type != "Cast"]
    for node, place in readers:
        if node.op_type == "Cast":
            node.replace_input_with(place, made.network_input)
    if raw:
        pixels = _as_bytes(made.network_input, str(old.name))
        network.insert_after(made.nodes[-1], pixels)
        for node, place in raw:
            node.replace_input_with(place, pixels.outputs[0])
    network.inputs[0] = frame
    model.metadata_props["edgebone.frame"] = f"{size_hw[0]}x{size_hw[1]} {layout}"
    return checked_bytes(model, f"{where}: the graph with frames as input")


def preprocessing_alone(spec: Preprocess, size_hw: tuple[int, int], layout: FrameLayout) -> bytes:
    """Return the preprocessing as a graph of its own: its output ``network_input`` is uint8 (1, height, width, 3)."""
    frame = _frame("frame", None, size_hw, layout)
    made = frame_graph(spec, size_hw, layout, frame)
    pixels = _as_bytes(made.network_input, "network_input")
    pixels.outputs[0].shape = ir.Shape([1, *spec.size_hw, 3])
    graph = ir.Graph(
        [frame],
        pixels.outputs,
        nodes=[*made.nodes, pixels],
        initializers=made.constants,
        opset_imports={"": _LEAST_OPSET},
        name="preprocessing",
    )
    return checked_bytes(ir.Model(graph, ir_version=8), "the preprocessing graph with frames as input")


def _frame(name: str, like: ir.Value | None, size_hw: tuple[int, int], layout: FrameLayout) -> ir.Value:
    batch = 1 if like is None or like.shape is None else like.shape[0]
    shape = ir.Shape([batch, *frame_shape(size_hw, layout)])
    return ir.Value(name=name, shape=shape, type=ir.TensorType(ir.DataType.UINT8))


def _as_bytes(value: ir.Value, name: str) -> ir.Node:
    cast = ir.node("Cast", [value], attributes={"to": ir.DataType.UINT8}, name=f"frame_input/{name}")
    cast.outputs[0].name = name
    cast.outputs[0].dtype = ir.DataType.UINT8
    return cast
