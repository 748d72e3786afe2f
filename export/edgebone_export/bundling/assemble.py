"""Make a bundle's files from a verified graph: manifest, golden sample, report."""

from __future__ import annotations

import importlib.metadata
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone.core.compare import FP32
from edgebone.core.manifest import SCHEMA, Golden, Head, Manifest, ModelInfo, Parity, Preprocess, Variant
from edgebone.core.tensors import TensorSpec
from edgebone.core.version import created_at, created_by
from edgebone.engines.table import this_machine
from edgebone_export.graphs.passes.contract import PassRecord
from edgebone_export.graphs.trace import BATCH, INPUT
from edgebone_export.proof.verify import PreprocessParity, Reference

VARIANT = "fp32"
FILE = f"onnx/{VARIANT}.onnx"
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


@dataclass(frozen=True)
class ImportedReading:
    """How an imported file was interpreted.

    Attributes:
        doubts: One sentence for each uncertain point.
        agreement: How well it reproduces the user's own answers, in words; None if none were passed.
    """

    doubts: tuple[str, ...]
    agreement: str | None


@dataclass(frozen=True)
class ExportReport:
    """The result of an export or import.

    Attributes:
        path: The bundle.
        manifest: Its manifest, without the file records.
        parity: The graph compared with eager PyTorch, or with the imported file.
        preprocess_parity: Preprocessing compared with the library's transform; None if the library has none.
        seconds: Time from the call to the written bundle.
        size_bytes: Total size of its files.
        reading: How an imported file was interpreted; None for an export, where the library defines it.
    """

    path: Path
    manifest: Manifest
    parity: Parity
    preprocess_parity: PreprocessParity | None
    seconds: float
    size_bytes: int
    reading: ImportedReading | None = None


def manifest_of(
    model: ModelInfo,
    preprocess: Preprocess,
    heads: Mapping[str, Head],
    reference: Reference,
    batch: tuple[int, int],
    parity: Parity,
) -> Manifest:
    """Return the manifest of one graph; its outputs are the reference's."""
    size: int | str = batch[0] if batch[0] == batch[1] else BATCH
    return Manifest(
        schema=SCHEMA,
        name=model.name,
        created_by=created_by(),
        created_at=created_at(),
        model=model,
        preprocess=preprocess,
        input=TensorSpec(INPUT, "uint8", (size, *preprocess.size_hw, 3)),
        outputs=tuple(
            TensorSpec(name, values.dtype.name, (size, *values.shape[1:])) for name, values in reference.outputs.items()
        ),
        heads=dict(heads),
        variants={VARIANT: Variant(FILE, VARIANT, batch, parity)},
        golden=Golden(_GOLDEN_IMAGE, _GOLDEN_TENSORS, FP32.max_rel),
        files={},
    )


def golden_files(picture: NDArray[np.uint8], reference: Reference) -> dict[str, bytes]:
    """Return the first verification picture, its network input, and the original network's outputs."""
    recorded = io.BytesIO()
    outputs: dict[str, Any] = {name: values[:1] for name, values in reference.outputs.items()}
    np.savez_compressed(recorded, input=reference.uint8[:1], **outputs)
    encoded = cv2.imencode(".png", picture)[1].tobytes()
    return {_GOLDEN_IMAGE: encoded, _GOLDEN_TENSORS: recorded.getvalue()}


def report_json(
    manifest: Manifest,
    pictures_from: str,
    records: Sequence[PassRecord[Parity]],
    graph: ir.Model,
    file_bytes: int,
    **more: Any,
) -> bytes:
    """Return ``report.json``: the verification results with figures."""
    content = {
        "model": manifest.model,
        "weights": manifest.model.weights,
        **more,
        "pictures": pictures_from,
        "passes": [
            {"name": item.name, "seconds": item.seconds, "nodes": item.nodes, "parity": item.checked}
            for item in records
        ],
        "nodes": dict(Counter(node.op_type for node in graph.graph).most_common()),
        "onnx_bytes": file_bytes,
        "libraries": _versions(),
        "machine": this_machine(),
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2)


def describe(name: str, library: str, weights: object, preprocess: Preprocess) -> dict[str, str]:
    """Return the metadata that identifies the ONNX file even without its bundle."""
    return {
        "edgebone.model": f"{name} ({library})",
        "edgebone.weights": msgspec.json.encode(weights).decode(),
        "edgebone.preprocess": msgspec.json.encode(preprocess).decode(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
