"""Options of commands that read sources, and their parsers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from edgebone.cli.options import ENGINE, share

SOURCE, RESULT, THEN, OUTPUT = "Sources", "Results", "Cascades", "Outputs"
"""Sections of the help."""


class Region(NamedTuple):
    """A part of a picture, in pixels from its corner."""

    left: int
    top: int
    right: int
    bottom: int


class HostPort(NamedTuple):
    """An address to listen on."""

    host: str
    port: int


class HeadRate(NamedTuple):
    """A head and its rate: it runs on every N-th frame."""

    head: str
    every: int


class Grid(NamedTuple):
    """Tiles of a picture: how many side by side, and how many one above the other."""

    columns: int
    rows: int


class HeadFile(NamedTuple):
    """A head, or an empty name for the only one, and its file."""

    head: str
    path: str


def _region(text: str) -> Region:
    """Parse ``0,200,1280,720`` as a region."""
    found = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
    if not found:
        raise typer.BadParameter(
            f"a region must be left,top,right,bottom in pixels, such as 0,200,1280,720, not {text}"
        )
    return Region(*map(int, found.groups()))


def _host_and_port(text: str) -> HostPort:
    """Parse ``9477`` as ("127.0.0.1", 9477), ``[::]:9477`` as ("::", 9477)."""
    found = re.fullmatch(r"(?:(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]+)):)?(\d{1,5})", text)
    if not found or not 0 < int(found[3]) < 65536:
        raise typer.BadParameter(f"give a port, such as 9477, or ADDRESS:PORT, such as 0.0.0.0:9477, not {text}")
    return HostPort(found[1] or found[2] or "127.0.0.1", int(found[3]))


def _head_rate(text: str) -> HeadRate:
    """Parse ``product=3`` as ("product", 3)."""
    found = re.fullmatch(r"(.+)=([1-9][0-9]*)", text)
    if not found:
        raise typer.BadParameter(f"a rate must be HEAD=N, such as product=3 for every third frame, not {text}")
    return HeadRate(found[1], int(found[2]))


def _grid(text: str) -> Grid:
    """Parse ``3x2`` as three tiles side by side in two rows."""
    found = re.fullmatch(r"(\d{1,2})x(\d{1,2})", text)
    if not found or not all(1 <= int(number) <= 32 for number in found.groups()):
        raise typer.BadParameter(f"tiles must be COLUMNSxROWS, 1 to 32 each, such as 3x2, not {text}")
    return Grid(int(found[1]), int(found[2]))


def _head_file(text: str) -> HeadFile:
    """Parse ``shelf.gallery`` as ("", "shelf.gallery"), ``product=shelf.gallery`` as ("product", "shelf.gallery")."""
    head, said, path = text.partition("=")
    # A file's own name may contain the sign.
    return HeadFile(head, path) if said and not Path(text).exists() else HeadFile("", text)


def _once_a_head(files: Sequence[HeadFile] | None) -> list[HeadFile] | None:
    """Reject two files for one head; called with the results of :func:`_head_file`."""
    heads = [head for head, _ in files or ()]
    if len(heads) > len({*heads}):
        raise typer.BadParameter("give one gallery per head; with several heads as HEAD=FILE")
    return None if files is None else [*files]


def _names(texts: Sequence[str] | None) -> list[str] | None:
    """Split ``["car,truck", "bus"]`` into ["car", "truck", "bus"]."""
    if texts is None:
        return None
    return [name for text in texts for part in text.split(",") if (name := part.strip())]


def check_then(
    then: Sequence[HeadFile] | None,
    track: bool,
    classes: Sequence[str] | None,
    budget: int | None,
    again_s: float | None,
) -> None:
    """Reject options of a cascade that would change nothing."""
    given = {"--then-classes": classes, "--then-budget": budget, "--then-again": again_s}
    for option, value in given.items():
        if value is not None and not then:
            raise typer.BadParameter(f"{option} needs --then, whose crops it is about")
    if again_s is not None and not track:
        raise typer.BadParameter("--then-again needs --track; without tracks each frame asks about each box")


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
Hint = Annotated[
    Literal["latency", "throughput"] | None,
    typer.Option(
        "--hint",
        help="latency, or throughput for several runs in flight, if the engine supports it. Default: this machine's "
        "plan (edgebone tune), or throughput for files and latency for cameras.",
        rich_help_panel=ENGINE,
    ),
]
Iou = Annotated[
    float | None,
    typer.Option(
        "--iou",
        callback=share,
        help="Drop boxes that overlap a better one of their class by more than this.",
        rich_help_panel=RESULT,
    ),
]
ClassAgnostic = Annotated[
    bool,
    typer.Option(
        "--class-agnostic",
        help="Also drop boxes that overlap a better one of another class.",
        rich_help_panel=RESULT,
    ),
]
FrameInGraph = Annotated[
    bool | None,
    typer.Option(
        "--frame-in-graph/--no-frame-in-graph",
        help="Preprocess inside the graph, for frame sizes with a variant in the bundle. Default: on a GPU.",
        rich_help_panel=ENGINE,
    ),
]
Fps = Annotated[
    float | None,
    typer.Option(
        "--fps",
        help="The rate of a folder's pictures, in pictures per second, which sets their times.",
        rich_help_panel=SOURCE,
    ),
]
Forgiving = Annotated[
    bool,
    typer.Option(
        "--forgiving",
        help="If a source or a picture cannot be read, continue with the others.",
        rich_help_panel=SOURCE,
    ),
]
Zones = Annotated[
    Path | None,
    typer.Option("--zones", help="A file of zones and lines, for events of tracked objects.", rich_help_panel=RESULT),
]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save",
        metavar="FOLDER",
        help="Write annotated pictures, one per frame; nothing is overwritten.",
        rich_help_panel=OUTPUT,
    ),
]
Galleries = Annotated[
    list[HeadFile] | None,
    typer.Option(
        "--gallery", metavar="FILE", parser=_head_file, callback=_once_a_head,
        help="Name embeddings by a gallery; HEAD=FILE if several heads have one, NAME=FILE for a --then.",
        rich_help_panel=RESULT,
    ),
]  # fmt: skip
Then = Annotated[
    list[HeadFile] | None,
    typer.Option(
        "--then", metavar="BUNDLE", parser=_head_file,
        help="Cut the boxes out and run another bundle on them; NAME=BUNDLE names its answers. Repeat it for further "
        "bundles: each gets the boxes of the latest one before it that finds boxes.",
        rich_help_panel=THEN,
    ),
]  # fmt: skip
ThenClasses = Annotated[
    list[str] | None,
    typer.Option(
        "--then-classes",
        metavar="NAME,NAME",
        callback=_names,
        help="Cut out only boxes of these classes; the others stay in the results.",
        rich_help_panel=THEN,
    ),
]
ThenBudget = Annotated[
    int | None,
    typer.Option(
        "--then-budget",
        min=1,
        help="The largest number of crops per frame: longest unasked first, then the largest.",
        rich_help_panel=THEN,
    ),
]
ThenAgain = Annotated[
    float | None,
    typer.Option(
        "--then-again",
        min=0,
        metavar="SECONDS",
        help="With --track: ask about an object again after this many seconds. Default: 5.",
        rich_help_panel=THEN,
    ),
]
TilesGrid = Annotated[
    Grid | None,
    typer.Option(
        "--tiles", metavar="COLUMNSxROWS", parser=_grid,
        help="Run on tiles of each frame instead of the whole frame, for small objects.",
        rich_help_panel=SOURCE,
    ),
]  # fmt: skip
Overlap = Annotated[
    float,
    typer.Option(
        "--overlap", min=0, max=0.9, help="The share of a tile's side that neighbours share.", rich_help_panel=SOURCE
    ),
]
WholeToo = Annotated[
    bool,
    typer.Option(
        "--whole-too",
        help="With --tiles: also run on the whole frame, for objects larger than a tile.",
        rich_help_panel=SOURCE,
    ),
]
HeadRates = Annotated[
    list[HeadRate] | None,
    typer.Option(
        "--head-every", metavar="HEAD=N", parser=_head_rate,
        help="Run a detached head on every N-th frame.",
        rich_help_panel=RESULT,
    ),
]  # fmt: skip
Roi = Annotated[
    Region | None,
    typer.Option(
        "--roi",
        metavar="L,T,R,B",
        parser=_region,
        help="Use only this region, in pixels from the corner.",
        rich_help_panel=SOURCE,
    ),
]
GiveUp = Annotated[
    float | None,
    typer.Option(
        "--give-up",
        min=0,
        help="Fail if a camera delivers no frame for this many seconds. Default: never.",
        rich_help_panel=SOURCE,
    ),
]
Steps = Annotated[
    list[str] | None,
    typer.Option(
        "--step",
        metavar="NAME",
        help="Add a step from another package; NAME=ARGUMENT passes an argument.",
        rich_help_panel=RESULT,
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--out",
        metavar="TARGET",
        help="Write to a target by its name: NAME.jsonl, NAME.mp4, FOLDER/, or a package's NAME.csv, SCHEME://…",
        rich_help_panel=OUTPUT,
    ),
]
# The values of edgebone.sinks.guarded.Policy, which is not imported for the help.
SinkError = Annotated[
    Literal["raise", "stop", "log"],
    typer.Option(
        "--sink-error",
        help="If a file cannot be written: raise, stop in an orderly way, or log.",
        rich_help_panel=OUTPUT,
    ),
]
Every = Annotated[
    int, typer.Option("--every", min=1, help="Use every N-th frame of each source.", rich_help_panel=SOURCE)
]
MaxFps = Annotated[
    float | None,
    typer.Option("--max-fps", help="The largest number of frames per second of each source.", rich_help_panel=SOURCE),
]
Append = Annotated[
    bool,
    typer.Option(
        "--append",
        help="Keep the existing content of --jsonl, --events and other files of lines.",
        rich_help_panel=OUTPUT,
    ),
]
Video = Annotated[Path | None, typer.Option("--video", help="Write an annotated video.", rich_help_panel=OUTPUT)]
Metrics = Annotated[
    HostPort | None,
    typer.Option(
        "--metrics", metavar="PORT", parser=_host_and_port,
        help="Serve figures to Prometheus on this port, only on this machine; ADDRESS:PORT for others.",
        rich_help_panel=OUTPUT,
    ),
]  # fmt: skip
