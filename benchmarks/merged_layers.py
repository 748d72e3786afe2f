"""Compare speed and outputs of networks before and after merging their training-time parallel layers.

Usage: python benchmarks/merged_layers.py [MODEL...] [--turns N] [--json FILE]

timm's networks with random weights, traced before and after the merge, on onnxruntime with one thread, in turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx_ir as ir

from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.table import this_machine
from edgebone_export.graphs.passes.contract import GraphPass
from edgebone_export.graphs.passes.fold_constants import FoldConstants
from edgebone_export.graphs.passes.slim import Slim
from edgebone_export.graphs.trace import INPUT, trace
from edgebone_export.models.contract import Backbone, ModelRequest
from edgebone_export.models.registry import load_backbone
from edgebone_export.models.timm_models import merge
from edgebone_export.pictures import sample_pictures
from edgebone_export.proof.verify import check_merged, make_reference

MODELS = (
    "mobileone_s0",
    "fastvit_t8",
    "repvgg_a0",
    "repvit_m0_9",
    "repghostnet_050",
    "ghostnetv3_050",
    "levit_128s",
    "tiny_vit_5m_224",
)
PICTURES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    machine = this_machine()
    print(machine)
    print(f"{'model':18} {'trained ms':>10} {'merged ms':>10} {'nodes':>6} {'merged':>6} {'max rel':>8} {'cosine':>11}")
    rows = []
    pictures = sample_pictures(None)[0][:PICTURES]
    for name in args.models:
        trained = dataclasses.replace(load_backbone(ModelRequest(f"timm/{name}", weights="random")), merged=None)
        merged = dataclasses.replace(trained, merged=merge(trained.module))
        parity = check_merged(merged, make_reference(trained, pictures))
        graphs = [graph_of(trained), graph_of(merged)]
        nodes = [len(graph.graph) for graph in graphs]
        ms = in_turns(graphs, trained.preprocess.size_hw, args.turns)
        print(
            f"{name:18} {ms[0]:10.2f} {ms[1]:10.2f} {nodes[0]:6} {nodes[1]:6} {parity.max_rel:8.1e} "
            f"{parity.cosine:11.8f}",
            flush=True,
        )
        rows.append({"model": name, "trained_ms": ms[0], "merged_ms": ms[1], "nodes": nodes, "parity": parity})
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"machine": machine, "rows": rows})))


def graph_of(backbone: Backbone) -> ir.Model:
    traced = trace(backbone, (1, 1))
    passes: list[GraphPass] = [FoldConstants(traced.layer_norms), Slim(traced.layer_norms)]
    model = traced.model
    for graph_pass in passes:
        model = graph_pass.apply(model)
    return model


def in_turns(graphs: list[ir.Model], size_hw: tuple[int, int], turns: int) -> list[float]:
    """Return the fastest run of each in milliseconds, which a busy machine disturbs least."""
    images = np.random.default_rng(0).standard_normal((1, 3, *size_hw), np.float32)
    fastest = [float("inf")] * len(graphs)
    engines = [OnnxRuntimeEngine(ir.to_proto(graph).SerializeToString(), threads=1) for graph in graphs]
    for _ in range(turns + 1):
        for place, engine in enumerate(engines):
            started = time.perf_counter()
            engine.run({INPUT: images})
            fastest[place] = min(fastest[place], 1e3 * (time.perf_counter() - started))
    for engine in engines:
        engine.close()
    return fastest


if __name__ == "__main__":
    main()
