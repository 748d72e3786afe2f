"""Run a whole export: weights, network, trace, passes, verification, bundle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir
from torch import nn

from edgebone.core.bundle_writing import check_target, write_bundle
from edgebone.core.manifest import ModelInfo, Parity, Preprocess
from edgebone_export.bundling.assemble import FILE, ExportReport, describe, golden_files, manifest_of, report_json
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.graphs.passes.contract import GraphPass, run_passes
from edgebone_export.graphs.passes.describe import Describe
from edgebone_export.graphs.passes.fold_constants import FoldConstants
from edgebone_export.graphs.passes.fold_normalization import FoldNormalization
from edgebone_export.graphs.passes.slim import Slim
from edgebone_export.graphs.passes.uint8_input import Uint8Input
from edgebone_export.graphs.trace import trace
from edgebone_export.models.contract import ModelRequest
from edgebone_export.models.output_kinds import Decode, Kind, OutputKind
from edgebone_export.models.registry import load_backbone
from edgebone_export.pictures import sample_pictures
from edgebone_export.proof.verify import (
    check_against_library,
    check_graph,
    check_merged,
    check_preprocess,
    first_pictures,
    make_reference,
    rounding_note,
)
from edgebone_export.quantization.reduced import with_agreement

PICTURES_PER_PASS = 2


def export(
    model: str | nn.Module,
    output: str | os.PathLike[str],
    *,
    weights: str = "default",
    weights_dir: str | os.PathLike[str] | None = None,
    size_hw: tuple[int, int] | None = None,
    batch: tuple[int, int] = (1, 1),
    output_kind: OutputKind | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    backbone: str | None = None,
    decode: Decode = "graph",
    resize: int | None = None,
    kind: Kind | None = None,
    samples: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Export a network to a bundle and verify it.

    Nothing is written until verification succeeds: an export that fails or is killed leaves no files.

    Args:
        model: A torchvision or timm name, ``hf:`` and a folder or repository of transformers',
            ``package.module:callable``, or a module.
        output: Path of the bundle; a name ending in ``.zip`` makes a single file.
        weights: ``default``, a publisher's name, a file, or ``random`` (for tests; recorded in the bundle).
        weights_dir: Folder with publishers' weights files.
        size_hw: Input height and width in pixels; defaults to the size that the weights were trained at.
        batch: Smallest and largest batch size; ``(1, 1)`` is static.
        output_kind: ``logits``, ``embedding`` or ``features`` for a classifier; a network of your own also takes
            ``segmentation``, or ``raw`` for all of its outputs. None selects what the network was made for.
        labels: Class names that replace the library's; without the background class for detectors.
        preprocess: Preprocessing for a module of your own, which has no library to define it.
        backbone: Backbone of ``fasterrcnn``, ``retinanet`` or ``fcos``.
        decode: For segmentation: ``graph`` returns each pixel's best class, ``host`` the logits.
        resize: For classifiers: length of the picture's shorter side before the centre crop, in pixels.
        kind: What a network's outputs mean: ``classification`` (exactly one class), ``binary`` (one number: the label
            applies or not), ``multilabel`` (each label applies or not), ``regression`` (values). None assumes
            classes, and rejects a network whose outputs could be something else.
        samples: Folder of pictures to verify on; synthetic pictures if None.
        overwrite: Replace an existing bundle.
        progress: Called with the name of each step as it starts.

    Raises:
        UnknownModelError: No library has a model of this name.
        WeightsError: The weights cannot be found, verified or loaded.
        ParityError: The graph does not match PyTorch after one of the passes; nothing is written.
        ExportError: The network cannot be exported with these options.
        OutputError: The bundle cannot be written.
    """
    started = time.monotonic()
    path = Path(output)
    if not 1 <= batch[0] <= batch[1]:
        raise ExportError(f"expected a batch such as 1 or 1-8, found {batch[0]}-{batch[1]}")
    check_target(path, overwrite)
    progress("weights and network")
    network = load_backbone(
        ModelRequest(
            model,
            weights=weights,
            weights_dir=None if weights_dir is None else Path(weights_dir),
            size_hw=size_hw,
            output_kind=output_kind,
            labels=labels,
            preprocess=preprocess,
            backbone=backbone,
            decode=decode,
            resize=resize,
            kind=kind,
        )
    )
    progress("reference: eager PyTorch")
    pictures, pictures_from = sample_pictures(None if samples is None else Path(samples))
    reference = make_reference(network, pictures)
    against_library = None
    if network.library_detector is not None:
        progress("reference: the library's own detector")
        against_library = check_against_library(network, reference)
    merged = None
    if network.merged is not None:
        progress("reference: the network with merged layers")
        merged = check_merged(network, reference)
    preprocess_parity = None
    if network.reference_transform is not None:
        preprocess_parity = check_preprocess(network.preprocess, network.reference_transform, pictures, network.name)
    progress("trace")
    tracing = time.monotonic()
    traced = trace(network, batch)
    trace_seconds = round(time.monotonic() - tracing, 3)

    # A pass that breaks the graph breaks it for any picture; the final file is compared on all of them.
    few = first_pictures(reference, PICTURES_PER_PASS)

    def check(graph: ir.Model) -> Parity:
        progress(f"verify: {sum(1 for _ in graph.graph)} nodes")
        return check_graph(ir.to_proto(graph).SerializeToString(), few, batch)

    passes: list[GraphPass] = [
        FoldConstants(traced.layer_norms),
        Slim(traced.layer_norms),
        Uint8Input(network.preprocess),
        FoldNormalization(),
        Describe(describe(network.name, network.library, network.weights, network.preprocess)),
    ]
    try:
        graph, records = run_passes(traced.model, passes, check)
    except ParityError as error:
        raise ParityError(f"{error}{rounding_note(network, reference)}") from error
    content = ir.to_proto(graph).SerializeToString()
    progress("verify: the final file")
    parity = check_graph(content, reference, batch)
    model_info = ModelInfo(
        name=network.name,
        library=network.library,
        parameters=sum(parameter.numel() for parameter in network.module.parameters()),
        weights=network.weights,
    )
    manifest = manifest_of(model_info, network.preprocess, network.heads, reference, batch, parity)
    progress("bf16 against fp32")
    manifest = with_agreement(manifest, content, reference.uint8, reference.outputs)
    report = report_json(
        manifest,
        pictures_from,
        records,
        graph,
        len(content),
        output=network.output_kind,
        features=[asdict(item) for item in network.features],
        preprocess_against_library=None if preprocess_parity is None else asdict(preprocess_parity),
        detections_against_library=None if against_library is None else asdict(against_library),
        merged_against_trained=merged,
        trace_seconds=trace_seconds,
    )
    files = {FILE: content, **golden_files(pictures[0], reference), "report.json": report}
    progress("write")
    write_bundle(path, manifest, files, overwrite)
    size = sum(map(len, files.values()))
    return ExportReport(path, manifest, parity, preprocess_parity, round(time.monotonic() - started, 2), size)
