"""Compute YOLOX's average precision in a plain script that shares no code with edgebone, to check `edgebone eval`.

    python benchmarks/coco_reference.py yolox_nano.onnx coco128/instances.json

Preprocessing and decoding follow YOLOX's own demo (yolox/data/data_augment.py, preproc; yolox/utils/demo_utils.py).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from faster_coco_eval import COCO, COCOeval_faster

SCORE, IOU = 0.01, 0.65


def prepare(image: np.ndarray, size: int) -> tuple[np.ndarray, float]:
    ratio = min(size / image.shape[0], size / image.shape[1])
    small = cv2.resize(image, (int(image.shape[1] * ratio), int(image.shape[0] * ratio)))
    canvas = np.full((size, size, 3), 114, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas.transpose(2, 0, 1)[None].astype(np.float32), ratio


def decode(output: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    output = output.copy()
    at = 0
    for stride in (8, 16, 32):
        cells = size // stride
        xs, ys = np.meshgrid(np.arange(cells), np.arange(cells))
        grid = np.stack((xs, ys), 2).reshape(-1, 2)
        part = output[at : at + len(grid)]
        part[:, :2] = (part[:, :2] + grid) * stride
        part[:, 2:4] = np.exp(part[:, 2:4]) * stride
        at += len(grid)
    return output[:, :4], output[:, 4:5] * output[:, 5:]


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    return shared / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared)


def suppress(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    order, kept = list(np.argsort(-scores, kind="stable")), []
    while order:
        best, *order = order
        kept.append(int(best))
        if order:
            order = [order[i] for i in np.flatnonzero(overlaps(boxes[best], boxes[order]) <= IOU)]
    return kept


def detect(session: onnxruntime.InferenceSession, image: np.ndarray, size: int) -> list[tuple[np.ndarray, float, int]]:
    tensor, ratio = prepare(image, size)
    boxes, scores = decode(session.run(None, {"images": tensor})[0][0], size)
    centers, sizes = boxes[:, :2], boxes[:, 2:]
    corners = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1) / ratio
    best = scores.argmax(axis=1)
    found = []
    for class_id in np.unique(best):
        mine = np.flatnonzero((best == class_id) & (scores[np.arange(len(best)), best] > SCORE))
        kept = mine[suppress(corners[mine], scores[mine, class_id])]
        found += [(corners[index], float(scores[index, class_id]), int(class_id)) for index in kept]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="COCO's instances.json, with its pictures in images/ beside it")
    args = parser.parse_args()
    session = onnxruntime.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[2]
    content = json.loads(args.data.read_text())
    # YOLOX's classes are COCO's 80 in the order of their ids.
    category_ids = sorted(category["id"] for category in content["categories"])
    rows = []
    for item in content["images"]:
        image = cv2.imread(str(args.data.parent / "images" / item["file_name"]))
        for (x1, y1, x2, y2), score, class_id in detect(session, image, size):
            box = [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]
            row = {"image_id": item["id"], "category_id": category_ids[class_id], "bbox": box, "score": score}
            rows.append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(content)
        evaluation = COCOeval_faster(truth, truth.loadRes(rows), iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = evaluation.stats_as_dict
    record = {"AP": round(stats["AP_all"], 6), "AP50": round(stats["AP_50"], 6), "n": len(content["images"])}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
