"""Remove and fuse remaining nodes with onnxslim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
import onnxslim

from edgebone_export.errors import ExportError, in_one_line
from edgebone_export.graphs.passes.fold_constants import require_layer_norms


@dataclass(frozen=True)
class Slim:
    """Infer shapes, remove dead code and common subexpressions, fuse batch norms into convolutions.

    Attributes:
        layer_norms: Number of layer norms, each of which must stay one node.
        foreign: Whether another exporter wrote the graph; it is then left unchanged if onnxslim fails.
    """

    layer_norms: int
    foreign: bool = False
    name: str = "slim"

    def requires(self, model: ir.Model) -> None:
        """Accept any graph."""

    def apply(self, model: ir.Model) -> ir.Model:
        """Return a new graph."""
        places = {value.name: place for place, node in enumerate(model.graph) for value in node.outputs}
        try:
            slimmed: ir.Model = ir.from_proto(onnxslim.slim(ir.to_proto(model)))
        except Exception as error:
            if self.foreign:
                return model
            raise ExportError(f"onnxslim failed on the graph: {in_one_line(error)}") from error
        slimmed.ir_version = model.ir_version
        _in_order(slimmed.graph, places)
        return slimmed

    def ensures(self, model: ir.Model) -> None:
        """Check that layer norms are intact and, in our own graphs, that no fusable batch norm is left."""
        require_layer_norms(model, self.layer_norms)
        if self.foreign:
            return
        for node in model.graph:
            if node.op_type != "BatchNormalization" or node.inputs[0] is None:
                continue
            value = node.inputs[0]
            source = value.producer()
            if source is None or source.op_type != "Conv" or value.is_graph_output():
                continue
            if len(value.uses()) == 1:
                raise ExportError(f"{node.name}: a BatchNormalization was left after {source.name}")


def _in_order(graph: ir.Graph, places: Mapping[str | None, int]) -> None:
    """Restore the original node order: it decides which feature maps of a stride are the last ones.

    A fused node has the output name of its last part. So does the node before a removed no-op, whose other users may
    come earlier; topological order takes precedence there.
    """
    nodes = list(graph)
    found = [max((places.get(value.name, -1) for value in node.outputs), default=-1) for node in nodes]
    if min(found, default=0) < 0:
        return
    ordered = [node for _, node in sorted(zip(found, nodes, strict=True), key=lambda pair: pair[0])]
    graph.remove(nodes)
    graph.extend(ordered)
    graph.sort()
