"""Compare the plan of `edgebone tune` with OpenVINO's benchmark_app over its hints and precisions, in one run.

benchmark_app gets the bundle's FP32 graph, as its users would pass it. Turns alternate; each way's best turn counts, on
both sides. The rate is pictures per second, with as many requests as each side chooses.

Usage: python benchmarks/tuned_against_benchmark_app.py BUNDLE [--seconds 5] [--turns 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from edgebone.core.bundle import open_bundle
from edgebone.engines.plans import planned
from edgebone.engines.table import this_machine
from edgebone.tune.measure import Speed, measure_in_own_process
from edgebone.tune.space import BASELINE


def benchmark_app(model: Path, hint: str, precision: str, shape: str, seconds: int) -> tuple[float, float]:
    """Return frames per second and median latency in ms."""
    command = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(model), "-d", "CPU", "-hint", hint]
    command += ["-infer_precision", precision, "-t", str(seconds)]
    if shape:
        command += ["-shape", shape]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    fps = float(re.findall(r"Throughput:\s+([\d.]+) FPS", done.stdout)[-1])
    median, unit = re.findall(r"Median:\s+([\d.]+) (ms|us)", done.stdout)[-1]
    return fps, float(median) / (1 if unit == "ms" else 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    with open_bundle(args.bundle) as bundle, tempfile.TemporaryDirectory() as folder:
        plan = planned(bundle.manifest, machine)
        if plan is None:
            sys.exit(f"{args.bundle} has no plan for this machine: edgebone tune {args.bundle} --eval DIR")
        goal = bundle.manifest.plans[machine.key].goal
        variant = bundle.manifest.variants["fp32"]
        model = Path(folder) / "fp32.onnx"
        model.write_bytes(bundle.read(variant.file))
        free = variant.batch[0] != variant.batch[1]
        value = bundle.manifest.input
        rest = ",".join(map(str, value.shape[1:]))
        batches = sorted({variant.batch[0], plan.batch or variant.batch[0]})
        shapes = [f"{value.name}[{size},{rest}]" for size in batches] if free else [""]
        ways = [(hint, own, shape) for hint in ("latency", "throughput") for own in ("f32", "bf16") for shape in shapes]
        ours: list[Speed] = []
        plain: list[Speed] = []
        theirs: dict[tuple[str, str, str], list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(args.turns):
            for candidate, found in ((plan, ours), (BASELINE, plain)):
                speed = measure_in_own_process(args.bundle, candidate, float(args.seconds))
                if not isinstance(speed, Speed):
                    sys.exit(f"{candidate}: {speed.reason}")
                found.append(speed)
            for way in ways:
                theirs[way].append(benchmark_app(model, *way, args.seconds))
    print(f"{machine}\n{args.bundle}: goal {goal}; plan: {plan} [{plan.variant}]")
    for way, found in theirs.items():
        print(f"benchmark_app {way}: {max(fps for fps, _ in found):8.1f} fps, {min(ms for _, ms in found):7.2f} ms")
    own_fps, own_ms = max(item.fps for item in ours), min(item.p50_ms for item in ours)
    fp32_fps, fp32_ms = max(item.fps for item in plain), min(item.p50_ms for item in plain)
    best_fps = max(fps for found in theirs.values() for fps, _ in found)
    best_ms = min(ms for found in theirs.values() for _, ms in found)
    print(f"plain FP32 onnxruntime: {fp32_fps:.1f} fps, {fp32_ms:.2f} ms")
    print(f"the plan: {own_fps:.1f} fps, {own_ms:.2f} ms")
    against, gain = (
        (best_ms / own_ms, fp32_ms / own_ms) if goal == "latency" else (own_fps / best_fps, own_fps / fp32_fps)
    )
    print(f"the plan reaches {100 * against:.1f} % of benchmark_app's best, and {gain:.2f}x plain FP32 onnxruntime")
    if args.json:
        record = {
            "machine": machine,
            "bundle": args.bundle,
            "goal": goal,
            "plan": plan,
            "ours": ours,
            "plain": plain,
            "benchmark_app": [{"way": way, "fps_ms": found} for way, found in theirs.items()],
            "of_best": against,
            "gain": gain,
        }
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(record)))


if __name__ == "__main__":
    main()
