"""Network files in other formats, and how to turn each into a bundle."""

from __future__ import annotations

import os
import shlex
import zipfile
from itertools import islice
from pathlib import Path

from edgebone.core.reading import open_regular

MANIFEST = "manifest.json"
_TORCH = (
    "a PyTorch file: convert ultralytics' to ONNX with: yolo export model={file} format=onnx, then: edgebone import "
    "{stem}.onnx; export weights with the network they belong to: edgebone export MODEL --weights {file}"
)
_WEIGHTS = "weights alone: export them with the network they belong to: edgebone export MODEL --weights {file}"
_TENSORFLOW = (
    "a TensorFlow file: convert it to ONNX with: python -m tf2onnx.convert {flag} {file} --output {stem}.onnx, "
    "then: edgebone import {stem}.onnx"
)
_ENGINE = (
    "an engine for one GPU, which cannot be imported: import the ONNX file that it was made from, then: "
    "edgebone compile"
)
_NO_WAY = "{what}, which cannot be imported: import the ONNX file that it was made from"
_IMPORT = (
    "an ONNX file; make a bundle from it with: edgebone import {file} -o {stem}.bundle --decoder DECODER "
    "(yolov8, yolox, detr, classification, segmentation, …)"
)
_KINDS = {
    ".onnx": _IMPORT,
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".torchscript", ".pt2"), _TORCH),
    ".safetensors": _WEIGHTS,
    ".tflite": _TENSORFLOW.replace("{flag}", "--tflite"),
    **dict.fromkeys((".h5", ".keras"), _TENSORFLOW.replace("{flag}", "--keras")),
    ".pb": _TENSORFLOW.replace("{flag}", "--graphdef"),
    **dict.fromkeys((".engine", ".plan", ".trt"), _ENGINE),
    ".xml": _NO_WAY.replace("{what}", "an OpenVINO network"),
    ".bin": _NO_WAY.replace("{what}", "an OpenVINO or ncnn network's weights"),
    ".param": _NO_WAY.replace("{what}", "an ncnn network"),
    **dict.fromkeys((".mlmodel", ".mlpackage"), _NO_WAY.replace("{what}", "a Core ML network")),
    ".rknn": _NO_WAY.replace("{what}", "a Rockchip network"),
    ".hef": _NO_WAY.replace("{what}", "a Hailo network"),
    ".pdmodel": "a PaddlePaddle network: convert it to ONNX with: paddle2onnx",
    ".caffemodel": _NO_WAY.replace("{what}", "a Caffe network"),
    ".head": "a head; put it on its backbone's bundle with: edgebone attach BUNDLE {file} -o NEW.bundle",
    ".gallery": "a gallery; use it with: edgebone run BUNDLE SOURCE --gallery {file}",
}


def is_bundle(path: Path) -> bool:
    """Return whether a folder or zip has a manifest where a bundle has it, without checking it."""
    try:
        if path.is_dir():
            return (path / MANIFEST).is_file()
        if path.suffix.lower() != ".zip":
            return False
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return any(name == MANIFEST or name.endswith(f"/{MANIFEST}") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def bundle_name(path: str | os.PathLike[str]) -> str:
    """Return a bundle's file name without its ending."""
    return Path(path).name.removesuffix(".zip").removesuffix(".bundle")


def way_to_a_bundle(path: Path) -> str:
    """Describe a file by its name, with the command that turns it into a bundle; empty for unknown names.

    Args:
        path: The file, or a folder of TensorFlow or OpenVINO.
    """
    kind = _KINDS.get(path.suffix.lower(), "")
    try:
        if path.is_dir() and (path / "saved_model.pb").exists():
            kind = _TENSORFLOW.replace("{flag}", "--saved-model")
        elif path.is_dir() and (xml := sorted(path.glob("*.xml"))):
            return way_to_a_bundle(xml[0])
    except OSError:
        return ""
    stem = path.parent / path.stem
    return kind.replace("{file}", shlex.quote(str(path))).replace("{stem}", shlex.quote(str(stem)))


def bundles_in(folder: Path, most: int = 3) -> list[Path]:
    """Return up to ``most`` bundles in a folder; no others are opened."""
    try:
        named = (item for item in sorted(folder.iterdir()) if item.suffix in (".bundle", ".zip"))
        return list(islice(filter(is_bundle, named), most))
    except OSError:
        return []
