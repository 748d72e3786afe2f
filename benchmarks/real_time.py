"""Measure many cameras on one engine: age of results, fair sharing of the engine, and the stream's own cost.

Usage: python benchmarks/real_time.py [--cameras 8] [--seconds 60] [--engine-fps 100] [--json FILE]

The cameras are synthetic, 640x480 at 30 frames per second; the engine is a real one (onnxruntime, a tiny network) with
a fixed time per run, as an accelerator would have, so that the figures are the stream's own. The hand-over cost is the
processor time of the whole process per frame, less that of the same work in a plain loop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import edgebone
from edgebone.bench.measure import OnDemand
from edgebone.engines.table import this_machine
from edgebone.telemetry.sensors import read_process
from support.bundles import write_colors_bundle
from support.pictures import GREEN, picture
from support.slow_engine import SlowEngine


def memory_mb() -> float:
    return next(reading.value for reading in read_process() if reading.quantity == "memory_bytes") / 1024**2


def freshness(bundle: Path, cameras: int, seconds: float, engine_fps: float) -> dict[str, Any]:
    infer_ms = 1000 / engine_fps
    memory: list[float] = []
    with edgebone.load(bundle, engine="onnxruntime") as model:
        model.engine = SlowEngine(model.engine, infer_ms / 1000)  # type: ignore[assignment]
        sources = [f"synthetic://640x480@30?frames={int(30 * seconds) + n}" for n in range(cameras)]
        ages_ns = []
        numbered: dict[str, list[int]] = {}
        began_s = time.monotonic()
        with model.stream(*sources) as stream:
            for frame, _ in stream:
                ages_ns.append(time.monotonic_ns() - frame.captured_at_ns)
                numbered.setdefault(frame.source, []).append(frame.index)
                if len(memory) < (time.monotonic() - began_s) // 5:
                    memory.append(round(memory_mb(), 1))
            stats = stream.stats
    served = [source.frames for source in stats.sources]
    share = sum(served) / cameras
    exact = all(
        source.frames + source.dropped == numbered[source.name][-1] + 1
        or source.frames + source.dropped == int(source.name.rpartition("=")[2])
        for source in stats.sources
    )
    p50, p99, top = (np.percentile(ages_ns, (50, 99, 100)) / 1e6).tolist()
    return {
        "cameras": cameras,
        "engine_fps": engine_fps,
        "delivered_fps": round(stats.fps, 1),
        "age_p50_ms": round(p50, 1),
        "age_p99_ms": round(p99, 1),
        "age_max_ms": round(top, 1),
        "bound_ms": round(1000 / 30 + 2 * infer_ms, 1),
        "least_share": round(min(served) / share, 3),
        "dropped": stats.dropped,
        "counted_exactly": exact,
        "memory_mb": {"first": memory[:1], "middle": memory[len(memory) // 2 :][:1], "last": memory[-1:]},
        "seconds": seconds,
    }


def hand_over(bundle: Path, frames: int) -> dict[str, float]:
    """Return processor time per frame through the stream, live and from a file, less the same calls in a loop."""
    with edgebone.load(bundle, engine="onnxruntime", threads=1) as model:
        image = picture(GREEN)
        buffer = model.new_buffer()

        def loop() -> None:
            for _ in range(frames):
                prepared = model.prepare([image], buffer)
                model.answers(prepared.geometries, model.start(prepared).result())

        def live() -> None:
            source = OnDemand(image, frames)
            with model.stream(source) as stream:
                for _ in stream:
                    source.wanted.release()

        def memory() -> None:
            for _ in model.stream([image] * frames):
                pass

        cost: dict[str, list[float]] = {"loop": [], "live": [], "memory": []}
        for _ in range(5):
            for name, work in (("loop", loop), ("live", live), ("memory", memory)):
                began = time.process_time()
                work()
                cost[name].append((time.process_time() - began) * 1000 / frames)
    middle = {name: float(np.median(values)) for name, values in cost.items()}
    return {
        "loop_cpu_ms": round(middle["loop"], 4),
        "live_adds_cpu_ms": round(middle["live"] - middle["loop"], 4),
        "memory_adds_cpu_ms": round(middle["memory"] - middle["loop"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--engine-fps", type=float, default=100)
    parser.add_argument("--frames", type=int, default=5000, help="of each way that the hand-over is measured on")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    print(machine)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(KeyboardInterrupt):
        bundle = write_colors_bundle(Path(folder) / "colors.bundle")
        costs = hand_over(bundle, args.frames)
        print(json.dumps(costs), flush=True)
        fresh = freshness(bundle, args.cameras, args.seconds, args.engine_fps)
        print(json.dumps(fresh))
        if args.json:
            record = {"machine": machine, "hand_over": costs, "freshness": fresh}
            args.json.write_bytes(msgspec.json.format(msgspec.json.encode(record)))


if __name__ == "__main__":
    main()
