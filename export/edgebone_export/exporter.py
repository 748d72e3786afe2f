"""The whole export: weights, network, trace, passes, proof, bundle."""

from __future__ import annotations

import datetime
import importlib.metadata
import io
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import nn

import edgebone
from edgebone.core.bundle import check_target, write_bundle
from edgebone.core.machine import Machine
from edgebone.core.manifest import SCHEMA, Golden, Head, Manifest, ModelInfo, Parity, Preprocess, Variant
from edgebone.core.tensors import TensorSpec
from edgebone_export.backbones import Backbone, OutputKind, load_backbone
from edgebone_export.errors import ExportError
from edgebone_export.passes.contract import GraphPass, PassRecord, run_passes
from edgebone_export.passes.describe import Describe
from edgebone_export.passes.fold_constants import FoldConstants
from edgebone_export.passes.fold_normalization import FoldNormalization
from edgebone_export.passes.slim import Slim
from edgebone_export.passes.uint8_input import Uint8Input
from edgebone_export.pictures import sample_pictures
from edgebone_export.trace import BATCH, INPUT, trace
from edgebone_export.verify import (
    FP32_MAX_REL,
    PreprocessParity,
    Reference,
    check_graph,
    check_preprocess,
    make_reference,
)

_VARIANT = "fp32"
_FILE = f"onnx/{_VARIANT}.onnx"
_GOLDEN_IMAGE, _GOLDEN_TENSORS = "golden/image.png", "golden/tensors.npz"
_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "onnxslim",
    "onnxruntime",
    "numpy",
    "pillow",
)
_PARAMETERS = {
    "logits": ("classification", "classification@1", {"activation": "softmax", "top_k": 5}),
    "embedding": ("embedding", "embedding@1", {}),
}


@dataclass(frozen=True)
class ExportReport:
    """What an export made.

    Attributes:
        path: The bundle.
        manifest: Its manifest, without the file records.
        parity: The graph against eager PyTorch.
        preprocess_parity: Preprocessing against the library's transform; None where the library has none.
        seconds: Time from the call to the written bundle.
        size_bytes: Size of all its files.
    """

    path: Path
    manifest: Manifest
    parity: Parity
    preprocess_parity: PreprocessParity | None
    seconds: float
    size_bytes: int


def export(
    model: str | nn.Module,
    output: str | os.PathLike[str],
    *,
    weights: str = "default",
    weights_dir: str | os.PathLike[str] | None = None,
    size_hw: tuple[int, int] | None = None,
    batch: tuple[int, int] = (1, 1),
    output_kind: OutputKind = "logits",
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    samples: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Export a network to a bundle, and prove it.

    Everything stays in memory until the proof is done: an export that fails or is killed leaves nothing.

    Args:
        model: A name of torchvision or timm, ``package.module:callable``, or a module.
        output: The bundle to write; a name that ends in ``.zip`` gives a single file.
        weights: ``default``, a publisher's name, a file, or ``random`` (for tests; the bundle says so).
        weights_dir: A folder with publishers' weights files.
        size_hw: Another input size than the weights were trained at, in pixels.
        batch: Smallest and largest batch; ``(1, 1)`` is static.
        output_kind: ``logits``, ``embedding`` or ``features``.
        labels: Class names, instead of the library's.
        preprocess: For a module of your own, which has no library to say it.
        samples: A folder of pictures to verify on, instead of made ones.
        overwrite: Replace an existing bundle.
        progress: Called with each step's name as it begins.

    Raises:
        UnknownModelError: No library has the model.
        WeightsError: The weights cannot be found, verified or loaded.
        ParityError: The graph, after some pass, does not compute what PyTorch computes; nothing is written.
        ExportError: The network cannot be exported as asked.
        OutputError: The bundle cannot be written.
    """
    started = time.monotonic()
    path = Path(output)
    if not 1 <= batch[0] <= batch[1]:
        raise ExportError(f"a batch is 1 or 1-8, not {batch[0]}-{batch[1]}")
    check_target(path, overwrite)
    progress("weights and network")
    backbone = load_backbone(
        model,
        weights=weights,
        weights_dir=None if weights_dir is None else Path(weights_dir),
        size_hw=size_hw,
        output_kind=output_kind,
        labels=labels,
        preprocess=preprocess,
    )
    progress("reference: eager PyTorch")
    pictures, pictures_from = sample_pictures(None if samples is None else Path(samples))
    reference = make_reference(backbone, pictures)
    preprocess_parity = None
    if backbone.reference_transform is not None:
        preprocess_parity = check_preprocess(backbone.preprocess, backbone.reference_transform, pictures, backbone.name)
    progress("trace")
    tracing = time.monotonic()
    traced = trace(backbone, batch)
    trace_seconds = round(time.monotonic() - tracing, 3)

    def check(graph: ir.Model) -> Parity:
        progress(f"verify: {sum(1 for _ in graph.graph)} nodes")
        return check_graph(ir.to_proto(graph).SerializeToString(), reference, batch)

    passes: list[GraphPass] = [
        FoldConstants(traced.layer_norms),
        Slim(traced.layer_norms),
        Uint8Input(backbone.preprocess),
        FoldNormalization(),
        Describe(_metadata(backbone)),
    ]
    graph, records = run_passes(traced.model, passes, check)
    content = ir.to_proto(graph).SerializeToString()
    progress("verify: the file itself")
    parity = check_graph(content, reference, batch)
    manifest = _manifest(backbone, batch, parity, reference)
    report = _report(manifest, backbone, preprocess_parity, pictures_from, trace_seconds, records, graph, len(content))
    files = {_FILE: content, **_golden(pictures[0], reference), "report.json": report}
    progress("write")
    write_bundle(path, manifest, files, overwrite)
    size = sum(map(len, files.values()))
    return ExportReport(path, manifest, parity, preprocess_parity, round(time.monotonic() - started, 2), size)


def _metadata(backbone: Backbone) -> dict[str, str]:
    return {
        "edgebone.model": f"{backbone.name} ({backbone.library})",
        "edgebone.weights": msgspec.json.encode(backbone.weights).decode(),
        "edgebone.preprocess": msgspec.json.encode(backbone.preprocess).decode(),
    }


def _manifest(backbone: Backbone, batch: tuple[int, int], parity: Parity, reference: Reference) -> Manifest:
    size: int | str = batch[0] if batch[0] == batch[1] else BATCH
    return Manifest(
        schema=SCHEMA,
        name=backbone.name,
        created_by=f"edgebone {edgebone.__version__}",
        created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        model=ModelInfo(
            name=backbone.name,
            library=backbone.library,
            parameters=sum(parameter.numel() for parameter in backbone.module.parameters()),
            weights=backbone.weights,
        ),
        preprocess=backbone.preprocess,
        input=TensorSpec(INPUT, "uint8", (size, *backbone.preprocess.size_hw, 3)),
        outputs=tuple(
            TensorSpec(name, "float32", (size, *reference.outputs[name].shape[1:])) for name in backbone.outputs
        ),
        heads=_head(backbone),
        variants={_VARIANT: Variant(_FILE, _VARIANT, batch, parity)},
        golden=Golden(_GOLDEN_IMAGE, _GOLDEN_TENSORS, FP32_MAX_REL),
        files={},
    )


def _head(backbone: Backbone) -> dict[str, Head]:
    if backbone.output_kind == "features":
        strides = [item.stride for item in backbone.features]
        return {"features": Head("features@1", backbone.outputs, (), {"strides": strides})}
    name, decoder, params = _PARAMETERS[backbone.output_kind]
    return {name: Head(decoder, backbone.outputs, backbone.labels, dict(params))}


def _golden(picture: NDArray[np.uint8], reference: Reference) -> dict[str, bytes]:
    """The first verification picture, its network input, and what PyTorch answered."""
    recorded = io.BytesIO()
    outputs: dict[str, Any] = {name: values[:1] for name, values in reference.outputs.items()}
    np.savez_compressed(recorded, input=reference.uint8[:1], **outputs)
    encoded = cv2.imencode(".png", picture)[1].tobytes()
    return {_GOLDEN_IMAGE: encoded, _GOLDEN_TENSORS: recorded.getvalue()}


def _report(
    manifest: Manifest,
    backbone: Backbone,
    preprocess_parity: PreprocessParity | None,
    pictures_from: str,
    trace_seconds: float,
    records: Sequence[PassRecord[Parity]],
    graph: ir.Model,
    file_bytes: int,
) -> bytes:
    content = {
        "model": manifest.model,
        "weights": backbone.weights,
        "output": backbone.output_kind,
        "features": [asdict(item) for item in backbone.features],
        "pictures": pictures_from,
        "preprocess_against_library": None if preprocess_parity is None else asdict(preprocess_parity),
        "trace_seconds": trace_seconds,
        "passes": [
            {"name": item.name, "seconds": item.seconds, "nodes": item.nodes, "parity": item.checked}
            for item in records
        ],
        "nodes": dict(Counter(node.op_type for node in graph.graph).most_common()),
        "onnx_bytes": file_bytes,
        "libraries": _versions(),
        "machine": Machine.probe(),
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2)


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
