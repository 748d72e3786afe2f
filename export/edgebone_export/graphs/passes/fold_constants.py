"""Fold constants and batch norms with onnxscript's optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import onnxscript.optimizer

from edgebone_export.errors import ExportError
from edgebone_export.graphs.passes.contract import count_nodes


@dataclass(frozen=True)
class FoldConstants:
    """Precompute everything that does not depend on the input.

    Attributes:
        layer_norms: Number of layer norms, each of which must stay one node.
    """

    layer_norms: int
    name: str = "fold constants"

    def requires(self, model: ir.Model) -> None:
        """Check that the graph has nodes."""
        if not len(model.graph):
            raise ExportError("the graph is empty")

    def apply(self, model: ir.Model) -> ir.Model:
        """Optimise in place."""
        modules = _modules_by_output(model)
        onnxscript.optimizer.optimize(model)
        for node in model.graph:
            # Fused nodes get new names, without the PyTorch module that the trace put there.
            module = modules.get(str(node.outputs[0].name), "")
            if module and "/" not in (node.name or ""):
                node.name = f"{module}/{node.name}"
        return model

    def ensures(self, model: ir.Model) -> None:
        """Check that no layer norm was decomposed."""
        require_layer_norms(model, self.layer_norms)


def _modules_by_output(model: ir.Model) -> dict[str, str]:
    """Return the PyTorch module that computes each value; a fused batch norm has its convolution's."""
    found: dict[str, str] = {}
    for node in model.graph:
        source = node.inputs[0] if node.inputs else None
        before = None if source is None else source.producer()
        fused = node.op_type == "BatchNormalization" and before is not None and before.op_type == "Conv"
        named = before if fused and before is not None else node
        found[str(node.outputs[0].name)] = (named.name or "").rpartition("/")[0]
    return found


def require_layer_norms(model: ir.Model, expected: int) -> None:
    """Check that a graph has a LayerNormalization node for each of PyTorch's layer norms.

    Decomposed into Pow, ReduceMean and Div, a layer norm overflows in FP16 once |x| reaches about 256 (256 squared).
    """
    found = count_nodes(model, "LayerNormalization")
    if found < expected:
        raise ExportError(f"the graph has {found} LayerNormalization nodes; PyTorch has {expected} layer norms")
