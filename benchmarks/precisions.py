"""Compare every engine and precision of a bundle with naive quantization of the same network.

Naive: onnxruntime's `quantize_static` and NNCF's `quantize`, both with their defaults, on the bundle's FP32 graph.
Only the engine is timed, on one picture: the median over turns in which all take part.

Usage: python benchmarks/precisions.py BUNDLE --calibrate DIR --eval LABELS_OR_DIR [--pictures N] [--json FILE]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx

from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.machine import Machine
from edgebone.engines.batches import filled
from edgebone.engines.opening import open_engine, open_model
from edgebone.engines.protocol import Engine
from edgebone.engines.select import check, precisions_of
from edgebone.engines.spec import Candidate, Fit
from edgebone.engines.table import names, this_machine
from edgebone.evaluate.evaluation_set import read_evaluation
from edgebone.evaluate.rehearsal import Rehearsal
from edgebone_export.graphs.edit import prepare
from edgebone_export.quantization.calibration import read_calibration

TURN_S = 0.3


def quantize_static_defaults(content: bytes, inputs: np.ndarray, name: str) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Pictures(CalibrationDataReader):
        def __init__(self) -> None:
            self._rest: Iterator[np.ndarray] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            one = next(self._rest, None)
            return None if one is None else {name: one[None]}

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(content)
        quantize_static(source, target, Pictures())
        return target.read_bytes()


def nncf_defaults(content: bytes, inputs: np.ndarray, name: str) -> bytes:
    logging.getLogger("torch").setLevel(logging.ERROR)
    import nncf

    nncf.set_log_level(logging.CRITICAL)
    data = nncf.Dataset([one[None] for one in inputs], lambda one: {name: one})
    made: bytes = nncf.quantize(onnx.load_from_string(content), data, subset_size=len(inputs)).SerializeToString()
    return made


def engines_of(bundle: Bundle, machine: Machine, inputs: np.ndarray) -> Iterator[tuple[str, Engine]]:
    manifest = bundle.manifest
    low = manifest.variants["fp32"].batch[0]
    for engine in names():
        for name, variant in manifest.variants.items():
            for precision in precisions_of(engine, variant):
                candidate = Candidate(engine, precision, name, batch=None if low == variant.batch[1] else low)
                if isinstance(check(candidate, machine, variant), Fit):
                    yield f"{engine} {precision}", open_engine(bundle, candidate, cache=False)
    # Their defaults fail on an opset without per-channel quantization, so the opset is raised for them.
    content = prepare(bundle.read(manifest.variants["fp32"].file), str(bundle.path)).SerializeToString()
    naive = {"quantize_static defaults": quantize_static_defaults, "NNCF defaults": nncf_defaults}
    for title, make in naive.items():
        try:
            lowered = make(content, inputs, manifest.input.name)
        except Exception as error:
            print(f"{title}: fails: {str(error).strip().splitlines()[0][:200]}", flush=True)
            continue
        for engine in ("onnxruntime", "openvino"):
            yield f"{engine}, {title}", open_model(Candidate(engine, "int8", ""), lowered, (low, low))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--calibrate", type=Path, required=True)
    parser.add_argument("--eval", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=128)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    rows = []
    with open_bundle(args.bundle) as bundle:
        manifest = bundle.manifest
        data = read_evaluation(args.eval, manifest)
        inputs = read_calibration(args.calibrate, manifest.preprocess, args.pictures).inputs
        with open_engine(bundle, Candidate("onnxruntime", "fp32", "fp32"), cache=False) as fp32:
            rehearsal = Rehearsal(manifest, data, fp32)
        print(f"{machine}\n{args.bundle}: {data.metric} and agreement with FP32 on {len(data.pictures)} pictures")
        engines = dict(engines_of(bundle, machine, inputs))
        low = manifest.variants["fp32"].batch[0]
        picture = filled(rehearsal.inputs[:low], low)
        times: dict[str, list[float]] = {title: [] for title in engines}
        for _ in range(args.turns):
            for title, engine in engines.items():
                times[title].append(_median_ms(engine, picture))
        plain = statistics.median(times["onnxruntime fp32"])
        print(f"{'':46} {data.metric:>9} {'agreement':>9} {'p50 ms':>8} {'fps':>7} {'of fp32':>8}")
        for title, engine in engines.items():
            try:
                score = rehearsal.score(engine)
            except Exception as error:
                print(f"{title}: {error}", flush=True)
                continue
            p50 = statistics.median(times[title])
            gain = statistics.median(a / b for a, b in zip(times["onnxruntime fp32"], times[title], strict=True))
            print(
                f"{title:46} {score.value:9.2f} {score.agreement:9.2f} {p50:8.2f} {1000 * low / p50:7.1f} {gain:7.2f}x",
                flush=True,
            )
            rows.append(
                {"way": title, data.metric: score.value, "agreement": score.agreement, "p50_ms": p50, "gain": gain}
            )
        for name, variant in manifest.variants.items():
            if variant.accuracy is not None and "tensorrt" in variant.engines:
                accuracy = variant.accuracy
                print(f"{name + ' (emulated, not timed)':46} {accuracy.value:9.2f} {accuracy.agreement:9.2f}")
                rows.append({"way": name, data.metric: accuracy.value, "agreement": accuracy.agreement})
    print(f"plain FP32 onnxruntime: {plain:.2f} ms")
    if args.json:
        record = {"machine": machine, "bundle": args.bundle, "pictures": len(data.pictures), "rows": rows}
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(record)))


def _median_ms(engine: Engine, picture: np.ndarray) -> float:
    feeds = {engine.inputs[0].name: picture}
    for _ in range(3):
        engine.run(feeds)
    times: list[float] = []
    end = time.monotonic() + TURN_S
    while len(times) < 3 or time.monotonic() < end:
        started = time.perf_counter()
        engine.run(feeds)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


if __name__ == "__main__":
    main()
