"""What an output's name says about where results go."""

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
    """Open what results are written to.

    Args:
        target: ``results.jsonl`` for a line a frame; ``zones.events.jsonl`` for a line an event; ``seen.mp4`` (or
            ``.mkv``, ``.mov``, ``.avi``) for an annotated video; a folder, with a slash at its end or one that is
            there, for annotated pictures; or an address whose scheme, or a file whose suffix, a package brings.
        append: Keep the lines that a file holds already.
        fps: Frames a second of a video whose source has no times.
        draw: Draws more onto each picture that is shown; :meth:`edgebone.pipeline.Pipeline.draw` draws the steps'.

    Raises:
        OutputError: No sink goes by such a name, or it cannot be opened.
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
    if path.suffix.lower() in _VIDEOS:
        from edgebone.sinks.video import VideoFileSink

        return VideoFileSink(path, fps, draw)
    if name.endswith(("/", os.sep)) or path.is_dir():
        from edgebone.sinks.picture_files import PictureFilesSink

        return PictureFilesSink(path, draw)
    if path.suffix.lower() in names_brought(GROUP):
        return _open_brought(path.suffix.lower(), name, append, fps, draw)
    raise OutputError(
        f"{name}: its name does not say what it is to be: NAME.jsonl for lines, NAME.events.jsonl for events, "
        f"NAME.mp4 for a video, or a folder with a slash at its end"
        + "".join(f", NAME{suffix}" for suffix in names_brought(GROUP) if suffix.startswith("."))
    )


def _open_brought(name: str, target: str, append: bool, fps: float, draw: Draw | None) -> Sink:
    """Have a package open a target of its own scheme or suffix."""
    brought = names_brought(GROUP)
    if name not in brought:
        schemes = [scheme for scheme in brought if not scheme.startswith(".")]
        there = f"there are {', '.join(f'{scheme}://' for scheme in schemes)}, and " if schemes else ""
        # Not the address itself: it may have a password in it.
        raise OutputError(
            f"{name}://: no sink goes by this scheme; {did_you_mean(name, schemes)}{there}results go to .jsonl files, "
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
    """Open the files of a run, whatever their names are.

    Args:
        lines: Takes a line of JSON a frame.
        events: Takes a line of JSON an event.
        video: Takes an annotated video.
        pictures: The folder that takes annotated pictures.
        others: Further targets, as :func:`open_sink` takes them.
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
        sinks.append(JsonLines(lines, append))
    if video is not None:
        from edgebone.sinks.video import VideoFileSink

        sinks.append(VideoFileSink(video, fps, draw))
    if pictures is not None:
        from edgebone.sinks.picture_files import PictureFilesSink

        sinks.append(PictureFilesSink(pictures, draw))
    sinks += [open_sink(target, append=append, fps=fps, draw=draw) for target in others]
    guarded: list[Sink] = [GuardedSink(sink, policy) for sink in sinks]
    if events is None:
        return guarded
    # The guard inside: a frame without events says nothing about a file of events that fails.
    return [Eventful(GuardedSink(EventLines(events, append), policy)), *guarded]
