"""Folds constants and batch norms, with onnxscript's optimiser."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import onnxscript.optimizer

from edgebone_export.errors import ExportError
from edgebone_export.passes.contract import count_nodes


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
        onnxscript.optimizer.optimize(model)
        return model

    def ensures(self, model: ir.Model) -> None:
        """No layer norm was taken apart."""
        require_layer_norms(model, self.layer_norms)


def require_layer_norms(model: ir.Model, expected: int) -> None:
    """Refuse a graph with fewer LayerNormalization nodes than PyTorch had layer norms.

    Taken apart into Pow, ReduceMean and Div, a layer norm overflows in FP16 from |x| of about 256 squared on.
    """
    found = count_nodes(model, "LayerNormalization")
    if found < expected:
        raise ExportError(f"the graph has {found} LayerNormalization nodes, PyTorch had {expected} layer norms")
