"""Report missing workstation packages in one line."""

from __future__ import annotations

import importlib

from edgebone.core.errors import missing


def need(purpose: str, extra: str, *packages: str) -> None:
    """Check that packages can be imported.

    Args:
        purpose: What needs them, for the message.
        extra: The edgebone extra that installs them.
        packages: Their import names.

    Raises:
        MissingDependencyError: One is missing; the message has the pip command.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise missing(package, extra, purpose) from error


def need_torch() -> None:
    """Check that all packages of the export can be imported.

    Raises:
        MissingDependencyError: One is missing; the message has the pip command.
    """
    need("the export", "export", "torch", "torchvision", "onnx", "onnxscript", "onnxslim", "onnxruntime")
