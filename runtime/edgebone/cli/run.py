"""``edgebone run``: frames from sources through a bundle."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from edgebone.cli import options
from edgebone.cli.signals import raise_if_heard

if TYPE_CHECKING:
    from edgebone.core.frame import Frame
    from edgebone.core.results import Results
    from edgebone.model import Model
    from edgebone.sinks import Sink
    from edgebone.sources import Source
    from edgebone.stream import StreamStats

_PICTURES_FPS = 1.0
_VIDEO_FPS = 25.0


def run_command(
    bundle: options.Bundle,
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Pictures, videos, folders, globs, usb:0, synthetic://640x480@30.",
        ),
    ],
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    hint: options.Hint = "latency",
    threads: options.Threads = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=1, help="Classes a result lists.")] = None,
    score: Annotated[
        float | None, typer.Option("--score", min=0, max=1, help="Lowest score of a box that is shown.")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option("--iou", min=0, max=1, help="Boxes that overlap a better one of their class by more are dropped."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write JSON lines to this file.")] = None,
    video: Annotated[Path | None, typer.Option("--video", help="Write an annotated video.")] = None,
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Stop after so many frames.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of text.")] = False,
) -> None:
    """Run a bundle on pictures, videos and cameras, and print what it sees.

    Pictures print a line each; videos and cameras a summary at their end, and a status line on a terminal.
    """
    from edgebone.model import load
    from edgebone.sources import open_sources

    sources = open_sources(source)
    with load(
        bundle, engine=engine, precision=precision, hint=hint, threads=threads, top_k=top_k, score=score, iou=iou
    ) as model:
        _say_engine(model)
        _go(model, sources, _sinks(sources, out, video, json), frames, sys.stderr if json else sys.stdout)


def _say_engine(model: Model) -> None:
    from edgebone.engines.openvino import OpenVinoEngine

    for failure in model.failures:
        sys.stderr.write(f"edgebone: {failure}; going on with the next engine\n")
    if sys.stderr.isatty():
        engine = model.engine
        if isinstance(engine, OpenVinoEngine) and engine.compiled_into is not None:
            sys.stderr.write(f"compiled for this machine at first use; kept in {engine.compiled_into}\n")
        reason = next(fit.reason for fit in model.choice.fits if fit.candidate == model.candidate)
        sys.stderr.write(f"engine: {model.engine.name}, {model.engine.precision} ({reason})\n")


def _sinks(sources: list[Source], out: Path | None, video: Path | None, json: bool) -> list[Sink]:
    from edgebone.sinks.callback import CallbackSink
    from edgebone.sinks.jsonl import JsonLines, to_line

    sinks: list[Sink] = []
    if json:
        sinks.append(CallbackSink(lambda frame, result: _print_line(to_line(frame, result))))
    elif any(_is_pictures(source) for source in sources):
        sinks.append(CallbackSink(_print_picture))
    if out:
        sinks.append(JsonLines(out))
    if video:
        from edgebone.sinks.video import VideoFileSink

        if len(sources) > 1:
            raise typer.BadParameter("one video is written from one source; run the sources one by one")
        rate = sources[0].fps or (_PICTURES_FPS if _is_pictures(sources[0]) else _VIDEO_FPS)
        sinks.append(VideoFileSink(video, rate))
    return sinks


def _is_pictures(source: Source) -> bool:
    return not source.live and source.fps is None


def _print_line(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _print_picture(frame: Frame, result: Results) -> None:
    from edgebone.core.results import results_to_text

    if frame.position_s is None:
        sys.stdout.write(f"{frame.source}: {results_to_text(result)}\n")


def _go(model: Model, sources: list[Source], sinks: list[Sink], limit: int | None, summary_to: TextIO) -> None:
    from edgebone.cli.status import StatusLine

    seen: dict[str, Counter[str]] = {source.name: Counter() for source in sources if not _is_pictures(source)}
    frames: Counter[str] = Counter()
    total = sum(source.frame_count or 0 for source in sources)
    stream = model.stream(sources[0], *sources[1:])
    try:
        with StatusLine(total) as status, stream:
            for number, (frame, result) in enumerate(stream, start=1):
                raise_if_heard()
                for sink in sinks:
                    sink.write(frame, result)
                if frame.source in seen:
                    frames[frame.source] += 1
                    seen[frame.source].update(_headlines(result))
                status.show(stream, result)
                if number == limit:
                    break
    except Exception:
        for sink in sinks:
            sink.discard()
        raise
    except BaseException:
        # Ctrl-C and SIGTERM: what was seen so far is finished and kept.
        _finish(sinks, seen, frames, stream.stats, summary_to)
        raise
    _finish(sinks, seen, frames, stream.stats, summary_to)


def _finish(
    sinks: list[Sink], seen: dict[str, Counter[str]], frames: Counter[str], stats: StreamStats, summary_to: TextIO
) -> None:
    from edgebone.cli.status import summary

    for sink in sinks:
        sink.close()
    for name, counter in seen.items():
        common = ", ".join(f"{label} {100 * n / frames[name]:.0f} %" for label, n in counter.most_common(3))
        summary_to.write(f"{name}: {frames[name]} frames, most often: {common or 'nothing'}\n")
    sys.stderr.write(f"{summary(stats)}\n")


def _headlines(results: Results) -> set[str]:
    """What there is to say about a frame, once each: the best class, or the classes that were found."""
    from edgebone.core.detections import Detections
    from edgebone.core.results import Classification
    from edgebone.core.segmentation import SegmentationMap

    lines: set[str] = set()
    for result in results.values() if isinstance(results, dict) else (results,):
        if isinstance(result, Classification):
            lines.add(result.label)
        elif isinstance(result, Detections):
            lines.update(result.labels)
        elif isinstance(result, SegmentationMap):
            lines.update(label for label, pixels in zip(result.labels[1:], result.area[1:], strict=True) if pixels)
        else:
            lines.add(type(result).__name__.lower())
    return lines
