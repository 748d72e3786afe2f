"""Measure what a cascade costs a frame: the detector alone, a second bundle on every box, and once a track.

Usage: python benchmarks/cascade.py DETECTOR.bundle SECOND.bundle VIDEO [--rounds N] [--json FILE]

All sides run in turns, N times; the table has the median, and the median of the differences within a turn. The tracker
runs in all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import msgspec

import edgebone
from edgebone.engines.table import this_machine
from edgebone.pipeline import Crops, Pipeline, Step, Tracks

SIDES: dict[str, dict[str, float | int | None] | None] = {
    "detector alone": None,
    "every box on every frame": {},
    "at most 2 crops a frame": {"budget": 2},
    "once a track, again after 5 s": {"once_a_track": 5},
    "once a track, again after 1 s": {"once_a_track": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    crops_a_frame: dict[str, float] = {}
    with edgebone.load(args.detector) as model, edgebone.load(args.second) as second:
        for _ in range(args.rounds):
            for side, options in SIDES.items():
                steps: list[Step] = [Tracks()]
                crops = None if options is None else Crops(second, **options)  # type: ignore[arg-type]
                steps += [] if crops is None else [crops]
                pipeline = Pipeline(model, steps)
                started = time.perf_counter()
                frames = pipeline.run(str(args.video)).stats.frames
                times[side].append(1e3 * (time.perf_counter() - started) / frames)
                crops_a_frame[side] = 0.0 if crops is None else crops.asked / frames
    machine = this_machine()
    print(machine)
    print("| side | crops a frame | ms a frame | over the detector alone |\n| --- | --- | --- | --- |")
    rows = []
    for side in SIDES:
        ms = statistics.median(times[side])
        pairs = zip(times[side], times["detector alone"], strict=True)
        added_ms = statistics.median(own - alone for own, alone in pairs)
        rows.append({"side": side, "crops_a_frame": crops_a_frame[side], "ms": ms, "added_ms": added_ms})
        print(f"| {side} | {crops_a_frame[side]:.2f} | {ms:.2f} | {added_ms:+.2f} |")
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


if __name__ == "__main__":
    main()
