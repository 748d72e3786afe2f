"""One clear line where the workstation's packages are not installed."""

from __future__ import annotations

import importlib

from edgebone.core.errors import missing

_NEEDED = ("torch", "torchvision", "onnx", "onnxscript", "onnxslim", "onnxruntime")


def need_torch() -> None:
    """Check that everything the export needs can be imported.

    Raises:
        MissingDependencyError: Names the package and the pip line.
    """
    for package in _NEEDED:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            raise missing(package, "export", "the export") from error
