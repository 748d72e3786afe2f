"""Heads as files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgebone.core.bundle import open_bundle
from edgebone.core.head_file import SCHEMA, Backbone, HeadFile, HeadManifest, head_bytes, parse_head
from edgebone.core.manifest import Head
from edgebone.core.tensors import TensorSpec
from edgebone_export.heads.features.taps import taps_of


def linear_head(
    bundle: Path,
    name: str,
    taps: Sequence[str] = ("embedding",),
    labels: Sequence[str] = ("a", "b", "c"),
    seed: int = 0,
) -> HeadFile:
    """A matrix of random weights on the means of taps, as a head that was fitted on the bundle's backbone."""
    with open_bundle(bundle) as opened:
        manifest = opened.manifest
        reads = {tap: taps_of(opened)[tap] for tap in taps}
    rng = np.random.default_rng(seed)
    nodes, weights, scores = [], [], []
    for tap, place in reads.items():
        vector = tap
        if len(place.shape) == 3:
            nodes.append(helper.make_node("GlobalAveragePool", [tap], [f"{tap}_mean"], name=f"{tap}_mean"))
            nodes.append(helper.make_node("Flatten", [f"{tap}_mean"], [f"{tap}_flat"], name=f"{tap}_flat"))
            vector = f"{tap}_flat"
        matrix = rng.normal(size=(place.shape[0], len(labels))).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"{tap}_weight"))
        scores.append(f"{tap}_scores" if len(reads) > 1 else "scores")
        nodes.append(helper.make_node("MatMul", [vector, f"{tap}_weight"], scores[-1:], name=f"{tap}_scores"))
    if len(reads) > 1:
        nodes.append(helper.make_node("Sum", scores, ["scores"], name="sum"))
    inputs = [helper.make_tensor_value_info(k, TensorProto.FLOAT, ["batch", *v.shape]) for k, v in reads.items()]
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(labels)])
    made = helper.make_graph(nodes, "head", inputs, [output], weights)
    graph = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(graph, full_check=True)
    own = HeadManifest(
        schema=SCHEMA,
        name=name,
        created_by="edgebone tests",
        created_at="2026-01-01T00:00:00Z",
        head=Head("classification@1", ("scores",), tuple(labels), {"activation": "softmax", "top_k": 2}),
        outputs=(TensorSpec("scores", "float32", ("batch", len(labels))),),
        reads=reads,
        backbone=Backbone(
            manifest.model.name, manifest.model.weights.name, manifest.preprocess, "fp32", "onnxruntime fp32"
        ),
        report={},
        sha256="",
    )
    return parse_head(head_bytes(own, graph.SerializeToString()), f"{name}.head")


def saved(head: HeadFile, folder: Path) -> Path:
    path = folder / f"{head.manifest.name}.head"
    path.write_bytes(head_bytes(head.manifest, head.graph))
    return path


def changed(head: HeadFile, **parts: Any) -> HeadFile:
    """A head whose manifest says something else."""
    return parse_head(head_bytes(msgspec.structs.replace(head.manifest, **parts), head.graph), head.where)
