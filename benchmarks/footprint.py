"""Measure the runtime's cost on a device: import time, start to first result, memory, size on disk.

Run it with the Python of the environment to measure, preferably one with only ``edgebone[cpu]``.

Usage: python benchmarks/footprint.py BUNDLE --picture PICTURE --source VIDEO [--runs N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path


def wall_ms(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - started) * 1000


def median_pair(command: list[str], base: list[str], runs: int) -> tuple[float, float]:
    """Return the medians of both commands, in turns after one warm-up each."""
    wall_ms(command), wall_ms(base)
    pairs = [(wall_ms(command), wall_ms(base)) for _ in range(runs)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def peak_memory_mb(command: list[str]) -> float:
    """Return the peak resident memory of a command, from a process that has started nothing else."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024


def size_mb(folder: Path) -> float:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_blocks * 512 for path in files) / 1024**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--picture", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    program = str(Path(sys.executable).with_name("edgebone"))
    python = [sys.executable, "-c"]
    nothing = [*python, "pass"]
    imported, bare = median_pair([*python, "import edgebone"], nothing, args.runs)
    loaded, _ = median_pair([*python, "import edgebone; edgebone.load, edgebone.Stream"], nothing, args.runs)
    first, _ = median_pair([program, "run", args.bundle, args.picture], nothing, args.runs)
    figures = {
        "import_edgebone_over_python_ms": round(imported - bare, 1),
        "import_whole_api_over_python_ms": round(loaded - bare, 1),
        "start_to_first_result_ms": round(first, 1),
        "peak_memory_streaming_mb": round(peak_memory_mb([program, "run", args.bundle, args.source]), 1),
        "environment_size_mb": round(size_mb(Path(sys.prefix)), 1),
        "python": sys.version.split()[0],
        "cores": len(os.sched_getaffinity(0)),
    }
    for name, value in figures.items():
        print(f"{name:34} {value}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
