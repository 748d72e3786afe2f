"""Removes and fuses what is left over, with onnxslim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir
import onnxslim

from edgebone_export.errors import ExportError, in_one_line
from edgebone_export.graphs.passes.fold_constants import require_layer_norms


@dataclass(frozen=True)
class Slim:
    """Shape inference, dead code, common subexpressions, batch norms into convolutions.

    Attributes:
        layer_norms: Layer norms that must stay one node each.
        foreign: Whether the graph is another exporter's, and stays as it is where onnxslim does not take it.
    """

    layer_norms: int
    foreign: bool = False
    name: str = "slim"

    def requires(self, model: ir.Model) -> None:
        """Nothing."""

    def apply(self, model: ir.Model) -> ir.Model:
        """Give a new graph."""
        places = {value.name: place for place, node in enumerate(model.graph) for value in node.outputs}
        try:
            slimmed: ir.Model = ir.from_proto(onnxslim.slim(ir.to_proto(model)))
        except Exception as error:
            if self.foreign:
                return model
            raise ExportError(f"onnxslim does not take the graph: {in_one_line(error)}") from error
        slimmed.ir_version = model.ir_version
        _in_order(slimmed.graph, places)
        return slimmed

    def ensures(self, model: ir.Model) -> None:
        """Layer norms are whole; of our own graph no batch norm is left that a convolution could have taken in."""
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
                raise ExportError(f"{node.name}: a BatchNormalization is left behind {source.name}")


def _in_order(graph: ir.Graph, places: Mapping[str | None, int]) -> None:
    """Put nodes back in the order of before: which maps of a stride are the last ones hangs on it.

    What was fused has the name of what it ends with; so has the node before one that did nothing and was removed, but
    its other users may come earlier. There the order of before gives way.
    """
    nodes = list(graph)
    found = [max((places.get(value.name, -1) for value in node.outputs), default=-1) for node in nodes]
    if min(found, default=0) < 0:
        return
    ordered = [node for _, node in sorted(zip(found, nodes, strict=True), key=lambda pair: pair[0])]
    graph.remove(nodes)
    graph.extend(ordered)
    graph.sort()
