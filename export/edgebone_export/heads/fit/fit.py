"""Run a whole fit: pictures, features from the engine, a head, its accuracy, and the bundle with it."""

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
"""Points of accuracy that a variant may lose against FP32 before it is omitted from the bundle."""


@dataclass(frozen=True)
class FitReport:
    """The result of a fit.

    Attributes:
        head: The artefact.
        path: Path of the written bundle, or of the artefact.
        attached: Result of attaching the head; None if only the artefact was written.
        accuracies: Accuracy by variant, or agreement with FP32 where there is none; None for a variant that no engine
            here runs. For an artefact, only that of the variant that it was fitted on.
        reads: The head's readings.
        candidate: Variant, engine and precision that computed the features.
        unreadable: Pictures that could not be read, with the reason.
        leaked: Held-out pictures that were removed because they are also training pictures.
        contradictory: Training pictures that occur several times with different targets.
        from_cache: Number of pictures with cached features, and their total.
        features_s: Seconds for features.
        fit_s: Seconds for the head, from computed features.
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
        path: Bundle of the backbone.
        data: Data to fit on: a folder with one subfolder per class, or a CSV; for heads on maps a folder with masks,
            COCO's JSON, or a folder of normal pictures.
        output: Path of the bundle with the head attached; or, if it ends in ``.head``, of the artefact alone.
        settings: Settings of the fit.
        keep: Keep the heads of the bundle; otherwise the new head is the only one.
        detached: Attach the head as a graph of its own; see :func:`edgebone_export.heads.attach.attach.attach`.
        max_drop: Points of 100 that a lower-precision variant may lose of the head's accuracy before it is omitted.
        cache: Folder of cached features; ``default`` is the user's cache, None disables it.
        overwrite: Replace existing files.
        progress: Called with one line per step.
        count: Called with the number of pictures done and their total.

    Raises:
        ExportError: The data does not suit the settings.
        SourceError: The data is missing, or none of it can be read.
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
            raise ExportError(f"{bundle.path}: already has a head {name}; rename the new one with --head")
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
        raise ExportError(f"the held-out share must be between 0 and 1, found {settings.hold_out:g}")
    # Masks and boxes are known only for the picture and its mirror image.
    most = 2 if kind.fitted_on == "maps" else MOST
    if not 1 <= settings.views <= most:
        raise ExportError(f"heads of the kind {kind.name} take 1 to {most} views per picture, found {settings.views}")


def _within_budget(
    accuracies: Mapping[str, Accuracy | None], max_drop: float, fitted_on: str, progress: Callable[[str], None]
) -> dict[str, Accuracy | None]:
    """Return the accuracies of the variants to keep."""
    held: dict[str, Accuracy | None] = {}
    for key, found in accuracies.items():
        if found is None or found.drop <= max_drop or key == fitted_on:
            held[key] = found
        else:
            progress(f"variant {key} is omitted: {found.drop:.2f} points below FP32, {max_drop:g} allowed")
    return held
