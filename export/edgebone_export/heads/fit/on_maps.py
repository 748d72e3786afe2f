"""The steps of a fit for heads on maps: masks and boxes in pixels of the network's input."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.manifest import Preprocess
from edgebone.preprocess import plan
from edgebone.sources.images import read_image
from edgebone_export.errors import ExportError
from edgebone_export.heads.data.dense import Dense
from edgebone_export.heads.data.labelled import split_rows
from edgebone_export.heads.data.sets import Sets
from edgebone_export.heads.data.similar import group_similar
from edgebone_export.heads.features.features import FeatureEngine, Features
from edgebone_export.heads.features.fitted import MapsOfPictures, OnMaps
from edgebone_export.heads.fit.variants import accuracy_by_variant
from edgebone_export.heads.fit.work import Fitted, Settings, Work
from edgebone_export.heads.maps.feature_maps import stride_of


def fit_on_maps(work: Work, data: Path) -> Fitted:
    """Fit a segmentation, detection or anomaly head.

    Raises:
        ExportError: The backbone has no maps, or the data does not suit the settings.
        SourceError: The data is missing, or none of it can be read.
    """
    settings = work.settings
    reads = _reads(work)
    sets: Sets[Dense] = work.kind.load(work.kind.data)(data, settings.val, work.own)
    train, val, anomalous = sets.train, sets.val, sets.odd
    if val is not None and val.labels != train.labels:
        raise ExportError(
            f"{settings.val}: has the classes {', '.join(val.labels)}, the training pictures {', '.join(train.labels)}"
        )
    began = time.perf_counter()
    with FeatureEngine(work.bundle, work.candidate, work.taps, reads) as engine:
        work.progress(f"maps of {len(train.pictures)} pictures, with {work.candidate}")
        seen = work.features(engine, train.pictures, settings.views)
        unseen = odd = None
        if val is not None:
            work.progress(f"maps of {len(val.pictures)} held-out pictures")
            unseen = work.features(engine, val.pictures, 1)
        if anomalous is not None:
            odd = work.features(engine, anomalous.pictures, 1)
    features_s = time.perf_counter() - began
    parts = [(seen, train)]
    parts += [(found, own) for found, own in ((unseen, val), (odd, anomalous)) if found is not None and own is not None]
    unreadable = {str(own.pictures[row]): why for found, own in parts for row, why in found.unreadable.items()}
    preprocess = work.bundle.manifest.preprocess
    began = time.perf_counter()
    leaked: list[str] = []
    rows = np.arange(len(seen.picture))
    if val is not None and unseen is not None:
        held_rows, again = unseen.others_than(set(seen.sha256.values()))
        leaked += [str(val.pictures[place]) for place in again]
        held_part = _with_targets(unseen, val, preprocess, held_rows)
    else:
        rows, held_rows = _parted(seen, settings)
        held_part = _with_targets(seen, train, preprocess, held_rows)
    odd_maps = None
    if odd is not None and anomalous is not None:
        known = set(seen.sha256.values()) | set(unseen.sha256.values() if unseen is not None else ())
        odd_rows, again = odd.others_than(known)
        leaked += [str(anomalous.pictures[place]) for place in again]
        odd_maps = {name: array[odd_rows].astype(np.float16) for name, array in odd.arrays.items()}
    if not len(held_part.targets):
        raise ExportError("no held-out picture is left to measure on; pass others with --val")
    work.progress(f"fitting: {settings.kind} on {', '.join(reads)}")
    fit_part = _with_targets(seen, train, preprocess, rows)
    given = OnMaps(fit_part, held_part, odd_maps, train.labels, preprocess.size_hw, settings.seed, work.progress)
    head = work.fit(given)
    fit_s = time.perf_counter() - began
    report = {
        **head.report,
        "head": work.kind.name,
        "reads": list(reads),
        "features_by": str(work.candidate),
        "views": settings.views,
        "unreadable": len(unreadable),
        "leaked": len(leaked),
        "data": data.name,
    }
    head = replace(head, report=report)
    held_pictures = [(val or train).pictures[place] for place in held_part.picture.tolist()]
    return Fitted(
        head,
        held_pictures,
        reads,
        accuracy_by_variant(work, reads, head, held_pictures, held_part.maps, data.name),
        unreadable,
        tuple(leaked),
        (),
        (sum(found.from_cache for found, _ in parts), sum(len(own.pictures) for _, own in parts)),
        features_s,
        fit_s,
    )


def _parted(seen: Features, settings: Settings) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return training rows and held-out rows without augmented views; no scene is on both sides."""
    first = np.unique(seen.picture, return_index=True)[1]
    means = [array[first].mean(axis=(2, 3), dtype=np.float32) for array in seen.arrays.values()]
    strata = np.zeros(len(first), np.int64)
    group = group_similar(np.concatenate(means, axis=1), strata).group
    rows, held = split_rows(seen.picture, strata, group, settings.hold_out, settings.seed)
    if not 0 < len(held) < len(first):
        raise ExportError(
            f"of {len(first)} pictures {len(held)} would be held out; pass more pictures, --val or another --hold-out"
        )
    return rows, held


def _reads(work: Work) -> tuple[str, ...]:
    """Return the taps to read: those named, or the kind's preferred ones of the backbone."""
    kind, taps = work.kind, work.taps
    maps = [name for name, tap in taps.items() if tap.stride]
    if not maps:
        raise ExportError(f"a {kind.name} head reads maps, but this backbone has only {', '.join(taps) or 'nothing'}")
    if work.settings.read is None:
        usual = tuple(name for name in maps if stride_of(name) in kind.strides)
        return usual or tuple(maps[-1:])
    names = tuple(dict.fromkeys(word.strip() for word in work.settings.read.split(",")))
    for name in names:
        if ":" in name or name not in maps:
            raise ExportError(f"a {kind.name} head reads whole maps, {', '.join(maps)}; found {name or 'nothing'}")
    return names


def _with_targets(features: Features, data: Dense, preprocess: Preprocess, rows: NDArray[np.int64]) -> MapsOfPictures:
    """Return some rows with their targets; the second view of a picture is its mirror image."""
    targets: list[Any] = []
    done = -1
    for row in rows:
        place = int(features.picture[row])
        height, width = read_image(data.pictures[place]).shape[:2]
        targets.append(data.target(place, plan(preprocess, height, width), place == done))
        done = place
    # Half precision is enough for training, and dense maps fill the memory.
    maps = {name: array[rows].astype(np.float16) for name, array in features.arrays.items()}
    return MapsOfPictures(maps, targets, features.picture[rows])
