"""Measure heads on one backbone: ms per frame against one head and against as many networks, memory, and swaps.

A frame is one preprocessed picture: engine and decoding, as in ``Model.infer`` and ``Model.decode``. The ways take
turns in one run, a few frames each, in a changing order; a ratio is the median of the turns' ratios. The heads' weights
are random, which does not affect the measurements. Memory is measured in a separate process.

Usage: python benchmarks/heads_cost.py BUNDLE [--turns N] [--swaps N] [--json FILE]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import edgebone
from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.errors import EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.head_file import HeadFile
from edgebone.core.tensors import TensorSpec
from edgebone.engines.spec import Candidate
from edgebone.engines.table import this_machine

CLASSES = 81
ENGINES = (("openvino", "fp32"), ("openvino", "bf16"), ("onnxruntime", "fp32"))
COUNTS = (1, 2, 5)
FRAMES, SETTLE = 12, 3
TARGET = 1.10
DENSE_TAPS = ("features_s8", "features_s32")
DENSE_CLASSES = (2, 19)
_OWN = Candidate("onnxruntime", "fp32", "fp32")


def linear_head(bundle: Bundle, name: str, seed: int) -> HeadFile:
    """Return a matrix and a bias on the backbone's vector."""
    from edgebone_export.heads.attach.artefact import make_artefact
    from edgebone_export.heads.features.fitted import OPSET, FittedHead
    from edgebone_export.heads.features.taps import EMBEDDING, taps_of

    taps = taps_of(bundle)
    width = taps[EMBEDDING].shape[0]
    rng = np.random.default_rng(seed)
    weights = {
        "weight": (rng.normal(size=(width, CLASSES)) / np.sqrt(width)).astype(np.float32),
        "bias": rng.normal(size=CLASSES).astype(np.float32),
    }
    nodes = [helper.make_node("Gemm", [EMBEDDING, "weight", "bias"], ["scores"], name="classes")]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, key) for key, array in weights.items()],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8).SerializeToString()
    labels = tuple(map(str, range(CLASSES)))
    outputs = (TensorSpec("scores", "float32", ("batch", CLASSES)),)
    fitted = FittedHead(content, outputs, "classification@1", labels, {"activation": "softmax", "top_k": 5})
    return make_artefact(name, fitted, bundle, taps, [EMBEDDING], _OWN)


def dense_head(bundle: Bundle, name: str, classes: int, seed: int) -> HeadFile:
    """Return a light decoder of maps to one class per pixel."""
    import torch

    from edgebone_export.heads.attach.artefact import make_artefact
    from edgebone_export.heads.features.fitted import FittedHead
    from edgebone_export.heads.features.taps import taps_of
    from edgebone_export.heads.maps.graph import write_graph
    from edgebone_export.heads.maps.segmentation_net import build

    taps = taps_of(bundle)
    rng = np.random.default_rng(seed)
    maps = {key: rng.normal(size=(3, *taps[key].shape)).astype(np.float32) for key in DENSE_TAPS}
    height, width = bundle.manifest.preprocess.size_hw
    torch.manual_seed(seed)
    statistics_of = [(torch.zeros(taps[key].shape[0]), torch.ones(taps[key].shape[0])) for key in DENSE_TAPS]
    shares = torch.full((classes,), 1 / classes)
    made = write_graph(build("lraspp", statistics_of, shares, 128, (height // 4, width // 4)), maps, ["classes"])
    labels = tuple(map(str, range(classes)))
    fitted = FittedHead(made.content, made.outputs, "segmentation@1", labels)
    return make_artefact(name, fitted, bundle, taps, DENSE_TAPS, _OWN)


def ways(bundle: str, folder: Path) -> dict[str, list[Path]]:
    """Return the bundles of each way: one with all heads, or one per head."""
    from edgebone_export.heads.attach.attach import attach

    with open_bundle(bundle) as opened:
        own = list(opened.manifest.heads)
        linear = [linear_head(opened, f"linear{number}", number) for number in range(max(COUNTS))]
        dense = [dense_head(opened, f"dense{classes}", classes, classes) for classes in DENSE_CLASSES]

    def write(name: str, heads: Sequence[HeadFile], detached: bool = False) -> Path:
        return attach(bundle, heads, folder / name, detached=detached, drop=own).path

    single = [write(f"single{number}", [head]) for number, head in enumerate(linear)]
    found = {"1 network, 1 linear head": single[:1], "1 detached linear head": [write("detached1", linear[:1], True)]}
    for count in COUNTS[1:]:
        found[f"1 network, {count} linear heads"] = [write(f"joined{count}", linear[:count])]
        found[f"{count} detached linear heads"] = [write(f"detached{count}", linear[:count], True)]
        found[f"{count} networks"] = single[:count]
    single_dense = [write(f"dense{number}", [head]) for number, head in enumerate(dense)]
    found["1 network, 1 dense head"] = single_dense[:1]
    found["1 network, 2 dense heads"] = [write("dense", dense)]
    found["2 detached dense heads"] = [write("dense detached", dense, True)]
    found["2 networks, a dense head each"] = single_dense
    return found


def frame_costs(found: dict[str, list[Path]], engine: str, precision: str, turns: int) -> list[dict[str, Any]]:
    """Return each way's ms per frame: the engine alone, and with decoding."""
    with ExitStack() as stack:
        opened: dict[Path, edgebone.Model] = {}
        for path in {path for paths in found.values() for path in paths}:
            try:
                opened[path] = stack.enter_context(edgebone.load(path, engine=engine, precision=precision))
            except EngineError as error:
                print(f"  {path.name} is omitted: {error}")
        models = {name: [opened[path] for path in paths] for name, paths in found.items() if opened.keys() >= {*paths}}
        any_model = next(iter(opened.values()))
        buffer = any_model.new_buffer()
        buffer[:] = np.random.default_rng(0).integers(0, 256, buffer.shape, np.uint8)
        size_hw = any_model.manifest.preprocess.size_hw
        geometry = Geometry(size_hw, size_hw, (1.0, 1.0), (0.0, 0.0))
        names = list(models)
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        rng = np.random.default_rng(0)
        for _ in range(turns):
            for index in rng.permutation(len(names)):
                name = names[index]
                times = [_frame_ms(models[name], buffer, geometry) for _ in range(FRAMES)]
                # The first frames compete with the previous way's threads, which still spin for work.
                engine_p50, whole_p50 = np.median(times[SETTLE:], axis=0)
                measured[name].append((float(engine_p50), float(whole_p50)))
    rows = []
    for name in names:
        base = "1 network, 1 dense head" if "dense" in name else "1 network, 1 linear head"
        engine_p50, whole_p50 = np.median(measured[name], axis=0)
        engine_ratio, whole_ratio = np.median(np.array(measured[name]) / measured[base], axis=0)
        rows.append(
            {
                "engine": f"{engine} {precision}",
                "way": name,
                "engine_ms": round(float(engine_p50), 4),
                "frame_ms": round(float(whole_p50), 4),
                "against": base,
                "engine_ratio": round(float(engine_ratio), 4),
                "frame_ratio": round(float(whole_ratio), 4),
            }
        )
    return rows


def _frame_ms(models: Sequence[edgebone.Model], buffer: NDArray[np.uint8], geometry: Geometry) -> tuple[float, float]:
    """Return the ms of the engine alone, and with decoding."""
    started = time.perf_counter()
    outputs = [model.run(model.prepare([], buffer)) for model in models]
    ran = time.perf_counter()
    for model, output in zip(models, outputs, strict=True):
        model.answers([geometry], output)
    return 1e3 * (ran - started), 1e3 * (time.perf_counter() - started)


def memory_mb(paths: Sequence[Path], engine: str) -> float:
    """Return the memory of a process that has loaded and run models, including Python and the engine's code."""
    command = [sys.executable, __file__, "--memory", engine, *map(str, paths)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_in_own_process(engine: str, paths: Sequence[str]) -> None:
    """Print this process's memory, in MB, with models loaded."""
    with ExitStack() as stack:
        for path in paths:
            model = stack.enter_context(edgebone.load(path, engine=engine))
            for _ in range(3):
                model.run(model.prepare([]))
        print(_resident_mb())


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def swaps(path: Path, heads: Sequence[HeadFile], engine: str, precision: str, count: int) -> dict[str, Any]:
    """Swap a head repeatedly while frames from memory are processed."""
    name = heads[0].manifest.name
    with edgebone.load(path, engine=engine, precision=precision) as model:
        size_hw = model.manifest.preprocess.size_hw
        frames: list[NDArray[Any] | edgebone.Frame] = [
            np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8) for seed in range(8)
        ]
        for _ in model.stream(frames * 20):
            pass
        swap_ms: list[float] = []
        windows: list[tuple[float, float]] = []
        ended = threading.Event()

        def exchange() -> None:
            for number in range(count):
                time.sleep(0.15)
                started = time.perf_counter()
                model.swap_head(name, heads[(number + 1) % len(heads)])
                windows.append((started, time.perf_counter()))
                swap_ms.append(1e3 * (windows[-1][1] - started))
            time.sleep(0.15)
            ended.set()

        worker = threading.Thread(target=exchange)
        delivered: list[float] = []
        labels: list[str] = []
        given = 0
        with model.stream(_Endless(frames, ended)) as stream:
            worker.start()
            for _, result in stream:
                delivered.append(time.perf_counter())
                labels.append(result[name].labels[0] if isinstance(result, dict) else result.labels[0])  # type: ignore[union-attr]
            given = stream.sources[0].given  # type: ignore[attr-defined]
            stats = stream.stats
        worker.join()
    gaps_ms = 1e3 * np.diff(delivered)
    at = np.asarray(delivered[1:])
    during = np.zeros(len(gaps_ms), bool)
    crossing = np.zeros(len(gaps_ms), bool)
    for begin, end in windows:
        during |= (at >= begin) & (at - gaps_ms / 1e3 <= end)
        crossing |= (at >= end) & (at - gaps_ms / 1e3 <= end)
    # Two frames may be in flight at a swap, and the later one's head run first: a change of labels is no swap.
    until = [*(begin for begin, _ in windows[1:]), delivered[-1]]
    seen = 0
    for number, ((_, end), last) in enumerate(zip(windows, until, strict=True)):
        new = heads[(number + 1) % len(heads)].manifest.head.labels or ()
        seen += any(label in new for label, moment in zip(labels, delivered, strict=True) if end < moment <= last)
    return {
        "engine": f"{engine} {precision}",
        "swaps": count,
        "swaps_seen": seen,
        "load_and_warm_up_ms": _spread(swap_ms),
        "gap_usual_ms": _spread(gaps_ms[~during]),
        "gap_while_the_new_head_loads_ms": _spread(gaps_ms[during]),
        "gap_at_the_exchange_ms": _spread(gaps_ms[crossing]),
        "frames": given,
        "lost": given - stats.frames + stats.dropped,
    }


class _Endless:
    """Pictures from memory, repeated until an event."""

    def __init__(self, frames: Sequence[Any], ended: threading.Event) -> None:
        self.name = "memory"
        self.live = False
        self.in_memory = True
        self.fps = None
        self.frame_count = None
        self.given = 0
        self._frames = frames
        self._ended = ended

    def read(self) -> edgebone.Frame | None:
        if self._ended.is_set():
            return None
        self.given += 1
        image = self._frames[self.given % len(self._frames)]
        return edgebone.Frame(image, self.given - 1, time.monotonic_ns(), self.name)

    def interrupt(self) -> None:
        """Do nothing: nothing waits."""

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _spread(values: Sequence[float] | NDArray[Any]) -> dict[str, float]:
    array = np.asarray(values, np.float64)
    if not array.size:
        return {}
    return {
        "p50": round(float(np.median(array)), 3),
        "p99": round(float(np.percentile(array, 99)), 3),
        "max": round(float(array.max()), 3),
        "n": array.size,
    }


def with_labels(head: HeadFile, prefix: str) -> HeadFile:
    """Return the head with other labels, which show which of two heads answered."""
    own = msgspec.structs.replace(head.manifest.head, labels=tuple(f"{prefix}{n}" for n in range(CLASSES)))
    return HeadFile(msgspec.structs.replace(head.manifest, head=own), head.graph, head.where)


def show(row: dict[str, Any]) -> None:
    loading, usual = row["load_and_warm_up_ms"], row["gap_usual_ms"]
    print(
        f"  {row['swaps']} swaps, {row['swaps_seen']} seen in the results, {row['lost']} of {row['frames']} lost\n"
        f"    load and warm up, beside the stream: {loading['p50']:.1f} ms, at most {loading['max']:.1f}\n"
        f"    between two results: {usual['p50']:.2f} ms usually (p99 {usual['p99']:.2f}, max {usual['max']:.2f}); "
        f"at the swap {row['gap_at_the_exchange_ms']['p50']:.2f} (max {row['gap_at_the_exchange_ms']['max']:.2f}); "
        f"while the new head loads {row['gap_while_the_new_head_loads_ms']['p50']:.2f} "
        f"(max {row['gap_while_the_new_head_loads_ms']['max']:.2f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="classifier with a vector before its scores and maps of strides 8 and 32")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    print(machine)
    rows: list[dict[str, Any]] = []
    memory: list[dict[str, Any]] = []
    swapped: list[dict[str, Any]] = []
    most = max(COUNTS)
    with tempfile.TemporaryDirectory() as folder:
        found = ways(args.bundle, Path(folder))
        with open_bundle(args.bundle) as opened:
            heads = [with_labels(linear_head(opened, "linear0", seed), text) for seed, text in ((0, "old"), (9, "new"))]
        for engine, precision in ENGINES:
            print(
                f"\n{engine} {precision}: ms/frame (median of {args.turns} turns; ratio to the network with one head)"
            )
            measured = frame_costs(found, engine, precision, args.turns)
            for row in measured:
                target = f"  target {TARGET:.2f}" if row["way"] == f"1 network, {most} linear heads" else ""
                print(
                    f"  {row['way']:32} engine {row['engine_ms']:7.3f} ({row['engine_ratio']:.3f}), with decoding "
                    f"{row['frame_ms']:7.3f} ({row['frame_ratio']:.3f}){target}",
                    flush=True,
                )
            rows += measured
            swapped.append(swaps(found["1 detached linear head"][0], heads, engine, precision, args.swaps))
            show(swapped[-1])
        for engine in dict.fromkeys(engine for engine, _ in ENGINES):
            kinds = (
                "1 network, 1 linear head",
                f"1 network, {most} linear heads",
                f"{most} detached linear heads",
                f"{most} networks",
            )
            row = {"engine": engine, **{name: round(memory_mb(found[name], engine), 1) for name in kinds}}
            memory.append(row)
            print(f"\nmemory, {engine} fp32: " + ", ".join(f"{name} {row[name]} MB" for name in kinds))
    if args.json:
        content = {
            "machine": machine, "classes": CLASSES, "turns": args.turns, "target_5_linear_heads": TARGET, "rows": rows,
            "memory_mb": memory, "swaps": swapped,
        }  # fmt: skip
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(content)))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        memory_in_own_process(sys.argv[2], sys.argv[3:])
    else:
        main()
