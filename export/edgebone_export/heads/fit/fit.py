"""The whole fit: pictures, frozen features through the engine, a head, what it is worth, and the bundle with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgebone.core.bundle import open_bundle
from edgebone.core.bundle_writing import check_target, check_unchanged
from edgebone.core.head_file import SUFFIX, HeadFile, check_head_name, check_head_target, write_head
from edgebone.core.manifest import Accuracy
from edgebone.engines.spec import Candidate
from edgebone_export.errors import ExportError
from edgebone_export.heads.attach.artefact import make_artefact
from edgebone_export.heads.attach.attach import Attached, attach
from edgebone_export.heads.data.views import MOST
from edgebone_export.heads.features.features import default_cache, pick
from edgebone_export.heads.features.taps import taps_of
from edgebone_export.heads.fit.on_maps import fit_on_maps
from edgebone_export.heads.fit.on_vectors import fit_on_vectors
from edgebone_export.heads.fit.work import LINEAR, Settings, Work
from edgebone_export.heads.kinds import HeadKind, find_kind

MAX_DROP = 1.0
"""Points of accuracy that a variant may lose against FP32 before it is left out of the bundle with the head."""


@dataclass(frozen=True)
class FitReport:
    """What a fit made.

    Attributes:
        head: The artefact.
        path: What was written: a bundle, or the artefact alone.
        attached: What became of the bundle; None where only the artefact was written.
        accuracies: Accuracy by variant, or agreement with FP32 where there is none; None for a variant that nothing
            here runs. Of the artefact alone only that of the variant that it was fitted on.
        reads: What the head reads.
        candidate: What computed the features.
        unreadable: Pictures that could not be read, and why.
        leaked: Held-out pictures that are among those to fit on, too, and were taken out.
        contradictory: Pictures to fit on that are there several times, with different targets.
        from_cache: How many pictures' features were there already, of how many.
        features_s: Seconds for features.
        fit_s: Seconds for the head, from features at hand.
    """

    head: HeadFile
    path: Path
    attached: Attached | None
    accuracies: dict[str, Accuracy | None]
    reads: tuple[str, ...]
    candidate: Candidate
    unreadable: dict[str, str]
    leaked: tuple[str, ...]
    contradictory: tuple[str, ...]
    from_cache: tuple[int, int]
    features_s: float
    fit_s: float


def fit(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: Settings = LINEAR,
    *,
    keep: bool = False,
    detached: bool = False,
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
        detached: Attach the head as a graph of its own; see :func:`edgebone_export.heads.attach.attach.attach`.
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
    if alone:
        check_head_target(target, overwrite)
    else:
        check_target(target, overwrite)
    kind = find_kind(settings.kind)
    own = kind.make_settings(settings.options)
    _check(settings, kind)
    name = check_head_name(settings.name or kind.head)
    with open_bundle(path) as bundle:
        if keep and not alone and name in bundle.manifest.heads:
            raise ExportError(f"{bundle.path}: it has a head {name} already; give the new one another with --name")
        candidate = pick(bundle, settings.engine, settings.precision, settings.variant)
        folder = default_cache() if cache == "default" else cache
        work = Work(bundle, taps_of(bundle), candidate, kind, settings, own, folder, progress, count, alone)
        fitted = (fit_on_maps if kind.fitted_on == "maps" else fit_on_vectors)(work, Path(data))
        artefact = make_artefact(name, fitted.head, bundle, work.taps, fitted.reads, candidate)
        fitted_on = bundle.manifest
        dropped = [] if keep else list(fitted_on.heads)
    attached = None
    if alone:
        write_head(target, artefact.manifest, artefact.graph, overwrite)
    else:
        held = _within_budget(fitted.accuracies, max_drop, candidate.variant, progress)
        with open_bundle(path) as bundle:
            check_unchanged(path, fitted_on, bundle.manifest, held)
        attached = attach(
            path, {name: artefact}, target,
            detached=detached, drop=dropped, accuracies=held, pictures=fitted.pictures, overwrite=overwrite,
            progress=progress,
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
        fitted.contradictory,
        fitted.from_cache,
        fitted.features_s,
        fitted.fit_s,
    )


def _check(settings: Settings, kind: HeadKind) -> None:
    if not 0 < settings.hold_out < 1:
        raise ExportError(f"a share between 0 and 1 is held out, not {settings.hold_out:g}")
    # Of the picture and its mirror image alone masks and boxes are known.
    most = 2 if kind.fitted_on == "maps" else MOST
    if not 1 <= settings.views <= most:
        raise ExportError(
            f"a head of the kind {kind.name} is fitted on 1 to {most} views a picture, not {settings.views}"
        )


def _within_budget(
    accuracies: Mapping[str, Accuracy | None], max_drop: float, fitted_on: str, progress: Callable[[str], None]
) -> dict[str, Accuracy | None]:
    """The variants that may stay."""
    held: dict[str, Accuracy | None] = {}
    for key, found in accuracies.items():
        if found is None or found.drop <= max_drop or key == fitted_on:
            held[key] = found
        else:
            progress(f"variant {key} is left out: {found.drop:.2f} points below FP32, {max_drop:g} are allowed")
    return held
