"""Compare the masks of the same ONNX file in `ultralytics predict` and in edgebone.

Usage: python benchmarks/ultralytics_masks.py ULTRALYTICS_PYTHON PICTURES [MODEL...]

As for `ultralytics_predict.py`, ultralytics builds each model with random weights and exports the ONNX itself. Masks
are compared twice: as ultralytics predicts by default, at the size of the network's input, and with
`retina_masks=True`, at the size of the picture.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics_predict import IOU, MOST, SCORE, make

DECODERS = {"yolo11n-seg": "yolov8-seg", "yolov8n-seg": "yolov8-seg", "yolo26n-seg": "yolo-end2end-seg"}
SAME_IOU = 0.98


# --- in ultralytics' environment


def predict(onnx: Path, pictures: Path, retina: bool, target: Path) -> None:
    from ultralytics import YOLO

    settings = {"conf": SCORE, "iou": IOU, "max_det": MOST, "imgsz": 640, "device": "cpu", "verbose": False}
    model = YOLO(str(onnx), task="segment")
    for result in model.predict(str(pictures), stream=True, retina_masks=retina, **settings):
        masks = np.zeros((0, 1, 1), bool) if result.masks is None else result.masks.data.cpu().numpy().astype(bool)
        boxes = result.boxes.data.cpu().numpy()
        np.savez(target / Path(result.path).stem, boxes=boxes, shape=masks.shape, masks=np.packbits(masks))


# --- in edgebone's environment


def found_by_us(bundle: Path, pictures: list[Path], retina: bool, name: str) -> list[Any]:
    """Return the detections of each picture, in the picture or in the network's input."""
    import cv2

    import edgebone
    from edgebone.core.geometry import Geometry
    from edgebone.decode.registry import make_decoders

    # What needs no suppression is not suppressed by ultralytics either.
    iou = None if DECODERS[name] == "yolo-end2end-seg" else IOU
    with edgebone.load(bundle, engine="onnxruntime", score=SCORE, iou=iou) as model:
        if retina:
            return [model(path) for path in pictures]
        size_hw = model.manifest.preprocess.size_hw
        (decode,) = make_decoders(model.manifest, score=SCORE, iou=iou).values()
        (head,) = model.manifest.heads.values()
        whole = Geometry(size_hw, size_hw, (1.0, 1.0), (0.0, 0.0))
        outputs = [model.run(model.prepare([cv2.imread(str(path))])).network for path in pictures]
        return [decode([one[item][0] for item in head.outputs], whole) for one in outputs]


def ious(theirs: list[tuple[np.ndarray, np.ndarray]], ours: list[Any]) -> tuple[list[float], int, int]:
    """Return the best IoU of each of their masks with one of ours of the same class and score, and both counts."""
    best: list[float] = []
    for (boxes, masks), found in zip(theirs, ours, strict=True):
        mine = found.mask.full()
        for box, mask in zip(boxes, masks, strict=True):
            same = (np.abs(found.confidence - box[4]) <= 1e-3) & (found.class_id == box[5])
            pairs = [float((mask & own).sum() / max((mask | own).sum(), 1)) for own in mine[same]]
            best.append(max(pairs, default=0.0))
    return best, sum(len(boxes) for boxes, _ in theirs), sum(map(len, ours))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", metavar="ULTRALYTICS_PYTHON")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("models", nargs="*", default=[*DECODERS], metavar="MODEL")
    args = parser.parse_args()
    from edgebone.sources.folders import pictures_in
    from edgebone_export.importers.importer import HeadSpec, import_onnx

    files = pictures_in(args.pictures.resolve())
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            onnx, bundle = Path(folder, f"{name}.onnx"), Path(folder, f"{name}.bundle")

            def ask(*arguments: object) -> None:
                command = [args.python, __file__, "--worker", *map(str, arguments)]
                subprocess.run(command, check=True, capture_output=True, cwd=folder)

            ask("make", name, onnx, args.pictures.resolve())
            import_onnx(onnx, bundle, heads=HeadSpec(DECODERS[name]), samples=args.pictures)
            for retina in (False, True):
                target = Path(folder, f"{name}-{retina}")
                target.mkdir()
                ask("predict", onnx, args.pictures.resolve(), int(retina), target)
                theirs = []
                for path in files:
                    with np.load(target / f"{path.stem}.npz") as saved:
                        shape = tuple(saved["shape"])
                        masks = np.unpackbits(saved["masks"], count=int(np.prod(shape))).reshape(shape).astype(bool)
                        theirs.append((saved["boxes"], masks))
                best, had, have = ious(theirs, found_by_us(bundle, files, retina, name))
                share = 100 * float(np.mean(np.array(best) >= SAME_IOU))
                where = "picture" if retina else "network"
                print(
                    f"{name}, {where}'s size: {had} masks of ultralytics, {have} of edgebone in {len(files)} pictures; "
                    f"IoU {SAME_IOU} or more: {share:.2f} %; mean {np.mean(best):.4f}",
                    flush=True,
                )


if __name__ == "__main__":
    if sys.argv[1:3] == ["--worker", "make"]:
        make(sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]))
    elif sys.argv[1:2] == ["--worker"]:
        predict(Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5] == "1", Path(sys.argv[6]))
    else:
        main()
