"""Removes and fuses what is left over, with onnxslim."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import onnxslim

from edgebone_export.errors import ExportError
from edgebone_export.passes.fold_constants import require_layer_norms


@dataclass(frozen=True)
class Slim:
    """Shape inference, dead code, common subexpressions, batch norms into convolutions.

    Attributes:
        layer_norms: Layer norms that must stay one node each.
    """

    layer_norms: int
    name: str = "slim"

    def requires(self, model: ir.Model) -> None:
        """Nothing: onnxslim takes any graph."""

    def apply(self, model: ir.Model) -> ir.Model:
        """Give a new graph."""
        slimmed: ir.Model = ir.from_proto(onnxslim.slim(ir.to_proto(model)))
        slimmed.ir_version = model.ir_version
        return slimmed

    def ensures(self, model: ir.Model) -> None:
        """No batch norm is left behind a convolution that could have taken it in; layer norms are whole."""
        require_layer_norms(model, self.layer_norms)
        for node in model.graph:
            if node.op_type != "BatchNormalization" or node.inputs[0] is None:
                continue
            source = node.inputs[0].producer()
            if source is not None and source.op_type == "Conv" and len(source.outputs[0].uses()) == 1:
                raise ExportError(f"{node.name}: a BatchNormalization is left behind {source.name}")
