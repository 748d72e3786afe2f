"""Compare keypoints, oriented boxes and classes of the same ONNX file in `ultralytics predict` and in edgebone.

Usage: python benchmarks/ultralytics_tasks.py ULTRALYTICS_PYTHON PICTURES [MODEL...] [--json FILE]

ULTRALYTICS_PYTHON is as of ultralytics_predict.py, which also makes the random networks lively. Both sides take the
same pictures (JPEG) with the same settings. Printed: the numbers of objects of both sides and of pairs, which have the
same class, score and place; and the worst pair: how far its keypoints are apart in pixels, how much its oriented boxes
overlap, how much its probabilities differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

DECODERS = {
    "yolo11n-pose": "yolov8-pose", "yolo26n-pose": "yolo-end2end-pose", "yolo11n-obb": "yolov8-obb",
    "yolo26n-obb": "yolo-end2end-obb", "yolo11n-cls": "classification",
}  # fmt: skip
# Numbers of a row: box, score, class and 17 keypoints; corners, score and class; probabilities.
COLUMNS = {"pose": 57, "obb": 10, "cls": 1000}
SCORE, IOU, MOST = 0.25, 0.7, 300


# --- in ultralytics' environment


def predict(onnx: Path, pictures: Path) -> Iterator[list[list[float]]]:
    """Yield each picture's rows: x1, y1, x2, y2, score, class and keypoints; 4 corners, score, class; probabilities."""
    from ultralytics import YOLO

    task = {"pose": "pose", "obb": "obb", "cls": "classify"}[onnx.stem.rpartition("-")[2]]
    model = YOLO(str(onnx), task=task)
    for path in sorted(pictures.glob("*.jpg")):
        (result,) = model.predict(str(path), conf=SCORE, iou=IOU, max_det=MOST, device="cpu", verbose=False)
        if task == "classify":
            rows = result.probs.data[None]
        elif task == "pose":
            rows = np.hstack([result.boxes.data, result.keypoints.data.reshape(len(result), 51)])
        else:
            obb = result.obb
            rows = np.hstack([obb.xyxyxyxy.reshape(len(obb), 8), obb.conf[:, None], obb.cls[:, None]])
        yield np.asarray(rows).tolist()


def worker(onnx: Path, pictures: Path) -> None:
    from ultralytics_predict import make

    make(onnx.stem, onnx, pictures)
    onnx.with_suffix(".json").write_text(json.dumps(list(predict(onnx, pictures))))


# --- in edgebone's environment


def keypoints(theirs: np.ndarray, ours: Any) -> tuple[int, np.ndarray, np.ndarray]:
    """Return how many objects they have, which pairs are the same, and how far the pairs' keypoints are apart."""
    from edgebone.core.boxes import iou_matrix

    # A random YOLO26 also returns boxes with left beyond right; edgebone shows none of those.
    theirs = theirs[(theirs[:, 2] > theirs[:, 0]) & (theirs[:, 3] > theirs[:, 1])]
    same = iou_matrix(theirs[:, :4], ours.xyxy) >= 0.99
    same &= np.abs(theirs[:, None, 4] - ours.detection_confidence) <= 1e-3
    same &= theirs[:, None, 5] == ours.class_id
    points = theirs[:, 6:].reshape(len(theirs), 17, 3)[..., :2]
    return len(theirs), same, np.linalg.norm(points[:, None] - ours.xy[None], axis=3).max(axis=2)


def oriented(theirs: np.ndarray, ours: Any, size_wh: tuple[int, int]) -> tuple[int, np.ndarray, np.ndarray]:
    """Return how many boxes they have, which pairs are the same, and the pairs' overlaps."""
    from edgebone.core.oriented import hulls_of, rotated_iou

    # Boxes that lie outside the picture are not shown by edgebone.
    hulls = hulls_of(theirs[:, :8].reshape(-1, 4, 2)).clip(0, size_wh * 2)
    theirs = theirs[(hulls[:, 2] > hulls[:, 0]) & (hulls[:, 3] > hulls[:, 1])]
    overlap = rotated_iou(theirs[:, :8].reshape(-1, 4, 2), ours["xyxyxyxy"])
    same = (overlap >= 0.9) & (np.abs(theirs[:, None, 8] - ours.confidence) <= 1e-3)
    return len(theirs), same & (theirs[:, None, 9] == ours.class_id), overlap


def compare(name: str, bundle: Path, pictures: Path, answers: list[Any]) -> dict[str, Any]:
    """Return the figures of one model."""
    import edgebone
    from edgebone.sources.images import read_image

    kind = name.rpartition("-")[2]
    counts, worst = np.zeros(3, int), []
    settings = {} if kind == "cls" else {"score": SCORE, "iou": IOU}
    if DECODERS[name].endswith("end2end"):
        del settings["iou"]
    with edgebone.load(bundle, engine="onnxruntime", precision="fp32", **settings) as model:
        for path, answer in zip(sorted(pictures.glob("*.jpg")), answers, strict=True):
            image = read_image(path)
            ours: Any = model(image)
            theirs = np.array(answer, np.float64).reshape(len(answer), COLUMNS[kind])
            if kind == "cls":
                best = int(theirs[0].argmax()) == int(ours.class_id[0])
                counts += (1, 1, best)
                worst.append(np.abs(theirs[0] - ours.probabilities).max())
                continue
            if kind == "pose":
                n, same, apart = keypoints(theirs, ours)
                worst += [row[pairs].min() for row, pairs in zip(apart, same, strict=True) if pairs.any()]
            else:
                n, same, overlap = oriented(theirs, ours, image.shape[1::-1])
                worst += [row[pairs].max() for row, pairs in zip(overlap, same, strict=True) if pairs.any()]
            counts += (n, len(ours), same.any(axis=1).sum())
    what, pick = {
        "pose": ("keypoints_apart_px", max), "obb": ("overlap", min), "cls": ("probabilities_apart", max),
    }[kind]  # fmt: skip
    theirs_n, ours_n, both = counts.tolist()
    return {"model": name, "theirs": theirs_n, "ours": ours_n, "pairs": both, what: float(pick(worst, default=np.nan))}


def main() -> None:
    if sys.argv[1] == "--worker":
        return worker(Path(sys.argv[2]), Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("python", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("models", nargs="*", default=list(DECODERS))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    from edgebone_export.importers.importer import HeadSpec, import_onnx

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            onnx = Path(folder) / f"{name}.onnx"
            command = [given.python, __file__, "--worker", onnx, given.pictures]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            bundle = Path(folder) / f"{name}.bundle"
            import_onnx(onnx, bundle, heads=HeadSpec(DECODERS[name]), samples=None)
            answers = json.loads(onnx.with_suffix(".json").read_text())
            found.append(compare(name, bundle, given.pictures, answers))
            print(" ".join(f"{key} {value}" for key, value in found[-1].items()), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))
    return None


if __name__ == "__main__":
    main()
