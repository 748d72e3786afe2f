"""Measure decoding per frame on one core: 300 boxes of 80 classes decoded in the graph, and the host's decoders.

Usage: python benchmarks/decode_cost.py [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import cv2
import msgspec
import numpy as np

from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.engines.table import this_machine

CLASSES, K, RUNS = 80, 300, 2000
SIZE_HW = (640, 640)
CAMERA = Geometry((1080, 1920), SIZE_HW, (1 / 3, 1 / 3), (0.0, 140.0))


def random_boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return boxes as a detector returns them before suppression: several on each object."""
    things = rng.uniform(40, 600, (n // 6 + 1, 2)).repeat(6, axis=0)[:n]
    centers = things + rng.normal(0, 6, (n, 2))
    return np.concatenate([centers, rng.uniform(20, 160, (n, 2))], axis=1).astype(np.float32)


def rows_in_graph(rng: np.random.Generator, shown: float) -> np.ndarray:
    boxes = random_boxes(rng, K)
    scores = np.sort(rng.random(K).astype(np.float32))[::-1] * 0.5 + 0.5 * shown
    xyxy = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    classes = rng.integers(0, CLASSES, K // 6 + 1).repeat(6)[:K]
    return np.column_stack([xyxy, scores, classes]).astype(np.float32)


def raw_rows(rng: np.random.Generator, decoder: str) -> np.ndarray:
    """Return a whole grid, in which three cells of a hundred contain an object."""
    cells = 8400
    scores = (rng.random((cells, CLASSES)) * 0.1).astype(np.float32)
    full = rng.choice(cells, K, replace=False)
    scores[full, rng.integers(0, CLASSES, K)] = rng.uniform(0.3, 0.9, K)
    boxes = random_boxes(rng, cells)
    if decoder == "yolov8@1":
        return np.ascontiguousarray(np.concatenate([boxes, scores], axis=1).T)
    objectness = np.full((cells, 1), 0.02, np.float32)
    objectness[full] = 1.0
    boxes[:, 2:] = np.log(boxes[:, 2:] / 16)
    return np.concatenate([boxes / 640, objectness, scores], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    labels = tuple(map(str, range(CLASSES)))
    cases = {
        "graph, all 300 boxes above the threshold": ("boxes@1", rows_in_graph(rng, 1.0)),
        "graph, half of them": ("boxes@1", rows_in_graph(rng, 0.0)),
        "host, yolov8@1": ("yolov8@1", raw_rows(rng, "yolov8@1")),
        "host, yolox@1": ("yolox@1", raw_rows(rng, "yolox@1")),
    }
    machine = this_machine()
    print(machine)
    rows = []
    for name, (decoder, tensor) in cases.items():
        spec = TensorSpec("out", "float32", ("batch", *tensor.shape))
        decode = make_decoder("d", Head(decoder, ("out",), labels, {"score": 0.25, "iou": 0.65}), [spec], SIZE_HW)
        times = []
        for _ in range(RUNS // (1 if decoder == "boxes@1" else 10)):
            started = time.perf_counter()
            result = decode([tensor], CAMERA)
            times.append(1e3 * (time.perf_counter() - started))
        p50, p99 = statistics.median(times), float(np.percentile(times, 99))
        print(f"{name:42} p50 {p50:.3f} ms, p99 {p99:.3f} ms, {len(result)} boxes left")  # type: ignore[arg-type]
        rows.append({"case": name, "p50_ms": round(p50, 4), "p99_ms": round(p99, 4)})
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    main()
