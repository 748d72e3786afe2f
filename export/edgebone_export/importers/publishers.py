"""Read the metadata that publishers' exporters write into their files."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from edgebone.core.manifest import Preprocess
from edgebone_export.errors import ExportError
from edgebone_export.importers.arrange import CENTERED

_RECORD = "edgebone.preprocess"


@dataclass(frozen=True)
class FileMetadata:
    """The file's metadata; missing values are None or empty.

    Attributes:
        publisher: Publisher whose exporter wrote it, in words; empty if the file has no record.
        convention: Name of its preprocessing, one of those in conventions.
        preprocess: Complete preprocessing.
        labels: Class names.
        size_hw: Height and width of the network's input, in pixels.
        task: The network's task, in the publisher's term.
        decoders: Decoders that read such a network; empty allows any.
        settings: Settings of these decoders.
        kpt_shape: The number of keypoints, and the values of each.
        keypoint_names: Their names.
    """

    publisher: str = ""
    convention: str | None = None
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None
    size_hw: tuple[int, int] | None = None
    task: str = ""
    decoders: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    kpt_shape: tuple[int, int] | None = None
    keypoint_names: tuple[str, ...] | None = None


# Ultralytics' tasks and the decoders that read them; raw reads the tensors of any task.
_TASKS = {
    "detect": ("yolov8", "yolov5", "yolo-end2end"),
    "classify": ("classification",),
    "semantic": ("segmentation",),
    "segment": ("yolov8-seg", "yolov5-seg", "yolo-end2end-seg"),
    "pose": ("yolov8-pose", "yolo-end2end-pose"),
    "obb": ("yolov8-obb", "yolo-end2end-obb"),
    "depth": ("depth",),
}
ANY = ("raw", "embedding", "features")
"""Decoders of any task, which take none of the task's settings."""


def read_metadata(metadata: Mapping[str, str]) -> FileMetadata:
    """Read a file's metadata.

    Raises:
        ExportError: The record is damaged.
    """
    if _RECORD in metadata:
        try:
            preprocess = msgspec.json.decode(metadata[_RECORD], type=Preprocess)
        except msgspec.MsgspecError as error:
            raise ExportError(f"the file's record of its preprocessing is damaged ({error})") from error
        return FileMetadata("edgebone", preprocess=preprocess, size_hw=preprocess.size_hw)
    if metadata.get("author") == "Ultralytics" and {"stride", "names", "imgsz"} <= metadata.keys():
        return _ultralytics(metadata)
    return FileMetadata()


def _ultralytics(metadata: Mapping[str, str]) -> FileMetadata:
    """Read Ultralytics' metadata, engine/exporter.py: ``task``, ``head``, ``names``, ``imgsz``, ``kpt_shape``."""
    task = metadata.get("task", "detect")
    if task not in _TASKS:
        raise ExportError(f"the file's metadata has the task {task!r}; expected one of {', '.join(_TASKS)}")
    if task != "pose" and "kpt_shape" in metadata:
        raise ExportError(
            f"the file's metadata has task {task} with kpt_shape {metadata['kpt_shape'][:40]}, which only pose has"
        )
    labels, size_hw = _names(metadata["names"]), _size(metadata["imgsz"])
    decoders = (*_TASKS[task], *ANY)
    if task == "classify":
        # Its last layer is a softmax; data/augment.py, classify_transforms().
        return FileMetadata(
            "ultralytics", "ultralytics-classify", None, labels, size_hw, task, decoders, {"activation": "none"}
        )
    if task == "depth":
        # models/yolo/depth/predict.py: pictures are stretched, the head returns exp() of a logarithm of metres.
        return FileMetadata("ultralytics", "stretch", None, labels, size_hw, task, decoders, {"unit": "metres"})
    if metadata.get("head") == "RTDETRDecoder":
        # models/rtdetr/predict.py: pictures are stretched, boxes are fractions.
        settings = {"columns": [*CENTERED, "score", "class"], "unit": "relative"}
        rows = ("yolo-end2end", *ANY)
        return FileMetadata("ultralytics", "stretch", None, labels, size_hw, "detect", rows, settings)
    found = FileMetadata("ultralytics", "ultralytics", None, labels, size_hw, task, decoders)
    if task == "pose":
        shape = _kpt_shape(metadata["kpt_shape"]) if "kpt_shape" in metadata else None
        names = None if shape is None else _kpt_names(metadata.get("kpt_names"), shape[0])
        return replace(found, kpt_shape=shape, keypoint_names=names)
    return found


def _names(text: str) -> tuple[str, ...]:
    """Parse ``{0: 'person', 1: 'bicycle'}``, as Python writes a dict."""
    try:
        names = ast.literal_eval(text)
        return tuple(str(names[index]) for index in range(len(names)))
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise ExportError(f"the file's metadata lists its class names in an unknown form: {text[:80]}") from error


def _kpt_shape(text: str) -> tuple[int, int]:
    """Parse ``[17, 3]``: the number of keypoints, and 2 or 3 values of each."""
    try:
        count, dims = ast.literal_eval(text)
        if not (isinstance(count, int) and count > 0 and dims in (2, 3)):
            raise ValueError(f"{count}, {dims}")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ExportError(f"the file's metadata has its kpt_shape in an unknown form: {text[:80]}") from error
    return count, dims


def _kpt_names(text: str | None, count: int) -> tuple[str, ...] | None:
    """Parse ``{0: ['nose', …]}``, names by class; None where they are not one list of that length."""
    try:
        names = list(ast.literal_eval(text or "").values())
        found = tuple(str(item) for item in names[0])
    except (ValueError, SyntaxError, TypeError, AttributeError, IndexError, MemoryError, RecursionError):
        return None
    return found if len(found) == len(set(found)) == count and all(item == names[0] for item in names) else None


def _size(text: str) -> tuple[int, int]:
    """Parse ``[640, 480]``, height and width, or ``640``."""
    try:
        found = ast.literal_eval(text)
        height, width = (found, found) if isinstance(found, int) else found
        if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
            raise ValueError(f"{height}, {width}")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ExportError(f"the file's metadata has its size (imgsz) in an unknown form: {text[:80]}") from error
    return height, width
