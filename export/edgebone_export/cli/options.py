"""Options that several subcommands read alike."""

from __future__ import annotations

from typing import Annotated

import typer

from edgebone.cli.options import Size, parse_size
from edgebone.cli.output import note

INPUT = "Input"
"""The section of the help for what goes into the network."""

InputSize = Annotated[
    Size | None,
    typer.Option(
        "--size",
        parser=parse_size,
        metavar="WIDTHxHEIGHT",
        help="The size of the network's input; one number is a square. Its own if not given.",
        rich_help_panel=INPUT,
    ),
]
Frames = Annotated[
    list[Size] | None,
    typer.Option(
        "--frame",
        parser=parse_size,
        metavar="WIDTHxHEIGHT",
        help="Size of camera frames to preprocess in the graph; repeat for several.",
        rich_help_panel=INPUT,
    ),
]
Nv12 = Annotated[bool, typer.Option("--nv12", help="These frames are NV12 (BT.601), not BGR.", rich_help_panel=INPUT)]


def check_frames(frames: list[Size] | None, nv12: bool) -> list[Size]:
    """Refuse frames that no camera has.

    Returns:
        The sizes, none where none was typed.

    Raises:
        typer.BadParameter: A side is too long, or odd with NV12; or ``--nv12`` is alone.
    """
    from edgebone_export.errors import ExportError
    from edgebone_export.frame_input.size import check_frame_size

    if nv12 and not frames:
        raise typer.BadParameter("--nv12 says how frames come; say how large they are, too: --frame 1920x1080")
    for size in frames or []:
        try:
            check_frame_size(size, "nv12" if nv12 else "bgr")
        except ExportError as error:
            raise typer.BadParameter(str(error)) from error
    return frames or []


def note_sizes(size: Size | None, frames: list[Size]) -> None:
    """Say how what was typed is understood, before the work."""
    if size is not None:
        note(f"edgebone: the input is {size}")
    for frame in frames:
        note(f"edgebone: frames are {frame}")


def parse_batch(text: str) -> tuple[int, int]:
    """``1`` to (1, 1), ``1-8`` to (1, 8)."""
    low, _, high = text.partition("-")
    high = high or low
    if not (low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise typer.BadParameter(f"a batch is a number or a range, such as 1 or 1-8, not {text!r}")
    return int(low), int(high)
