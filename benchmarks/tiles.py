"""Measure the recall of small objects in large frames, with tiles and without.

Usage: python benchmarks/tiles.py DETECTOR.bundle COCO [--json FILE]

COCO is a folder with ``images`` and ``instances.json``. Its pictures are shrunk and put side by side, 6 by 4, into
frames of 1920 by 1080 pixels. An object is small if the root of its area is below 24 pixels of the frame, and found if
a box of its class overlaps it by half; each box finds one object. A box that finds none of any size is spurious.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import msgspec
import numpy as np

import edgebone
from edgebone.core.boxes import iou_matrix
from edgebone.core.detections import Detections
from edgebone.core.frame import Frame
from edgebone.engines.table import this_machine
from edgebone.pipeline import Tiles

COLUMNS, ROWS, CELL_HW = 6, 4, (270, 320)
SMALL_PX, LEAST_IOU = 24, 0.5
SIDES = {"the whole frame": None, "2x2": (2, 2), "3x2": (3, 2), "4x3": (4, 3), "6x4": (6, 4)}


def composed(folder: Path) -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Return frames, each with its boxes (n, 4) and their labels."""
    content = json.loads((folder / "instances.json").read_text())
    names = {item["id"]: item["name"] for item in content["categories"]}
    frames = []
    images = content["images"]
    for start in range(0, len(images), COLUMNS * ROWS):
        frame = np.full((ROWS * CELL_HW[0], COLUMNS * CELL_HW[1], 3), 114, np.uint8)
        boxes, labels = [], []
        for number, image in enumerate(images[start : start + COLUMNS * ROWS]):
            pixels = cv2.imread(str(folder / "images" / image["file_name"]))
            scale = min(CELL_HW[0] / pixels.shape[0], CELL_HW[1] / pixels.shape[1])
            small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            top, left = number // COLUMNS * CELL_HW[0], number % COLUMNS * CELL_HW[1]
            frame[top : top + small.shape[0], left : left + small.shape[1]] = small
            for item in content["annotations"]:
                if item["image_id"] == image["id"] and not item.get("iscrowd"):
                    x, y, width, height = np.array(item["bbox"]) * scale
                    boxes.append([left + x, top + y, left + x + width, top + y + height])
                    labels.append(names[item["category_id"]])
        frames.append((frame, np.array(boxes, np.float64), labels))
    return frames


def matched(found: Detections, boxes: np.ndarray, labels: list[str]) -> np.ndarray:
    """Return which objects are found, best box first."""
    seen = np.zeros(len(boxes), bool)
    overlap = iou_matrix(found.xyxy, boxes) * (np.array(found.labels)[:, None] == np.array(labels))
    for row in overlap:
        free = np.where(seen, 0, row)
        if free.max(initial=0) >= LEAST_IOU:
            seen[free.argmax()] = True
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("coco", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    frames = composed(args.coco)
    sizes = np.concatenate([np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) for _, boxes, _ in frames])
    small = sizes < SMALL_PX
    machine = this_machine()
    print(machine)
    print(f"{len(frames)} frames, {small.sum()} objects below {SMALL_PX} px, {(~small).sum()} larger")
    print("| tiles | recall below 24 px | recall above | spurious boxes | frames/s |\n| --- | --- | --- | --- | --- |")
    rows = []
    with edgebone.load(args.detector) as model:
        for side, grid in SIDES.items():
            step = None if grid is None else Tiles(*grid, overlap=0.2)
            seen, boxes_found, seconds = [], 0, 0.0
            for index, (image, boxes, labels) in enumerate([frames[0], *frames]):
                started = time.perf_counter()
                frame = Frame(image, index, 0, "composed")
                found = model(image) if step is None else step.look(frame, {}, model)[0]
                assert isinstance(found, Detections)
                if index:
                    # The first frame warms up.
                    seconds += time.perf_counter() - started
                    seen.append(matched(found, boxes, labels))
                    boxes_found += len(found)
            hit = np.concatenate(seen)
            row = {
                "tiles": side, "recall_small": float(hit[small].mean()), "recall_large": float(hit[~small].mean()),
                "spurious": boxes_found - int(hit.sum()), "fps": len(frames) / seconds,
            }  # fmt: skip
            rows.append(row)
            recalls = f"{100 * hit[small].mean():.1f} % | {100 * hit[~small].mean():.1f} %"
            print(f"| {side} | {recalls} | {row['spurious']} | {row['fps']:.1f} |")
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    main()
