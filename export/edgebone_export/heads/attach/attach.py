"""Attach heads to a bundle and detach them: one backbone, one answer per head."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.bundle_writing import check_target, write_bundle
from edgebone.core.compare import HEAD, REDUCED_HEAD, compare_shown, fault, values_within
from edgebone.core.errors import EngineError
from edgebone.core.golden import head_key, read_golden, read_recorded
from edgebone.core.head_file import (
    HeadFile,
    check_head_name,
    check_head_target,
    head_bytes,
    parse_head,
    read_head,
    refusal,
    renamed,
    write_head,
)
from edgebone.core.manifest import Accuracy, Head, Manifest, Tap, Variant
from edgebone.core.near import did_you_mean
from edgebone.core.tensors import Array, TensorSpec
from edgebone.core.version import created_at, created_by
from edgebone.engines.batches import filled
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone_export.errors import ExportError, ParityError
from edgebone_export.graphs.edit import checked_bytes
from edgebone_export.heads.attach.agreement import measure_agreement
from edgebone_export.heads.attach.join import expose, graph_with_taps, join, open_backbone, remove_outputs, tap_value
from edgebone_export.heads.features.taps import reference_variant, taps_of, values_of


@dataclass(frozen=True)
class Attached:
    """The result of attaching or detaching heads.

    Attributes:
        path: Path of the written bundle.
        heads: Names of its heads.
        max_abs: Largest difference between attached heads' outputs and the same heads run alone, by variant, on the
            golden picture.
        left_out: Omitted variants, with the reason.
    """

    path: Path
    heads: tuple[str, ...]
    max_abs: dict[str, float]
    left_out: dict[str, str]


def attach(
    path: str | os.PathLike[str],
    heads: Sequence[str | os.PathLike[str] | HeadFile] | Mapping[str, str | os.PathLike[str] | HeadFile],
    output: str | os.PathLike[str],
    *,
    detached: bool = False,
    drop: Collection[str] = (),
    accuracies: Mapping[str, Accuracy | None] | None = None,
    pictures: Sequence[Path] | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Attached:
    """Write a bundle whose backbone is shared by its own heads and additional ones.

    Every head is compared with the same head run alone, on the golden picture, in every variant. Frame variants are
    rebuilt with the heads; compiled engines and plans belong to another graph and are omitted.

    Args:
        path: The bundle.
        heads: Artefacts fitted on this backbone; by name to rename them.
        output: Path of the new bundle.
        detached: Keep the heads as graphs of their own, which the runtime runs after the backbone, at a rate of their
            own, and can swap while serving. Otherwise they become part of the single graph, which is fastest.
        drop: Heads of the bundle to remove.
        accuracies: Accuracy of the new heads by variant; only these variants are kept. None keeps all variants, and the
            accuracies of the old heads if none is removed.
        pictures: Pictures for the heads, on which BF16 is compared with FP32; synthetic ones if None.
        overwrite: Replace an existing bundle.
        progress: Called with one line per step.

    Raises:
        ExportError: A head was fitted on another backbone or preprocessing, or its name is in use.
        ParityError: An attached head's outputs differ from those of the head alone.
        BundleError: A bundle or an artefact cannot be read.
        OutputError: The bundle cannot be written.
    """
    check_target(Path(output), overwrite)
    named = _by_name(heads)
    with open_bundle(path) as bundle:
        taps = taps_of(bundle)
        _check(bundle, named, taps, drop)
        kept = (
            bundle.manifest.variants
            if accuracies is None
            else {key: bundle.manifest.variants[key] for key in accuracies}
        )
        change = _Change(bundle, taps, named, detached, frozenset(drop), kept, progress)
        made = change.make()
        manifest = made.manifest
        if accuracies is not None:
            manifest = _with_accuracies(manifest, accuracies)
        elif drop:
            manifest = _with_accuracies(manifest, {})
        manifest = measure_agreement(manifest, made.files, pictures, progress)
        progress("write")
        target = write_bundle(output, manifest, made.files, overwrite, made_of=bundle)
    return Attached(target, tuple(made.manifest.heads), made.max_abs, made.left_out)


def _with_accuracies(manifest: Manifest, accuracies: Mapping[str, Accuracy | None]) -> Manifest:
    """Return the manifest with new accuracies by variant, instead of those of other heads."""
    variants = {
        key: msgspec.structs.replace(item, accuracy=None if item.precision == "fp32" else accuracies.get(key))
        for key, item in manifest.variants.items()
    }
    return msgspec.structs.replace(manifest, variants=variants)


def detach(
    path: str | os.PathLike[str],
    names: Sequence[str],
    output: str | os.PathLike[str],
    *,
    save: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Attached:
    """Write a bundle without some of its heads.

    Args:
        path: The bundle.
        names: Names of the heads to remove.
        output: Path of the new bundle.
        save: Folder for the artefacts of removed heads, ``NAME.head``; None saves none.
        overwrite: Replace existing files.
        progress: Called with one line per step.

    Raises:
        ExportError: A head does not exist, or none would be left.
        BundleError: The bundle cannot be read.
        OutputError: The bundle or an artefact cannot be written.
    """
    check_target(Path(output), overwrite)
    names = list(dict.fromkeys(names))
    with open_bundle(path) as bundle:
        if not names:
            raise ExportError(f"{path}: name the heads to detach; it has {', '.join(bundle.manifest.heads)}")
        _check_there(bundle, names)
        if set(names) == set(bundle.manifest.heads):
            raise ExportError(f"{path}: no head would be left; a bundle needs at least one")
        taken = {} if save is None else {Path(save) / f"{name}.head": _detached_head(bundle, name) for name in names}
        for file in taken:
            check_head_target(file, overwrite)
        change = _Change(bundle, bundle.manifest.taps, {}, False, frozenset(names), bundle.manifest.variants, progress)
        made = change.make()
        for file, artefact in taken.items():
            write_head(file, artefact.manifest, artefact.graph, overwrite)
        progress("write")
        # The accuracies may be those of a removed head.
        manifest = measure_agreement(_with_accuracies(made.manifest, {}), made.files, progress=progress)
        target = write_bundle(output, manifest, made.files, overwrite, made_of=bundle)
    return Attached(target, tuple(made.manifest.heads), made.max_abs, made.left_out)


def _detached_head(bundle: Bundle, name: str) -> HeadFile:
    if not bundle.manifest.heads[name].file:
        raise ExportError(f"{bundle.path}: head {name} is the network's own, so it has no artefact to save")
    return renamed(bundle_head(bundle, name), name)


def _by_name(
    heads: Sequence[str | os.PathLike[str] | HeadFile] | Mapping[str, str | os.PathLike[str] | HeadFile],
) -> dict[str, HeadFile]:
    pairs = [*heads.items()] if isinstance(heads, Mapping) else [("", item) for item in heads]
    named: dict[str, HeadFile] = {}
    for name, item in pairs:
        artefact = item if isinstance(item, HeadFile) else read_head(item)
        name = check_head_name(name or artefact.manifest.name)
        if name in named:
            raise ExportError(f"two heads are named {name}; rename one: NAME={artefact.where}")
        named[name] = artefact
    return named


def _check(bundle: Bundle, heads: Mapping[str, HeadFile], taps: dict[str, Tap], drop: Collection[str]) -> None:
    manifest = bundle.manifest
    _check_there(bundle, drop)
    for name, artefact in heads.items():
        if name in manifest.heads and name not in drop:
            raise ExportError(
                f"{bundle.path}: already has a head {name}; rename the new one (NAME={artefact.where}), or remove the "
                f"old one: edgebone detach"
            )
        reason = refusal(artefact.manifest.reads, taps, artefact.manifest.backbone, manifest.preprocess)
        if reason:
            raise ExportError(f"{artefact.where}: the head does not fit {bundle.path}: {reason}")


def _check_there(bundle: Bundle, names: Collection[str]) -> None:
    known = bundle.manifest.heads
    unknown = [name for name in names if name not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise ExportError(f"{bundle.path}: no head {', '.join(unknown)}; {hint}it has {', '.join(known)}")


@dataclass(frozen=True)
class _Made:
    manifest: Manifest
    files: dict[str, bytes]
    max_abs: dict[str, float]
    left_out: dict[str, str]


@dataclass(frozen=True)
class _Change:
    """A change of a bundle's heads.

    Attributes:
        bundle: The current bundle.
        taps: Taps of the bundle.
        add: Heads to add, by name.
        detached: Whether the added heads stay graphs of their own.
        drop: Names of the heads to remove.
        variants: The variants to keep.
        progress: Called with one line per step.
    """

    bundle: Bundle
    taps: dict[str, Tap]
    add: Mapping[str, HeadFile]
    detached: bool
    drop: frozenset[str]
    variants: Mapping[str, Variant]
    progress: Callable[[str], None]

    def make(self) -> _Made:
        """Make every file of the new bundle."""
        manifest = self.bundle.manifest
        golden = read_golden(self.bundle)
        files: dict[str, bytes] = {manifest.golden.image: self.bundle.read(manifest.golden.image)}
        kept = {name: head for name, head in manifest.heads.items() if name not in self.drop}
        reports = [name for name in manifest.files if name.endswith(".json")]
        for name in [*reports, *(head.file for head in kept.values() if head.file)]:
            files[name] = self.bundle.read(name)
        reference = reference_variant(manifest)
        if manifest.engines or manifest.plans:
            self.progress("compiled engines and plans belong to the old graph: compile and tune the new bundle")
        outputs: dict[str, TensorSpec] = {}
        present: set[str] = set()
        variants: dict[str, Variant] = {}
        left_out: dict[str, str] = {}
        max_abs: dict[str, float] = {}
        for name, variant in self.variants.items():
            self.progress(f"{name}: joining the graphs")
            content, outputs, values = self._graph(variant.file, f"{self.bundle.path}, {name}")
            self.progress(f"{name}: comparing each head with the head alone")
            try:
                answers, max_abs[name] = self._prove(name, variant, content, golden.network_input, outputs)
            except EngineError as error:
                if name == reference:
                    raise
                left_out[name] = f"onnxruntime cannot run it here, so its heads cannot be verified: {error}"
                continue
            if name == reference:
                present = values
            old = dict(read_recorded(self.bundle, name))
            recorded = {key: array for key, array in old.items() if key in outputs or self._is_kept_head(key, kept)}
            # FP32's recording is the bundle's own golden sample, with the input.
            own = {} if variant.golden else {"input": golden.network_input}
            files[variant.golden or manifest.golden.tensors] = _npz(own | recorded | answers)
            files[variant.file] = content
            # Accuracies of lower precisions are those of other heads.
            variants[name] = msgspec.structs.replace(variant, reduced={})
        frames = {key: item for key, item in manifest.frame_variants.items() if item.variant in variants}
        for key, frame in frames.items():
            files[frame.file] = self._graph(frame.file, f"{self.bundle.path}, {key}")[0]
        for name, artefact in self.add.items():
            alone = renamed(artefact, name)
            files[f"heads/{name}.head"] = head_bytes(alone.manifest, alone.graph)
        changed = msgspec.structs.replace(
            manifest,
            created_by=created_by(),
            created_at=created_at(),
            outputs=tuple(outputs.values()),
            heads={**kept, **{name: self._head(name, item) for name, item in self.add.items()}},
            variants=variants,
            frame_variants=frames,
            engines={},
            plans={},
            taps=self._taps(present, outputs),
        )
        return _Made(changed, files, max_abs, left_out)

    def _is_kept_head(self, key: str, kept: Mapping[str, Head]) -> bool:
        return any(
            key == head_key(name, output) for name, head in kept.items() if head.detached for output in head.outputs
        )

    def _head(self, name: str, artefact: HeadFile) -> Head:
        head = artefact.manifest.head
        outputs = head.outputs if self.detached else tuple(f"{name}/{output}" for output in head.outputs)
        return msgspec.structs.replace(head, outputs=outputs, file=f"heads/{name}.head", detached=self.detached)

    def _taps(self, present: Collection[str], outputs: Mapping[str, TensorSpec]) -> dict[str, Tap]:
        """Return the taps that the graph still has; those that detached heads read have an output."""
        return {
            name: msgspec.structs.replace(tap, output=f"tap/{name}" if f"tap/{name}" in outputs else "")
            for name, tap in self.taps.items()
            if tap.value in present
        }

    def _graph(self, file: str, where: str) -> tuple[bytes, dict[str, TensorSpec], set[str]]:
        """Return a variant's changed graph, its outputs, and the names of its values."""
        manifest = self.bundle.manifest
        model = open_backbone(self.bundle.read(file), where)
        wanted = self._kept_outputs()
        specs = {spec.name: spec for spec in manifest.outputs if spec.name in wanted}
        reads = {
            name: {key: tap_value(model, key, self.taps[key], where) for key in artefact.manifest.reads}
            for name, artefact in self.add.items()
        }
        gone = [str(value.name) for value in model.graph.outputs if value.name not in specs]
        # First: a new head may have the name of a removed one.
        remove_outputs(model, gone, [value for values in reads.values() for value in values.values()])
        for name, artefact in self.add.items():
            if self.detached:
                made = [expose(model, key, value, self.taps[key].shape) for key, value in reads[name].items()]
            else:
                made = join(model, name, artefact.graph, reads[name], artefact.manifest.outputs)
            specs |= {spec.name: spec for spec in made}
        return checked_bytes(model, f"{where}: the graph with its heads"), specs, set(values_of(model))

    def _kept_outputs(self) -> set[str]:
        """Return the graph's outputs that kept heads need."""
        manifest = self.bundle.manifest
        kept = {name: head for name, head in manifest.heads.items() if name not in self.drop}
        detached = [name for name, head in kept.items() if head.detached]
        taps = {key for name in detached for key in bundle_head(self.bundle, name).manifest.reads}
        own = {output for head in kept.values() if not head.detached for output in head.outputs}
        return own | {self.taps[key].output for key in taps}

    def _prove(
        self, name: str, variant: Variant, content: bytes, golden: NDArray[np.uint8], outputs: Mapping[str, TensorSpec]
    ) -> tuple[dict[str, Array], float]:
        """Return the new graph's outputs for the golden picture, and its heads' differences from the heads alone."""
        if not self.add:
            return {}, 0.0
        feeds = filled(golden, variant.batch[0])
        with OnnxRuntimeEngine(content, batch_range=variant.batch) as engine:
            have = {key: array[:1] for key, array in engine.run({engine.inputs[0].name: feeds}).items()}
        taps = self._tap_values(variant, feeds)
        known = self._kept_outputs()
        answers = {key: array for key, array in have.items() if key not in known}
        largest = 0.0
        for key, artefact in self.add.items():
            with OnnxRuntimeEngine(artefact.graph) as alone:
                want = alone.run({tap: taps[tap] for tap in artefact.manifest.reads})
            for output, wanted in want.items():
                where = f"head {key} in variant {name}, output {output}"
                if self.detached:
                    answers[head_key(key, output)] = wanted
                else:
                    head, full = artefact.manifest.head, variant.precision == "fp32"
                    largest = max(largest, _compare(have[f"{key}/{output}"], wanted, head, full, where))
        return answers, largest

    def _tap_values(self, variant: Variant, feeds: NDArray[np.uint8]) -> dict[str, Array]:
        """Return the heads' inputs, from the backbone's graph without them."""
        where = f"{self.bundle.path}, {variant.file}"
        reads = sorted({key for artefact in self.add.values() for key in artefact.manifest.reads})
        content, specs = graph_with_taps(self.bundle.read(variant.file), {key: self.taps[key] for key in reads}, where)
        with OnnxRuntimeEngine(content, batch_range=variant.batch) as engine:
            given = engine.run({engine.inputs[0].name: feeds})
        return {key: given[spec.name][:1] for key, spec in specs.items()}


def bundle_head(bundle: Bundle, name: str) -> HeadFile:
    """Return the artefact of an attached head."""
    file = bundle.manifest.heads[name].file
    return parse_head(bundle.read(file), f"{bundle.path}, {file}")


def _compare(have: Array, wanted: Array, head: Head, full: bool, where: str) -> float:
    """Compare an attached head's output with the head's alone; return the largest difference.

    Raises:
        ParityError: They differ.
    """
    if have.shape != wanted.shape:
        raise ParityError(f"{where}: expected shape {list(wanted.shape)}, found {list(have.shape)}")
    off = float(np.abs(have.astype(np.float64) - wanted).max(initial=0.0))
    tolerance = HEAD if full else REDUCED_HEAD
    found = compare_shown(have, wanted, head, tolerance)
    wrong = fault(found, tolerance)
    if wrong or not values_within(found, tolerance):
        cosine = 1.0 if found.cosine is None else found.cosine
        raise ParityError(f"{where}: differs by {off:.3g} from the head alone (cosine {cosine:.6f}) {wrong}".rstrip())
    return off


def _npz(arrays: Mapping[str, Array]) -> bytes:
    recorded = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(recorded, **named)
    return recorded.getvalue()
