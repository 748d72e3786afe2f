"""The whole fit: pictures, frozen features through the engine, a head, what it is worth, and the bundle with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgebone.core.bundle import Bundle, check_target, open_bundle
from edgebone.core.errors import OutputError
from edgebone.core.head_file import SUFFIX, HeadFile, check_head_name, write_head
from edgebone.core.manifest import Accuracy, Tap
from edgebone.engines.onnxruntime import OnnxRuntimeEngine
from edgebone.engines.select import Candidate
from edgebone_export.errors import ExportError
from edgebone_export.heads.alike import groups_alike
from edgebone_export.heads.artefact import make_artefact
from edgebone_export.heads.attach import Attached, attach
from edgebone_export.heads.features import FeatureEngine, Features, default_cache, extract, pick
from edgebone_export.heads.fitted import VECTOR, FittedHead, Samples
from edgebone_export.heads.labelled import Labelled, Task, hold_out, read_labelled
from edgebone_export.heads.readings import Reading, default_readings, parse_readings
from edgebone_export.heads.taps import taps_of
from edgebone_export.heads.views import MOST

HeadKind = Literal[
    "linear",
    "logistic",
    "mlp",
    "prototype",
    "multilabel",
    "regression",
    "embedding",
    "segmentation",
    "detection",
    "anomaly",
]
CLASSIFIERS = ("linear", "logistic", "mlp", "prototype")
ON_MAPS = ("segmentation", "detection", "anomaly")
KINDS = (*CLASSIFIERS, "multilabel", "regression", "embedding", *ON_MAPS)
_TASKS: dict[str, Task] = {"multilabel": "labels", "regression": "values"}
_NAMES = {"multilabel": "labels", "regression": "values", "embedding": "embedding"}
MAX_DROP = 1.0
"""Points of accuracy that a variant may lose against FP32 before it is left out of the bundle with the head."""


@dataclass(frozen=True)
class Settings:
    """What can be said about a fit; what is left out is chosen.

    Attributes:
        kind: One of ``KINDS``.
        name: The head's name; None for what it does.
        val: Pictures to measure on, labelled as those to fit on; None holds out ``hold_out`` of them.
        hold_out: The share that is held out, 0 to 1.
        read: What it reads, such as ``embedding,features_s16:avg``; None takes what has served best.
        views: Augmented views a picture, while fitting; 1 for the picture alone.
        engine: The engine that features are computed with.
        precision: Its precision.
        variant: The bundle's variant; None takes what the engine takes.
        columns: For ``regression``: the columns of numbers.
        labels: For ``segmentation``: a file with a class name a line; None for ``labels.txt`` in the data.
        images: For ``segmentation`` and ``detection``: the pictures' folder, where it is not ``images`` in the data.
        anomalous: For ``anomaly``: a folder of odd pictures to measure on.
        options: Further settings of the head's own function, such as ``positive`` or ``sensitivity``.
        seed: Of all that is random.
    """

    kind: HeadKind = "linear"
    name: str | None = None
    val: Path | None = None
    hold_out: float = 0.2
    read: str | None = None
    views: int = 1
    engine: str = "auto"
    precision: str | None = None
    variant: str | None = None
    columns: tuple[str, ...] = ()
    labels: Path | None = None
    images: Path | None = None
    anomalous: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class FitReport:
    """What a fit made.

    Attributes:
        head: The artefact.
        path: What was written: a bundle, or the artefact alone.
        attached: What became of the bundle; None where only the artefact was written.
        accuracies: Accuracy on the held-out pictures by variant, where that is counted.
        reads: What the head reads.
        candidate: What computed the features.
        unreadable: Pictures that could not be read, and why.
        leaked: Held-out pictures that are among those to fit on, too, and were taken out.
        from_cache: How many pictures' features were there already, of how many.
        features_s: Seconds for features.
        fit_s: Seconds for the head, from features at hand.
    """

    head: HeadFile
    path: Path
    attached: Attached | None
    accuracies: dict[str, Accuracy]
    reads: tuple[str, ...]
    candidate: Candidate
    unreadable: dict[str, str]
    leaked: tuple[str, ...]
    from_cache: tuple[int, int]
    features_s: float
    fit_s: float


@dataclass(frozen=True)
class Work:
    """What the parts of a fit share.

    Attributes:
        bundle: The open bundle.
        taps: Its taps.
        candidate: What computes features.
        settings: What was said.
        cache: The folder of features; None for none.
        progress: Called with a line a step.
        count: Called with how many of how many pictures are done.
    """

    bundle: Bundle
    taps: dict[str, Tap]
    candidate: Candidate
    settings: Settings
    cache: Path | None
    progress: Callable[[str], None]
    count: Callable[[int, int], None]

    def features(self, engine: FeatureEngine, pictures: Sequence[Path], views: int) -> Features:
        """Features of pictures, with this work's cache and progress."""
        return extract(engine, pictures, views=views, seed=self.settings.seed, cache=self.cache, progress=self.count)


@dataclass(frozen=True)
class Fitted:
    """A head, and what is to be told about how it came about."""

    head: FittedHead
    reads: tuple[Reading, ...] | tuple[str, ...]
    accuracies: dict[str, Accuracy]
    unreadable: dict[str, str]
    leaked: tuple[str, ...]
    from_cache: tuple[int, int]
    features_s: float
    fit_s: float


def fit(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: Settings = Settings(),
    *,
    keep: bool = False,
    apart: bool = False,
    max_drop: float = MAX_DROP,
    cache: Path | Literal["default"] | None = "default",
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    count: Callable[[int, int], None] = lambda _done, _of: None,
) -> FitReport:
    """Fit a head on a frozen backbone's features, and write the bundle with it.

    Args:
        path: The backbone's bundle.
        data: What to fit on: a folder with a folder a class, or a CSV; a folder with masks, COCO's JSON, or a folder
            of normal pictures for heads on maps.
        output: The bundle to write, with the head attached; or the artefact alone, where it ends in ``.head``.
        settings: What is wanted.
        keep: Keep the heads that the bundle has; else the new one is the only one.
        apart: Attach the head apart from the graph; see :func:`edgebone_export.heads.attach.attach`.
        max_drop: Points of 100 that a variant with fewer bits may lose of the head's accuracy before it is left out.
        cache: Where features are kept; ``default`` is the user's cache, None keeps none.
        overwrite: Replace what exists.
        progress: Called with a line a step.
        count: Called with how many of how many pictures are done.

    Raises:
        ExportError: The data does not allow what is wanted.
        SourceError: The data is not there, or none of it can be read.
        BundleError: The bundle cannot be read.
        OutputError: The result cannot be written.
    """
    target = Path(output)
    alone = target.suffix == SUFFIX
    if alone and target.exists() and not overwrite:
        raise OutputError(f"{target} exists; choose another name, or replace it with --force")
    if not alone:
        check_target(target, overwrite)
    _check(settings)
    name = check_head_name(
        settings.name or _NAMES.get(settings.kind, "classification" if settings.kind in CLASSIFIERS else settings.kind)
    )
    with open_bundle(path) as bundle:
        candidate = pick(bundle, settings.engine, settings.precision, settings.variant)
        folder = default_cache() if cache == "default" else cache
        work = Work(bundle, taps_of(bundle), candidate, settings, folder, progress, count)
        if settings.kind in ON_MAPS:
            from edgebone_export.heads.fit_dense import fit_on_maps

            fitted = fit_on_maps(work, Path(data))
        else:
            fitted = _fit_on_vectors(work, Path(data))
        artefact = make_artefact(name, fitted.head, bundle, work.taps, fitted.reads, candidate)
        dropped = (
            []
            if keep
            else [key for key in bundle.manifest.heads if key != name] + [name] * (name in bundle.manifest.heads)
        )
    attached = None
    if alone:
        write_head(target, artefact.manifest, artefact.graph, overwrite)
    else:
        held = _within_budget(fitted.accuracies, max_drop, candidate.variant, progress)
        attached = attach(
            path, {name: artefact}, target,
            apart=apart, drop=dropped, accuracies=held, overwrite=overwrite, progress=progress,
        )  # fmt: skip
    return FitReport(
        artefact,
        target,
        attached,
        fitted.accuracies,
        tuple(map(str, fitted.reads)),
        candidate,
        fitted.unreadable,
        fitted.leaked,
        fitted.from_cache,
        fitted.features_s,
        fitted.fit_s,
    )


def _check(settings: Settings) -> None:
    if settings.kind not in KINDS:
        raise ExportError(f"there is no head {settings.kind}; choose {', '.join(KINDS)}")
    if not 0 < settings.hold_out < 1:
        raise ExportError(f"a share between 0 and 1 is held out, not {settings.hold_out:g}")
    # Of the picture and its mirror image alone masks and boxes are known.
    most = 2 if settings.kind in ON_MAPS else MOST
    if not 1 <= settings.views <= most:
        raise ExportError(
            f"a head of the kind {settings.kind} is fitted on 1 to {most} views a picture, not {settings.views}"
        )


def _within_budget(
    accuracies: Mapping[str, Accuracy], max_drop: float, fitted_on: str, progress: Callable[[str], None]
) -> dict[str, Accuracy] | None:
    """The variants that may stay; None where nothing was counted, for all."""
    if not accuracies:
        return None
    for key, found in accuracies.items():
        if found.drop > max_drop and key != fitted_on:
            progress(f"variant {key} is left out: {found.drop:.2f} points below FP32, {max_drop:g} are allowed")
    return {key: found for key, found in accuracies.items() if found.drop <= max_drop or key == fitted_on}


def _fit_on_vectors(work: Work, data: Path) -> Fitted:
    settings = work.settings
    task = _TASKS.get(settings.kind, "classes")
    if settings.kind == "embedding" and not _has_classes(data):
        task = "none"
    whole = read_labelled(data, task, columns=settings.columns)
    if settings.val is not None:
        train, val = whole, read_labelled(settings.val, task, whole.names)
    else:
        train, val = hold_out(whole, settings.hold_out, settings.seed)
    readings = (
        parse_readings(settings.read, work.taps) if settings.read is not None else _usual(settings.kind, work.taps)
    )
    began = time.perf_counter()
    with FeatureEngine(work.bundle, work.candidate, work.taps, readings) as engine:
        views = f", {settings.views} views each" if settings.views > 1 else ""
        work.progress(f"features of {len(train.pictures)} pictures{views}, by {work.candidate}")
        seen = work.features(engine, train.pictures, settings.views)
        if val.pictures:
            work.progress(f"features of {len(val.pictures)} held-out pictures")
        unseen = work.features(engine, val.pictures, 1) if val.pictures else None
    features_s = time.perf_counter() - began
    unreadable = {str(train.pictures[place]): why for place, why in seen.unreadable.items()}
    samples = _samples(seen, train)
    held_out, leaked, val_rows = None, [], np.empty(0, np.int64)
    if unseen is not None:
        unreadable |= {str(val.pictures[place]): why for place, why in unseen.unreadable.items()}
        known = set(seen.sha256.values())
        leaked = [place for place, digest in unseen.sha256.items() if digest in known]
        val_rows = np.flatnonzero(~np.isin(unseen.picture, leaked))
        held_out = _samples(unseen, val).take(val_rows) if len(val_rows) else None
    if samples.y.ndim == 1 and task == "classes":
        samples = _grouped(samples)
    began = time.perf_counter()
    work.progress(f"fitting: {settings.kind} on {len(samples.x)} rows of {samples.x.shape[1]} features")
    head = _fit(settings, samples, held_out, whole.names, work.progress)
    fit_s = time.perf_counter() - began
    report = {
        **head.report,
        "reads": [str(item) for item in readings],
        "features_by": str(work.candidate),
        "views": settings.views,
        "unreadable": len(unreadable),
        "leaked": len(leaked),
        "data": data.name,
    }
    head = replace(head, report=report)
    accuracies: dict[str, Accuracy] = {}
    if settings.kind in CLASSIFIERS and held_out is not None:
        pictures = [val.pictures[place] for place in dict.fromkeys(unseen.picture[val_rows].tolist())] if unseen else []
        accuracies = _accuracies(work, readings, head, pictures, held_out, data.name)
    return Fitted(
        head,
        readings,
        accuracies,
        unreadable,
        tuple(str(val.pictures[place]) for place in leaked),
        (seen.from_cache + (unseen.from_cache if unseen else 0), len(train.pictures) + len(val.pictures)),
        features_s,
        fit_s,
    )


def _has_classes(data: Path) -> bool:
    return data.suffix.lower() == ".csv" or (data.is_dir() and any(child.is_dir() for child in data.iterdir()))


def _usual(kind: str, taps: Mapping[str, Tap]) -> tuple[Reading, ...]:
    """A few pictures a class, and nearest neighbours, are best served by the vector alone."""
    usual = default_readings(taps)
    return usual[:1] if kind in ("prototype", "embedding") else usual


def _samples(features: Features, labelled: Labelled) -> Samples:
    return Samples(features.arrays[VECTOR], labelled.y[features.picture], features.picture)


def _grouped(samples: Samples) -> Samples:
    """Which pictures look alike, so that cross-validation does not split them."""
    first = np.unique(samples.picture, return_index=True)[1]
    group = groups_alike(samples.x[first], samples.y[first])
    of_picture = dict(zip(samples.picture[first].tolist(), group.tolist(), strict=True))
    return replace(samples, alike=np.asarray([of_picture[number] for number in samples.picture.tolist()], np.int64))


def _fit(
    settings: Settings,
    train: Samples,
    held_out: Samples | None,
    names: tuple[str, ...],
    progress: Callable[[str], None],
) -> FittedHead:
    more: dict[str, Any] = {**settings.options, "seed": settings.seed, "progress": progress}
    if settings.kind == "multilabel":
        from edgebone_export.heads.multilabel import fit_multilabel

        return fit_multilabel(train, held_out, names, **more)
    if settings.kind == "regression":
        from edgebone_export.heads.regression import fit_regression

        return fit_regression(train, held_out, names, **more)
    if settings.kind == "embedding":
        from edgebone_export.heads.embedding import fit_embedding

        return fit_embedding(train, names, **more)
    from edgebone_export.heads.classifier import fit_classifier

    return fit_classifier(train, held_out, names, kind=settings.kind, **more)  # type: ignore[arg-type]


def _accuracies(
    work: Work,
    readings: tuple[Reading, ...],
    head: FittedHead,
    pictures: Sequence[Path],
    held_out: Samples,
    data: str,
) -> dict[str, Accuracy]:
    """Top-1 on the held-out pictures in every variant, each through an engine that runs it here."""
    found: dict[str, tuple[NDArray[np.int64], Candidate]] = {}
    with OnnxRuntimeEngine(head.graph) as alone:
        (output,) = head.outputs

        def answers(x: NDArray[np.float32]) -> NDArray[np.int64]:
            return np.asarray(alone.run({VECTOR: x})[output.name].argmax(axis=1), np.int64)

        found[work.candidate.variant] = (answers(held_out.x), work.candidate)
        for name in work.bundle.manifest.variants:
            if name in found:
                continue
            work.progress(f"the head on variant {name}")
            candidate = pick(work.bundle, "auto", None, name)
            with FeatureEngine(work.bundle, candidate, work.taps, readings) as engine:
                found[name] = (answers(work.features(engine, pictures, 1).arrays[VECTOR]), candidate)
    base = found["fp32" if "fp32" in found else work.candidate.variant][0]
    fp32 = 100 * float((base == held_out.y).mean())
    return {
        name: Accuracy(
            "top-1",
            round(100 * float((answer == held_out.y).mean()), 4),
            round(fp32, 4),
            round(100 * float((answer == base).mean()), 4),
            len(held_out.y),
            data,
            f"{candidate.engine} {candidate.precision}",
        )
        for name, (answer, candidate) in found.items()
    }
