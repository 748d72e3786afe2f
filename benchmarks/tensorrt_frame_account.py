"""Count the work of one frame in the TensorRT engine for CUDA and the host, with the tests' recording double.

It needs no GPU and measures none: the double counts calls and bytes, and runs the network in onnxruntime. The reported
time is the host's own, of Python and of copies to and from pinned memory, with calls that do nothing.

Usage: python benchmarks/tensorrt_frame_account.py [BUNDLE] [--variant fp32] [--frames N] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper

from edgebone.core.bundle import open_bundle
from edgebone.engines.table import this_machine
from edgebone.engines.tensorrt.engine import TensorRTEngine

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.cuda_double import CudaDouble, TensorRTDouble, make_plan

WARM_UP = 5
COLUMNS = ("launches", "copies in", "copies out", "event records", "waits", "allocations", "bytes in", "bytes out")


def small_network() -> bytes:
    """Return a tiny network from a 640 × 640 picture to 300 boxes and scores: a detector's inputs and outputs."""
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["row"]),
        helper.make_node("Reshape", ["row", "shape"], ["boxes"]),
        helper.make_node("ReduceMax", ["boxes", "last"], ["scores"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 640, 640, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 300, 6]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 300]),
        ],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("last", TensorProto.INT64, [1], [2]),
            helper.make_tensor("shape", TensorProto.INT64, [3], [1, 300, 6]),
            helper.make_tensor("weights", TensorProto.FLOAT, [3, 1800], np.ones(5400, np.float32)),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8).SerializeToString()


def plan_of(path: str | None, variant: str) -> tuple[str, bytes]:
    if path is None:
        return "built-in 640 × 640", make_plan(small_network())
    with open_bundle(path) as bundle:
        item, spec = bundle.manifest.graph(variant), bundle.manifest.input_of(variant)
        shapes = [[size, *spec.shape[1:]] for size in (item.batch[0], item.batch[1], item.batch[1])]
        free = isinstance(spec.shape[0], str)
        return Path(path).name, make_plan(bundle.read(item.file), [{spec.name: shapes}] if free else None)


def account(plan: bytes, frames: int, *, graphs: bool, shared: bool) -> dict[str, float]:
    cuda = CudaDouble(integrated=shared)
    with TensorRTEngine(plan, graphs=graphs, contexts=1, cuda=cuda, trt=TensorRTDouble(cuda)) as engine:
        rng = np.random.default_rng(0)
        low = engine._batch_range[0] if engine._batch_range else 1
        feeds = {
            spec.name: rng.integers(0, 255, [low if isinstance(n, str) else n for n in spec.shape]).astype(spec.dtype)
            for spec in engine.inputs
        }
        for _ in range(WARM_UP):
            engine.run(feeds)
        with cuda.account() as steady:
            for _ in range(frames):
                outputs = engine.run(feeds)
        calls, work, moved = steady.calls, steady.work, steady.moved
        figures = {
            "launches": calls["launch"] + calls["execute_async_v3"],
            "copies in": work["copy_to_device"],
            "copies out": work["copy_to_host"],
            "event records": calls["record_event"],
            "waits": calls["synchronize_event"] + calls["synchronize_stream"],
            "allocations": calls["allocate"] + calls["allocate_host"],
            "bytes in": moved["copy_to_device"],
            "bytes out": moved["copy_to_host"],
        }
        floor = sum(array.nbytes for array in feeds.values()), sum(array.nbytes for array in outputs.values())
        host_s = seconds_on_the_host(engine, feeds, frames)
        copying_s = seconds_to_copy([*feeds.values(), *outputs.values()], frames)
    if cuda.problems or cuda.alive:
        raise SystemExit(f"the double found errors: {cuda.problems}, not freed: {cuda.alive}")
    per_frame = {name: count / frames for name, count in figures.items()}
    return {
        **per_frame,
        "calls": calls.total() / frames,
        "host µs": round(1e6 * host_s, 1),
        "copying µs": round(1e6 * copying_s, 1),
        "floor in": floor[0],
        "floor out": floor[1],
    }


class Silent:
    """Does nothing on every call, and returns success."""

    def __getattr__(self, name: str) -> Callable[..., bool]:
        return lambda *_: True


def seconds_on_the_host(engine: TensorRTEngine, feeds: dict[str, np.ndarray], frames: int) -> float:
    (slot,) = engine._slots
    kept = slot._cuda, slot._context
    slot._cuda = slot._in._cuda = slot._out._cuda = slot._context = Silent()
    found = median_seconds(lambda: engine.run(feeds), frames)
    slot._cuda, slot._context = kept
    slot._in._cuda = slot._out._cuda = kept[0]
    return found


def seconds_to_copy(arrays: list[np.ndarray], frames: int) -> float:
    """Return the seconds of copying the feeds into pinned memory and the outputs out of it."""
    pinned = [np.empty_like(array) for array in arrays]

    def copy() -> None:
        for array, buffer in zip(arrays, pinned, strict=True):
            np.copyto(buffer, array)

    return median_seconds(copy, frames)


def median_seconds(run: Callable[[], Any], times: int) -> float:
    found = []
    for _ in range(max(times, 100)):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="default a small built-in network")
    parser.add_argument("--variant", default="fp32")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    name, plan = plan_of(args.bundle, args.variant)
    machine = this_machine()
    print(f"{machine}; {name}, one frame at a time, counted by a double: no GPU was used")
    rows: list[dict[str, Any]] = []
    for title, graphs, shared in (
        ("no graph", False, False),
        ("CUDA graph", True, False),
        ("no graph, shared memory", False, True),
        ("CUDA graph, shared memory", True, True),
    ):
        rows.append({"way": title, **account(plan, args.frames, graphs=graphs, shared=shared)})
    discrete = {"launches": 1, "copies in": 1, "copies out": 1, "waits": 1}
    sizes = {"bytes in": rows[0]["floor in"], "bytes out": rows[0]["floor out"]}
    rows.append({"way": "floor", **dict.fromkeys(COLUMNS, 0), **discrete, **sizes})
    columns = (*COLUMNS, "calls", "host µs", "copying µs")
    print(f"{'':26}" + "".join(f"{column:>14}" for column in columns))
    for row in rows:
        print(f"{row['way']:26}" + "".join(f"{row[column]:14.7g}" if column in row else "" for column in columns))
    print(
        "A CUDA graph contains its copies: only the launch, the event's record and the wait remain as calls.\n"
        "Host µs include Python and copies to and from pinned memory; copying µs is the copies alone."
    )
    if args.json:
        record = {"machine": machine, "network": name, "frames": args.frames, "rows": rows}
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(record)))


if __name__ == "__main__":
    main()
