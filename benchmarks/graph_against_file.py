"""Compare a bundle's graph with the ONNX file that it was imported from: the engine alone, in turns.

Usage: python benchmarks/graph_against_file.py FILE.onnx=BUNDLE... [--turns N] [--json FILE]

Each side runs on one core, on an input of its own kind: floats for the file, bytes for the bundle, whose graph also
normalises them, and chooses and decodes the boxes. Times are processor times, so that other programs matter as little
as possible; the fastest of all turns is the time of the work itself.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import openvino

from edgebone.core.bundle import open_bundle
from edgebone.engines.table import this_machine

ENGINES = (("onnxruntime", "fp32"), ("openvino", "f32"), ("openvino", "bf16"))
RUNS_A_TURN = 2


def runner(engine: str, precision: str, graph: bytes) -> Callable[[], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in wanted.shape]
    rng = np.random.default_rng(0)
    as_bytes = "uint8" in wanted.type
    feed = rng.integers(0, 256, shape, np.uint8) if as_bytes else rng.random(shape, dtype=np.float32)
    if engine == "onnxruntime":
        return lambda: session.run(None, {wanted.name: feed})
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    core = openvino.Core()
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    return lambda: request.infer({0: feed})


def core_ms(run: Callable[[], Any]) -> float:
    started = time.process_time()
    for _ in range(RUNS_A_TURN):
        run()
    return 1000 * (time.process_time() - started) / RUNS_A_TURN


def compare(file: Path, bundle: str, engine: str, precision: str, turns: int) -> dict[str, Any]:
    with open_bundle(bundle) as opened:
        graph = opened.read(opened.manifest.variants["fp32"].file)
    sides = {"file": runner(engine, precision, file.read_bytes()), "bundle": runner(engine, precision, graph)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        core_ms(run)
    for number in range(turns):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            times[name].append(core_ms(sides[name]))
    ratios = [ours / theirs for ours, theirs in zip(times["bundle"], times["file"], strict=True)]
    return {
        "file": file.name,
        "engine": f"{engine} {precision}",
        "file_core_ms": round(min(times["file"]), 2),
        "bundle_core_ms": round(min(times["bundle"]), 2),
        "ratio_of_fastest": round(min(times["bundle"]) / min(times["file"]), 3),
        "median_ratio": round(statistics.median(ratios), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="FILE.onnx=BUNDLE")
    parser.add_argument("--turns", type=int, default=25)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    print(f"{machine}; {machine.packages}")
    print(f"{'file':24} {'engine':16} {'file':>9} {'bundle':>9} {'ratio':>7} {'median':>7}  core-ms, one core")
    rows = []
    for pair in args.pairs:
        file, _, bundle = pair.rpartition("=")
        for engine, precision in ENGINES:
            rows.append(compare(Path(file), bundle, engine, precision, args.turns))
            row = rows[-1]
            print(
                f"{row['file']:24} {row['engine']:16} {row['file_core_ms']:9.2f} {row['bundle_core_ms']:9.2f} "
                f"{row['ratio_of_fastest']:7.3f} {row['median_ratio']:7.3f}",
                flush=True,
            )
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    main()
