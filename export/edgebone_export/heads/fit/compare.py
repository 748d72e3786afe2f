"""Compare the same head on several backbones: accuracy and cost on this machine."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

import edgebone
from edgebone.core.errors import EdgeboneError
from edgebone.core.machine import Machine
from edgebone.core.model_files import bundle_name
from edgebone.core.timing import percentiles
from edgebone.engines.table import this_machine
from edgebone.sources.images import read_image
from edgebone_export.errors import ExportError
from edgebone_export.exporter import export
from edgebone_export.heads.data.labelled import read_labelled
from edgebone_export.heads.fit.fit import FitReport, fit
from edgebone_export.heads.fit.work import Settings
from edgebone_export.heads.kinds import find_kind, names_of

_BUNDLE = ".bundle"
# Consecutive frames of one model; the first two are not counted: another model's threads are still spinning.
_TURN = 7
_WARM_UP = 2


class Compared(msgspec.Struct, frozen=True):
    """One backbone with the head on it.

    Attributes:
        name: Name as requested.
        accuracy: Share of held-out pictures classified correctly, 0 to 1.
        interval95: Wilson interval of the accuracy.
        held_out: Number of held-out pictures.
        cross_validation: Accuracy in cross-validation on the others; None if there was none.
        p50_ms: Median time per picture: preprocessing, network with head, and decoding.
        p90_ms: 90th percentile of the time.
        engine: Engine and precision.
        megabytes: The fitted bundle's size, in 1000² bytes.
        features_s: Seconds for the features of all pictures; short if they were cached.
        fit_s: Seconds for the head.
        on_front: Whether no other backbone is at least as accurate and faster, or more accurate and as fast.
        bundle: Path of the fitted bundle; empty if not kept.
    """

    name: str
    accuracy: float
    interval95: tuple[float, float]
    held_out: int
    cross_validation: float | None
    p50_ms: float
    p90_ms: float
    engine: str
    megabytes: float
    features_s: float
    fit_s: float
    on_front: bool
    bundle: str


class Failed(msgspec.Struct, frozen=True):
    """A backbone that could not be compared, with the reason."""

    name: str
    reason: str


class Comparison(msgspec.Struct, frozen=True):
    """The comparison of all backbones.

    Attributes:
        machine: Machine of the measurements.
        data: Data that the heads were fitted on.
        head: Kind of head.
        rows: Backbones, fastest first.
        failed: Backbones that could not be compared.
    """

    machine: Machine
    data: str
    head: str
    rows: tuple[Compared, ...]
    failed: tuple[Failed, ...]


@dataclass(frozen=True)
class Backbones:
    """The backbones to compare, and where to keep them.

    Attributes:
        names: Model names of `edgebone export`, or bundles.
        weights: Weights as in `edgebone export`; not used for bundles.
        weights_dir: Folder with publishers' weights files.
        keep: Folder for the exported and the fitted bundles; None keeps none. Bundles already exported there are
            reused.
    """

    names: tuple[str, ...]
    weights: str = "default"
    weights_dir: Path | None = None
    keep: Path | None = None


@dataclass(frozen=True)
class _Fitted:
    name: str
    report: FitReport
    path: Path


def compare(
    data: Path,
    backbones: Backbones,
    settings: Settings,
    *,
    seconds: float = 3.0,
    progress: Callable[[str], None] = lambda _: None,
    count: Callable[[int, int], None] = lambda _done, _of: None,
) -> Comparison:
    """Fit the same head on several backbones, and time them in turns.

    Every head is fitted on the same pictures, and measured on the same ones.

    Args:
        data: Data to fit on: a folder with one subfolder per class, or a CSV.
        backbones: The backbones.
        settings: Settings of the fit of a classifier.
        seconds: Duration of each latency measurement.
        progress: Called with one line per step.
        count: Called with the number of pictures done and their total.

    Raises:
        ExportError: The head is not a classifier, no backbone is named, or one is named twice.
        SourceError: The data is missing, or none of it can be read.
    """
    names = [_file_name(name) for name in backbones.names]
    if not names or not all(names):
        raise ExportError("no backbones to compare; pass some: --backbones mobilenet_v2,resnet50")
    twice = [name for name, file in zip(backbones.names, names, strict=True) if names.count(file) > 1]
    if twice:
        raise ExportError(f"backbone {twice[0]} is listed twice")
    kind, comparable = find_kind(settings.kind), names_of("classification")
    if kind.name not in comparable:
        raise ExportError(f"heads of the kind {kind.name} have no accuracy to compare; {', '.join(comparable)} do")
    kind.make_settings(settings.options)
    # An error of the data applies to all backbones.
    first = read_labelled(data, "classes").pictures[0]
    if settings.val is not None:
        read_labelled(settings.val, "classes")
    fitted: list[_Fitted] = []
    failed: list[Failed] = []
    with ExitStack() as stack:
        folder = backbones.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in backbones.names:
            try:
                fitted.append(_fit_one(name, data, backbones, settings, folder, progress, count))
            except EdgeboneError as error:
                failed.append(Failed(name, str(error)))
        progress(f"latency of {len(fitted)} backbones, in turns")
        times = _in_turns([item.path for item in fitted], settings, read_image(first), seconds) if fitted else []
        rows = [_row(item, own, backbones.keep is not None) for item, own in zip(fitted, times, strict=True)]
    front = pareto_front([(row.p50_ms, row.accuracy) for row in rows])
    rows = [msgspec.structs.replace(row, on_front=best) for row, best in zip(rows, front, strict=True)]
    rows.sort(key=lambda row: row.p50_ms)
    return Comparison(this_machine(), data.name, settings.kind, tuple(rows), tuple(failed))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return which (cost, worth) points are not dominated by a point of no more cost and no less worth."""
    return [
        not any(cost <= own[0] and worth >= own[1] and (cost, worth) != own for cost, worth in points) for own in points
    ]


def advice(rows: Sequence[Compared]) -> list[str]:
    """Return one sentence for each step along the Pareto front, from the fastest on."""
    front = [row for row in rows if row.on_front]
    lines = [f"{front[0].name} is the fastest" + (", and none is more accurate" if len(front) == 1 else "")]
    for cheaper, dearer in itertools.pairwise(front):
        separated = dearer.interval95[0] > cheaper.interval95[1]
        lines.append(
            f"{dearer.name} is {100 * (dearer.accuracy - cheaper.accuracy):.1f} points more accurate than "
            f"{cheaper.name}{'' if separated else ' (their intervals overlap)'} and takes "
            f"{dearer.p50_ms / cheaper.p50_ms:.2f} times as long"
        )
    return lines


def _file_name(name: str) -> str:
    if Path(name).exists():
        return bundle_name(name)
    return name.replace("/", "-").replace(":", "-")


def _fit_one(
    name: str,
    data: Path,
    backbones: Backbones,
    settings: Settings,
    folder: Path,
    progress: Callable[[str], None],
    count: Callable[[int, int], None],
) -> _Fitted:
    def say(step: str) -> None:
        progress(f"{name}: {step}")

    bundle, file = Path(name), _file_name(name)
    if not bundle.exists():
        # An export with other weights is another backbone.
        weights = "" if backbones.weights == "default" else f".{_file_name(Path(backbones.weights).name)}"
        bundle = folder / f"{file}{weights}{_BUNDLE}"
        if not bundle.exists():
            export(name, bundle, weights=backbones.weights, weights_dir=backbones.weights_dir, progress=say)
    target = folder / f"{file}.fitted{_BUNDLE}"
    report = fit(bundle, data, target, settings, overwrite=True, progress=say, count=count)
    if report.head.manifest.report.get("held_out") is None:
        raise ExportError("no picture was held out to measure on; pass more pictures per class, or --val")
    return _Fitted(name, report, target)


def _in_turns(
    bundles: Sequence[Path], settings: Settings, picture: NDArray[np.uint8], seconds: float
) -> list[list[int]]:
    """Return nanoseconds per picture, by bundle; all bundles take turns in a changing order."""
    times: list[list[int]] = [[] for _ in bundles]
    with ExitStack() as stack:
        models = [
            stack.enter_context(edgebone.load(path, engine=settings.engine, precision=settings.precision))
            for path in bundles
        ]
        for model in models:
            model(picture)
        turn = 0
        while min(sum(own) for own in times) < seconds * 1e9:
            for place in range(len(models)):
                number = (place + turn) % len(models)
                for frame in range(_TURN):
                    started = time.monotonic_ns()
                    models[number](picture)
                    if frame >= _WARM_UP:
                        times[number].append(time.monotonic_ns() - started)
            turn += 1
    return times


def _row(fitted: _Fitted, times_ns: Sequence[int], kept: bool) -> Compared:
    found = fitted.report.head.manifest.report
    held_out, folds = found["held_out"]["accuracy"], found.get("cross_validation")
    files = [fitted.path] if fitted.path.is_file() else [path for path in fitted.path.rglob("*") if path.is_file()]
    taken = percentiles(times_ns)
    return Compared(
        name=fitted.name,
        accuracy=held_out["value"],
        interval95=tuple(held_out["interval95"]),
        held_out=held_out["n"],
        cross_validation=None if folds is None else folds["accuracy"]["value"],
        p50_ms=taken.p50_ms,
        p90_ms=taken.p90_ms,
        engine=str(fitted.report.candidate),
        megabytes=round(sum(path.stat().st_size for path in files) / 1e6, 2),
        features_s=round(fitted.report.features_s, 2),
        fit_s=round(fitted.report.fit_s, 2),
        on_front=False,
        bundle=str(fitted.path) if kept else "",
    )
