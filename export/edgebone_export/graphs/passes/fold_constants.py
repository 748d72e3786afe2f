"""Folds constants and batch norms, with onnxscript's optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import onnxscript.optimizer

from edgebone_export.errors import ExportError
from edgebone_export.graphs.passes.contract import count_nodes


@dataclass(frozen=True)
class FoldConstants:
    """Computes what does not depend on the input once and for all.

    Attributes:
        layer_norms: Layer norms that must stay one node each.
    """

    layer_norms: int
    name: str = "fold constants"

    def requires(self, model: ir.Model) -> None:
        """The graph has nodes."""
        if not len(model.graph):
            raise ExportError("the graph is empty")

    def apply(self, model: ir.Model) -> ir.Model:
        """Optimise in place."""
        modules = _modules_by_output(model)
        onnxscript.optimizer.optimize(model)
        for node in model.graph:
            # Nodes that were fused have new names, without the PyTorch module that the trace put there.
            module = modules.get(str(node.outputs[0].name), "")
            if module and "/" not in (node.name or ""):
                node.name = f"{module}/{node.name}"
        return model

    def ensures(self, model: ir.Model) -> None:
        """No layer norm was taken apart."""
        require_layer_norms(model, self.layer_norms)


def _modules_by_output(model: ir.Model) -> dict[str, str]:
    """The PyTorch module that computes each value; a batch norm's is the convolution's that takes it in."""
    found: dict[str, str] = {}
    for node in model.graph:
        source = node.inputs[0] if node.inputs else None
        before = None if source is None else source.producer()
        fused = node.op_type == "BatchNormalization" and before is not None and before.op_type == "Conv"
        named = before if fused and before is not None else node
        found[str(node.outputs[0].name)] = (named.name or "").rpartition("/")[0]
    return found


def require_layer_norms(model: ir.Model, expected: int) -> None:
    """Refuse a graph with fewer LayerNormalization nodes than PyTorch had layer norms.

    Taken apart into Pow, ReduceMean and Div, a layer norm overflows in FP16 from |x| of about 256 squared on.
    """
    found = count_nodes(model, "LayerNormalization")
    if found < expected:
        raise ExportError(f"the graph has {found} LayerNormalization nodes, PyTorch had {expected} layer norms")
