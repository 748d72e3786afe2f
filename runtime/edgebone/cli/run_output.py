"""Prints the output of ``edgebone run``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgebone.cli.output import note, say, say_json
from edgebone.cli.status import StatusLine, summary

if TYPE_CHECKING:
    from edgebone.core.frame import Frame
    from edgebone.core.results import Results
    from edgebone.model.model import Model
    from edgebone.pipeline import Pipeline, Summary
    from edgebone.sinks import Sink
    from edgebone.sources import Source
    from edgebone.stream.stream import Stream


def say_engine(model: Model) -> None:
    """Report engines that did not open and, on a terminal, the one that did."""
    from edgebone.engines.protocol import KeepsCompiled

    for failure in model.failures:
        note(f"edgebone: {failure}; continuing with the next engine")
    if sys.stderr.isatty():
        engine = model.engine
        if isinstance(engine, KeepsCompiled) and engine.cached is not None and not engine.from_cache:
            note(f"compiled for this machine at first use; cached in {engine.cached.path.parent}")
        reason = next(fit.reason for fit in model.choice.fits if fit.candidate == model.candidate)
        note(f"engine: {model.engine.name}, {model.engine.precision}, {model.candidate.hint} hint ({reason})")


def printing(sources: Sequence[Source], json: bool, events: bool) -> list[Sink]:
    """Return the sinks that print results, and events without a file."""
    from edgebone.sinks.callback import CallbackSink
    from edgebone.sinks.jsonl import event_line, to_line
    from edgebone.sources.video_rate import is_pictures

    sinks: list[Sink] = []
    if events:
        sinks.append(CallbackSink(event=lambda event: print_line(event_line(event))))
    if json:
        sinks.append(CallbackSink(lambda frame, result: print_line(to_line(frame, result))))
    elif any(is_pictures(source) for source in sources):
        sinks.append(CallbackSink(_print_picture))
    return sinks


def print_line(line: bytes) -> None:
    """Print a line of JSON at once."""
    say_json(line)
    sys.stdout.buffer.flush()


def _print_picture(frame: Frame, result: Results) -> None:
    from edgebone.core.results import results_to_text

    if frame.position_s is None:
        page = "" if frame.page is None else f", page {frame.page}"
        say(f"{frame.path or frame.source}{page}: {results_to_text(result)}")


def follow(pipeline: Pipeline, stream: Stream[Model], most_frames: int | None, json: bool) -> None:
    """Run a stream with a status line, and print a summary at its end."""
    with StatusLine(sum(source.frame_count or 0 for source in stream.sources)) as status:

        def finished(done: Summary) -> None:
            status.clear()
            _print_summary(done, json)

        pipeline.follow(
            stream,
            most_frames=most_frames,
            each=lambda _, results: status.show(stream, results),
            finished=finished,
        )


def _print_summary(done: Summary, json: bool) -> None:
    # JSON lines are for programs: text for people goes to stderr.
    say_one = note if json else say
    for line in done.lines:
        say_one(line)
    for name, found in done.seen.items():
        common = ", ".join(f"{label} {100 * share:.0f} %" for label, share in found.most_common(3))
        say_one(f"{name}: {found.frames} frames, most often: {common or 'nothing'}")
    note(summary(done.stats))
