"""Options that several subcommands read alike."""

from __future__ import annotations

import re
from typing import Annotated

import typer

Frames = Annotated[
    list[str] | None,
    typer.Option(
        "--frame",
        help="HEIGHTxWIDTH of camera frames that shall go into the graph as they are; repeat for several.",
    ),
]
Nv12 = Annotated[bool, typer.Option("--nv12", help="These frames are NV12 (BT.601), not BGR.")]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``480x640`` to (480, 640)."""
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise typer.BadParameter(f"a size is HEIGHTxWIDTH, such as 224x224, not {text!r}")
    return int(height), int(width)


def parse_frames(texts: list[str] | None, nv12: bool) -> list[tuple[int, int]]:
    """``["1080x1920"]`` to [(1080, 1920)]."""
    from edgebone_export.errors import ExportError
    from edgebone_export.frame_input.size import check_frame_size

    if nv12 and not texts:
        raise typer.BadParameter("--nv12 says how frames come; say how large they are, too: --frame 1080x1920")
    sizes = []
    for text in texts or []:
        found = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", text)
        if found is None:
            raise typer.BadParameter(f"a frame is HEIGHTxWIDTH in pixels, such as 1080x1920, not {text!r}")
        sizes.append((int(found[1]), int(found[2])))
        try:
            check_frame_size(sizes[-1], "nv12" if nv12 else "bgr")
        except ExportError as error:
            raise typer.BadParameter(str(error)) from error
    return sizes


def parse_batch(text: str) -> tuple[int, int]:
    """``1`` to (1, 1), ``1-8`` to (1, 8)."""
    low, _, high = text.partition("-")
    high = high or low
    if not (low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise typer.BadParameter(f"a batch is a number or a range, such as 1 or 1-8, not {text!r}")
    return int(low), int(high)
