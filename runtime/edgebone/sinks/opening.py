"""Opens sinks by the name of the output."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgebone.core.brought import make_brought, names_brought
from edgebone.core.errors import OutputError
from edgebone.core.near import did_you_mean
from edgebone.sinks.jsonl import EventLines, JsonLines

if TYPE_CHECKING:
    from edgebone.sinks.annotate import Draw
    from edgebone.sinks.guarded import Policy
    from edgebone.sinks.protocol import Sink

GROUP = "edgebone.sinks"
_MEMBERS = ("write", "close", "discard")
_LINES = (".jsonl", ".ndjson")
_EVENTS = tuple(f".events{suffix}" for suffix in _LINES)
_VIDEOS = (".mp4", ".mkv", ".mov", ".avi")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def open_sink(
    target: str | os.PathLike[str], *, append: bool = False, fps: float = 25.0, draw: Draw | None = None
) -> Sink:
    """Open a sink by its target.

    Args:
        target: ``results.jsonl`` for a line per frame; ``zones.events.jsonl`` for a line per event; ``seen.mp4`` (or
            ``.mkv``, ``.mov``, ``.avi``) for an annotated video; an existing folder, or a name with a slash at its end,
            for annotated pictures; or an address or file whose scheme or suffix a package provides.
        append: Keep a file's existing lines.
        fps: Frames per second of a video whose source has no times.
        draw: Draws more onto each picture; :meth:`edgebone.pipeline.Pipeline.draw` draws the steps' results.

    Raises:
        OutputError: The name fits no sink, or it cannot be opened.
        MissingDependencyError: PyAV or supervision is not installed.
    """
    name = os.fspath(target)
    path = Path(name)
    if url := _URL.match(name):
        return _open_brought(url[1].lower(), name, append, fps, draw)
    if name.endswith(_EVENTS):
        return EventLines(path, append)
    if name.endswith(_LINES):
        return JsonLines(path, append)
    if is_video(name):
        from edgebone.sinks.video import VideoFileSink

        return VideoFileSink(path, fps, draw)
    if name.endswith(("/", os.sep)) or path.is_dir():
        from edgebone.sinks.picture_files import PictureFilesSink

        return PictureFilesSink(path, draw)
    if path.suffix.lower() in names_brought(GROUP):
        return _open_brought(path.suffix.lower(), name, append, fps, draw)
    raise OutputError(
        f"{name}: the name fits no kind of output: NAME.jsonl for lines, NAME.events.jsonl for events, "
        f"NAME.mp4 for a video, or a folder with a slash at its end"
        + "".join(f", NAME{suffix}" for suffix in names_brought(GROUP) if suffix.startswith("."))
    )


def is_video(target: str) -> bool:
    """Return whether :func:`open_sink` would open a target as an annotated video."""
    return not _URL.match(target) and Path(target).suffix.lower() in _VIDEOS


def _open_brought(name: str, target: str, append: bool, fps: float, draw: Draw | None) -> Sink:
    """Open a target through a package that provides its scheme or suffix."""
    brought = names_brought(GROUP)
    if name not in brought:
        schemes = [scheme for scheme in brought if not scheme.startswith(".")]
        there = f"there are {', '.join(f'{scheme}://' for scheme in schemes)}, and " if schemes else ""
        # Without the address itself, which may contain a password.
        raise OutputError(
            f"{name}://: no sink has this scheme; {did_you_mean(name, schemes)}{there}results go to .jsonl files, "
            "videos and folders"
        )
    about = f"sink {name}" if name.startswith(".") else f"sink {name}://"
    made: Sink = make_brought(GROUP, name, about, OutputError, _MEMBERS, target, append=append, fps=fps, draw=draw)
    return made


def open_files(
    *,
    lines: Path | None = None,
    events: Path | None = None,
    video: Path | None = None,
    pictures: Path | None = None,
    others: Sequence[str] = (),
    append: bool = False,
    fps: float = 25.0,
    draw: Draw | None = None,
    policy: Policy = "raise",
) -> list[Sink]:
    """Open the files of a run, regardless of their names.

    Args:
        lines: The file for a line of JSON per frame.
        events: The file for a line of JSON per event.
        video: The file for an annotated video.
        pictures: The folder for annotated pictures.
        others: Further targets, as for :func:`open_sink`.
        append: Keep the files' existing lines.
        fps: Frames per second of a video whose source has no times.
        draw: Draws more onto each picture.
        policy: What happens if one of them cannot be written.

    Raises:
        OutputError: The kind of video is unknown, or the folder is a file.
        MissingDependencyError: PyAV is not installed.
    """
    opened: list[Sink] = []
    try:
        if events is not None:
            opened.append(EventLines(events, append))
        if lines is not None:
            opened.append(JsonLines(lines, append))
        if video is not None:
            from edgebone.sinks.video import VideoFileSink

            opened.append(VideoFileSink(video, fps, draw))
        if pictures is not None:
            from edgebone.sinks.picture_files import PictureFilesSink

            opened.append(PictureFilesSink(pictures, draw))
        # One by one: those before a target that fails are discarded.
        opened.extend(open_sink(target, append=append, fps=fps, draw=draw) for target in others)
    except BaseException:
        for sink in opened:
            sink.discard()
        raise
    return [_guarded(sink, policy) for sink in opened]


def _guarded(sink: Sink, policy: Policy) -> Sink:
    from edgebone.sinks.eventful import Eventful
    from edgebone.sinks.guarded import GuardedSink

    guarded = GuardedSink(sink, policy)
    # The guard is inside: a frame without events does not show that a failing file of events works again.
    return Eventful(guarded) if isinstance(sink, EventLines) else guarded
