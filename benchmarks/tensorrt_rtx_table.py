"""Compile every family in every precision with TensorRT-RTX: seconds, megabytes, and zero-points of INT8 graphs.

Compiled for compute capability 8.9 on the CPU; nothing is run. Ranges are measured on synthetic pictures, since the
question is only whether it compiles.

Usage: python benchmarks/tensorrt_rtx_table.py BUNDLE... [--json FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from edgebone.core.bundle import open_bundle
from edgebone.core.errors import EdgeboneError
from edgebone.engines.table import this_machine
from edgebone.engines.tensorrt.builder import compile_engine
from edgebone.engines.tensorrt.settings import CompileSettings, Target
from edgebone.preprocess import preprocess
from edgebone_export.pictures import synthesize
from edgebone_export.quantization.calibration import Calibration
from edgebone_export.quantization.recipes import RECIPES, Source, make_recipe

TARGET = Target("tensorrt-rtx", ("SM89",))


def zero_points(content: bytes) -> set[str]:
    """Return the zero-points of a graph: TensorRT computes only ``int8 0`` correctly."""
    graph = onnx.load_from_string(content).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = set()
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
            array = numpy_helper.to_array(constants[node.input[2]])
            found |= {f"{array.dtype} {float(value):g}" for value in np.unique(array.astype(np.float32))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    print(f"{'':24} {'precision':>9} {'seconds':>8} {'engine MB':>9}  zero-points")
    for path in args.bundles:
        with open_bundle(path) as bundle:
            variant = bundle.manifest.variants["fp32"]
            content = bundle.read(variant.file)
            spec, name = bundle.manifest.preprocess, bundle.manifest.name
        rng = np.random.default_rng(0)
        inputs = np.zeros((4, *spec.size_hw, 3), np.uint8)
        for out in inputs:
            preprocess(spec, synthesize((480, 640), rng), out)
        source = Source(content, path, Calibration("made", inputs), variant.batch, "percentile", lambda _: None)
        for precision in ("fp32", *dict.fromkeys(own for own, of in RECIPES if of == "tensorrt")):
            try:
                graph = content if precision == "fp32" else make_recipe(source, precision, "tensorrt").make(())
                made = compile_engine(graph, path, TARGET, CompileSettings(), variant.batch)
            except EdgeboneError as error:
                print(f"{name:24} {precision:>9} no: {str(error)[:150]}", flush=True)
                rows.append({"network": name, "precision": precision, "fails": str(error)})
                continue
            found = ", ".join(sorted(zero_points(graph))) or "none"
            size_mb = len(made.content) / 1e6
            print(f"{name:24} {precision:>9} {made.seconds:8.2f} {size_mb:9.1f}  {found}", flush=True)
            row = {"network": name, "precision": precision, "seconds": made.seconds, "engine_mb": size_mb}
            rows.append({**row, "zero_points": found})
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": this_machine(), "rows": rows})))


if __name__ == "__main__":
    main()
