"""Measure a video through a detector, including decoding, relative to the engine alone and to its peers.

Usage: python benchmarks/video_throughput.py ULTRALYTICS_PYTHON VIDEO [--pictures DIR] [--yolox ONNX] [--json FILE]

ULTRALYTICS_PYTHON is the Python of an environment with ultralytics, onnx, onnxruntime and openvino. YOLO11n comes from
there, with rescaled random weights (see ultralytics_predict.py). All sides run in turns, one process each; the ratio is
the median of the turns' ratios. "engine alone" is the same engine that the stream uses, with as many runs in flight as
in the stream, on a prepared input. Core-milliseconds are processor time per frame.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import ultralytics_predict

TURNS = 3
# Both sides' runs over a video come from that script.
PREDICT = ultralytics_predict.__file__


def alone(bundle: str, engine: str, precision: str, hint: str, video: str) -> None:
    """Measure the engine on a prepared input with the stream's runs in flight, and processor time by step."""
    import edgebone
    from edgebone.sources import open_source

    with edgebone.load(bundle, engine=engine, precision=precision, hint=hint) as model:
        source = open_source(video)
        frames = []
        began = time.process_time()
        while (frame := source.read()) is not None:
            frames.append(frame)
        count = len(frames)
        spent = {"video decoding": (time.process_time() - began) * 1000 / count}
        buffer = model.new_buffer()
        began = time.process_time()
        for frame in frames:
            prepared = model.prepare([frame.image], buffer)
        spent["preprocessing"] = (time.process_time() - began) * 1000 / count
        for _ in range(10):
            ran = model.run(prepared)
        depth = max(2, model.engine.in_flight)
        inputs = [model.prepare([], buffer.copy()) for _ in range(depth)]
        under_way: deque[Any] = deque()
        began, began_s = time.process_time(), time.perf_counter()
        for number in range(count):
            if len(under_way) == depth:
                under_way.popleft().result()
            under_way.append(model.start(inputs[number % depth]))
        while under_way:
            under_way.popleft().result()
        fps = count / (time.perf_counter() - began_s)
        spent["engine"] = (time.process_time() - began) * 1000 / count
        began = time.process_time()
        for _ in frames:
            model.answers(prepared.geometries, ran)
        spent["decoding results"] = (time.process_time() - began) * 1000 / count
        began = time.process_time()
        total = sum(1 for _ in model.stream(video))
        spent["stream in all"] = (time.process_time() - began) * 1000 / total
        print(json.dumps({"fps": fps, "core_ms": {name: round(value, 2) for name, value in spent.items()}}))


def ask(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done.stdout.strip().splitlines()[-1]


def measure(name: str, bundle: Path, peers: dict[str, list[str]], video: Path, work: Path) -> dict[str, Any]:
    fps: dict[str, list[float]] = {}
    core_ms: dict[str, dict[str, float]] = {}
    ours = [("openvino", p, h) for p in ("bf16", "fp32") for h in ("latency", "throughput")]
    for _ in range(TURNS):
        for way in ours:
            label = " ".join(way)
            found = json.loads(ask([sys.executable, __file__, "--alone", str(bundle), *way, str(video)], work))
            fps.setdefault(f"engine alone, {label}", []).append(found["fps"])
            core_ms[label] = found["core_ms"]
            engine, precision, hint = way
            command = [sys.executable, PREDICT, "--serve", str(bundle), engine, precision, str(video), hint]
            fps.setdefault(label, []).append(float(ask(command, work)))
        for peer, command in peers.items():
            fps.setdefault(peer, []).append(float(ask(command, work)))

    def ratio(a: str, b: str) -> float:
        return round(statistics.median(x / y for x, y in zip(fps[a], fps[b], strict=True)), 3)

    best = max((" ".join(way) for way in ours), key=lambda label: statistics.median(fps[label]))
    return {
        "model": name,
        "fps": {key: round(statistics.median(values), 1) for key, values in fps.items()},
        "of_the_engine_alone": {" ".join(w): ratio(" ".join(w), f"engine alone, {' '.join(w)}") for w in ours},
        "best": best,
        "best_over_peers": {peer: ratio(best, peer) for peer in peers},
        "core_ms": core_ms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", metavar="ULTRALYTICS_PYTHON")
    parser.add_argument("video", type=Path)
    parser.add_argument("--pictures", type=Path, required=True, help="Pictures for rescaling YOLO11n's random weights.")
    parser.add_argument("--yolox", type=Path, help="YOLOX-nano's ONNX file.")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import msgspec

    from edgebone.engines.table import this_machine
    from edgebone_export.importers.conventions import find_labels
    from edgebone_export.importers.importer import HeadSpec, import_onnx

    machine = this_machine()
    print(machine)
    video, pictures = args.video.resolve(), args.pictures.resolve()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        onnx, bundle = work / "yolo11n.onnx", work / "yolo11n.bundle"
        subprocess.run(
            [args.python, PREDICT, "--worker", "make", "yolo11n", str(onnx), str(pictures)],
            check=True, capture_output=True, cwd=work,
        )  # fmt: skip
        exported = ask([args.python, PREDICT, "--worker", "openvino", str(onnx.with_suffix(".pt"))], work)
        import_onnx(onnx, bundle, heads=HeadSpec("yolov8"), samples=pictures)
        predict = [args.python, PREDICT, "--worker", "fps"]
        peers = {
            "ultralytics, openvino": [*predict, exported, str(video)],
            "ultralytics, onnx": [*predict, str(onnx), str(video)],
        }
        rows.append(measure("yolo11n 640", bundle, peers, video, work))
        print(json.dumps(rows[-1], indent=1), flush=True)
        if args.yolox:
            nano = work / "yolox.bundle"
            import_onnx(args.yolox, nano, heads=HeadSpec("yolox", labels=find_labels("coco")), preprocess="yolox")
            rows.append(measure("yolox_nano 416", nano, {}, video, work))
            print(json.dumps(rows[-1], indent=1))
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        alone(*sys.argv[2:])
    else:
        main()
