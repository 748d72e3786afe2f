"""Trace a PyTorch module to a raw ONNX graph."""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch

from edgebone_export.errors import ExportError, in_one_line
from edgebone_export.models.attention import FlatAttention
from edgebone_export.models.contract import Backbone

# TensorRT 10.3 parses it, it has LayerNormalization, and onnxruntime's CUDA kernels cover it.
OPSET = 18
# Of the same age as opset 18: runtimes from 2023 on read it.
IR_VERSION = 8
INPUT = "images"
BATCH = "batch"


@dataclass(frozen=True)
class Traced:
    """A raw graph with input float32 (n, 3, h, w).

    Attributes:
        model: The graph, unoptimised.
        layer_norms: Number of layer norms of what depends on the input in the PyTorch program; each must stay one
            node, since decomposed ones overflow in FP16. Those of constants, such as DETR's queries, are folded.
    """

    model: ir.Model
    layer_norms: int


def trace(backbone: Backbone, batch: tuple[int, int]) -> Traced:
    """Trace with torch.export and write the graph with torch's ONNX exporter, without its optimiser.

    Args:
        backbone: The network.
        batch: Smallest and largest batch size; static if equal.

    Raises:
        ExportError: torch cannot trace or write it.
    """
    low, high = batch
    # torch.export treats sizes 0 and 1 as constants, so a dynamic batch is traced with another size.
    example = torch.zeros(low if low == high else 2, 3, *backbone.preprocess.size_hw)
    shapes = None
    if low != high:
        shapes = ({0: torch.export.Dim(BATCH, min=low, max=high)},)
    module = backbone.merged or backbone.module
    program, model = write_onnx(module, (example,), shapes, [INPUT], list(backbone.outputs), backbone.name)
    _name_batch(model, dynamic=low != high)
    _name_nodes(model)
    # Layer norms after a tap do not reach any output.
    program.graph.eliminate_dead_code()
    return Traced(model, _layer_norms(program))


def _layer_norms(program: torch.export.ExportedProgram) -> int:
    """Count the layer norms of values that depend on the input."""
    dependent: set[torch.fx.Node] = set()
    count = 0
    for node in program.graph.nodes:
        if node.name in program.graph_signature.user_inputs or not dependent.isdisjoint(node.all_input_nodes):
            dependent.add(node)
            count += node.target is torch.ops.aten.layer_norm.default
    return count


def write_onnx(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    dynamic_shapes: Any,
    inputs: Sequence[str],
    outputs: Sequence[str],
    what: str,
) -> tuple[torch.export.ExportedProgram, ir.Model]:
    """Trace a module with torch.export and write the graph with torch's ONNX exporter, without its optimiser.

    Args:
        module: The module.
        example: Example inputs.
        dynamic_shapes: Dynamic shapes in torch.export's form; None for static shapes.
        inputs: Input names.
        outputs: Output names.
        what: Name of the module, for messages.

    Raises:
        ExportError: torch cannot trace or write it.
    """
    try:
        with _quiet(), torch.no_grad(), FlatAttention():
            program = torch.export.export(module, example, dynamic_shapes=dynamic_shapes, strict=False)
            written = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                optimize=False,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"{what} cannot be traced to ONNX: {in_one_line(error)}") from error
    assert written is not None, "torch.onnx.export returns a program unless it writes a file"
    written.model.ir_version = IR_VERSION
    return program, written.model


def _name_batch(model: ir.Model, dynamic: bool) -> None:
    """Name the dynamic axis ``batch`` in inputs and outputs; torch numbers its symbols."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None and dynamic:
            value.shape = ir.Shape([BATCH, *value.shape[1:]])


def _name_nodes(model: ir.Model) -> None:
    """Prefix each node's name with its PyTorch module: ``layer1.0.conv2/node_conv2d_4``.

    Compilers report nodes that they reject, quantization those that cost most accuracy; people know modules.
    """
    ours = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
    for node in model.graph:
        for value in node.outputs:
            # A user's name for an output may equal the exporter's name for an inner value.
            if value.name in ours and not value.is_graph_output():
                value.name = f"{value.name}_inside"
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
        # The last scope is the operator itself, the first the whole network.
        module = next((scope for scope in reversed(scopes[:-1]) if scope), "")
        if module:
            node.name = f"{module}/{node.name}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide torch's messages about its internals from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
