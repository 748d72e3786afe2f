"""The part of a fit that heads on maps have of their own: masks and boxes, in pixels of the network's input."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.manifest import Preprocess
from edgebone.preprocess import plan
from edgebone.sources.images import read_image
from edgebone_export.errors import ExportError
from edgebone_export.heads import anomaly, detection, segmentation
from edgebone_export.heads.dense_data import Dense, read_detection, read_normal, read_segmentation
from edgebone_export.heads.dense_maps import stride_of
from edgebone_export.heads.features import FeatureEngine, Features
from edgebone_export.heads.fit import Fitted, Settings, Work
from edgebone_export.heads.fitted import FittedHead

_STRIDES = {"segmentation": segmentation.STRIDES, "detection": detection.STRIDES, "anomaly": anomaly.STRIDES}


@dataclass(frozen=True)
class _Seen:
    """Maps of pictures with their targets, a row a view."""

    maps: dict[str, NDArray[np.float16]]
    targets: list[Any]
    picture: NDArray[np.int64]


def fit_on_maps(work: Work, data: Path) -> Fitted:
    """Fit a segmentation, detection or anomaly head.

    Raises:
        ExportError: The backbone gives no maps, or the data does not allow what is wanted.
        SourceError: The data is not there, or none of it can be read.
    """
    settings = work.settings
    reads = _reads(work)
    train, val = _sides(settings, data)
    anomalous = read_normal(settings.anomalous) if settings.anomalous is not None else None
    began = time.perf_counter()
    with FeatureEngine(work.bundle, work.candidate, work.taps, reads) as engine:
        work.progress(f"maps of {len(train.pictures)} pictures, by {work.candidate}")
        seen = work.features(engine, train.pictures, settings.views)
        work.progress(f"maps of {len(val.pictures)} held-out pictures")
        unseen = work.features(engine, val.pictures, 1)
        odd = None if anomalous is None else work.features(engine, anomalous.pictures, 1)
    features_s = time.perf_counter() - began
    parts = [(seen, train), (unseen, val)] + ([(odd, anomalous)] if odd is not None and anomalous is not None else [])
    unreadable = {str(own.pictures[row]): why for found, own in parts for row, why in found.unreadable.items()}
    known = set(seen.sha256.values())
    leaked = [row for row, digest in unseen.sha256.items() if digest in known]
    taken_out = [str(val.pictures[row]) for row in leaked]
    odd_maps = None
    if odd is not None and anomalous is not None:
        known |= set(unseen.sha256.values())
        twice = [row for row, digest in odd.sha256.items() if digest in known]
        taken_out += [str(anomalous.pictures[row]) for row in twice]
        rows = np.flatnonzero(~np.isin(odd.picture, twice))
        odd_maps = {name: array[rows].astype(np.float16) for name, array in odd.arrays.items()} if len(rows) else None
    preprocess = work.bundle.manifest.preprocess
    began = time.perf_counter()
    work.progress(f"fitting: {settings.kind} on {', '.join(reads)}")
    fit_part = _with_targets(seen, train, preprocess)
    held_part = _with_targets(unseen, val, preprocess, leaked)
    head = _fit(work, fit_part, held_part, odd_maps, train.labels)
    report = {
        **head.report,
        "reads": list(reads),
        "features_by": str(work.candidate),
        "views": settings.views,
        "unreadable": len(unreadable),
        "leaked": len(taken_out),
        "data": data.name,
    }
    return Fitted(
        replace(head, report=report),
        reads,
        # A variant of fewer bits is held to the head's own answers when it is attached; its masks are not counted here.
        {},
        unreadable,
        tuple(taken_out),
        (sum(found.from_cache for found, _ in parts), sum(len(own.pictures) for _, own in parts)),
        features_s,
        time.perf_counter() - began,
    )


def _reads(work: Work) -> tuple[str, ...]:
    """The taps that are read: those that were named, or those that have served best among the backbone's."""
    kind, taps = work.settings.kind, work.taps
    maps = [name for name, tap in taps.items() if tap.stride]
    if not maps:
        raise ExportError(f"a {kind} head reads maps, and this backbone has none, only {', '.join(taps) or 'nothing'}")
    if work.settings.read is None:
        usual = tuple(name for name in maps if stride_of(name) in _STRIDES[kind])
        return usual or tuple(maps[-1:])
    names = tuple(dict.fromkeys(word.strip() for word in work.settings.read.split(",")))
    for name in names:
        if ":" in name or name not in maps:
            raise ExportError(f"a {kind} head reads whole maps, {', '.join(maps)}, not {name or 'nothing'}")
    return names


def _sides(settings: Settings, data: Path) -> tuple[Dense, Dense]:
    """What is learned from, and what is held out or was given apart."""
    whole = _read(settings, data)
    if settings.val is not None:
        val = _read(settings, settings.val)
        if val.labels != whole.labels:
            raise ExportError(
                f"{settings.val}: has the classes {', '.join(val.labels)}, the pictures to fit on "
                f"{', '.join(whole.labels)}"
            )
        return whole, val
    count = len(whole.pictures)
    aside = round(settings.hold_out * count)
    if not 0 < aside < count:
        raise ExportError(
            f"{data}: of {count} pictures {aside} would be held out; give more pictures, --val or another --hold-out"
        )
    order = np.random.default_rng(settings.seed).permutation(count).tolist()
    return whole.take(sorted(order[aside:])), whole.take(sorted(order[:aside]))


def _read(settings: Settings, data: Path) -> Dense:
    if settings.kind == "segmentation":
        return read_segmentation(data, settings.images, settings.labels)
    if settings.kind == "detection":
        return read_detection(data, settings.images)
    return read_normal(data)


def _with_targets(features: Features, data: Dense, preprocess: Preprocess, left_out: list[int] | None = None) -> _Seen:
    """Rows with their targets; the second view of a picture is its mirror image."""
    rows = np.flatnonzero(~np.isin(features.picture, left_out or []))
    targets: list[Any] = []
    done = -1
    for row in rows:
        place = int(features.picture[row])
        height, width = read_image(data.pictures[place]).shape[:2]
        targets.append(data.target(place, plan(preprocess, height, width), place == done))
        done = place
    # Half precision is enough to learn from, and dense maps fill the memory.
    maps = {name: array[rows].astype(np.float16) for name, array in features.arrays.items()}
    return _Seen(maps, targets, features.picture[rows])


def _fit(work: Work, fit: _Seen, held: _Seen, odd: Any, labels: tuple[str, ...]) -> FittedHead:
    settings = work.settings
    more: dict[str, Any] = {**settings.options, "seed": settings.seed, "progress": work.progress}
    more["picture"] = fit.picture
    if settings.kind == "anomaly":
        return anomaly.fit_anomaly(fit.maps, held_out_normal=held.maps, held_out_anomalous=odd, **more)
    if not held.targets:
        raise ExportError("no held-out picture is left to measure on; give others with --val")
    if settings.kind == "segmentation":
        return segmentation.fit_segmentation(
            fit.maps, np.stack(fit.targets), held.maps, np.stack(held.targets), labels, **more
        )
    size_hw = work.bundle.manifest.preprocess.size_hw
    return detection.fit_detection(fit.maps, fit.targets, held.maps, held.targets, labels, size_hw, **more)
