"""Options of what looks at sources, and what their words mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from edgebone.cli.options import ENGINE, share

SOURCE, RESULT, OUTPUT = "Sources", "Results", "Outputs"
"""Sections of the help."""


class Region(NamedTuple):
    """A part of a picture, in pixels from its corner."""

    left: int
    top: int
    right: int
    bottom: int


class HostPort(NamedTuple):
    """Where something listens."""

    host: str
    port: int


class HeadRate(NamedTuple):
    """A head, and one frame out of so many that it runs on."""

    head: str
    every: int


class HeadFile(NamedTuple):
    """A head, an empty name for the only one, and the file that is for it."""

    head: str
    path: str


def _region(text: str) -> Region:
    """``0,200,1280,720`` to its region."""
    found = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
    if not found:
        raise typer.BadParameter(f"a region is left,top,right,bottom in pixels, such as 0,200,1280,720, not {text}")
    return Region(*map(int, found.groups()))


def _host_and_port(text: str) -> HostPort:
    """``9477`` to ("127.0.0.1", 9477), ``[::]:9477`` to ("::", 9477)."""
    found = re.fullmatch(r"(?:(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]+)):)?(\d{1,5})", text)
    if not found or not 0 < int(found[3]) < 65536:
        raise typer.BadParameter(f"give a port, such as 9477, or ADDRESS:PORT, such as 0.0.0.0:9477, not {text}")
    return HostPort(found[1] or found[2] or "127.0.0.1", int(found[3]))


def _head_rate(text: str) -> HeadRate:
    """``product=3`` to ("product", 3)."""
    found = re.fullmatch(r"(.+)=([1-9][0-9]*)", text)
    if not found:
        raise typer.BadParameter(f"a rate is HEAD=N, such as product=3 for every third frame, not {text}")
    return HeadRate(found[1], int(found[2]))


def _head_file(text: str) -> HeadFile:
    """``shelf.gallery`` to ("", "shelf.gallery"), ``product=shelf.gallery`` to ("product", "shelf.gallery")."""
    head, said, path = text.partition("=")
    # A file's own name may have the sign in it.
    return HeadFile(head, path) if said and not Path(text).exists() else HeadFile("", text)


def _once_a_head(files: Sequence[HeadFile] | None) -> list[HeadFile] | None:
    """Refuse two files for one head; called with what :func:`_head_file` made of each."""
    heads = [head for head, _ in files or ()]
    if len(heads) > len({*heads}):
        raise typer.BadParameter("give one gallery a head; with several heads it is HEAD=FILE")
    return None if files is None else [*files]


def _names(texts: Sequence[str] | None) -> list[str] | None:
    """``["car,truck", "bus"]`` to ["car", "truck", "bus"]."""
    if texts is None:
        return None
    return [name for text in texts for part in text.split(",") if (name := part.strip())]


Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--classes",
        metavar="NAME,NAME",
        callback=_names,
        help="Only boxes of these classes, also for tracks and zones.",
        rich_help_panel=RESULT,
    ),
]
Iou = Annotated[
    float | None,
    typer.Option(
        "--iou",
        callback=share,
        help="Boxes that overlap a better one of their class by more are dropped.",
        rich_help_panel=RESULT,
    ),
]
ClassAgnostic = Annotated[
    bool,
    typer.Option(
        "--class-agnostic",
        help="Drop boxes that overlap a better one of another class, too.",
        rich_help_panel=RESULT,
    ),
]
FrameInGraph = Annotated[
    bool | None,
    typer.Option(
        "--frame-in-graph/--no-frame-in-graph",
        help="Preprocess inside the graph, for frames of a size that the bundle has a variant for. If not given: "
        "on a GPU.",
        rich_help_panel=ENGINE,
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps",
        help="A folder's pictures were taken so many a second: their times, as a video has.",
        rich_help_panel=SOURCE,
    ),
]
Forgiving = Annotated[
    bool,
    typer.Option(
        "--forgiving",
        help="When a source or a picture cannot be read, go on with the others.",
        rich_help_panel=SOURCE,
    ),
]
Zones = Annotated[
    Path | None,
    typer.Option(
        "--zones", help="A file of zones and lines: who enters, stays, leaves, crosses.", rich_help_panel=RESULT
    ),
]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save",
        metavar="FOLDER",
        help="Write annotated pictures, one a frame; nothing is overwritten.",
        rich_help_panel=OUTPUT,
    ),
]
Galleries = Annotated[
    list[HeadFile] | None,
    typer.Option(
        "--gallery", metavar="FILE", parser=_head_file, callback=_once_a_head,
        help="Name what embeddings show; HEAD=FILE where several heads give one.",
        rich_help_panel=RESULT,
    ),
]  # fmt: skip
HeadRates = Annotated[
    list[HeadRate] | None,
    typer.Option(
        "--head-every", metavar="HEAD=N", parser=_head_rate,
        help="Run a detached head on one frame out of so many.",
        rich_help_panel=RESULT,
    ),
]  # fmt: skip
Roi = Annotated[
    Region | None,
    typer.Option(
        "--roi",
        metavar="L,T,R,B",
        parser=_region,
        help="Look only at this region: pixels from the corner.",
        rich_help_panel=SOURCE,
    ),
]
GiveUp = Annotated[
    float | None,
    typer.Option(
        "--give-up",
        min=0,
        help="Fail when a camera gave no frame for so many seconds; else never.",
        rich_help_panel=SOURCE,
    ),
]
Steps = Annotated[
    list[str] | None,
    typer.Option(
        "--step",
        metavar="NAME",
        help="Also what another package does with results; NAME=ARGUMENT tells it something.",
        rich_help_panel=RESULT,
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--out",
        metavar="TARGET",
        help="Write to what the name says: NAME.jsonl, NAME.mp4, FOLDER/, or a package's NAME.csv, SCHEME://…",
        rich_help_panel=OUTPUT,
    ),
]
# The words of edgebone.sinks.guarded.Policy, which is not imported for a help.
SinkError = Annotated[
    Literal["raise", "stop", "log"],
    typer.Option(
        "--sink-error",
        help="When a file cannot be written: raise, stop in good order, or log.",
        rich_help_panel=OUTPUT,
    ),
]
Every = Annotated[
    int, typer.Option("--every", min=1, help="One frame out of so many of each source.", rich_help_panel=SOURCE)
]
MaxFps = Annotated[
    float | None,
    typer.Option("--max-fps", help="At most so many frames a second of each source.", rich_help_panel=SOURCE),
]
Append = Annotated[
    bool,
    typer.Option("--append", help="Keep what --jsonl and --events hold already.", rich_help_panel=OUTPUT),
]
Video = Annotated[Path | None, typer.Option("--video", help="Write an annotated video.", rich_help_panel=OUTPUT)]
Metrics = Annotated[
    HostPort | None,
    typer.Option(
        "--metrics", metavar="PORT", parser=_host_and_port,
        help="Serve figures to Prometheus on this port, to this machine's own programs; ADDRESS:PORT to others.",
        rich_help_panel=OUTPUT,
    ),
]  # fmt: skip
