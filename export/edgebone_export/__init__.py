"""edgebone's export: from a pre-trained PyTorch backbone to a proved bundle.

Example:
    >>> from edgebone_export import export
    >>> export("mobilenet_v2", "mobilenet_v2.bundle", weights="IMAGENET1K_V1")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgebone_export.assemble import ExportReport
    from edgebone_export.exporter import export

__all__ = ["ExportReport", "export"]


def __getattr__(name: str) -> Any:
    """Import the public names, and torch with them, at first use."""
    if name not in __all__:
        raise AttributeError(f"module 'edgebone_export' has no attribute {name!r}")
    from edgebone_export.need_torch import need_torch

    need_torch()
    import importlib

    return getattr(importlib.import_module("edgebone_export.exporter"), name)
