"""``edgebone shelf``: what stands on a shelf, and what runs out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone.cli import options
from edgebone.cli.output import notice
from edgebone.cli.service import service_pulse, service_stopping
from edgebone.cli.signals import listen_for_reload, raise_if_heard, reload_asked
from edgebone.core.errors import EdgeboneError

if TYPE_CHECKING:
    from edgebone.cli.shelf_outputs import ShelfOutputs
    from edgebone.gallery import Gallery
    from edgebone.stream.inbox import Inbox
    from edgebone.vision.shelf import Shelf
    from edgebone.vision.shelf_file import ShelfFile

# How often signals and the service manager are looked after while no frame comes.
_IDLE_S = 0.5


def shelf_command(
    bundle: options.Bundle,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A video, pictures, a folder, rtsp://…, http://…, usb:0, csi:0.")
    ],
    shelf: Annotated[Path, typer.Option("--shelf", help="The file of the shelf: its zones, and what belongs there.")],
    gallery: Annotated[
        str | None,
        typer.Option(
            "--gallery", help="The products' gallery; without one, the bundle's own classes are the products."
        ),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="The head that sees the products, where there are several.")
    ] = None,
    score: Annotated[
        float,
        typer.Option("--score", callback=options.share, help="Without a gallery: below this confidence it is unknown."),
    ] = 0.5,
    every: Annotated[int, typer.Option("--every", min=1, help="One frame out of so many.")] = 1,
    max_fps: Annotated[float | None, typer.Option("--max-fps", help="At most so many frames a second.")] = None,
    give_up: Annotated[
        float | None,
        typer.Option("--give-up", min=0, help="Fail when a camera gave no frame for so many seconds; else never."),
    ] = None,
    one_look: Annotated[
        bool,
        typer.Option("--one-look", help="One look at each facing is enough: for photographs, each on its own."),
    ] = False,
    jsonl: Annotated[Path | None, typer.Option("--jsonl", help="Write each frame's counts as JSON lines.")] = None,
    events: Annotated[Path | None, typer.Option("--events", help="Write the events as JSON lines.")] = None,
    append: Annotated[bool, typer.Option("--append", help="Keep what --jsonl and --events hold already.")] = False,
    video: Annotated[Path | None, typer.Option("--video", help="Write an annotated video.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the events, and at the end the stock, as JSON lines.")
    ] = False,
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    threads: options.Threads = None,
) -> None:
    """Watch a shelf: count the products of each zone, and tell what runs out, comes back or stands wrong.

    The camera stands still; while it does not, nothing is counted, and that is told. Only facings that changed since
    the last look go through the network again. A gallery that changes is taken over; SIGHUP looks for that at once, and
    loads the file of the shelf again.
    """
    from edgebone.cli.shelf_outputs import ShelfOutputs
    from edgebone.model.model import load
    from edgebone.pipeline.left_out import fail_if_left_out
    from edgebone.pipeline.recogniser import open_gallery, recogniser
    from edgebone.sinks.line_file import descriptor_of
    from edgebone.sources import open_source
    from edgebone.sources.limits import Limits
    from edgebone.sources.picture_files import PictureFiles
    from edgebone.stream.inbox import Inbox
    from edgebone.vision.shelf import Shelf

    if events and descriptor_of(events) == 1:
        events, json = None, True
    file, limits = _read(shelf, one_look), Limits(max_fps, every)
    # In place of the end that it means otherwise, which would lose the video.
    listen_for_reload()
    with ExitStack() as closing:
        opened = open_source(source, give_up)
        inbox = Inbox([opened], [limits])
        closing.callback(inbox.close)
        model = closing.enter_context(load(bundle, engine=engine, precision=precision, threads=threads))
        names = None if gallery is None else open_gallery(model, gallery, head)
        recognise, known = recogniser(model, names, head, score)
        _check_known(file, shelf, known, gallery or bundle)
        watched = Shelf(file, recognise)
        outputs = ShelfOutputs(file, opened, limits, jsonl, events, append, video, json)

        def load_again() -> None:
            again = _read(shelf, one_look)
            _check_known(again, shelf, known if names is None else frozenset(names.labels()), gallery or bundle)
            watched.replace(again)
            outputs.follow(again)

        closing.callback(service_stopping)
        _go(inbox, watched, outputs, names, load_again)
        if isinstance(opened, PictureFiles):
            fail_if_left_out(inbox.counts(0)[2])


def _read(path: Path, one_look: bool) -> ShelfFile:
    import msgspec

    from edgebone.vision.shelf_file import read_shelf

    file = read_shelf(path)
    return msgspec.structs.replace(file, agree=1, looks=1) if one_look else file


def _check_known(file: ShelfFile, path: Path, known: frozenset[str], by: str) -> None:
    strange = sorted(file.products - known)
    if strange:
        from edgebone.core.near import did_you_mean

        raise EdgeboneError(
            f"{path} expects {strange[0]}, which {by} does not know; {did_you_mean(strange[0], known)}it knows "
            f"{', '.join(sorted(known)[:10])}{', …' if len(known) > 10 else ''}"
        )


def _go(
    inbox: Inbox, shelf: Shelf, outputs: ShelfOutputs, gallery: Gallery | None, load_again: Callable[[], None]
) -> None:
    """Every frame, until the source ends."""
    from edgebone.gallery.watch import GalleryWatch
    from edgebone.pipeline.reload import load_again as loaded_again

    watch, alive = GalleryWatch(notice), service_pulse()
    try:
        while not inbox.ended:
            taken = inbox.take(until_s=time.monotonic() + _IDLE_S)
            raise_if_heard()
            alive()
            asked = reload_asked()
            if gallery is not None and watch.look([gallery], asked):
                _follow(gallery, shelf)
            if asked:
                loaded_again("shelf", load_again, notice)
            if taken is not None:
                outputs.take(taken[1], *shelf.update(taken[1]))
    except Exception:
        outputs.discard()
        raise
    except BaseException:
        # Ctrl-C and SIGTERM, which is how a camera's run ends: what was seen so far is finished and kept.
        outputs.finish(shelf)
        raise
    outputs.finish(shelf)


def _follow(gallery: Gallery, shelf: Shelf) -> None:
    """Go on with a gallery that has changed."""
    shelf.look_again()
    gone = sorted(shelf.file.products - gallery.labels().keys())
    if gone:
        notice(f"the shelf expects {gone[0]}, which {gallery.path} does not know any more")
