"""``edgebone run``: frames from sources through a bundle."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone.cli import options
from edgebone.cli.output import note, notice, say, say_json
from edgebone.cli.service import service_pulse, service_stopping
from edgebone.cli.signals import end_at_hangup, listen_for_reload, raise_if_heard, reload_asked
from edgebone.core.errors import EngineStalledError

if TYPE_CHECKING:
    from edgebone.core.frame import Frame
    from edgebone.core.results import Results
    from edgebone.model.model import Model
    from edgebone.pipeline import Pipeline, Step, Summary
    from edgebone.sinks import Sink
    from edgebone.sinks.annotate import Draw
    from edgebone.sinks.guarded import Policy
    from edgebone.sources import Source
    from edgebone.stream.stream import Stream


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
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Classes a result lists.")] = None,
    score: Annotated[
        float | None, typer.Option("--score", callback=options.share, help="Lowest score of a box that is shown.")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(
            "--iou", callback=options.share, help="Boxes that overlap a better one of their class by more are dropped."
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option("--classes", metavar="NAME,NAME", help="Only boxes of these classes, also for tracks and zones."),
    ] = None,
    class_agnostic: Annotated[
        bool,
        typer.Option("--class-agnostic", help="Drop boxes that overlap a better one of another class, too."),
    ] = False,
    frame_in_graph: Annotated[
        bool | None,
        typer.Option(
            "--frame-in-graph/--no-frame-in-graph",
            help="Preprocess inside the graph, for frames of a size that the bundle has a variant for. If not given: "
            "on a GPU.",
        ),
    ] = None,
    gallery: Annotated[
        list[str] | None,
        typer.Option(
            "--gallery", metavar="FILE", help="Name what embeddings show; HEAD=FILE where several heads give one."
        ),
    ] = None,
    head_every: Annotated[
        list[str] | None,
        typer.Option("--head-every", metavar="HEAD=N", help="Run a detached head on one frame out of so many."),
    ] = None,
    max_fps: Annotated[
        float | None, typer.Option("--max-fps", help="At most so many frames a second of each source.")
    ] = None,
    every: Annotated[int, typer.Option("--every", min=1, help="One frame out of so many of each source.")] = 1,
    roi: Annotated[
        str | None, typer.Option("--roi", metavar="L,T,R,B", help="Look only at this region: pixels from the corner.")
    ] = None,
    give_up: Annotated[
        float | None,
        typer.Option("--give-up", min=0, help="Fail when a camera gave no frame for so many seconds; else never."),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", help="A folder's pictures were taken so many a second: their times, as a video has."),
    ] = None,
    forgiving: Annotated[
        bool, typer.Option("--forgiving", help="When a source or a picture cannot be read, go on with the others.")
    ] = False,
    track: Annotated[bool, typer.Option("--track", help="Follow what is detected from frame to frame.")] = False,
    zones: Annotated[
        Path | None, typer.Option("--zones", help="A file of zones and lines: who enters, stays, leaves, crosses.")
    ] = None,
    events: Annotated[
        Path | None, typer.Option("--events", help="Write the zones' events as JSON lines to this file.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write JSON lines to this file.")] = None,
    append: Annotated[bool, typer.Option("--append", help="Keep what --out and --events hold already.")] = False,
    video: Annotated[Path | None, typer.Option("--video", help="Write an annotated video.")] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FOLDER", help="Write annotated pictures, one a frame; nothing is overwritten."),
    ] = None,
    sink_error: Annotated[
        str,
        typer.Option("--sink-error", help="When a file cannot be written: raise, stop in good order, or log."),
    ] = "raise",
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            metavar="PORT",
            help="Serve figures to Prometheus on this port, to this machine's own programs; ADDRESS:PORT to others.",
        ),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start again when the run fails.")] = False,
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Stop after so many frames.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text.")] = False,
) -> None:
    """Run a bundle on pictures, videos and cameras, and print what it sees.

    Pictures print a line each; videos and cameras a summary at their end, and a status line on a terminal. Cameras
    that go away are waited for. SIGHUP loads the bundle and the zones again; a gallery that changes is taken over.
    """
    if restart:
        from edgebone.cli.restart import supervise

        if video:
            raise typer.BadParameter("a restarted run would write over its --video; keep JSON lines with --out")
        raise typer.Exit(supervise([word for word in sys.argv[1:] if word != "--restart"]))
    from edgebone.core.bundle import open_bundle
    from edgebone.core.model_files import is_bundle
    from edgebone.model.model import load
    from edgebone.pipeline import Pipeline
    from edgebone.pipeline.left_out import check_all_read
    from edgebone.sinks.guarded import POLICIES
    from edgebone.sinks.line_file import descriptor_of
    from edgebone.sources import open_sources
    from edgebone.sources.limits import Limited, Limits

    policy = next((policy for policy in POLICIES if policy == sink_error), None)
    if policy is None:
        raise typer.BadParameter(f"--sink-error is {', '.join(POLICIES)}, not {sink_error}")
    rates = _rates(head_every)
    galleries = _by_head(gallery)
    limits = Limits(max_fps, every, _region(roi))
    listen_at = _host_and_port(metrics)
    if out and out == events and not append:
        raise typer.BadParameter(
            f"--out and --events would write over each other in {out}; give two files, or --append"
        )
    if out and descriptor_of(out) == 1:
        out, json = None, True
    if not is_bundle(Path(bundle)):
        if swapped := next((word for word in source if is_bundle(Path(word))), None):
            raise typer.BadParameter(f"{swapped} is the bundle: it comes first, then what it looks at")
        # What it is instead matters more than what is wrong with the sources.
        open_bundle(bundle).close()
    steps = _steps(galleries, track, zones, events)
    event_sinks = _event_sinks(zones, events, append, policy)
    sources = open_sources(source, give_up, fps, forgiving)
    with contextlib.ExitStack() as closing:
        # Until the stream has them, nobody else closes them.
        opened = closing.enter_context(contextlib.ExitStack())
        for item in sources:
            opened.callback(item.close)

        load_again = functools.partial(
            load, bundle, engine=engine, precision=precision, hint=hint, threads=threads, top_k=top_k, score=score,
            iou=iou, classes=_names(classes), class_agnostic=class_agnostic or None, frame_in_graph=frame_in_graph,
            every=rates,
        )  # fmt: skip
        model = closing.enter_context(load_again())
        pipeline = Pipeline(model, steps, load=load_again, notice=notice)
        alive = service_pulse()

        def pulse() -> None:
            raise_if_heard()
            alive()
            if reload_asked():
                pipeline.reload()

        closing.callback(service_stopping)
        limited = [Limited(item, limits) for item in sources]
        stream = closing.enter_context(pipeline.stream(*limited, forgiving=forgiving, pulse=pulse))
        opened.pop_all()
        _say_engine(model)
        draw = pipeline.draw if steps else None
        pipeline.sinks = [*event_sinks, *_sinks(sources, out, append, video, save, json, policy, draw)]
        if listen_at is not None:
            from edgebone.telemetry import serve_metrics

            host, port = listen_at
            closing.callback(serve_metrics(lambda: stream.stats, port, host=host).close)
        # Only cameras run long enough: of a terminal that is closed, a run over files should end as others do.
        (listen_for_reload if any(item.live for item in sources) else end_at_hangup)()
        try:
            _go(pipeline, stream, frames, note if json else say)
            check_all_read(sources, stream.stats, forgiving)
        except EngineStalledError as error:
            # Closing would wait for the engine too: everything else is closed already.
            note(f"edgebone: {error}")
            sys.stdout.flush()
            os._exit(error.exit_code)


def _steps(galleries: dict[str, str], track: bool, zones: Path | None, events: Path | None) -> list[Step]:
    if events and not zones:
        raise typer.BadParameter("--events are those of --zones: give both")
    if zones and not track:
        raise typer.BadParameter("--zones count what is followed from frame to frame: give --track too")
    steps: list[Step] = []
    if galleries:
        from edgebone.pipeline.naming import Naming

        steps.append(Naming(galleries, notice))
    if track:
        from edgebone.pipeline.tracks import Tracks

        steps.append(Tracks(zones))
    return steps


def _event_sinks(zones: Path | None, events: Path | None, append: bool, policy: Policy) -> list[Sink]:
    """Events go to the standard output where they have no file of their own."""
    from edgebone.sinks.callback import CallbackSink
    from edgebone.sinks.eventful import Eventful
    from edgebone.sinks.guarded import GuardedSink
    from edgebone.sinks.jsonl import EventLines, event_line
    from edgebone.sinks.line_file import descriptor_of

    if zones is None:
        return []
    if events is None or descriptor_of(events) == 1:
        return [CallbackSink(event=lambda event: _print_line(event_line(event)))]
    return [Eventful(GuardedSink(EventLines(events, append), policy))]


def _region(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
    if not found:
        raise typer.BadParameter(f"--roi is left,top,right,bottom in pixels, such as 0,200,1280,720, not {text}")
    left, top, right, bottom = map(int, found.groups())
    return left, top, right, bottom


def _host_and_port(text: str | None) -> tuple[str, int] | None:
    """``9477`` to ("127.0.0.1", 9477), ``[::]:9477`` to ("::", 9477)."""
    if text is None:
        return None
    found = re.fullmatch(r"(?:(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]+)):)?(\d{1,5})", text)
    if not found or not 0 < int(found[3]) < 65536:
        raise typer.BadParameter(
            f"--metrics is a port, such as 9477, or ADDRESS:PORT, such as 0.0.0.0:9477, not {text}"
        )
    return found[1] or found[2] or "127.0.0.1", int(found[3])


def _names(texts: list[str] | None) -> list[str] | None:
    """``["car,truck", "bus"]`` to ["car", "truck", "bus"]."""
    if texts is None:
        return None
    return [name for text in texts for part in text.split(",") if (name := part.strip())]


def _rates(texts: list[str] | None) -> dict[str, int]:
    """``["product=3"]`` to {"product": 3}."""
    rates = {}
    for text in texts or []:
        found = re.fullmatch(r"(.+)=([1-9][0-9]*)", text)
        if not found:
            raise typer.BadParameter(f"--head-every is HEAD=N, such as product=3 for every third frame, not {text}")
        rates[found[1]] = int(found[2])
    return rates


def _by_head(texts: list[str] | None) -> dict[str, str]:
    """``["shelf.gallery"]`` to {"": "shelf.gallery"}, ``["product=shelf.gallery"]`` to {"product": "shelf.gallery"}."""
    paths = {}
    for text in texts or []:
        head, said, path = text.partition("=")
        # A file's own name may have the sign in it.
        head, path = (head, path) if said and not Path(text).exists() else ("", text)
        if head in paths:
            raise typer.BadParameter("--gallery is given once a head; with several heads it is HEAD=FILE")
        paths[head] = path
    return paths


def _say_engine(model: Model) -> None:
    from edgebone.engines.protocol import KeepsCompiled

    for failure in model.failures:
        note(f"edgebone: {failure}; going on with the next engine")
    if sys.stderr.isatty():
        engine = model.engine
        if isinstance(engine, KeepsCompiled) and engine.cached is not None and not engine.from_cache:
            note(f"compiled for this machine at first use; kept in {engine.cached.path.parent}")
        reason = next(fit.reason for fit in model.choice.fits if fit.candidate == model.candidate)
        note(f"engine: {model.engine.name}, {model.engine.precision} ({reason})")


def _sinks(
    sources: list[Source],
    out: Path | None,
    append: bool,
    video: Path | None,
    save: Path | None,
    json: bool,
    policy: Policy,
    draw: Draw | None,
) -> list[Sink]:
    from edgebone.sinks.callback import CallbackSink
    from edgebone.sinks.guarded import GuardedSink
    from edgebone.sinks.jsonl import JsonLines, to_line
    from edgebone.sources.video_rate import is_pictures, rate_of

    sinks: list[Sink] = []
    if json:
        sinks.append(CallbackSink(lambda frame, result: _print_line(to_line(frame, result))))
    elif any(is_pictures(source) for source in sources):
        sinks.append(CallbackSink(_print_picture))
    if out:
        sinks.append(JsonLines(out, append))
    if video:
        from edgebone.sinks.video import VideoFileSink

        if len(sources) > 1:
            raise typer.BadParameter("one video is written from one source; run the sources one by one")
        sinks.append(VideoFileSink(video, rate_of(sources[0]), draw))
    if save:
        from edgebone.sinks.picture_files import PictureFilesSink

        sinks.append(PictureFilesSink(save, draw))
    return [GuardedSink(sink, policy) for sink in sinks]


def _print_line(line: bytes) -> None:
    say_json(line)
    sys.stdout.buffer.flush()


def _print_picture(frame: Frame, result: Results) -> None:
    from edgebone.core.results import results_to_text

    if frame.position_s is None:
        page = "" if frame.page is None else f", page {frame.page}"
        say(f"{frame.path or frame.source}{page}: {results_to_text(result)}")


def _go(pipeline: Pipeline, stream: Stream[Model], limit: int | None, say_summary: Callable[[str], None]) -> None:
    from edgebone.cli.status import StatusLine, summary

    def finished(done: Summary) -> None:
        for line in done.lines:
            say_summary(line)
        for name, found in done.seen.items():
            common = ", ".join(f"{label} {100 * share:.0f} %" for label, share in found.most_common(3))
            say_summary(f"{name}: {found.frames} frames, most often: {common or 'nothing'}")
        note(summary(done.stats))

    total = sum(source.frame_count or 0 for source in stream.sources)
    with StatusLine(total) as status:

        def each(_: Frame, results: Results) -> None:
            status.show(stream, results)

        def last(done: Summary) -> None:
            status.clear()
            finished(done)

        pipeline.follow(stream, most_frames=limit, each=each, finished=last)
