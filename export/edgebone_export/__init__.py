"""edgebone's export: turn a pre-trained PyTorch backbone into a verified bundle.

Example:
    >>> from edgebone_export import export
    >>> report = export("squeezenet1_1", "squeezenet.bundle", weights="random")  # "default": the library's weights
    >>> print(report.manifest.name, report.parity.top1_agreement)
    squeezenet1_1 1.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Must come first: it turns off the engines' telemetry.
import edgebone  # noqa: F401

if TYPE_CHECKING:
    from edgebone_export.bundling.assemble import ExportReport
    from edgebone_export.exporter import export
    from edgebone_export.frame_input.add import add_frame_variants
    from edgebone_export.importers.importer import HeadSpec, import_onnx
    from edgebone_export.quantization.quantizer import Outcome, quantize

_HOMES = {
    "ExportReport": "edgebone_export.bundling.assemble",
    "HeadSpec": "edgebone_export.importers.importer",
    "add_frame_variants": "edgebone_export.frame_input.add",
    "export": "edgebone_export.exporter",
    "import_onnx": "edgebone_export.importers.importer",
    "Outcome": "edgebone_export.quantization.quantizer",
    "quantize": "edgebone_export.quantization.quantizer",
}
_NEED_NO_TORCH = ("Outcome", "add_frame_variants", "quantize")

__all__ = ["ExportReport", "HeadSpec", "Outcome", "add_frame_variants", "export", "import_onnx", "quantize"]


def __getattr__(name: str) -> Any:
    """Import a public name, and torch with it, on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgebone_export' has no attribute {name!r}")
    from edgebone_export.need_packages import need_torch

    if name not in _NEED_NO_TORCH:
        need_torch()
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
