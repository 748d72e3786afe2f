"""``edgebone shelf``: a shelf's stock and its changes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from edgebone.cli import options, stream_options
from edgebone.cli.output import notice
from edgebone.cli.service import serving
from edgebone.cli.signals import listen_for_reload
from edgebone.cli.stream_options import OUTPUT, RESULT


def shelf_command(
    bundle: options.Bundle,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A video, pictures, a folder, rtsp://…, http://…, usb:0, csi:0.")
    ],
    shelf: Annotated[Path, typer.Option("--shelf", help="The shelf's file: its zones and expected products.")],
    gallery: Annotated[
        str | None,
        typer.Option(
            "--gallery",
            help="The products' gallery. Default: the bundle's classes are the products.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head", help="The head that recognises the products, if there are several.", rich_help_panel=RESULT
        ),
    ] = None,
    score: Annotated[
        float,
        typer.Option(
            "--score",
            callback=options.share,
            help="Without a gallery: products below this confidence are unknown.",
            rich_help_panel=RESULT,
        ),
    ] = 0.5,
    then: Annotated[
        str | None,
        typer.Option(
            "--then",
            metavar="BUNDLE",
            help="The bundle is a detector that finds the facings, and this one names them. Default: the facings are "
            "the file's rows and columns, and the bundle names them.",
            rich_help_panel=RESULT,
        ),
    ] = None,
    classes: stream_options.Classes = None,
    every: stream_options.Every = 1,
    max_fps: stream_options.MaxFps = None,
    give_up: stream_options.GiveUp = None,
    one_look: Annotated[
        bool,
        typer.Option(
            "--one-look",
            help="One look at each facing is enough, for separate photographs.",
            rich_help_panel=RESULT,
        ),
    ] = False,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", help="Write each frame's counts as JSON lines.", rich_help_panel=OUTPUT)
    ] = None,
    events: Annotated[
        Path | None, typer.Option("--events", help="Write the events as JSON lines.", rich_help_panel=OUTPUT)
    ] = None,
    append: stream_options.Append = False,
    video: stream_options.Video = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the events, and at the end the stock, as JSON lines.", rich_help_panel=OUTPUT
        ),
    ] = False,
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    threads: options.Threads = None,
) -> None:
    """Watch a shelf: count the products of each zone, and report low, restocked and misplaced products.

    The camera must be fixed; while it is moved, nothing is counted, which is reported. Only facings that changed since
    the last look go through the network again. A gallery is reloaded when it changes; SIGHUP checks that at once and
    reloads the shelf's file.
    """
    from edgebone.cli.shelf_output import EventPrinter, print_end
    from edgebone.model.model import load
    from edgebone.pipeline import Pipeline, Stocktaking
    from edgebone.pipeline.left_out import check_all_read
    from edgebone.sinks.line_file import descriptor_of
    from edgebone.sinks.opening import open_files
    from edgebone.sources import open_source
    from edgebone.sources.limits import Limited, Limits
    from edgebone.sources.video_rate import rate_of

    if events and descriptor_of(events) == 1:
        events, json = None, True
    if classes and not then:
        raise typer.BadParameter("--classes needs --then: it chooses boxes of a detector")
    limits = Limits(max_fps, every)
    # Otherwise SIGHUP would end the program and lose the video.
    listen_for_reload()
    with ExitStack() as closing:
        second = closing.enter_context(load(then, engine=engine, threads=threads)) if then else None
        step = Stocktaking(shelf, gallery, head, score=score, one_look=one_look, then=second, notice=notice)
        seen = open_source(source, give_up)
        # Nothing else closes it until the stream owns it.
        opened = closing.enter_context(ExitStack())
        opened.callback(seen.close)
        model = closing.enter_context(
            load(bundle, engine=engine, precision=precision, threads=threads, classes=classes)
        )
        printer = EventPrinter(json)
        pipeline = Pipeline(model, [step], notice=notice)
        pipeline.sinks = [
            printer.sink,
            *open_files(
                lines=jsonl, events=events, video=video, append=append, fps=rate_of(seen, limits), draw=pipeline.draw
            ),
        ]
        pulse = closing.enter_context(serving(pipeline))
        stream = closing.enter_context(pipeline.stream(Limited(seen, limits), pulse=pulse))
        opened.pop_all()
        pipeline.follow(stream, finished=lambda done: print_end(done, step, printer))
        check_all_read([seen], stream.stats, forgiving=False)
