"""The whole import: read, wrap, append the decoding, prove, write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone.core.bundle_writing import check_target, write_bundle
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.manifest import Head, ModelInfo, Parity, Preprocess, Weights
from edgebone.core.reading import sha256_of
from edgebone.core.tensors import TensorSpec
from edgebone.decode import is_detector, make_box_reader, make_decoder
from edgebone.decode.detections import BoxParams
from edgebone.engines.onnxruntime import OnnxRuntimeEngine
from edgebone.preprocess import preprocess as fill
from edgebone_export.assemble import FILE, ExportReport, describe, golden_files, manifest_of, report_json
from edgebone_export.backbones import Decode
from edgebone_export.errors import ExportError
from edgebone_export.importers.conventions import find_labels, find_preprocess
from edgebone_export.importers.graph_decode import IN_GRAPH, AppendDecoding, Decoding
from edgebone_export.importers.onnx_file import fix_input, read_onnx
from edgebone_export.passes.contract import GraphPass, run_passes
from edgebone_export.passes.describe import Describe
from edgebone_export.passes.fold_normalization import FoldNormalization
from edgebone_export.passes.uint8_input import Uint8Input
from edgebone_export.pictures import sample_pictures
from edgebone_export.trace import INPUT
from edgebone_export.verify import Reference, check_graph, comparisons_of, normalize, run_in_batches

# Of 64 COCO pictures at a score of 0.01, 300 boxes before suppression cost 0.6 points of YOLOX-nano's AP50, 1000 none.
BOXES = 1000
_MADE_BY = "the imported file under onnxruntime"


@dataclass(frozen=True)
class HeadSpec:
    """What the user says of one head.

    Attributes:
        decoder: The decoder's name, without its version; ``yolo-end2end`` reads rows that need no suppression.
        outputs: The graph outputs that it reads; empty takes the output of the head's own name, or all.
        labels: Class names; None takes those of the file's metadata.
        params: The decoder's settings.
    """

    decoder: str
    outputs: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kind:
    """A decoder as the user names it: the runtime's name, and the settings that its family is used with."""

    decoder: str
    head: str
    params: Mapping[str, Any]
    needs_labels: bool = True


_KINDS = {
    # The thresholds are the families' own: YOLOX's evaluation, ultralytics' and yolov5's predict, DETR's none.
    "yolox": _Kind("yolox@1", "detections", {"score": 0.25, "iou": 0.65}),
    "yolov5": _Kind("yolov5@1", "detections", {"score": 0.25, "iou": 0.45}),
    "yolov8": _Kind("yolov8@1", "detections", {"score": 0.25, "iou": 0.7}),
    "yolo-end2end": _Kind("boxes@1", "detections", {"score": 0.25, "iou": None}),
    "detr": _Kind("detr@1", "detections", {"score": 0.5, "iou": None}),
    "ssd": _Kind("ssd@1", "detections", {"score": 0.5, "iou": 0.45}),
    "classification": _Kind("classification@1", "classification", {}),
    "segmentation": _Kind("segmentation@1", "segmentation", {}),
    "embedding": _Kind("embedding@1", "embedding", {}, needs_labels=False),
    "features": _Kind("features@1", "features", {}, needs_labels=False),
    "raw": _Kind("raw@1", "raw", {}, needs_labels=False),
}
DECODERS = tuple(_KINDS)


def import_onnx(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    heads: Mapping[str, HeadSpec] | HeadSpec,
    preprocess: str | Preprocess | None = None,
    decode: Decode = "graph",
    boxes: int = BOXES,
    size_hw: tuple[int, int] | None = None,
    batch: tuple[int, int] | None = None,
    samples: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Wrap a foreign ONNX file into a bundle, and prove that it still computes the same.

    Args:
        path: The file; data that it keeps in others must lie in its folder.
        output: The bundle to write; a name that ends in ``.zip`` gives a single file.
        heads: How the outputs are read: one head, or several by name.
        preprocess: A convention's name (``yolox``, ``ultralytics``, …), a JSON file, or the preprocessing
            itself; None takes what the file's own metadata says, and refuses where it says nothing.
        decode: ``graph`` appends the decoding to the graph where that is exact; ``host`` leaves it to the runtime.
        boxes: How many boxes a decoded graph gives, at most.
        size_hw: Height and width, where the file leaves them free, in pixels.
        batch: Smallest and largest batch, where the file leaves it free.
        samples: A folder of pictures to verify on, instead of made ones.
        overwrite: Replace an existing bundle.
        progress: Called with each step's name as it begins.

    Raises:
        ExportError: The file cannot be read or run, nothing says how its pictures are prepared, or a decoder does
            not fit its outputs.
        ParityError: The graph, after some pass, does not compute what the file computes; nothing is written.
        OutputError: The bundle cannot be written.
    """
    started = time.monotonic()
    source, target = Path(path), Path(output)
    check_target(target, overwrite)
    progress("read")
    model = read_onnx(source)
    size, batch_range = fix_input(model, source, size_hw, batch)
    spec = find_preprocess(preprocess, model.metadata_props, size)
    model.graph.inputs[0].name = INPUT
    progress("reference: the file under onnxruntime")
    pictures, pictures_from = sample_pictures(None if samples is None else Path(samples))
    raw = _reference(model, spec, pictures, batch_range, source)
    raw_heads = _heads(heads, raw.outputs, model.metadata_props, size)
    used = dict.fromkeys(name for head in raw_heads.values() for name in head.outputs)
    raw = Reference(
        raw.uint8,
        raw.floats,
        {name: raw.outputs[name] for name in used},
        comparisons_of(raw_heads, raw.outputs),
        _MADE_BY,
    )
    decodings = _decodings(raw_heads, raw.outputs, boxes) if decode == "graph" else {}
    final_heads = {name: _final_head(head, decodings.get(name)) for name, head in raw_heads.items()}
    final = _final_reference(raw, raw_heads, decodings, final_heads, size)

    def check(graph: ir.Model) -> Parity:
        progress(f"verify: {sum(1 for _ in graph.graph)} nodes")
        decoded = {value.name for value in graph.graph.outputs} == final.outputs.keys()
        return check_graph(ir.to_proto(graph).SerializeToString(), final if decoded else raw, batch_range)

    model = AppendDecoding((), tuple(raw.outputs), size).apply(model)
    library = f"ONNX opset {model.opset_imports.get('', 0)}, by {model.producer_name or 'an unknown producer'}"
    weights = Weights(source.name, f"imported from {source.name}", sha256_of(source), "nothing to verify it against")
    passes: list[GraphPass] = [
        Uint8Input(spec),
        FoldNormalization(),
        AppendDecoding(tuple(decodings.values()), tuple(final.outputs), size),
        Describe(describe(source.stem, library, weights, spec)),
    ]
    model, records = run_passes(model, passes, check, first="the file")
    content = ir.to_proto(model).SerializeToString()
    parity = check_graph(content, final, batch_range)
    info = ModelInfo(source.stem, library, _parameter_count(model), weights)
    manifest = manifest_of(info, spec, final_heads, final, batch_range, parity)
    decoded_in = {name: "graph" if name in decodings else "host" for name in final_heads}
    report = report_json(manifest, pictures_from, records, model, len(content), decoded_in=decoded_in)
    files = {FILE: content, **golden_files(pictures[0], final), "report.json": report}
    progress("write")
    write_bundle(target, manifest, files, overwrite)
    total = sum(map(len, files.values()))
    return ExportReport(target, manifest, parity, None, round(time.monotonic() - started, 2), total)


def _reference(
    model: ir.Model, spec: Preprocess, pictures: Sequence[NDArray[np.uint8]], batch: tuple[int, int], path: Path
) -> Reference:
    """What the file itself answers, before anything is changed."""
    inputs = np.zeros((len(pictures), *spec.size_hw, 3), np.uint8)
    for picture, out in zip(pictures, inputs, strict=True):
        fill(spec, picture, out)
    value = model.graph.inputs[0]
    floats: NDArray[Any] = normalize(spec, inputs)
    if value.shape is not None and value.shape[3] == 3:
        floats = np.ascontiguousarray(floats.transpose(0, 2, 3, 1))
    if value.dtype == ir.DataType.FLOAT16:
        floats = floats.astype(np.float16)
    try:
        with OnnxRuntimeEngine(ir.to_proto(model).SerializeToString()) as engine:
            outputs = run_in_batches(engine, floats, batch[0])
    except EngineError as error:
        raise ExportError(f"{path}: {error}") from error
    for name, values in outputs.items():
        if values.ndim < 1 or len(values) != len(inputs):
            raise ExportError(
                f"{path}: output {name} has shape {list(values.shape)} for {len(inputs)} pictures; "
                "every output must have the batch first"
            )
        if not np.isfinite(values).all():
            raise ExportError(f"{path}: the file itself gives NaN or infinity in {name}")
    return Reference(inputs, floats, outputs, {}, _MADE_BY)


def _heads(
    stated: Mapping[str, HeadSpec] | HeadSpec,
    outputs: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    size_hw: tuple[int, int],
) -> dict[str, Head]:
    """The heads as they read the file's own outputs; each decoder is built once, which checks that it fits."""
    single = isinstance(stated, HeadSpec)
    named = {_kind(stated).head: stated} if isinstance(stated, HeadSpec) else stated
    heads = {}
    for name, spec in named.items():
        kind = _kind(spec)
        labels = spec.labels if spec.labels is not None else find_labels(None, metadata)
        if kind.needs_labels and not labels:
            raise ExportError(f"head {name}: {spec.decoder} needs the classes' names: --labels FILE, one name a line")
        wanted = _output_names(name, spec, kind, outputs, single)
        labels = tuple(labels or ()) if kind.needs_labels else ()
        head = Head(kind.decoder, wanted, labels, {**kind.params, **spec.params})
        try:
            make_decoder(name, head, _specs(wanted, outputs), size_hw)
        except BundleError as error:
            raise ExportError(str(error)) from error
        heads[name] = head
    return heads


def _kind(spec: HeadSpec) -> _Kind:
    if spec.decoder not in _KINDS:
        raise ExportError(f"there is no decoder {spec.decoder}; choose {', '.join(DECODERS)}")
    return _KINDS[spec.decoder]


def _output_names(
    name: str, spec: HeadSpec, kind: _Kind, outputs: Mapping[str, NDArray[Any]], single: bool
) -> tuple[str, ...]:
    """Which outputs a head reads, in its decoder's order."""
    listed = ", ".join(f"{key} {list(values.shape[1:])}" for key, values in outputs.items())
    unknown = [item for item in spec.outputs if item not in outputs]
    if unknown:
        raise ExportError(f"head {name}: there is no output {', '.join(unknown)}; the file has {listed}")
    if spec.outputs:
        return spec.outputs
    if not single:
        if name not in outputs:
            raise ExportError(
                f"head {name}: say which outputs it reads: {name}={spec.decoder}:OUTPUT,…; the file has {listed}"
            )
        return (name,)
    if kind.decoder in ("detr@1", "ssd@1") and len(outputs) == 2:
        # Four numbers a row are the boxes, wherever the file lists them, unless there are four classes, too.
        boxes = [key for key, values in outputs.items() if values.shape[-1] == 4]
        if len(boxes) == 1:
            return (*(key for key in outputs if key not in boxes), *boxes)
    return tuple(outputs)


def _specs(names: Sequence[str], outputs: Mapping[str, NDArray[Any]]) -> list[TensorSpec]:
    return [TensorSpec(name, outputs[name].dtype.name, ("batch", *outputs[name].shape[1:])) for name in names]


def _decodings(heads: Mapping[str, Head], outputs: Mapping[str, NDArray[Any]], boxes: int) -> dict[str, Decoding]:
    """What is appended to the graph, by head."""
    found = {}
    for name, head in heads.items():
        shapes = tuple(tuple(int(size) for size in outputs[item].shape) for item in head.outputs)
        if head.decoder in IN_GRAPH and outputs[head.outputs[0]].dtype.kind == "f":
            suffix = "boxes" if is_detector(name, head) else "classes"
            found[name] = Decoding(head, f"{name}_{suffix}", shapes, boxes)
    return found


def _final_head(head: Head, decoding: Decoding | None) -> Head:
    """The head as the runtime reads it."""
    if decoding is None:
        return head
    if head.decoder == "segmentation@1":
        return Head(head.decoder, (decoding.output,), head.labels)
    params = {key: value for key, value in head.params.items() if key in BoxParams.__struct_fields__}
    return Head("boxes@1", (decoding.output,), head.labels, params)


def _final_reference(
    raw: Reference,
    raw_heads: Mapping[str, Head],
    decodings: Mapping[str, Decoding],
    final_heads: Mapping[str, Head],
    size_hw: tuple[int, int],
) -> Reference:
    """What the graph should answer once it decodes: the file's own outputs, decoded in NumPy."""
    outputs: dict[str, NDArray[Any]] = {}
    for name, head in final_heads.items():
        if name not in decodings:
            outputs.update({item: raw.outputs[item] for item in head.outputs})
        elif is_detector(name, head):
            outputs[head.outputs[0]] = _best_rows(name, raw_heads[name], raw.outputs, decodings[name], size_hw)
        else:
            values = raw.outputs[raw_heads[name].outputs[0]]
            threshold = raw_heads[name].params.get("threshold")
            best = values.argmax(axis=1) if threshold is None else values[:, 0] > threshold
            outputs[head.outputs[0]] = best.astype(np.uint8)
    return Reference(raw.uint8, raw.floats, outputs, comparisons_of(final_heads, outputs), _MADE_BY)


def _best_rows(
    name: str, head: Head, outputs: Mapping[str, NDArray[Any]], decoding: Decoding, size_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """The k best boxes of each picture, by the runtime's own reader: (n, k, 6)."""
    read = make_box_reader(name, head, _specs(head.outputs, outputs), size_hw, score=0.0)
    pictures = []
    for index in range(len(outputs[head.outputs[0]])):
        xyxy, scores, class_id = read([outputs[item][index].astype(np.float32) for item in head.outputs])
        rows = np.concatenate([xyxy, scores[:, None], class_id[:, None]], axis=1, dtype=np.float32)
        pictures.append(rows[np.argsort(-scores, kind="stable")[: decoding.boxes]])
    return np.stack(pictures)


def _parameter_count(model: ir.Model) -> int:
    """Numbers that the file holds: trained parameters, and what its exporter made constants of."""
    return sum(value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None)
