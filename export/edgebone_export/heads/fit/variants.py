"""Measure a head on each variant of its backbone: lower precision changes features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import NoEngineError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Accuracy, Head
from edgebone.core.results import Result
from edgebone.decode import make_decoder
from edgebone.engines.onnxruntime.engine import OnnxRuntimeEngine
from edgebone.engines.spec import Candidate
from edgebone.evaluate.pictures import spread
from edgebone.evaluate.rehearsal import agreement
from edgebone.tasks.classification import CLASSIFICATION
from edgebone_export.heads.features.features import FeatureEngine, pick
from edgebone_export.heads.features.fitted import FittedHead
from edgebone_export.heads.features.readings import Reading
from edgebone_export.heads.fit.work import Work

# Number of pictures for comparing a variant with FP32 without labels.
_MOST_PICTURES = 200
_BATCH = 8


def accuracy_by_variant(
    work: Work,
    reads: Sequence[Reading] | Sequence[str],
    head: FittedHead,
    pictures: Sequence[Path],
    features: Mapping[str, NDArray[Any]],
    data: str,
    truth: NDArray[np.int64] | None = None,
) -> dict[str, Accuracy | None]:
    """Run a head after every variant, each on an engine that runs it on this machine.

    Args:
        work: The fit.
        reads: The head's readings.
        head: The head.
        pictures: Readable files.
        features: Features of them from the variant that was fitted on, by the head's inputs, one row per picture.
        data: Name of the data set.
        truth: Class ids (n,) for a classifier's top-1; None measures agreement with FP32.

    Returns:
        Accuracy by variant; None for one that no engine here runs. Without a bundle to write, only that of the variant
        that was fitted on.

    Raises:
        EngineError: An engine fails.
    """
    rows = np.arange(len(pictures)) if truth is not None else np.asarray(spread(range(len(pictures)), _MOST_PICTURES))
    chosen = [pictures[row] for row in rows.tolist()]
    own, variants = work.candidate.variant, work.bundle.manifest.variants
    size_hw = work.bundle.manifest.preprocess.size_hw
    found: dict[str, tuple[list[Result], Candidate] | None] = {}
    with OnnxRuntimeEngine(head.graph) as engine:
        own_features = {name: array[rows] for name, array in features.items()}
        found[own] = (_answers(engine, head, own_features, size_hw), work.candidate)
        for name in variants if not work.alone else ():
            if name in found:
                continue
            work.progress(f"the head on variant {name}")
            try:
                candidate = pick(work.bundle, "auto", None, name)
            except NoEngineError:
                work.progress(f"variant {name} is not measured: no engine on this machine runs it")
                found[name] = None
                continue
            with FeatureEngine(work.bundle, candidate, work.taps, reads) as backbone:
                given = work.features(backbone, chosen, 1).arrays
            found[name] = (_answers(engine, head, given, size_hw), candidate)
    base = found.get("fp32") or found[own]
    assert base is not None
    return {
        name: None if item is None else _accuracy(head, *item, base[0], truth, data) for name, item in found.items()
    }


def _answers(
    engine: OnnxRuntimeEngine, head: FittedHead, features: Mapping[str, NDArray[Any]], size_hw: tuple[int, int]
) -> list[Result]:
    """Return the head's decoded answers, in pixels of the network's input."""
    whole = Geometry(size_hw, size_hw, (1.0, 1.0), (0.0, 0.0))
    decode = make_decoder("head", _entry(head), list(head.outputs), size_hw)
    answers: list[Result] = []
    for start in range(0, len(next(iter(features.values()))), _BATCH):
        part = {name: np.asarray(array[start : start + _BATCH], np.float32) for name, array in features.items()}
        given = engine.run(part)
        outputs = [given[spec.name] for spec in head.outputs]
        answers += [decode(list(row), whole) for row in zip(*outputs, strict=True)]
    return answers


def _entry(head: FittedHead) -> Head:
    return Head(head.decoder, tuple(spec.name for spec in head.outputs), head.labels, dict(head.params))


def _accuracy(
    head: FittedHead,
    answers: list[Result],
    candidate: Candidate,
    base: list[Result],
    truth: NDArray[np.int64] | None,
    data: str,
) -> Accuracy:
    entry = _entry(head)
    alike = 100 * float(np.mean([agreement(entry, a, b) for a, b in zip(answers, base, strict=True)]))
    value, fp32 = (alike, 100.0) if truth is None else (_top1(answers, truth), _top1(base, truth))
    return Accuracy(
        "agreement" if truth is None else "top-1",
        round(value, 4),
        round(fp32, 4),
        round(alike, 4),
        len(answers),
        data,
        f"{candidate.engine} {candidate.precision}",
    )


def _top1(answers: list[Result], truth: NDArray[np.int64]) -> float:
    best = [int(found.class_id[0]) for found in map(CLASSIFICATION.of, answers) if found is not None]
    return 100 * float(np.mean(np.asarray(best) == truth))
