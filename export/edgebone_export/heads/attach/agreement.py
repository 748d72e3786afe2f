"""Measure whether a network with other heads returns the same answers at lower precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import EngineError
from edgebone.core.manifest import Manifest
from edgebone.engines.batches import run_all
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.evaluate.evaluation_set import prepared
from edgebone_export.heads.features.taps import reference_variant
from edgebone_export.pictures import synthesize
from edgebone_export.quantization.reduced import has_discrete_answers, with_agreement

_MOST, _MADE = 32, 8


def measure_agreement(
    manifest: Manifest,
    files: Mapping[str, bytes],
    pictures: Sequence[Path] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Compare BF16 with FP32 in a network whose heads have changed.

    Detached heads are not part of the network's graph: their outputs on a backbone of fewer bits are not
    measured, and such a bundle is computed in FP32.

    Args:
        manifest: Manifest of the new bundle.
        files: Files of the new bundle, with the graph of its FP32 variant.
        pictures: Pictures for the heads, of which at most 32 are used, evenly spaced; synthetic ones if None.
        progress: Called with a line if anything is measured.

    Returns:
        The manifest, with the agreement in its FP32 variant if it was measured.
    """
    name = reference_variant(manifest)
    variant = manifest.variants[name]
    if (
        variant.precision != "fp32"
        or not has_discrete_answers(manifest)
        or any(head.detached for head in manifest.heads.values())
    ):
        return manifest
    progress("bf16 against fp32")
    chosen: Sequence[Path | NDArray[np.uint8]] = pictures or _made(manifest.preprocess.size_hw)
    chosen = [chosen[place] for place in np.unique(np.linspace(0, len(chosen) - 1, _MOST).round().astype(int))]
    inputs = [own[0] for own in prepared(manifest.preprocess, chosen, "pictures") if not isinstance(own, str)]
    if not inputs:
        return manifest
    pixels, graph = np.stack(inputs), files[variant.file]
    try:
        with OnnxRuntimeEngine(graph, batch_range=variant.batch) as engine:
            outputs = run_all(engine, pixels, variant.batch[0])
    except EngineError:
        # It cannot be measured here; the bundle is valid without it.
        return manifest
    alone = msgspec.structs.replace(manifest, variants={name: variant})
    measured = with_agreement(alone, graph, pixels, outputs).variants
    return msgspec.structs.replace(manifest, variants={**manifest.variants, **measured})


def _made(size_hw: tuple[int, int]) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [synthesize(size_hw, rng) for _ in range(_MADE)]
