"""Add frame variants to a bundle."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgebone.core.bundle import Bundle, open_bundle
from edgebone.core.bundle_writing import Update, check_unchanged, update_bundle
from edgebone.core.manifest import FrameLayout, FrameVariant, Manifest
from edgebone.core.near import did_you_mean
from edgebone.sources.golden_picture import read_golden_picture
from edgebone_export.errors import ExportError
from edgebone_export.frame_input.graft import preprocessing_alone, with_frame_input
from edgebone_export.frame_input.proof import Frame, InputProof, proof_frames, prove_input, prove_outputs
from edgebone_export.frame_input.size import check_frame_size


def add_frame_variants(
    path: str | os.PathLike[str],
    sizes_hw: Sequence[tuple[int, int]],
    layout: FrameLayout = "bgr",
    *,
    variants: Sequence[str] = ("fp32",),
    samples: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, FrameVariant]:
    """Add graphs that take raw camera frames, each verified against the host's preprocessing.

    An existing frame variant of the same name is replaced. Nothing is written until all are verified.

    Args:
        path: The bundle.
        sizes_hw: Height and width of the frames in pixels, one per frame variant.
        layout: ``bgr`` for uint8 (height, width, 3); ``nv12`` for uint8 (height * 3 / 2, width), BT.601.
        variants: Names of the variants to add them to.
        samples: Folder of pictures to verify on; synthetic pictures if None.
        progress: Called with one line per step.

    Returns:
        The added frame variants by name.

    Raises:
        ExportError: A frame size is not valid, or the bundle has no such variant.
        ParityError: The graph's preprocessing or outputs differ from those with the host's preprocessing.
        BundleError: The bundle cannot be read.
        OutputError: The bundle cannot be written.
    """
    for size_hw in sizes_hw:
        check_frame_size(size_hw, layout)
    made: dict[str, FrameVariant] = {}
    files: dict[str, bytes] = {}
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        unknown = [name for name in variants if name not in manifest.variants]
        if unknown:
            hint = did_you_mean(unknown[0], manifest.variants)
            raise ExportError(f"{path}: no variant {unknown[0]}; {hint}the bundle has {', '.join(manifest.variants)}")
        golden = read_golden_picture(bundle)
        for size_hw in dict.fromkeys(sizes_hw):
            frames = proof_frames(size_hw, layout, None if samples is None else Path(samples), golden)
            said = f"{size_hw[0]}x{size_hw[1]}" + ("" if layout == "bgr" else f"-{layout}")
            progress(f"{said}: compare the graph's preprocessing with the host's")
            alone = preprocessing_alone(manifest.preprocess, size_hw, layout)
            inputs = prove_input(alone, manifest.preprocess, layout, frames, f"{path}, frames of {said}")
            for variant in dict.fromkeys(variants):
                name = f"{variant}-{said}"
                progress(f"{name}: compare its network with {variant}'s")
                record, content = _make(bundle, name, variant, size_hw, layout, frames, inputs)
                made[name], files[record.file] = record, content
        progress("write")

        def add_frames(now: Manifest) -> Update:
            check_unchanged(path, manifest, now, variants)
            return Update(_changed(now, made), files, _stale_files(now, made))

        update_bundle(path, add_frames)
    return made


def _make(
    bundle: Bundle, name: str, variant: str, size_hw: tuple[int, int], layout: FrameLayout, frames: Sequence[Frame],
    inputs: InputProof,
) -> tuple[FrameVariant, bytes]:  # fmt: skip
    where = f"{bundle.path}, {name}"
    manifest = bundle.manifest
    base = manifest.variants[variant]
    network = bundle.read(base.file)
    content = with_frame_input(network, manifest.preprocess, size_hw, layout, where)
    parity = prove_outputs(content, network, manifest, base, frames, inputs, where)
    record = FrameVariant(
        file=f"onnx/{name}.onnx",
        variant=variant,
        size_hw=size_hw,
        layout=layout,
        input_steps=int(inputs.steps.max()),
        input_mean_steps=round(float(inputs.steps.mean()), 6),
        frames=len(frames),
        parity=parity,
    )
    return record, content


def _changed(manifest: Manifest, made: dict[str, FrameVariant]) -> Manifest:
    """Return the manifest with frame variants added, without the engines of the ones they replace."""
    return msgspec.structs.replace(
        manifest,
        frame_variants={**manifest.frame_variants, **made},
        engines={key: engine for key, engine in manifest.engines.items() if engine.variant not in made},
    )


def _stale_files(manifest: Manifest, made: dict[str, FrameVariant]) -> list[str]:
    return [engine.file for engine in manifest.engines.values() if engine.variant in made]
