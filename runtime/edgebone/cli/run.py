"""``edgebone run``: frames from sources through a bundle."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgebone.cli import options, stream_options
from edgebone.cli.output import note, notice
from edgebone.cli.service import serving
from edgebone.cli.signals import end_at_hangup, listen_for_reload
from edgebone.cli.stream_options import OUTPUT, RESULT, SOURCE
from edgebone.core.errors import EngineStalledError


def run_command(
    bundle: options.Bundle,
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Pictures, videos, folders, globs, rtsp://…, http://…, usb:0, csi:0, synthetic://640x480@30. "
            "'rtsp://USER:$CAM_PASS@…' takes the password from the environment.",
        ),
    ],
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    hint: options.Hint = "latency",
    threads: options.Threads = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Classes a result lists.", rich_help_panel=RESULT)
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(
            "--score", callback=options.share, help="Lowest score of a box that is shown.", rich_help_panel=RESULT
        ),
    ] = None,
    iou: stream_options.Iou = None,
    classes: stream_options.Classes = None,
    class_agnostic: stream_options.ClassAgnostic = False,
    frame_in_graph: stream_options.FrameInGraph = None,
    gallery: stream_options.Galleries = None,
    head_every: stream_options.HeadRates = None,
    max_fps: stream_options.MaxFps = None,
    every: stream_options.Every = 1,
    roi: stream_options.Roi = None,
    give_up: stream_options.GiveUp = None,
    fps: stream_options.Fps = None,
    forgiving: stream_options.Forgiving = False,
    frames: Annotated[
        int | None, typer.Option("--frames", min=1, help="Stop after this many frames.", rich_help_panel=SOURCE)
    ] = None,
    track: Annotated[
        bool, typer.Option("--track", help="Follow what is detected from frame to frame.", rich_help_panel=RESULT)
    ] = False,
    zones: stream_options.Zones = None,
    events: Annotated[
        Path | None,
        typer.Option("--events", help="Write the zones' events as JSON lines to this file.", rich_help_panel=OUTPUT),
    ] = None,
    step: stream_options.Steps = None,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", help="Write JSON lines to this file.", rich_help_panel=OUTPUT)
    ] = None,
    append: stream_options.Append = False,
    video: stream_options.Video = None,
    save: stream_options.Save = None,
    out: stream_options.Targets = None,
    sink_error: stream_options.SinkError = "raise",
    metrics: stream_options.Metrics = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start again when the run fails.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines instead of text.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Run a bundle on pictures, videos and cameras, and print what it sees.

    Pictures print a line each; videos and cameras a summary at their end, and a status line on a terminal. Cameras
    that go away are waited for. SIGHUP loads the bundle and the zones again; a gallery that changes is taken over.
    """
    if restart:
        from edgebone.cli.restart import supervise

        if video:
            raise typer.BadParameter("a restarted run would write over its --video; keep JSON lines with --jsonl")
        raise typer.Exit(supervise([word for word in sys.argv[1:] if word != "--restart"]))
    from edgebone.cli import run_output
    from edgebone.core.bundle import open_bundle
    from edgebone.core.model_files import is_bundle
    from edgebone.model.model import load
    from edgebone.pipeline import Pipeline
    from edgebone.pipeline.left_out import check_all_read
    from edgebone.pipeline.opening import open_steps
    from edgebone.sinks.line_file import descriptor_of
    from edgebone.sinks.opening import open_files
    from edgebone.sources import open_sources
    from edgebone.sources.limits import Limited, Limits
    from edgebone.sources.video_rate import rate_of

    limits = Limits(max_fps, every, roi)
    files = [os.path.normpath(file) for file in (jsonl, events, video, save, *(out or ())) if file]
    if not append and (twice := next((file for file in files if files.count(file) > 1), None)):
        raise typer.BadParameter(f"two outputs would write over each other in {twice}; give two files, or --append")
    if events and not (zones or step):
        raise typer.BadParameter("--events are those of --zones, or of a --step: give both")
    if zones and not track:
        raise typer.BadParameter("--zones count what is followed from frame to frame: give --track too")
    if jsonl and descriptor_of(jsonl) == 1:
        jsonl, json = None, True
    if events and descriptor_of(events) == 1:
        events = None
    if not is_bundle(Path(bundle)):
        if swapped := next((word for word in source if is_bundle(Path(word))), None):
            raise typer.BadParameter(f"{swapped} is the bundle: it comes first, then what it looks at")
        # What it is instead matters more than what is wrong with the sources.
        open_bundle(bundle).close()
    steps = open_steps(dict(gallery or ()), track, zones, step or (), notice)
    sources = open_sources(source, give_up, fps, forgiving)
    with contextlib.ExitStack() as closing:
        # Until the stream has them, nobody else closes them.
        opened = closing.enter_context(contextlib.ExitStack())
        for item in sources:
            opened.callback(item.close)
        if video and len(sources) > 1:
            raise typer.BadParameter("one video is written from one source; run the sources one by one")
        load_again = functools.partial(
            load, bundle, engine=engine, precision=precision, hint=hint, threads=threads, top_k=top_k, score=score,
            iou=iou, classes=classes, class_agnostic=class_agnostic or None, frame_in_graph=frame_in_graph,
            every=dict(head_every or ()),
        )  # fmt: skip
        model = closing.enter_context(load_again())
        pipeline = Pipeline(model, steps, load=load_again, notice=notice)
        pulse = closing.enter_context(serving(pipeline))
        limited = [Limited(item, limits) for item in sources]
        stream = closing.enter_context(pipeline.stream(*limited, forgiving=forgiving, pulse=pulse))
        opened.pop_all()
        run_output.say_engine(model)
        pipeline.sinks = [
            *run_output.printing(sources, json, events=bool(zones or step) and events is None),
            *open_files(
                lines=jsonl, events=events, video=video, pictures=save, others=out or (), append=append,
                fps=rate_of(sources[0], limits), draw=pipeline.draw if steps else None, policy=sink_error,
            ),
        ]  # fmt: skip
        if metrics:
            from edgebone.telemetry import serve_metrics

            closing.callback(serve_metrics(lambda: stream.stats, metrics.port, host=metrics.host).close)
        # Only cameras run long enough: of a terminal that is closed, a run over files should end as others do.
        (listen_for_reload if any(item.live for item in sources) else end_at_hangup)()
        try:
            run_output.follow(pipeline, stream, frames, json)
            check_all_read(sources, stream.stats, forgiving)
        except EngineStalledError as error:
            # Closing would wait for the engine too: everything else is closed already.
            note(f"edgebone: {error}")
            sys.stdout.flush()
            os._exit(error.exit_code)
