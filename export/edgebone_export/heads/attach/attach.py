"""Attaches heads to a bundle and takes them off: one backbone, as many answers as there are heads."""

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
    """What became of a bundle.

    Attributes:
        path: The bundle that was written.
        heads: Its heads' names.
        max_abs: Largest difference between an attached head's outputs and those of the head alone, by variant, on the
            golden picture.
        left_out: Variants that are not in it any more, with the reason.
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
    """Write a bundle whose backbone is shared by its own heads and further ones.

    Every head is proved against the head alone, on the golden picture, in every variant. Frame variants are made anew
    with the heads; compiled engines and plans are of another graph, and are left out.

    Args:
        path: The bundle.
        heads: Artefacts that were fitted on this backbone; by name, where they shall have others than their own.
        output: The bundle to write.
        detached: Leave the heads as graphs of their own, which the runtime runs behind the backbone: at a rate of their
            own, and to be swapped while it serves. Else they become part of the one graph, which is the fastest.
        drop: Heads that the bundle has, and that shall not be in the new one.
        accuracies: What was counted of the new heads, by variant; only these variants are kept. None keeps all, and
            what was counted of the old heads, if none of them goes.
        pictures: Some that the heads are for: BF16 is held against FP32 on them. None takes made ones.
        overwrite: Replace an existing bundle.
        progress: Called with a line a step.

    Raises:
        ExportError: A head was fitted on another backbone or another preprocessing, or its name is taken.
        ParityError: An attached head does not give what it gives alone.
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
    """The manifest with what was counted by variant, instead of what was counted of other heads."""
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
        names: The heads that go.
        output: The bundle to write.
        save: A folder for the artefacts of those that go, ``NAME.head``; None for none.
        overwrite: Replace what exists.
        progress: Called with a line a step.

    Raises:
        ExportError: There is no such head, or none would be left.
        BundleError: The bundle cannot be read.
        OutputError: Something cannot be written.
    """
    check_target(Path(output), overwrite)
    names = list(dict.fromkeys(names))
    with open_bundle(path) as bundle:
        if not names:
            raise ExportError(f"{path}: no head is named that should go; it has {', '.join(bundle.manifest.heads)}")
        _check_there(bundle, names)
        if set(names) == set(bundle.manifest.heads):
            raise ExportError(f"{path}: no head would be left; a bundle has at least one")
        taken = {} if save is None else {Path(save) / f"{name}.head": _taken_off(bundle, name) for name in names}
        for file in taken:
            check_head_target(file, overwrite)
        change = _Change(bundle, bundle.manifest.taps, {}, False, frozenset(names), bundle.manifest.variants, progress)
        made = change.make()
        for file, artefact in taken.items():
            write_head(file, artefact.manifest, artefact.graph, overwrite)
        progress("write")
        # What was counted may have been of a head that goes.
        manifest = measure_agreement(_with_accuracies(made.manifest, {}), made.files, progress=progress)
        target = write_bundle(output, manifest, made.files, overwrite, made_of=bundle)
    return Attached(target, tuple(made.manifest.heads), made.max_abs, made.left_out)


def _taken_off(bundle: Bundle, name: str) -> HeadFile:
    if not bundle.manifest.heads[name].file:
        raise ExportError(f"{bundle.path}: head {name} is the network's own; there is no artefact of it to save")
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
            raise ExportError(f"two heads are named {name}; give one another name: NAME={artefact.where}")
        named[name] = artefact
    return named


def _check(bundle: Bundle, heads: Mapping[str, HeadFile], taps: dict[str, Tap], drop: Collection[str]) -> None:
    manifest = bundle.manifest
    _check_there(bundle, drop)
    for name, artefact in heads.items():
        if name in manifest.heads and name not in drop:
            raise ExportError(
                f"{bundle.path}: it has a head {name} already; give the new one another name (NAME={artefact.where}), "
                f"or take the old one off: edgebone detach"
            )
        reason = refusal(artefact.manifest.reads, taps, artefact.manifest.backbone, manifest.preprocess)
        if reason:
            raise ExportError(f"{artefact.where}: the head does not go with {bundle.path}: {reason}")


def _check_there(bundle: Bundle, names: Collection[str]) -> None:
    known = bundle.manifest.heads
    unknown = [name for name in names if name not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise ExportError(f"{bundle.path}: there is no head {', '.join(unknown)}; {hint}it has {', '.join(known)}")


@dataclass(frozen=True)
class _Made:
    manifest: Manifest
    files: dict[str, bytes]
    max_abs: dict[str, float]
    left_out: dict[str, str]


@dataclass(frozen=True)
class _Change:
    """A bundle with heads added and dropped.

    Attributes:
        bundle: The bundle as it is.
        taps: What can be read of it.
        add: Heads to add, by name.
        detached: Whether they stay graphs of their own.
        drop: Heads that go.
        variants: The variants that stay.
        progress: Called with a line a step.
    """

    bundle: Bundle
    taps: dict[str, Tap]
    add: Mapping[str, HeadFile]
    detached: bool
    drop: frozenset[str]
    variants: Mapping[str, Variant]
    progress: Callable[[str], None]

    def make(self) -> _Made:
        """Every file of the new bundle."""
        manifest = self.bundle.manifest
        golden = read_golden(self.bundle)
        files: dict[str, bytes] = {manifest.golden.image: self.bundle.read(manifest.golden.image)}
        kept = {name: head for name, head in manifest.heads.items() if name not in self.drop}
        reports = [name for name in manifest.files if name.endswith(".json")]
        for name in [*reports, *(head.file for head in kept.values() if head.file)]:
            files[name] = self.bundle.read(name)
        reference = reference_variant(manifest)
        if manifest.engines or manifest.plans:
            self.progress("compiled engines and plans are of another graph: compile and tune the new bundle")
        outputs: dict[str, TensorSpec] = {}
        present: set[str] = set()
        variants: dict[str, Variant] = {}
        left_out: dict[str, str] = {}
        max_abs: dict[str, float] = {}
        for name, variant in self.variants.items():
            self.progress(f"{name}: joining the graphs")
            content, outputs, values = self._graph(variant.file, f"{self.bundle.path}, {name}")
            self.progress(f"{name}: each head against the head alone")
            try:
                answers, max_abs[name] = self._prove(name, variant, content, golden.network_input, outputs)
            except EngineError as error:
                if name == reference:
                    raise
                left_out[name] = f"onnxruntime does not run it here, so that its heads cannot be proved: {error}"
                continue
            if name == reference:
                present = values
            old = dict(read_recorded(self.bundle, name))
            recorded = {key: array for key, array in old.items() if key in outputs or self._is_kept_head(key, kept)}
            # What FP32 recorded is the bundle's own recording, with the input.
            own = {} if variant.golden else {"input": golden.network_input}
            files[variant.golden or manifest.golden.tensors] = _npz(own | recorded | answers)
            files[variant.file] = content
            # What was counted with fewer bits was counted of other heads.
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
        """The taps that the graph still has; those that detached heads read have an output."""
        return {
            name: msgspec.structs.replace(tap, output=f"tap/{name}" if f"tap/{name}" in outputs else "")
            for name, tap in self.taps.items()
            if tap.value in present
        }

    def _graph(self, file: str, where: str) -> tuple[bytes, dict[str, TensorSpec], set[str]]:
        """A variant's graph with the change, what it gives, and the names of its values."""
        manifest = self.bundle.manifest
        model = open_backbone(self.bundle.read(file), where)
        wanted = self._kept_outputs()
        specs = {spec.name: spec for spec in manifest.outputs if spec.name in wanted}
        reads = {
            name: {key: tap_value(model, key, self.taps[key], where) for key in artefact.manifest.reads}
            for name, artefact in self.add.items()
        }
        gone = [str(value.name) for value in model.graph.outputs if value.name not in specs]
        # First: a new head may have the name of one that goes.
        remove_outputs(model, gone, [value for values in reads.values() for value in values.values()])
        for name, artefact in self.add.items():
            if self.detached:
                made = [expose(model, key, value, self.taps[key].shape) for key, value in reads[name].items()]
            else:
                made = join(model, name, artefact.graph, reads[name], artefact.manifest.outputs)
            specs |= {spec.name: spec for spec in made}
        return checked_bytes(model, f"{where}: the graph with its heads"), specs, set(values_of(model))

    def _kept_outputs(self) -> set[str]:
        """The graph's outputs that kept heads need."""
        manifest = self.bundle.manifest
        kept = {name: head for name, head in manifest.heads.items() if name not in self.drop}
        detached = [name for name, head in kept.items() if head.detached]
        taps = {key for name in detached for key in bundle_head(self.bundle, name).manifest.reads}
        own = {output for head in kept.values() if not head.detached for output in head.outputs}
        return own | {self.taps[key].output for key in taps}

    def _prove(
        self, name: str, variant: Variant, content: bytes, golden: NDArray[np.uint8], outputs: Mapping[str, TensorSpec]
    ) -> tuple[dict[str, Array], float]:
        """What the new graph gives for the golden picture, and how far its heads are from the same heads alone."""
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
        """What the heads read, from the backbone's graph without them."""
        where = f"{self.bundle.path}, {variant.file}"
        reads = sorted({key for artefact in self.add.values() for key in artefact.manifest.reads})
        content, specs = graph_with_taps(self.bundle.read(variant.file), {key: self.taps[key] for key in reads}, where)
        with OnnxRuntimeEngine(content, batch_range=variant.batch) as engine:
            given = engine.run({engine.inputs[0].name: feeds})
        return {key: given[spec.name][:1] for key, spec in specs.items()}


def bundle_head(bundle: Bundle, name: str) -> HeadFile:
    """The artefact of an attached head."""
    file = bundle.manifest.heads[name].file
    return parse_head(bundle.read(file), f"{bundle.path}, {file}")


def _compare(have: Array, wanted: Array, head: Head, full: bool, where: str) -> float:
    """Hold an attached head's output against the same head's alone; gives the largest difference.

    Raises:
        ParityError: It is another.
    """
    if have.shape != wanted.shape:
        raise ParityError(f"{where}: shape {list(have.shape)} instead of {list(wanted.shape)}")
    off = float(np.abs(have.astype(np.float64) - wanted).max(initial=0.0))
    tolerance = HEAD if full else REDUCED_HEAD
    found = compare_shown(have, wanted, head, tolerance)
    wrong = fault(found, tolerance)
    if wrong or not values_within(found, tolerance):
        cosine = 1.0 if found.cosine is None else found.cosine
        raise ParityError(f"{where}: off by {off:.3g} from the head alone (cosine {cosine:.6f}) {wrong}".rstrip())
    return off


def _npz(arrays: Mapping[str, Array]) -> bytes:
    recorded = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(recorded, **named)
    return recorded.getvalue()
