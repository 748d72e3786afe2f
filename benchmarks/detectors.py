"""Compare boxes and speed of exported torchvision detectors, with random weights, with torchvision's own.

Usage: python benchmarks/detectors.py PICTURES [DETECTOR...] [--json FILE]

Boxes are compared on the same network inputs: torchvision's own eager detector with the bundle's graph on each engine,
decoded as in the runtime. Milliseconds are for one network input, without reading files: eager torchvision (which
suppresses boxes itself), the graph with the runtime's decoding, and the output of torch's old TorchScript exporter
(with NonMaxSuppression and RoiAlign) in onnxruntime. All sides take turns in one run.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import torch
from tensorrt_rtx_build import build
from torch.utils.flop_counter import FlopCounterMode

import edgebone
from edgebone.core.boxes import iou_matrix
from edgebone.core.geometry import Geometry
from edgebone.engines.table import this_machine
from edgebone.preprocess import preprocess
from edgebone.sources import open_source
from edgebone_export import export
from edgebone_export.models.contract import Backbone, ModelRequest
from edgebone_export.models.detectors.torchvision_detectors import library_boxes, names
from edgebone_export.models.registry import load_backbone
from edgebone_export.proof.verify import normalize

ENGINES = ("onnxruntime", "openvino")
TURNS = 5


def read_inputs(backbone: Backbone, folder: Path, count: int) -> np.ndarray:
    source = open_source(folder)
    inputs = []
    while len(inputs) < count and (frame := source.read()) is not None:
        inputs.append(np.zeros((*backbone.preprocess.size_hw, 3), np.uint8))
        preprocess(backbone.preprocess, frame.image, inputs[-1])
    source.close()
    return np.stack(inputs)


def some_of(folder: Path, target: Path) -> Path:
    """Return two of the pictures for the export's own verification: the comparison here uses all of them."""
    target.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir())[:2]:
        shutil.copy(path, target / path.name)
    return target


def found_in(boxes: np.ndarray, others: np.ndarray) -> int:
    """Return the number of boxes that the others have too: the same class, an IoU of 0.99, a score within 0.001."""
    if not len(boxes) or not len(others):
        return 0
    same = iou_matrix(boxes[:, :4], others[:, :4]) >= 0.99
    same &= np.abs(boxes[:, None, 4] - others[None, :, 4]) <= 1e-3
    same &= boxes[:, None, 5] == others[None, :, 5]
    return int(same.any(axis=1).sum())


def with_area(boxes: np.ndarray) -> np.ndarray:
    return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]


class Counts:
    """Number of boxes of both sides, and of those that the other side has."""

    def __init__(self) -> None:
        self.theirs = self.theirs_found = self.ours = self.ours_found = 0

    def add(self, theirs: np.ndarray, ours: np.ndarray, most: int) -> None:
        if len(theirs) >= most:
            # A full list: boxes as good as its last one may be missing from the other because of rounding.
            lowest = theirs[:, 4].min() + 1e-3
            ours, theirs = ours[ours[:, 4] >= lowest], theirs[theirs[:, 4] >= lowest]
        theirs = with_area(theirs)
        self.theirs += len(theirs)
        self.ours += len(ours)
        self.theirs_found += found_in(theirs, ours)
        self.ours_found += found_in(ours, theirs)

    def shares(self) -> tuple[float, float]:
        return self.theirs_found / max(self.theirs, 1), self.ours_found / max(self.ours, 1)


def old_export(backbone: Backbone, path: Path) -> Callable[[torch.Tensor], object] | str:
    """Return a session of the TorchScript exporter's output, or the reason for having none."""
    image = torch.rand(3, *backbone.preprocess.size_hw)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(backbone.library_detector, ([image],), str(path), dynamo=False, opset_version=17)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:100]}"
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image.numpy()})


def flops(call: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def measure(name: str, folder: Path, count: int, size_hw: tuple[int, int] | None, work: Path) -> dict[str, Any]:
    bundle = work / f"{name}.bundle"
    if name.startswith("ssd") or "_320_" in name:
        size_hw = None
    report = export(name, bundle, weights="random", size_hw=size_hw, samples=some_of(folder, work / "samples"))
    backbone = load_backbone(ModelRequest(name, weights="random", size_hw=size_hw))
    detector = backbone.library_detector
    assert detector is not None
    size_hw = backbone.preprocess.size_hw
    whole = Geometry(size_hw, size_hw, (1.0, 1.0), (0.0, 0.0))
    inputs = read_inputs(backbone, folder, count)
    images = torch.from_numpy(normalize(backbone.preprocess, inputs))
    most = int(report.manifest.heads["detections"].params["max_detections"])
    models = {engine: edgebone.load(bundle, engine=engine) for engine in ENGINES}

    def detect(engine: str, one: np.ndarray) -> np.ndarray:
        model = models[engine]
        (result,) = model.answers([whole], model.run(model.prepare([], one)))
        return np.column_stack([result.xyxy, result.confidence, result.class_id])

    counts = {engine: Counts() for engine in ENGINES}
    for image, one in zip(images, inputs, strict=True):
        theirs = library_boxes(detector, image[None])[0].numpy()
        for engine in ENGINES:
            counts[engine].add(theirs, detect(engine, one[None]), most)
    old = old_export(backbone, work / f"{name}_old.onnx")
    # The TorchScript export includes torchvision's own resizing; its input is a picture of the canvas' size.
    pixel = torch.from_numpy(np.ascontiguousarray(inputs[0].transpose(2, 0, 1))).float() / 255
    calls: dict[str, Callable[[], object]] = {"eager": lambda: library_boxes(detector, images[:1])}
    calls |= {engine: lambda engine=engine: detect(engine, inputs[:1]) for engine in ENGINES}
    if not isinstance(old, str):
        calls["old export"] = lambda: old(pixel)
    times: dict[str, list[float]] = {key: [] for key in calls}
    for turn in range(TURNS + 1):
        for key, call in calls.items():
            started = time.perf_counter()
            call()
            if turn:
                times[key].append(1e3 * (time.perf_counter() - started))
    built = compiled(bundle / report.manifest.variants["fp32"].file)
    with torch.inference_mode():
        ours_gflop = flops(lambda: backbone.module(images[:1]))
    row = {
        "detector": name,
        "size_hw": size_hw,
        "pictures": len(inputs),
        "boxes": counts["onnxruntime"].theirs,
        "matched": {engine: counts[engine].shares() for engine in ENGINES},
        "ms": {key: round(statistics.median(values), 1) for key, values in times.items()},
        "old_export": old if isinstance(old, str) else "runs",
        "tensorrt_rtx": built,
        "gflop": {"eager": round(flops(calls["eager"]), 2), "static": round(ours_gflop, 2)},
        "export_seconds": report.seconds,
    }
    for model in models.values():
        model.close()
    return row


def compiled(path: Path) -> str:
    built = build(str(path))
    return f"built in {built.seconds:.1f} s, {built.size_bytes / 1e6:.1f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("detectors", nargs="*", metavar="DETECTOR")
    parser.add_argument("--count", type=int, default=20, help="number of pictures")
    parser.add_argument("--size", help="WIDTHxHEIGHT of detectors without a fixed size; default their own")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    size_hw = None
    if args.size:
        width, height = map(int, args.size.split("x"))
        size_hw = (height, width)
    machine = this_machine()
    print(machine)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.detectors or names():
            row = measure(name, args.pictures, args.count, size_hw, Path(folder))
            shares = ", ".join(f"{key} {100 * min(value):.2f} %" for key, value in row["matched"].items())
            print(f"{name} {row['size_hw'][1]}x{row['size_hw'][0]}: {row['boxes']} boxes; matched: {shares}")
            print(f"  ms: {row['ms']}; old export {row['old_export']}; TensorRT-RTX {row['tensorrt_rtx']}")
            print(f"  GFLOP: {row['gflop']}; export {row['export_seconds']:.0f} s", flush=True)
            rows.append(row)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    main()
