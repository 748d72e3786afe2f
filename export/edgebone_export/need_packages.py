"""One clear line where the workstation's packages are not installed."""

from __future__ import annotations

import importlib

from edgebone.core.errors import missing


def need(purpose: str, extra: str, *packages: str) -> None:
    """Check that packages can be imported.

    Args:
        purpose: What needs them, in words.
        extra: The extra of edgebone that brings them.
        packages: Their import names.

    Raises:
        MissingDependencyError: Names the package and the pip line.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise missing(package, extra, purpose) from error


def need_torch() -> None:
    """Check that everything the export needs can be imported.

    Raises:
        MissingDependencyError: Names the package and the pip line.
    """
    need("the export", "export", "torch", "torchvision", "onnx", "onnxscript", "onnxslim", "onnxruntime")
