"""Run a whole import: read, arrange, append decoding, verify, open, write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgebone.core.bundle_writing import check_target, write_bundle
from edgebone.core.errors import EdgeboneError
from edgebone.core.manifest import Head, ModelInfo, Parity, Preprocess, Weights
from edgebone.core.reading import sha256_of
from edgebone.decode import make_box_reader, spec_of
from edgebone.decode.registry import setting_names
from edgebone.engines.batches import in_batches
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.preprocess import preprocess as fill
from edgebone_export.bundling.assemble import (
    FILE,
    ExportReport,
    ImportedReading,
    describe,
    golden_files,
    manifest_of,
    report_json,
)
from edgebone_export.errors import ExportError
from edgebone_export.graphs.passes.contract import GraphPass, run_passes
from edgebone_export.graphs.passes.describe import Describe
from edgebone_export.graphs.passes.fold_normalization import FoldNormalization
from edgebone_export.graphs.passes.gather_rows import GatherRows
from edgebone_export.graphs.passes.slim import Slim
from edgebone_export.graphs.passes.uint8_input import Uint8Input
from edgebone_export.graphs.trace import INPUT
from edgebone_export.importers.arrange import ArrangeOutputs
from edgebone_export.importers.conventions import find_preprocess
from edgebone_export.importers.graph_decode import AppendDecoding, Decoding
from edgebone_export.importers.heads import DECODERS, HeadSpec, is_instances, name_heads, read_heads, specs_of
from edgebone_export.importers.meaning import best, check_meaning
from edgebone_export.importers.onnx_file import read_onnx, rename_clashes
from edgebone_export.importers.picture_input import PictureInput, bind, find_input, insert_grey, to_grey
from edgebone_export.importers.publishers import read_metadata
from edgebone_export.importers.trial import check_expected, read_expected, trial_bundle, try_engines
from edgebone_export.models.grey import grey_weights
from edgebone_export.models.output_kinds import Decode
from edgebone_export.pictures import sample_pictures
from edgebone_export.proof.verify import Reference, check_graph, comparisons_of, normalize
from edgebone_export.quantization.reduced import with_agreement

__all__ = ["BOXES", "DECODERS", "HeadSpec", "import_onnx"]

# On 64 COCO pictures at a score of 0.01, 300 boxes before suppression cost YOLOX-nano 0.6 points of AP50, 1000 none.
BOXES = 1000
_MADE_BY = "the imported file under onnxruntime"


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
    bound: Mapping[str, Any] | None = None,
    expect: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Import an ONNX file into a bundle and verify that its outputs do not change.

    Args:
        path: The ONNX file; its external data must be in its folder.
        output: Path of the bundle; a name ending in ``.zip`` makes a single file.
        heads: How to read the outputs: one head, or several by name.
        preprocess: A convention's name (``yolox``, ``ultralytics``, …), a JSON file, or the preprocessing
            itself; None takes it from the file's own metadata, and raises if that has none.
        decode: ``graph`` appends decoding to the graph where that is exact; ``host`` leaves it to the runtime.
        boxes: Largest number of boxes that a decoded graph returns.
        size_hw: Height and width in pixels where the file leaves them dynamic; None takes them from its metadata.
        batch: Smallest and largest batch size, where the file leaves it dynamic.
        samples: Folder of pictures to verify on; synthetic pictures if None.
        bound: Values of inputs other than the picture, by name; RT-DETR's and Paddle's are known.
        expect: JSON file with the user's own answers, which the bundle must reproduce.
        overwrite: Replace an existing bundle.
        progress: Called with the name of each step as it starts.

    Raises:
        ExportError: The file cannot be read or run, its preprocessing is unknown, or a decoder does not fit its
            outputs or reads impossible values.
        ParityError: The graph does not match the file after one of the passes, or the bundle does not reproduce
            the expected answers; nothing is written.
        OutputError: The bundle cannot be written.
    """
    started = time.monotonic()
    source, target = Path(path), Path(output)
    check_target(target, overwrite)
    expected = None if expect is None else read_expected(Path(expect))
    progress("read")
    model = read_onnx(source)
    said = read_metadata(model.metadata_props)
    taken = find_input(model, source, size_hw, batch, said.size_hw if preprocess is None else None, bound or {})
    size, batch_range = taken.size_hw, taken.batch
    spec = find_preprocess(preprocess, said, size)
    specs = name_heads(heads)
    progress("reference: the file in onnxruntime")
    pictures, pictures_from = sample_pictures(None if samples is None else Path(samples))
    inputs = np.zeros((len(pictures), *size, 3), np.uint8)
    for picture, out in zip(pictures, inputs, strict=True):
        fill(spec, picture, out)
    # A file that takes bytes normalises them itself.
    bytes_in = taken.dtype == ir.DataType.UINT8
    planes: NDArray[Any] = inputs.transpose(0, 3, 1, 2) if bytes_in else normalize(spec, inputs)
    if taken.grey:
        shares = grey_weights(spec, str(source))
        runs = _run_file(model, taken, to_grey(planes, shares), source)
        taken = insert_grey(model, taken, shares)
    else:
        runs = _run_file(model, taken, planes, source)
    _drop_wrong_shapes(model, runs)
    bind(model, taken)
    model.graph.inputs[0].name = INPUT
    renamed = rename_clashes(model, specs)
    runs = {renamed.get(name, name): values for name, values in runs.items()}
    specs = {
        name: replace(item, outputs=tuple(renamed.get(output, output) for output in item.outputs))
        for name, item in specs.items()
    }
    reading = read_heads(specs, isinstance(heads, HeadSpec), runs, batch_range[0], len(pictures), said, size)
    raw_heads = reading.heads
    raw = Reference(
        inputs,
        taken.feeds(planes)[taken.name],
        reading.outputs,
        comparisons_of(raw_heads, reading.outputs),
        _MADE_BY,
    )
    doubts = _doubts(raw_heads, raw.outputs, size)
    if bytes_in and (any(spec.mean) or spec.std != (1, 1, 1)) and said.preprocess is None:
        doubts.append("the file takes bytes: mean and std of the preprocessing are ignored")
    decodings = _decodings(raw_heads, raw.outputs, boxes) if decode == "graph" else {}
    final_heads = {name: _final_head(head, decodings.get(name)) for name, head in raw_heads.items()}
    final = _final_reference(raw, raw_heads, decodings, final_heads, size)

    def check(graph: ir.Model) -> Parity:
        progress(f"verify: {sum(1 for _ in graph.graph)} nodes")
        decoded = {value.name for value in graph.graph.outputs} == final.outputs.keys()
        return check_graph(ir.to_proto(graph).SerializeToString(), final if decoded else raw, batch_range)

    model = ArrangeOutputs(reading.steps, tuple(raw.outputs)).apply(model)
    library = f"ONNX opset {model.opset_imports.get('', 0)}, by {model.producer_name or 'an unknown producer'}"
    weights = Weights(source.name, f"imported from {source.name}", sha256_of(source), "nothing to verify it against")
    gathers = any(node.op_type == "GatherElements" for node in model.graph)
    passes: list[GraphPass] = [
        Uint8Input(spec),
        FoldNormalization(),
        # Shapes computed in the graph would hide from the decoding which nodes it may move, and which rows are whole.
        *([Slim(layer_norms=0, foreign=True)] if decodings or gathers else []),
        *([GatherRows()] if gathers else []),
        AppendDecoding(tuple(decodings.values()), tuple(final.outputs), size),
        Describe(describe(source.stem, library, weights, spec)),
    ]
    model, records = run_passes(model, passes, check, first="the file")
    content = ir.to_proto(model).SerializeToString()
    parity = check_graph(content, final, batch_range)
    info = ModelInfo(source.stem, library, _parameter_count(model), weights)
    manifest = manifest_of(info, spec, final_heads, final, batch_range, parity)
    progress("bf16 against fp32")
    manifest = with_agreement(manifest, content, inputs, final.outputs)
    files = {FILE: content, **golden_files(pictures[0], final)}
    with trial_bundle(manifest, files) as trial:
        progress("open the bundle on this machine's engines")
        engines = try_engines(trial)
        agreement = None
        if expect is not None and expected is not None:
            progress("compare with the expected answers")
            agreement = check_expected(trial, expected, Path(expect).parent)
    doubts += [f"{engine} cannot run it: {why}" for engine, why in engines.items() if why]
    doubts += [agreement.doubt] if agreement is not None and agreement.doubt else []
    decoded_in = {name: "graph" if name in decodings else "host" for name in final_heads}
    report = report_json(
        manifest, pictures_from, records, model, len(content), decoded_in=decoded_in, doubts=doubts,
        engines={engine: why or "right" for engine, why in engines.items()}, expected=agreement,
    )  # fmt: skip
    files["report.json"] = report
    progress("write")
    write_bundle(target, manifest, files, overwrite)
    total = sum(map(len, files.values()))
    seconds = round(time.monotonic() - started, 2)
    reading_of = ImportedReading(tuple(doubts), None if agreement is None else str(agreement))
    return ExportReport(target, manifest, parity, None, seconds, total, reading_of)


def _run_file(model: ir.Model, taken: PictureInput, planes: NDArray[Any], path: Path) -> dict[str, list[NDArray[Any]]]:
    """Run the original file: return its outputs by name, one array per run."""
    size = taken.batch[0]
    try:
        with OnnxRuntimeEngine(ir.to_proto(model).SerializeToString()) as engine:
            runs = [engine.run(taken.feeds(some)) for some in in_batches(planes, size)]
    except EdgeboneError as error:
        raise ExportError(f"{path}: {error}") from error
    return {name: [run[name] for run in runs] for name in runs[0]}


def _drop_wrong_shapes(model: ir.Model, runs: Mapping[str, Sequence[NDArray[Any]]]) -> None:
    """Drop the file's declared output shapes where they are wrong: onnxruntime runs it regardless."""
    for value in model.graph.outputs:
        said, given = value.shape, runs[str(value.name)][0].shape
        if said is not None and (
            len(said) != len(given) or any(isinstance(a, int) and a != b for a, b in zip(said, given, strict=True))
        ):
            value.shape = ir.Shape([None] * len(given))


def _doubts(heads: Mapping[str, Head], outputs: Mapping[str, NDArray[Any]], size_hw: tuple[int, int]) -> list[str]:
    """Return the doubts about the heads' results on the verification pictures."""
    doubts = []
    for name, head in heads.items():
        rows = None
        if spec_of(name, head).box_reader is not None:
            rows = np.concatenate([best(item) for item in _rows(name, head, outputs, size_hw)])
        doubts += check_meaning(name, head, outputs, rows, size_hw)
    return doubts


def _decodings(heads: Mapping[str, Head], outputs: Mapping[str, NDArray[Any]], boxes: int) -> dict[str, Decoding]:
    """Return the decodings to append to the graph, by head."""
    found = {}
    for name, head in heads.items():
        shapes = tuple(tuple(int(size) for size in outputs[item].shape) for item in head.outputs)
        spec = spec_of(name, head)
        if spec.in_graph and outputs[head.outputs[0]].dtype.kind == "f":
            suffix = "boxes" if spec.decoded else "classes"
            found[name] = Decoding(head, f"{name}_{suffix}", shapes, boxes)
    return found


def _final_head(head: Head, decoding: Decoding | None) -> Head:
    """Return the head as the runtime reads it."""
    if decoding is None:
        return head
    decoded = spec_of(decoding.output, head).decoded
    if decoded:
        # The prototypes stay as they are: only those of the boxes shown are summed, which the host knows.
        outputs = (decoding.output, *(head.outputs[1:] if is_instances(head) else ()))
        rows = Head(decoded, outputs, head.labels)
        kept = setting_names(decoding.output, rows)
        return msgspec.structs.replace(rows, params={key: item for key, item in head.params.items() if key in kept})
    return Head(head.decoder, (decoding.output,), head.labels)


def _final_reference(
    raw: Reference,
    raw_heads: Mapping[str, Head],
    decodings: Mapping[str, Decoding],
    final_heads: Mapping[str, Head],
    size_hw: tuple[int, int],
) -> Reference:
    """Return the expected outputs of the decoded graph: the file's own outputs, decoded in NumPy."""
    outputs: dict[str, NDArray[Any]] = {}
    for name, head in final_heads.items():
        if name not in decodings:
            outputs.update({item: raw.outputs[item] for item in head.outputs})
        elif spec_of(name, raw_heads[name]).decoded:
            outputs[head.outputs[0]] = _best_rows(name, raw_heads[name], raw.outputs, decodings[name], size_hw)
            outputs.update({item: raw.outputs[item] for item in head.outputs[1:]})
        else:
            values = raw.outputs[raw_heads[name].outputs[0]]
            threshold = raw_heads[name].params.get("threshold")
            best = values.argmax(axis=1) if threshold is None else values[:, 0] > threshold
            outputs[head.outputs[0]] = best.astype(np.uint8)
    return Reference(raw.uint8, raw.floats, outputs, comparisons_of(final_heads, outputs), _MADE_BY)


def _best_rows(
    name: str, head: Head, outputs: Mapping[str, NDArray[Any]], decoding: Decoding, size_hw: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the k best boxes of each picture, by the runtime's own reader: (n, k, 6 or more)."""
    rows = _rows(name, head, outputs, size_hw)
    return np.stack([item[np.argsort(-item[:, 4], kind="stable")[: decoding.boxes]] for item in rows])


def _rows(
    name: str, head: Head, outputs: Mapping[str, NDArray[Any]], size_hw: tuple[int, int]
) -> Iterator[NDArray[np.float32]]:
    """Return all boxes of each picture, whatever their score, by the runtime's own reader: (k, 6 or more)."""
    read = make_box_reader(name, head, specs_of(head.outputs, outputs), size_hw, score=0.0)
    for index in range(len(outputs[head.outputs[0]])):
        more: list[NDArray[np.float32]]
        boxes, scores, class_id, *more = read([outputs[item][index].astype(np.float32) for item in head.outputs])
        yield np.concatenate([boxes, scores[:, None], class_id[:, None], *more], axis=1, dtype=np.float32)


def _parameter_count(model: ir.Model) -> int:
    """Count the values in the file: trained parameters and the exporter's constants."""
    return sum(value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None)
