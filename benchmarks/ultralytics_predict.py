"""Compare boxes and frames per second of the same ONNX file in `ultralytics predict` and in edgebone.

Usage: python benchmarks/ultralytics_predict.py ULTRALYTICS_PYTHON PICTURES VIDEO [MODEL...] [--json FILE]

ULTRALYTICS_PYTHON is the Python of an environment with ultralytics, onnx and onnxruntime, which is not edgebone's:
ultralytics is AGPL-3.0. It builds each model with random weights, rescaled to produce varied boxes, and exports the
ONNX itself. Frames per second are end to end, from the video file to boxes in picture pixels, one process per side, in
turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MODELS = ("yolo11n", "yolov8n", "yolo26n")
SCORE, IOU, MOST, TURNS = 0.25, 0.7, 300, 3
DECODERS = {"yolo26n": "yolo-end2end"}


# --- in ultralytics' environment


def make(name: str, onnx: Path, folder: Path) -> None:
    """Build a model from its description, rescale its random weights, and let ultralytics export it."""
    import cv2
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml")
    network = model.model
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        layer.momentum = None
        layer.reset_running_stats()
    head = network.model[-1]
    # Pictures, not noise: a random network's response to noise says nothing about its signals in pictures.
    images = [cv2.resize(cv2.imread(str(path)), (640, 640)) for path in sorted(folder.glob("*.jpg"))[:8]]
    pictures = torch.from_numpy(np.stack(images)[..., ::-1].transpose(0, 3, 1, 2).copy()).float() / 255
    with torch.no_grad():
        network.train()
        network(pictures)
        network.eval()
        for layer in norms:
            layer.momentum = 0.03
        for boxes, classes in (("cv2", "cv3"), ("one2one_cv2", "one2one_cv3")):
            if hasattr(head, boxes):
                for level in getattr(head, boxes):
                    spread(network, level[-1], 0.5, pictures)
                    if level[-1].out_channels == 4:
                        # YOLO26 regresses the distances to the sides themselves, which are positive.
                        level[-1].bias += 3.0
                for level in getattr(head, classes):
                    spread(network, level[-1], 0.3, pictures)
                lower(network, [level[-1] for level in getattr(head, classes)], pictures)
        # A classifier's scores, keypoints and angles.
        last = [level[-1] for level in getattr(head, "cv4", ()) if hasattr(level, "2")]
        for layer in [*last, *([head.linear] if hasattr(head, "linear") else [])]:
            spread(network, layer, 0.5, pictures)
    path = Path(str(onnx.with_suffix(".pt")))
    model.save(str(path))
    made = Path(YOLO(str(path)).export(format="onnx", imgsz=640, opset=17, simplify=False, nms=False))
    made.rename(onnx)


def spread(network: Any, layer: Any, std: float, pictures: Any) -> None:
    seen: list[Any] = []
    hook = layer.register_forward_hook(lambda _, __, given: seen.append(given))
    network(pictures)
    hook.remove()
    factor = std / float(seen[0].std())
    layer.weight *= factor
    layer.bias *= factor
    layer.bias -= float(seen[0].mean()) * factor


def lower(network: Any, layers: list[Any], pictures: Any) -> None:
    """Shift scores so that no picture has more than 200 boxes above the threshold, the most for a list."""
    import torch

    seen: list[Any] = []
    hooks = [layer.register_forward_hook(lambda _, __, given: seen.append(given.flatten(1))) for layer in layers]
    network(pictures)
    for hook in hooks:
        hook.remove()
    highest = torch.cat(seen, dim=1).topk(200, dim=1).values[:, -1].max()
    for layer in layers:
        layer.bias += float(np.log(SCORE / (1 - SCORE))) - float(highest)


def predict(onnx: Path, source: Path) -> Iterator[list[list[float]]]:
    from ultralytics import YOLO

    settings = {"conf": SCORE, "iou": IOU, "max_det": MOST, "imgsz": 640, "device": "cpu", "verbose": False}
    for result in YOLO(str(onnx), task="detect").predict(str(source), stream=True, **settings):
        yield result.boxes.data.cpu().numpy().tolist()


def worker(arguments: list[str]) -> None:
    if arguments[0] == "make":
        make(arguments[1], Path(arguments[2]), Path(arguments[3]))
    elif arguments[0] == "openvino":
        from ultralytics import YOLO

        print(YOLO(arguments[1]).export(format="openvino", imgsz=640))
    elif arguments[0] == "boxes":
        Path(arguments[3]).write_text(json.dumps(list(predict(Path(arguments[1]), Path(arguments[2])))))
    else:
        print_fps(len(boxes) for boxes in predict(Path(arguments[1]), Path(arguments[2])))


def print_fps(frames: Iterator[int]) -> None:
    """Print the rate from the first result on, without loading."""
    next(frames)
    started = time.perf_counter()
    count = sum(1 for _ in frames)
    print(json.dumps(count / (time.perf_counter() - started)))


# --- in edgebone's environment


def serve(bundle: str, engine: str, precision: str, video: str, hint: str = "latency") -> None:
    import edgebone

    with edgebone.load(bundle, engine=engine, precision=precision, hint=hint) as model:
        print_fps(len(result) for _, result in model.stream(video))


def shares(theirs: list[np.ndarray], ours: list[np.ndarray]) -> tuple[float, float]:
    """Return the share of boxes that the other side has: the same class, an IoU of 0.99, a score within 0.001."""
    from edgebone.core.boxes import iou_matrix

    found = np.zeros(2)
    # A random YOLO26 also returns boxes with left beyond right; edgebone shows none of those.
    theirs = [boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])] for boxes in theirs]
    for a, b in zip(theirs, ours, strict=True):
        same = iou_matrix(a[:, :4], b[:, :4]) >= 0.99
        same &= np.abs(a[:, None, 4] - b[None, :, 4]) <= 1e-3
        same &= a[:, None, 5] == b[None, :, 5]
        found += (same.any(axis=1).sum(), same.any(axis=0).sum())
    return float(found[0] / max(sum(map(len, theirs)), 1)), float(found[1] / max(sum(map(len, ours)), 1))


def measure(name: str, python: str, pictures: Path, video: Path, work: Path) -> dict[str, Any]:
    import edgebone
    from edgebone.sources.folders import pictures_in
    from edgebone_export.importers.importer import HeadSpec, import_onnx

    def ask(*arguments: object) -> str:
        command = [python, __file__, "--worker", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=work).stdout

    onnx, bundle, found = work / f"{name}.onnx", work / f"{name}.bundle", work / f"{name}.json"
    ask("make", name, onnx, pictures)
    import_onnx(onnx, bundle, heads=HeadSpec(DECODERS.get(name, "yolov8")), samples=pictures)
    ask("boxes", onnx, pictures, found)
    theirs = [np.array(boxes, np.float64).reshape(-1, 6) for boxes in json.loads(found.read_text())]
    files = pictures_in(pictures)
    engines = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
    matched = {}
    for engine, precision in engines[:2]:
        # Outputs that need no suppression are not suppressed by ultralytics either.
        iou = None if name in DECODERS else IOU
        with edgebone.load(bundle, engine=engine, precision=precision, score=SCORE, iou=iou) as model:
            results = [model(path) for path in files]
        ours = [np.column_stack([item.xyxy, item.confidence, item.class_id]) for item in results]
        matched[engine] = shares(theirs, ours)
    fps: dict[str, list[float]] = {}
    for _ in range(TURNS):
        fps.setdefault("ultralytics", []).append(float(ask("fps", onnx, video).strip().splitlines()[-1]))
        for engine, precision in engines:
            command = [sys.executable, __file__, "--serve", str(bundle), engine, precision, str(video)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            fps.setdefault(f"{engine} {precision}", []).append(float(done.stdout))
    base = fps["ultralytics"]
    return {
        "model": name,
        "boxes": sum(map(len, theirs)),
        "pictures": len(files),
        "matched": matched,
        "fps": {key: round(statistics.median(values), 1) for key, values in fps.items()},
        "ratio": {
            key: round(statistics.median(a / b for a, b in zip(values, base, strict=True)), 2)
            for key, values in fps.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", metavar="ULTRALYTICS_PYTHON")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import msgspec

    from edgebone.engines.table import this_machine

    machine = this_machine()
    print(machine)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models:
            row = measure(name, args.python, args.pictures.resolve(), args.video.resolve(), Path(folder))
            listed = ", ".join(f"{key} {100 * min(value):.2f} %" for key, value in row["matched"].items())
            print(f"{name}: {row['boxes']} boxes in {row['pictures']} pictures; matched: {listed}")
            print(f"  frames per second: {row['fps']}; relative to ultralytics: {row['ratio']}", flush=True)
            rows.append(row)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2:])
    elif sys.argv[1:2] == ["--serve"]:
        serve(*sys.argv[2:])
    else:
        main()
