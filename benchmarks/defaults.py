"""Compare edgebone with nothing set with `ultralytics predict` with nothing set, on the same ONNX files.

Usage: python benchmarks/defaults.py ULTRALYTICS_PYTHON PICTURES VIDEO [--yolov8 FILE SIZE] [--turns N] [--json FILE]

YOLO11n (random weights, rescaled by ultralytics_predict.py) and a YOLOv8 file with real weights run on the video;
MobileNetV2 and ResNet-50 (random weights) classify the pictures. Rates are end to end, from the file to results,
without loading. One process per side and turn, in turns; a ratio is the median of the turns' ratios, with their range.
`edgebone run` loads a bundle for files with `offline=True`, as here. "tuned" is the plan that
`edgebone tune --goal throughput` measured beforehand.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ultralytics_predict
from ultralytics_predict import print_fps

PREDICT = ultralytics_predict.__file__
CLASSIFIERS = ("mobilenet_v2", "resnet50")


def ours(bundle: str, engine: str, precision: str, source: str) -> None:
    import edgebone

    with edgebone.load(bundle, engine=engine, precision=precision or None, offline=True) as model:
        print(json.dumps(f"{model.engine.name} {model.engine.precision}, {model.candidate.hint}"))
        print_fps(1 for _ in model.stream(source))


def theirs(model: str, task: str, size: str, source: str) -> None:
    """Run in ultralytics' environment."""
    from ultralytics import YOLO

    found = YOLO(model, task=task).predict(source, stream=True, imgsz=int(size), device="cpu", verbose=False)
    print_fps(1 for _ in found)


def ask(command: list[str], work: Path) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, cwd=work, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done.stdout.strip().splitlines()


def in_turns(sides: dict[str, list[str]], turns: int, work: Path) -> dict[str, Any]:
    fps: dict[str, list[float]] = {}
    chosen = {}
    for turn in range(turns):
        for name, command in sorted(sides.items(), key=lambda side: side[0], reverse=bool(turn % 2)):
            *said, rate = ask(command, work)
            fps.setdefault(name, []).append(float(rate))
            if name.startswith("edgebone"):
                chosen[name] = json.loads(said[-1])
    ratios = {}
    for peer in (name for name in sides if name.startswith("ultralytics")):
        for name in (name for name in sides if name.startswith("edgebone")):
            each = [a / b for a, b in zip(fps[name], fps[peer], strict=True)]
            ratios[f"{name} / {peer}"] = [round(f(each), 2) for f in (statistics.median, min, max)]
    rates = {name: round(statistics.median(each), 1) for name, each in fps.items()}
    return {"fps": rates, "ratios": ratios, "chosen": chosen}


def classifier(name: str, onnx: Path) -> None:
    import torch
    import torchvision

    network = torchvision.models.get_model(name, weights=None).eval()
    torch.onnx.export(network, (torch.zeros(1, 3, 224, 224),), str(onnx), dynamo=False, input_names=["images"])


def classes_of(onnx: Path) -> int:
    import onnxruntime

    return int(onnxruntime.InferenceSession(onnx).get_outputs()[0].shape[1]) - 4


def edgebone_side(bundle: Path, source: Path, engine: str = "auto", precision: str = "") -> list[str]:
    return [sys.executable, __file__, "--ours", str(bundle), engine, precision, str(source)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", metavar="ULTRALYTICS_PYTHON")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--yolov8", nargs=2, metavar=("FILE", "SIZE"))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import msgspec

    from edgebone.engines.table import this_machine
    from edgebone_export.importers.conventions import find_labels
    from edgebone_export.importers.importer import HeadSpec, import_onnx

    machine = this_machine()
    print(machine)
    video, pictures = args.video.resolve(), args.pictures.resolve()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)

        def peer(model: object, task: str, size: int, source: Path) -> list[str]:
            return [args.python, __file__, "--theirs", str(model), task, str(size), str(source)]

        def tuned(bundle: Path) -> Path:
            copy = bundle.with_suffix(".tuned.bundle")
            subprocess.run(["cp", "-r", str(bundle), str(copy)], check=True)
            command = [sys.executable, "-m", "edgebone", "tune", str(copy), "--eval", str(pictures)]
            command += ["--goal", "throughput"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            return copy

        def sides(bundle: Path, source: Path, *more: str) -> dict[str, list[str]]:
            return {
                "edgebone onnxruntime": edgebone_side(bundle, source, "onnxruntime"),
                "edgebone": edgebone_side(bundle, source),
                **{f"edgebone {precision}": edgebone_side(bundle, source, "openvino", precision) for precision in more},
                "edgebone tuned": edgebone_side(tuned(bundle), source),
            }

        def measure(name: str, every_side: dict[str, list[str]]) -> None:
            rows[name] = in_turns(every_side, args.turns, work)
            print(name, json.dumps(rows[name], indent=1), flush=True)

        for name in CLASSIFIERS:
            onnx, bundle = work / f"{name}.onnx", work / f"{name}.bundle"
            classifier(name, onnx)
            head = HeadSpec("classification", labels=find_labels("imagenet"), params={"activation": "softmax"})
            import_onnx(onnx, bundle, heads=head, preprocess="imagenet", samples=pictures)
            peers = {"ultralytics onnx": peer(onnx, "classify", 224, pictures)}
            measure(f"{name}, pictures", sides(bundle, pictures) | peers)
        if args.yolov8:
            onnx, bundle = Path(args.yolov8[0]).resolve(), work / "yolov8.bundle"
            labels = tuple(f"class {number}" for number in range(classes_of(onnx)))
            import_onnx(
                onnx, bundle, heads=HeadSpec("yolov8", labels=labels), preprocess="ultralytics", samples=pictures
            )
            peers = {"ultralytics onnx": peer(onnx, "detect", args.yolov8[1], video)}
            measure(f"{onnx.name}, video", sides(bundle, video) | peers)
        onnx, bundle = work / "yolo11n.onnx", work / "yolo11n.bundle"
        ask([args.python, PREDICT, "--worker", "make", "yolo11n", str(onnx), str(pictures)], work)
        exported = ask([args.python, PREDICT, "--worker", "openvino", str(onnx.with_suffix(".pt"))], work)[-1]
        import_onnx(onnx, bundle, heads=HeadSpec("yolov8"), samples=pictures)
        peers = {
            "ultralytics onnx": peer(onnx, "detect", 640, video),
            "ultralytics openvino": peer(work / exported, "detect", 640, video),
        }
        measure("yolo11n, video", sides(bundle, video, "bf16") | peers)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows}), indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(*sys.argv[2:])
    elif sys.argv[1:2] == ["--theirs"]:
        theirs(*sys.argv[2:])
    else:
        main()
