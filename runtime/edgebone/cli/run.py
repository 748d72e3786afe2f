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
    hint: stream_options.Hint = None,
    threads: options.Threads = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="The number of classes in a result.", rich_help_panel=RESULT)
    ] = None,
    score: Annotated[
        float | None,
        typer.Option("--score", callback=options.share, help="Score threshold for boxes.", rich_help_panel=RESULT),
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
    tiles: stream_options.TilesGrid = None,
    overlap: stream_options.Overlap = 0.2,
    whole_too: stream_options.WholeToo = False,
    give_up: stream_options.GiveUp = None,
    fps: stream_options.Fps = None,
    forgiving: stream_options.Forgiving = False,
    frames: Annotated[
        int | None, typer.Option("--frames", min=1, help="Stop after this many frames.", rich_help_panel=SOURCE)
    ] = None,
    track: Annotated[
        bool, typer.Option("--track", help="Track detections from frame to frame.", rich_help_panel=RESULT)
    ] = False,
    zones: stream_options.Zones = None,
    events: Annotated[
        Path | None,
        typer.Option("--events", help="Write the zones' events as JSON lines to this file.", rich_help_panel=OUTPUT),
    ] = None,
    then: stream_options.Then = None,
    then_classes: stream_options.ThenClasses = None,
    then_budget: stream_options.ThenBudget = None,
    then_again: stream_options.ThenAgain = None,
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
    restart: Annotated[bool, typer.Option("--restart", help="Restart the run when it fails.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines instead of text.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Run a bundle on pictures, videos and cameras, and print the results.

    Pictures print a line each; videos and cameras a summary at their end, and a status line on a terminal. Lost cameras
    are reconnected. SIGHUP reloads the bundle and the zones; a gallery is reloaded when it changes.
    """
    from edgebone.sinks.opening import is_video, open_files

    writes_video = bool(video) or any(map(is_video, out or ()))
    if restart:
        from edgebone.cli.restart import supervise

        if writes_video:
            raise typer.BadParameter("a restarted run would overwrite its video; use --jsonl to keep JSON lines")
        raise typer.Exit(supervise([word for word in sys.argv[1:] if word != "--restart"]))
    from edgebone.cli import run_output
    from edgebone.core.bundle import open_bundle
    from edgebone.core.model_files import is_bundle
    from edgebone.model.model import load
    from edgebone.pipeline import Pipeline, Tiles
    from edgebone.pipeline.left_out import check_all_read
    from edgebone.pipeline.opening import Cascade, open_steps
    from edgebone.sinks.line_file import descriptor_of
    from edgebone.sources import open_sources
    from edgebone.sources.limits import Limited, Limits
    from edgebone.sources.video_rate import rate_of

    limits = Limits(max_fps, every, roi)
    files = [os.path.normpath(file) for file in (jsonl, events, video, save, *(out or ())) if file]
    if not append and (twice := next((file for file in files if files.count(file) > 1), None)):
        raise typer.BadParameter(f"two outputs would overwrite each other in {twice}; give two files, or --append")
    if events and not (zones or step or (then and track)):
        raise typer.BadParameter("--events needs --zones, --then with --track, or a --step")
    stream_options.check_then(then, track, then_classes, then_budget, then_again)
    if whole_too and not tiles:
        raise typer.BadParameter("--whole-too needs --tiles; without tiles the whole frame is what the bundle sees")
    if zones and not track:
        raise typer.BadParameter("--zones needs --track, since it counts tracked objects")
    if jsonl and descriptor_of(jsonl) == 1:
        jsonl, json = None, True
    if events and descriptor_of(events) == 1:
        events = None
    if not is_bundle(Path(bundle)):
        if swapped := next((word for word in source if is_bundle(Path(word))), None):
            raise typer.BadParameter(f"{swapped} is the bundle: it comes first, then the sources")
        # What the bundle argument really is matters more than an error in the sources.
        open_bundle(bundle).close()
    again_s = (5.0 if then_again is None else then_again) if track else None
    cascade = Cascade(then or (), then_classes, then_budget, again_s, {"engine": engine, "threads": threads})
    grid = Tiles(*tiles, overlap=overlap, whole=whole_too) if tiles else None
    with contextlib.ExitStack() as closing:
        steps = open_steps(dict(gallery or ()), track, zones, step or (), notice, cascade, grid)
        for each in steps:
            closing.callback(each.close)
        sources = open_sources(source, give_up, fps, forgiving)
        # Nothing else closes them until the stream owns them.
        opened = closing.enter_context(contextlib.ExitStack())
        for item in sources:
            opened.callback(item.close)
        if writes_video and len(sources) > 1:
            raise typer.BadParameter("a video needs a single source; run the sources one by one")
        # A step that runs the model itself waits for each of its answers.
        waits = any(each.looks_itself for each in steps) or [item.frame_count for item in sources] == [1]
        offline = not waits and not any(item.live for item in sources)
        load_again = functools.partial(
            load, bundle, engine=engine, precision=precision, hint=hint, threads=threads, offline=offline, top_k=top_k,
            score=score, iou=iou, classes=classes, class_agnostic=class_agnostic or None, frame_in_graph=frame_in_graph,
            every=dict(head_every or ()),
        )  # fmt: skip
        model = closing.enter_context(load_again())
        pipeline = Pipeline(model, steps, load=load_again, notice=notice)
        pulse = closing.enter_context(serving(pipeline))
        limited = [Limited(item, limits) for item in sources]
        stream = closing.enter_context(pipeline.stream(*limited, forgiving=forgiving, pulse=pulse))
        opened.pop_all()
        run_output.say_engine(model)
        if metrics:
            from edgebone.telemetry import serve_metrics

            closing.callback(serve_metrics(lambda: stream.stats, metrics.port, host=metrics.host).close)
        pipeline.sinks = [
            *run_output.printing(sources, json, events=bool(zones or step or (then and track)) and events is None),
            *open_files(
                lines=jsonl, events=events, video=video, pictures=save, others=out or (), append=append,
                fps=rate_of(sources[0], limits), draw=pipeline.draw if steps else None, policy=sink_error,
            ),
        ]  # fmt: skip
        # Only for cameras: a run over files should end when its terminal is closed.
        (listen_for_reload if any(item.live for item in sources) else end_at_hangup)()
        try:
            run_output.follow(pipeline, stream, frames, json)
            check_all_read(sources, stream.stats, forgiving)
        except EngineStalledError as error:
            # Closing would also wait for the engine; everything else is already closed.
            note(f"edgebone: {error}")
            sys.stdout.flush()
            os._exit(error.exit_code)
