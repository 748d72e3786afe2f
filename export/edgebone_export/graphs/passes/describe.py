"""Write metadata into the graph, so that the file can be identified without its bundle."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

from edgebone.core.limits import ONNX_BYTES
from edgebone.core.version import __version__
from edgebone_export.errors import ExportError


@dataclass(frozen=True)
class Describe:
    """Set the producer, add metadata, and drop the exporter's debugging information.

    Attributes:
        metadata: Metadata text by key.
    """

    metadata: dict[str, str]
    name: str = "describe"

    def requires(self, model: ir.Model) -> None:
        """Accept any graph."""

    def apply(self, model: ir.Model) -> ir.Model:
        """Write in place."""
        ir.passes.common.ClearMetadataAndDocStringPass()(model)
        model.producer_name = "edgebone"
        model.producer_version = __version__
        model.metadata_props.update(self.metadata)
        return model

    def ensures(self, model: ir.Model) -> None:
        """Check that the graph is valid ONNX and fits in one file."""
        proto = ir.to_proto(model)
        if proto.ByteSize() > ONNX_BYTES:
            raise ExportError(f"the graph is {proto.ByteSize() / 2**30:.2f} GiB; one ONNX file holds at most 2")
        try:
            onnx.checker.check_model(proto, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ExportError(f"the graph is not valid ONNX: {str(error).strip().splitlines()[0]}") from error
