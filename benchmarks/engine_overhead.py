"""Compare edgebone's engines with the bare libraries: the same graph, settings and input, in turns.

Usage: python benchmarks/engine_overhead.py BUNDLE... [--turns N] [--json FILE] [--plot FILE.png]
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

import edgebone
from edgebone.core.bundle import Bundle, open_bundle
from edgebone.engines.table import this_machine

TURN_S = 0.6
SETTLE = 0.15


def bare_onnxruntime(bundle: Bundle, feed: np.ndarray) -> Callable[[], Any]:
    """Return a run as a user of onnxruntime writes it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        bundle.read(next(iter(bundle.manifest.variants.values())).file), providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"images": feed})


def bare_openvino(bundle: Bundle, feed: np.ndarray, precision: str) -> Callable[[], Any]:
    """Return a run as a user of OpenVINO writes it."""
    import openvino

    core = openvino.Core()
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    graph = core.read_model(bundle.read(next(iter(bundle.manifest.variants.values())).file))
    request = core.compile_model(graph, "CPU", hints).create_infer_request()
    return lambda: request.infer({0: feed})[0].copy()


def turn(run: Callable[[], Any]) -> float:
    """Return runs per second, after the other side's spinning threads have gone to sleep."""
    settled = time.perf_counter() + SETTLE
    while time.perf_counter() < settled:
        run()
    started = time.perf_counter()
    runs = 0
    while time.perf_counter() - started < TURN_S:
        run()
        runs += 1
    return runs / (time.perf_counter() - started)


def compare(ours: Callable[[], Any], bare: Callable[[], Any], turns: int) -> dict[str, float]:
    """Return the median runs per second of both, and the median of the turns' ratios."""
    turn(ours), turn(bare)
    pairs = []
    for number in range(turns):
        # The order alternates, so that a drift of the machine's speed affects both equally.
        if number % 2:
            mine, theirs = turn(ours), turn(bare)
        else:
            theirs, mine = turn(bare), turn(ours)
        pairs.append((mine, theirs))
    ratios = sorted(mine / theirs for mine, theirs in pairs)
    return {
        "edgebone_fps": statistics.median(mine for mine, _ in pairs),
        "bare_fps": statistics.median(theirs for _, theirs in pairs),
        "ratio": statistics.median(ratios),
        "ratio_low": ratios[turns // 4],
        "ratio_high": ratios[-1 - turns // 4],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE")
    parser.add_argument("--turns", type=int, default=15, help="number of turns of each side")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    print(f"{machine}; {machine.packages}")
    print(f"{'bundle':28} {'engine':18} {'edgebone fps':>12} {'bare fps':>10} {'ratio':>7}  quartiles")
    rows = []
    for path in args.bundles:
        for engine, precision in (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")):
            with (
                open_bundle(path) as bundle,
                edgebone.load(path, engine=engine, precision=precision) as model,
            ):
                feed = np.random.default_rng(0).integers(0, 256, model.new_buffer().shape, np.uint8)
                bare = (
                    bare_onnxruntime(bundle, feed)
                    if engine == "onnxruntime"
                    else bare_openvino(bundle, feed, {"fp32": "f32"}.get(precision, precision))
                )
                prepared = model.prepare([], feed)
                row = compare(lambda: model.run(prepared), bare, args.turns)  # noqa: B023
            rows.append({"bundle": Path(path).name, "engine": f"{engine} {precision}", **row})
            print(
                f"{Path(path).name:28} {engine + ' ' + precision:18} {row['edgebone_fps']:12.1f} "
                f"{row['bare_fps']:10.1f} {row['ratio']:7.3f}  "
                f"{row['ratio_low']:.3f}-{row['ratio_high']:.3f}",
                flush=True,
            )
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))
    if args.plot:
        plot(rows, str(machine), args.plot)


def plot(rows: list[dict[str, Any]], machine: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rows) + 1.5), layout="constrained")
    names = [f"{row['bundle']}, {row['engine']}" for row in rows]
    axes.barh(names, [row["ratio"] for row in rows], color="#2a90e2")
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("edgebone's runs per second relative to the bare library's")
    axes.set_title(machine, fontsize=8)
    axes.invert_yaxis()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
