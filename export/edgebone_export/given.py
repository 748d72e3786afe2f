"""What is given to the commands, looked at before PyTorch is imported, which takes seconds."""

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
    """Refuse a file or folder that is not there.

    Raises:
        SourceError: Names it, and what is beside it under a near name.
    """
    for path in paths:
        if path is not None and not os.path.exists(path):  # noqa: PTH110  (Path.exists raises on a name that is too long)
            raise SourceError(f"{path}: no such file or folder{_beside(path)}")


def check_bundle(path: str | Path) -> None:
    """Refuse what is no bundle by its manifest and its files' names and sizes; hashes are for whoever reads it.

    Raises:
        BundleError: It is none.
    """
    open_bundle(path, lambda manifest: manifest.files).close()


def check_onnx_file(path: Path) -> None:
    """Refuse what is no ONNX file by its kind.

    Raises:
        ExportError: It is not there, a bundle already, or of another format; says how that one becomes ONNX.
    """
    if is_bundle(path):
        raise ExportError(f"{path}: it is a bundle already; look with it: edgebone run {path} PICTURE")
    way = way_to_a_bundle(path)
    if way and path.suffix.lower() != ".onnx":
        raise ExportError(f"{path}: not an ONNX file, but {way}")
    if not is_regular(path):
        raise ExportError(f"{path}: no such file{_beside(path)}")


def check_model_name(name: str) -> None:
    """Refuse what is a file, or a network that comes as one, and no model's name.

    Raises:
        UnknownModelError: Says how it becomes a bundle.
    """
    path = Path(name)
    if ":" in name or name.startswith("timm/"):
        return
    if is_bundle(path):
        raise UnknownModelError(f"{name}: it is a bundle already; look with it: edgebone run {name} PICTURE")
    if way := way_to_a_bundle(path):
        raise UnknownModelError(f"{name}: no model's name, but {way}")
    if path.suffix == ".py":
        raise UnknownModelError(f"{name}: your own network is named {path.stem}:FUNCTION, which gives the module")
    if re.fullmatch(r"yolo(v?\d[\w-]*)?", name, re.IGNORECASE):
        raise UnknownModelError(
            f"there is no model {name}: ultralytics' networks come as ONNX: yolo export model={name}.pt format=onnx, "
            f"then: edgebone import {name}.onnx -o {name}.bundle --decoder yolov8"
        )


def _beside(path: Path) -> str:
    try:
        names = [item.name for item in path.parent.iterdir()]
    except OSError:
        return ""
    meant = did_you_mean(path.name, names).rstrip()
    return f"; {meant}" if meant else ""
