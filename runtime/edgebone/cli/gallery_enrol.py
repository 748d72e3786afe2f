"""``edgebone gallery enrol``: add pictures to a gallery."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgebone.cli import gallery_options, options
from edgebone.cli.gallery_options import kind_of, rate_of, say_unreadable
from edgebone.cli.output import note, say, say_json

if TYPE_CHECKING:
    from edgebone.gallery import Added, Gallery
    from edgebone.gallery.enrolment import Embedded, Sample
    from edgebone.gallery.vectors import Storage
    from edgebone.model.model import Model


def enrol(
    gallery: gallery_options.File,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder with a subfolder for each label; a CSV with file,label; or with --label: a folder, a "
            "picture, a glob, a video or a camera.",
        ),
    ],
    model: gallery_options.Model,
    label: Annotated[str | None, typer.Option("--label", help="The label for all pictures of the source.")] = None,
    every: Annotated[int, typer.Option("--every", min=1, help="For videos and cameras: use every N-th frame.")] = 1,
    frames: Annotated[
        int, typer.Option("--frames", min=1, help="For videos and cameras: stop after this many frames.")
    ] = 100,
    signatures: Annotated[
        bool,
        typer.Option(
            "--signatures",
            help="A new gallery finds copies of pictures, also cropped, shrunk or compressed, instead of similar "
            "things; without a folder or --label, the label is the file's name.",
        ),
    ] = False,
    storage: Annotated[
        Literal["float32", "float16", "int8"] | None,
        typer.Option("--storage", help="For a new gallery; float16 and int8 take less memory."),
    ] = None,
    head: gallery_options.Head = None,
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    json: options.Json = False,
) -> None:
    """Add pictures to a gallery, created if missing, and calibrate it.

    Pictures that are already in it are reported and not added again; unreadable ones are listed.
    """
    from edgebone.gallery import changing
    from edgebone.gallery.enrolment import embed_samples, frames_of, labelled
    from edgebone.gallery.views import SIGNATURE
    from edgebone.model.model import load

    # For a name that is too long os.path returns False, while Path raises.
    there = kind_of(gallery) if os.path.exists(gallery) else None  # noqa: PTH110
    samples, beside = labelled(source, label, signatures or (there is not None and there.views == SIGNATURE))
    if samples is None and label is None:
        raise typer.BadParameter("the frames of a video or a camera need --label")
    if beside:
        note(
            f"edgebone: left out: {beside} pictures in {source} itself, outside its label folders: move each into "
            "the folder of its label"
        )
    with load(model, engine=engine, precision=precision) as loaded:
        # Before the work, so that mismatches are reported at once.
        kind = _kind(there, loaded, head, signatures, storage)
        damaged: list[str] = []
        taken = frames_of(source, label or "", every, frames, damaged) if samples is None else samples
        done = embed_samples(loaded, kind, _with_bar(taken, None if samples is None else len(samples)), head, True)
    say_unreadable(done.unreadable, len(done.samples) + len(done.unreadable))
    # An empty one if the gallery was deleted meanwhile.
    with changing(gallery, lambda: kind) as changed:
        changed.check(kind.space, kind.about)
        each = done.vectors.shape[1]
        labels, sources = ([getattr(sample, name) for sample in done.samples for _ in range(each)] for name in _FIELDS)
        added = changed.add(done.vectors.reshape(-1, changed.dimension), labels, sources=sources, policy="skip")
        calibration = _calibrate(changed, len(added.ids))
    left_out = {"damaged": len(damaged), "beside_label_folders": beside}
    _report(gallery, changed, done, added, left_out, calibration, json)


_FIELDS = ("label", "source")


def _kind(there: Gallery | None, model: Model, head: str | None, signatures: bool, storage: Storage | None) -> Gallery:
    """Return an empty gallery like the existing one, or a new one; the model must fit it."""
    from edgebone.gallery import Gallery, GalleryError
    from edgebone.gallery.embedding import about, dimension_of, space_of
    from edgebone.gallery.views import OWN, SIGNATURE

    if there is not None:
        if signatures and there.views != SIGNATURE:
            raise GalleryError(f"{there.path} is not a gallery of signatures; create another one for them")
        if storage not in (None, there.storage):
            raise GalleryError(f"{there.path} stores {there.storage}; create another one for {storage}")
        there.check(space_of(model, head, there.views), about(model, head, there.views))
        return there
    views = SIGNATURE if signatures else OWN
    dimension, described = dimension_of(model, head), about(model, head, views)
    return Gallery(space_of(model, head, views), dimension, storage or "float32", described, views)


def _with_bar(samples: Iterable[Sample], total: int | None) -> Iterator[Sample]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        yield from bar.track(samples, total=total, description="pictures")


def _calibrate(gallery: Gallery, added: int) -> str:
    """Recalibrate at the previous rate; return what to report about it."""
    before = gallery.calibration
    if before is not None and not added:
        return f"not recalibrated, since nothing was added: {before}"
    if before is not None and not before.own_strangers:
        return "not recalibrated: its threshold was found with strangers; run edgebone gallery calibrate again"
    if len(gallery.labels()) < 2:
        # A threshold from when there were more labels still holds.
        why = "not calibrated: everything gets its only label"
        if before is not None:
            why = f"not recalibrated, with one label left: {before}"
        return f"{why}; enrol another, or edgebone gallery calibrate --strangers"
    return str(gallery.calibrate(rate_of(gallery, None)))


def _report(
    path: str, gallery: Gallery, done: Embedded, added: Added, left_out: dict[str, int], calibration: str, json: bool
) -> None:
    import msgspec

    from edgebone.core.writing import as_utf8
    from edgebone.gallery.doubts import doubts
    from edgebone.gallery.views import SIGNATURE

    doubted = [] if gallery.views == SIGNATURE else doubts(gallery.labels(), gallery.calibration)

    each = done.vectors.shape[1]
    # The first of a signature's two vectors is the picture's own.
    again = [item for item in added.duplicates if item.row % each == 0]
    others = [item for item in again if item.label != as_utf8(done.samples[item.row // each].label)]
    if json:
        record = {
            "pictures": len(done.samples),
            "added": len(added.ids),
            "already_there": len(again),
            "under_another_label": [
                {"source": as_utf8(done.samples[item.row // each].source), "id": item.of, "label": item.label}
                for item in others
            ],
            "unreadable": [as_utf8(line) for line in done.unreadable],
            **left_out,
            "entries": len(gallery),
            "labels": len(gallery.labels()),
            "calibration": gallery.calibration,
            "doubts": doubted,
        }
        say_json(msgspec.json.encode(record))
        return
    for item in others:
        sample = done.samples[item.row // each]
        note(f"edgebone: not added: {sample.source} ({sample.label}) is entry {item.of}, which is {item.label}")
    damaged = f"{left_out['damaged']} frames were damaged; " if left_out["damaged"] else ""
    say(
        f"{path}: {len(added.ids)} entries of {len(done.samples)} pictures added, {len(again)} were already present, "
        f"{len(done.unreadable)} could not be read; {damaged}"
        f"{len(gallery)} entries of {len(gallery.labels())} labels"
    )
    say(calibration)
    for doubt in doubted:
        note(f"edgebone: {doubt}")
