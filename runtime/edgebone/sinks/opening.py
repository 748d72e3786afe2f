"""What an output's name says about where results go."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from edgebone.core.errors import OutputError
from edgebone.sinks.jsonl import EventLines, JsonLines

if TYPE_CHECKING:
    from edgebone.sinks.annotate import Draw
    from edgebone.sinks.guarded import Policy
    from edgebone.sinks.protocol import Sink

_LINES = (".jsonl", ".ndjson")
_EVENTS = tuple(f".events{suffix}" for suffix in _LINES)
_VIDEOS = (".mp4", ".mkv", ".mov", ".avi")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def open_sink(
    target: str | os.PathLike[str], *, append: bool = False, fps: float = 25.0, draw: Draw | None = None
) -> Sink:
    """Open what results are written to.

    Args:
        target: ``results.jsonl`` for a line a frame; ``zones.events.jsonl`` for a line an event; ``seen.mp4`` (or
            ``.mkv``, ``.mov``, ``.avi``) for an annotated video; a folder, with a slash at its end or one that is
            there, for annotated pictures.
        append: Keep the lines that a file holds already.
        fps: Frames a second of a video whose source has no times.
        draw: Draws more onto each picture that is shown; :meth:`edgebone.pipeline.Pipeline.draw` draws the steps'.

    Raises:
        OutputError: No sink goes by such a name, or it cannot be opened.
        MissingDependencyError: PyAV or supervision is not installed.
    """
    name = os.fspath(target)
    path = Path(name)
    if _URL.match(name):
        raise OutputError(f"{name}: no sink goes by this scheme; results go to .jsonl files, videos and folders")
    if name.endswith(_EVENTS):
        return EventLines(path, append)
    if name.endswith(_LINES):
        return JsonLines(path, append)
    if path.suffix.lower() in _VIDEOS:
        from edgebone.sinks.video import VideoFileSink

        return VideoFileSink(path, fps, draw)
    if name.endswith(("/", os.sep)) or path.is_dir():
        from edgebone.sinks.picture_files import PictureFilesSink

        return PictureFilesSink(path, draw)
    raise OutputError(
        f"{name}: its name does not say what it is to be: NAME.jsonl for lines, NAME.events.jsonl for events, "
        f"NAME.mp4 for a video, or a folder with a slash at its end"
    )


def open_files(
    *,
    lines: Path | None = None,
    events: Path | None = None,
    video: Path | None = None,
    pictures: Path | None = None,
    append: bool = False,
    fps: float = 25.0,
    draw: Draw | None = None,
    policy: Policy = "raise",
) -> list[Sink]:
    """Open the files of a run, whatever their names are.

    Args:
        lines: Takes a line of JSON a frame.
        events: Takes a line of JSON an event.
        video: Takes an annotated video.
        pictures: The folder that takes annotated pictures.
        append: Keep the lines that files hold already.
        fps: Frames a second of a video whose source has no times.
        draw: Draws more onto each picture that is shown.
        policy: What becomes of the run where one of them cannot be written.

    Raises:
        OutputError: The video is of no known kind, or the folder is a file.
        MissingDependencyError: PyAV is not installed.
    """
    from edgebone.sinks.eventful import Eventful
    from edgebone.sinks.guarded import GuardedSink

    sinks: list[Sink] = []
    if lines is not None:
        sinks.append(GuardedSink(JsonLines(lines, append), policy))
    if video is not None:
        from edgebone.sinks.video import VideoFileSink

        sinks.append(GuardedSink(VideoFileSink(video, fps, draw), policy))
    if pictures is not None:
        from edgebone.sinks.picture_files import PictureFilesSink

        sinks.append(GuardedSink(PictureFilesSink(pictures, draw), policy))
    if events is not None:
        # The guard inside: a frame without events says nothing about a file of events that fails.
        sinks.insert(0, Eventful(GuardedSink(EventLines(events, append), policy)))
    return sinks
