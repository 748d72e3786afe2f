"""Check command arguments before PyTorch is imported, which takes seconds."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgebone.core.bundle import open_bundle
from edgebone.core.errors import SourceError
from edgebone.core.model_files import is_bundle, way_to_a_bundle
from edgebone.core.near import did_you_mean
from edgebone.core.reading import is_regular
from edgebone_export.errors import ExportError, UnknownModelError


def check_there(*paths: Path | None) -> None:
    """Check that files and folders exist.

    Raises:
        SourceError: One is missing; the message lists similar names in the same folder.
    """
    for path in paths:
        if path is not None and not os.path.exists(path):  # noqa: PTH110  (Path.exists raises on a name that is too long)
            raise SourceError(f"{path}: no such file or folder{_beside(path)}")


def check_bundle(path: str | Path) -> None:
    """Check a bundle's manifest and its files' names and sizes; hashes are checked when the files are read.

    Raises:
        BundleError: It is not a valid bundle.
    """
    open_bundle(path, lambda manifest: manifest.files).close()


def check_onnx_file(path: Path) -> None:
    """Check that a path names an ONNX file.

    Raises:
        ExportError: It is missing, a bundle, or another format; the message says how to convert that format to ONNX.
    """
    if is_bundle(path):
        raise ExportError(f"{path}: already a bundle; to use it, run: edgebone run {path} PICTURE")
    way = way_to_a_bundle(path)
    if way and path.suffix.lower() != ".onnx":
        raise ExportError(f"{path}: not an ONNX file: {way}")
    if not is_regular(path):
        raise ExportError(f"{path}: no such file{_beside(path)}")


def check_model_name(name: str) -> None:
    """Check that a model name is not a file, nor a network that is distributed as one.

    Raises:
        UnknownModelError: It is one; the message says how to make a bundle of it.
    """
    path = Path(name)
    if ":" in name or name.startswith("timm/"):
        return
    if is_bundle(path):
        raise UnknownModelError(f"{name}: already a bundle; to use it, run: edgebone run {name} PICTURE")
    if way := way_to_a_bundle(path):
        raise UnknownModelError(f"{name}: not a model name: {way}")
    if path.suffix == ".py":
        raise UnknownModelError(f"{name}: to export your own network, pass {path.stem}:FUNCTION; it returns the module")
    if re.fullmatch(r"yolo(v?\d[\w-]*)?", name, re.IGNORECASE):
        raise UnknownModelError(
            f"no model named {name}: Ultralytics networks are imported from ONNX: yolo export model={name}.pt "
            f"format=onnx, then: edgebone import {name}.onnx -o {name}.bundle --decoder yolov8"
        )


def _beside(path: Path) -> str:
    try:
        names = [item.name for item in path.parent.iterdir()]
    except OSError:
        return ""
    meant = did_you_mean(path.name, names).rstrip()
    return f"; {meant}" if meant else ""
