"""The accuracy gate: add lower-precision variants to a bundle only if they meet the budget and are faster."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import Update, check_unchanged, update_bundle
from edgebone.core.errors import SourceError
from edgebone.core.golden import head_key, read_golden
from edgebone.core.head_file import HeadFile, parse_head
from edgebone.core.manifest import Accuracy, Manifest, Quantization, Variant
from edgebone.core.tensors import Array
from edgebone.engines.batches import batch_of, filled, run_all
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.opening import open_model
from edgebone.engines.protocol import Engine
from edgebone.engines.spec import Candidate
from edgebone.evaluate.evaluation_set import read_evaluation
from edgebone.evaluate.rehearsal import Rehearsal
from edgebone_export.errors import ExportError
from edgebone_export.proof.parity import measure_parity
from edgebone_export.quantization.calibration import read_calibration
from edgebone_export.quantization.ranges import Method
from edgebone_export.quantization.recipes import KNOWN, RECIPES, Recipe, Source, make_recipe
from edgebone_export.quantization.search import NotFound, search
from edgebone_export.quantization.speed import speedup

FP32 = "fp32"
# The smallest speedup that is worth a variant.
LEAST_SPEEDUP = 1.02
_PARITY_PICTURES = 8


@dataclass(frozen=True)
class Outcome:
    """The result of one variant.

    Attributes:
        name: The variant's name.
        kept: Whether it was added to the bundle.
        reason: The reason, in words.
        accuracy: Its accuracy; None if it could not be made.
        speedup: Speed relative to FP32 on its engine on this machine; None if it cannot be timed.
        size_bytes: Size of its file; 0 if not kept.
        fp32_layers: Names of the layers left in FP32.
    """

    name: str
    kept: bool
    reason: str
    accuracy: Accuracy | None = None
    speedup: float | None = None
    size_bytes: int = 0
    fp32_layers: tuple[str, ...] = ()


def quantize(
    path: str | os.PathLike[str],
    calibrate: str | os.PathLike[str] | None,
    evaluate: str | os.PathLike[str] | None = None,
    *,
    variants: Sequence[tuple[str, str]] = (("int8", "onnxruntime"), ("int8", "openvino"), ("int8", "tensorrt")),
    max_drop: float = 0.5,
    pictures: int = 128,
    method: Method | None = None,
    head: str | None = None,
    images: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
    notice: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Add lower-precision variants to a bundle, each within the accuracy budget.

    A variant that loses too much is retried with its costliest layers in FP32. One that still does, or that is not
    faster on its engine, is not kept, and the bundle is not changed.

    Args:
        path: The bundle.
        calibrate: Calibration pictures: a folder, a labelled set, or a video.
        evaluate: Labels in the form of ``edgebone eval``, or pictures only, which measure agreement with FP32; None
            takes ``calibrate``.
        variants: Precision and target of each variant; ``recipes.RECIPES`` lists all.
        max_drop: Largest loss of top-1, AP, mIoU or agreement, in points of 100.
        pictures: Number of calibration pictures.
        method: How to choose ranges; None takes the best method.
        head: Head that the labels belong to.
        images: Folder of the labelled pictures, if not beside the labels of boxes and areas.
        progress: Called with one line per step.
        notice: Called with notices to the user.

    Returns:
        One outcome per variant.

    Raises:
        SourceError: There are no pictures to calibrate or evaluate on.
        ExportError: The bundle is already quantized, or the network computes NaN.
        MissingDependencyError: A package for one of the variants is not installed.
        OutputError: The bundle cannot be written.
    """
    if calibrate is None:
        raise SourceError(
            "quantization needs pictures to measure on: pass --calibrate DIR with pictures like the camera's"
        )
    if not 0 <= max_drop <= 100:
        raise ExportError(f"a budget must be 0 to 100 points, found {max_drop:g}")
    _check_words(variants)
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        base = _fp32(manifest, str(path))
        if not manifest.graph_heads:
            raise ExportError(f"{path}: all its heads are detached; quantize the backbone before they are attached")
        content = bundle.read(base.file)
        progress("calibration pictures")
        calibration = read_calibration(Path(calibrate), manifest.preprocess, pictures, notice)
        progress("evaluation pictures")
        data = read_evaluation(
            Path(calibrate if evaluate is None else evaluate), manifest, head, None if images is None else Path(images)
        )
        source = Source(content, str(path), calibration, base.batch, method, progress)
        golden = read_golden(bundle).network_input
        detached = {
            name: parse_head(bundle.read(head.file), f"{path}, {head.file}")
            for name, head in manifest.heads.items()
            if head.detached
        }
        made: dict[str, Made] = {}
        outcomes = []
        with OnnxRuntimeEngine(content, batch_range=base.batch) as fp32:
            rehearsal = Rehearsal(manifest, data, fp32)
            progress(f"FP32: {data.metric} {rehearsal.baseline.value:.2f} on {len(rehearsal.data.pictures)} pictures")
            for precision, target in variants:
                recipe = make_recipe(source, precision, target)
                outcome, added = _try(recipe, source, manifest, rehearsal, fp32, golden, detached, max_drop)
                outcomes.append(outcome)
                if added is not None:
                    made[outcome.name] = added
        if made:
            progress("write")
            _write(path, manifest, made)
    return outcomes


def _check_words(variants: Sequence[tuple[str, str]]) -> None:
    unknown = [f"{precision} for {target}" for precision, target in variants if (precision, target) not in RECIPES]
    if unknown or not variants:
        raise ExportError(f"no variant {', '.join(unknown) or 'requested'}; choose from {KNOWN}")


def _fp32(manifest: Manifest, where: str) -> Variant:
    if FP32 not in manifest.variants:
        raise ExportError(f"{where}: it needs an FP32 variant to start from, found only {', '.join(manifest.variants)}")
    return manifest.variants[FP32]


@dataclass(frozen=True)
class Made:
    """A variant to write.

    Attributes:
        variant: Manifest record.
        content: The ONNX file.
        golden: NPZ of its outputs for the golden input.
    """

    variant: Variant
    content: bytes
    golden: bytes


def _try(
    recipe: Recipe,
    source: Source,
    manifest: Manifest,
    rehearsal: Rehearsal,
    fp32: Engine,
    golden: NDArray[np.uint8],
    detached: Mapping[str, HeadFile],
    max_drop: float,
) -> tuple[Outcome, Made | None]:
    source.progress(f"{recipe.name}: {len(recipe.layers)} layers can be lowered")
    found = search(recipe, rehearsal, max_drop, source.progress)
    if isinstance(found, NotFound):
        return Outcome(recipe.name, False, found.reason), None
    accuracy = rehearsal.accuracy(found.score, recipe.proof)
    with recipe.open(found.content, found.kept) as engine:
        gain = round(_gain(recipe, engine, source), 3) if recipe.timed else None
        if gain is not None and gain < LEAST_SPEEDUP:
            reason = f"it meets the budget, but is {gain:.2f}x as fast as FP32 on {recipe.engines[0]} here: not kept"
            return Outcome(recipe.name, False, reason, accuracy, gain, 0, found.kept), None
        parity = measure_parity(
            _outputs(engine, rehearsal.inputs), _outputs(fp32, rehearsal.inputs), manifest.graph_heads
        )
        if not np.isfinite(parity.max_abs):
            return Outcome(recipe.name, False, "its outputs have NaN or infinity: not kept", accuracy, gain), None
        (answer,) = _outputs(engine, golden)
    recorded = io.BytesIO()
    named: dict[str, Any] = {name: values[:1] for name, values in answer.items()}
    for name, head in detached.items():
        with OnnxRuntimeEngine(head.graph) as alone:
            given = alone.run({key: named[manifest.taps[key].output] for key in head.manifest.reads})
        named |= {head_key(name, output): values for output, values in given.items()}
    np.savez_compressed(recorded, **named)
    record = Quantization(
        dialect=recipe.dialect,
        method=recipe.method,
        calibration=source.calibration.name,
        calibration_pictures=len(source.calibration.inputs),
        layers=len(recipe.layers),
        kept=found.kept,
        speedup=gain,
    )
    variant = Variant(
        f"onnx/{recipe.name}.onnx",
        recipe.precision,
        source.batch,
        parity,
        recipe.engines,
        accuracy,
        record,
        f"golden/{recipe.name}.npz",
    )
    reason = "added"
    if found.kept:
        reason += f", with {len(found.kept)} of {len(recipe.layers)} layers in FP32"
    outcome = Outcome(recipe.name, True, reason, accuracy, gain, len(found.content), found.kept)
    return outcome, Made(variant, found.content, recorded.getvalue())


def _gain(recipe: Recipe, engine: Engine, source: Source) -> float:
    low = source.batch[0]
    picture = filled(source.calibration.inputs[:low], low)
    with open_model(Candidate(recipe.engines[0], "fp32", FP32), source.content, (low, low)) as plain:
        return speedup(engine, plain, picture)


def _outputs(engine: Engine, inputs: NDArray[np.uint8]) -> list[Mapping[str, Array]]:
    return [run_all(engine, one[None], batch_of(engine)) for one in inputs[:_PARITY_PICTURES]]


def _write(path: str | os.PathLike[str], then: Manifest, made: Mapping[str, Made]) -> None:
    """Add variants to the current bundle."""

    def add_variants(now: Manifest) -> Update:
        check_unchanged(path, then, now, {FP32})
        return _added(now, made)

    update_bundle(path, add_variants)


def _added(manifest: Manifest, made: Mapping[str, Made]) -> Update:
    """Return the bundle with variants, without engines, plans and frame variants of the ones they replace."""
    frames = {name: item for name, item in manifest.frame_variants.items() if item.variant in made}
    stale = {key for key, engine in manifest.engines.items() if engine.variant in (*made, *frames)}
    changed = msgspec.structs.replace(
        manifest,
        variants={**manifest.variants, **{name: item.variant for name, item in made.items()}},
        engines={key: engine for key, engine in manifest.engines.items() if key not in stale},
        plans={key: plan for key, plan in manifest.plans.items() if plan.variant not in made},
        frame_variants={name: item for name, item in manifest.frame_variants.items() if name not in frames},
    )
    add = {item.variant.file: item.content for item in made.values()}
    add |= {item.variant.golden: item.golden for item in made.values()}
    gone = {manifest.engines[key].file for key in stale} | {item.file for item in frames.values()}
    return Update(changed, add, gone)
