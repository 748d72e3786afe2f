"""The steps of a fit for heads on vectors: classes, labels and numbers of pictures."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.manifest import Accuracy
from edgebone_export.heads.data.labelled import Labelled, split_rows
from edgebone_export.heads.data.sets import Sets
from edgebone_export.heads.data.similar import SimilarGroups, group_similar
from edgebone_export.heads.data.splits import rarest_label
from edgebone_export.heads.features.features import FeatureEngine, Features
from edgebone_export.heads.features.fitted import VECTOR, FittedHead, OnVectors, Samples
from edgebone_export.heads.features.readings import Reading, default_readings, parse_readings
from edgebone_export.heads.fit.variants import accuracy_by_variant
from edgebone_export.heads.fit.work import Fitted, Settings, Work


def fit_on_vectors(work: Work, data: Path) -> Fitted:
    """Fit a classifier, or a head of several labels, numbers or an embedding.

    Raises:
        ExportError: The data does not suit the settings.
        SourceError: The data is missing, or none of it can be read.
    """
    settings = work.settings
    sets: Sets[Labelled] = work.kind.load(work.kind.data)(data, settings.val, work.own)
    train, val = sets.train, sets.val
    readings = _readings(work)
    began = time.perf_counter()
    with FeatureEngine(work.bundle, work.candidate, work.taps, readings) as engine:
        views = f", {settings.views} views each" if settings.views > 1 else ""
        work.progress(f"features of {len(train.pictures)} pictures{views}, with {work.candidate}")
        seen = work.features(engine, train.pictures, settings.views)
        unseen = None
        if val is not None:
            work.progress(f"features of {len(val.pictures)} held-out pictures")
            unseen = work.features(engine, val.pictures, 1)
    features_s = time.perf_counter() - began
    parts = [(seen, train), *([(unseen, val)] if val is not None and unseen is not None else [])]
    unreadable = {str(own.pictures[place]): why for found, own in parts for place, why in found.unreadable.items()}
    for path, why in list(unreadable.items())[:1]:
        work.progress(f"{len(unreadable)} pictures cannot be read, such as {path}: {why}")
    began = time.perf_counter()
    samples, alike = _alike(_samples(seen, train))
    leaked: list[str] = []
    if val is not None and unseen is not None:
        rows, again = unseen.others_than(set(seen.sha256.values()))
        leaked = [str(val.pictures[place]) for place in again]
        held_out, held_pictures = _samples(unseen, val).take(rows), val.pictures
    elif train.task == "none":
        held_out, held_pictures = samples.take(np.empty(0, np.int64)), train.pictures
    else:
        samples, held_out = _parted(samples, settings)
        # A class with only one scene can only be split by pictures.
        samples, _ = _alike(samples)
        held_pictures = train.pictures
    work.progress(f"fitting: {settings.kind} on {len(samples.x)} rows of {samples.x.shape[1]} features")
    measured = held_out if len(held_out.x) else None
    given = OnVectors(work.kind.name, samples, measured, train.names, settings.seed, work.progress)
    head = work.fit(given)
    fit_s = time.perf_counter() - began
    report = {
        **head.report,
        "head": work.kind.name,
        "reads": [str(item) for item in readings],
        "features_by": str(work.candidate),
        "views": settings.views,
        "unreadable": len(unreadable),
        "leaked": len(leaked),
        "scenes": len(np.unique(alike.group)),
        "one_scene": [train.names[place] for place in alike.inseparable] if train.task == "classes" else [],
        "data": data.name,
    }
    head = replace(head, report=report)
    return Fitted(
        head,
        held_pictures if measured is None else [held_pictures[place] for place in np.unique(measured.picture)],
        readings,
        _accuracies(work, readings, head, samples, train.pictures, measured, held_pictures, data.name),
        unreadable,
        tuple(leaked),
        _contradictory(seen, train),
        (sum(found.from_cache for found, _ in parts), sum(len(own.pictures) for _, own in parts)),
        features_s,
        fit_s,
    )


def _readings(work: Work) -> tuple[Reading, ...]:
    if work.settings.read is not None:
        return parse_readings(work.settings.read, work.taps)
    usual = default_readings(work.taps)
    return usual[:1] if work.kind.vector_alone else usual


def _samples(features: Features, labelled: Labelled) -> Samples:
    return Samples(features.arrays[VECTOR], labelled.y[features.picture], features.picture)


def _strata(y: NDArray[Any]) -> NDArray[np.int64]:
    """Return the strata that should have about the same share on both sides of a split."""
    if y.dtype == np.bool_:
        return rarest_label(y)
    return np.asarray(y, np.int64) if y.ndim == 1 else np.zeros(len(y), np.int64)


def _alike(samples: Samples) -> tuple[Samples, SimilarGroups]:
    """Group pictures that look alike, so that no split separates them."""
    numbers, first = np.unique(samples.picture, return_index=True)
    alike = group_similar(samples.x[first], _strata(samples.y[first]))
    return replace(samples, alike=alike.group[np.searchsorted(numbers, samples.picture)]), alike


def _parted(samples: Samples, settings: Settings) -> tuple[Samples, Samples]:
    """Return training samples, and held-out samples without augmented views."""
    first = np.unique(samples.picture, return_index=True)[1]
    strata = _strata(samples.y[first])
    rows, held = split_rows(samples.picture, strata, samples.group[first], settings.hold_out, settings.seed)
    return samples.take(rows), samples.take(held)


def _contradictory(features: Features, labelled: Labelled) -> tuple[str, ...]:
    """Return pictures of the same content with different targets."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, digest in features.sha256.items():
        places[digest].append(place)
    return tuple(
        " and ".join(str(labelled.pictures[place]) for place in own)
        for own in places.values()
        if len(own) > 1 and (labelled.y[own] != labelled.y[own[0]]).any()
    )


def _accuracies(
    work: Work,
    readings: tuple[Reading, ...],
    head: FittedHead,
    train: Samples,
    train_pictures: tuple[Path, ...],
    held_out: Samples | None,
    held_pictures: tuple[Path, ...],
    data: str,
) -> dict[str, Accuracy | None]:
    """Return the accuracy of variants, on the held-out pictures or, if there are none, on the training ones."""
    first = np.unique(train.picture, return_index=True)[1]
    samples = train.take(first) if held_out is None else held_out
    pictures = train_pictures if held_out is None else held_pictures
    counted = held_out is not None and work.kind.task == "classification"
    return accuracy_by_variant(
        work,
        readings,
        head,
        [pictures[place] for place in samples.picture.tolist()],
        {VECTOR: samples.x},
        data,
        samples.y if counted else None,
    )
