"""Files of networks in other formats, and how each becomes a bundle."""

from __future__ import annotations

import shlex
import zipfile
from itertools import islice
from pathlib import Path

from edgebone.core.reading import open_regular

MANIFEST = "manifest.json"
_TORCH = (
    "a PyTorch file: ultralytics' become ONNX with: yolo export model={file} format=onnx, then: edgebone import "
    "{stem}.onnx; weights alone go into the network that they are of: edgebone export MODEL --weights {file}"
)
_WEIGHTS = "weights alone: they go into the network that they are of: edgebone export MODEL --weights {file}"
_TENSORFLOW = (
    "a TensorFlow file, which becomes ONNX with: python -m tf2onnx.convert {flag} {file} --output {stem}.onnx, "
    "then: edgebone import {stem}.onnx"
)
_ENGINE = (
    "an engine for one GPU, out of which no network is read: import the ONNX file that it was made from, then: "
    "edgebone compile"
)
_NO_WAY = "{what}, out of which no ONNX is made: import the ONNX file that it was made from"
_IMPORT = (
    "an ONNX file; a bundle is made of it with: edgebone import {file} -o {stem}.bundle --decoder DECODER "
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
    ".pdmodel": "a PaddlePaddle network, which becomes ONNX with: paddle2onnx",
    ".caffemodel": _NO_WAY.replace("{what}", "a Caffe network"),
    ".head": "a head; it is put onto its backbone's bundle with: edgebone attach BUNDLE {file} -o NEW.bundle",
    ".gallery": "a gallery: name what a bundle sees by it with: edgebone run BUNDLE SOURCE --gallery {file}",
}


def is_bundle(path: Path) -> bool:
    """Whether a folder or zip has a manifest where a bundle has it; nothing of it is checked."""
    try:
        if path.is_dir():
            return (path / MANIFEST).is_file()
        if path.suffix.lower() != ".zip":
            return False
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            return any(name == MANIFEST or name.endswith(f"/{MANIFEST}") for name in archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def way_to_a_bundle(path: Path) -> str:
    """What a file is, by its name, and how it becomes a bundle, with the line to type; empty where it is none of these.

    Args:
        path: The file, or a folder of TensorFlow's or OpenVINO's.
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
    """The bundles that lie in a folder, at most so many; no more than these are looked into."""
    try:
        named = (item for item in sorted(folder.iterdir()) if item.suffix in (".bundle", ".zip"))
        return list(islice(filter(is_bundle, named), most))
    except OSError:
        return []
