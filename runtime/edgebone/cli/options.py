"""Options shared by several subcommands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import typer

from edgebone.engines.table import GROUP, ROWS


class Size(NamedTuple):
    """The size of a picture, in pixels, in the manifest's order."""

    height: int
    width: int

    def __str__(self) -> str:
        """Return ``640 wide, 480 high``, which is unambiguous."""
        return f"{self.width} wide, {self.height} high"


def parse_size(given: str | Size) -> Size:
    """Parse ``640x480`` as 640 wide, 480 high; ``640`` as a square.

    Raises:
        typer.BadParameter: It is neither.
    """
    if isinstance(given, Size):
        # typer also parses defaults.
        return given
    found = re.fullmatch(r"([0-9]{1,9})(?:x([0-9]{1,9}))?", given)
    width, height = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not (width and height):
        raise typer.BadParameter(
            f"a size must be WIDTHxHEIGHT in pixels, such as 640x480, or one number for a square, not {given!r}"
        )
    return Size(height, width)


def matching(incomplete: str, words: Iterable[str]) -> list[str]:
    """Return the words that begin with the typed text, for shell completion."""
    return [word for word in words if word.startswith(incomplete)]


def complete_engine(incomplete: str) -> list[str]:
    """Return every engine's name, including other packages'; imports none."""
    from edgebone.core.brought import names_brought

    return matching(incomplete, ("auto", *(row.name for row in ROWS), *names_brought(GROUP)))


def complete_precision(incomplete: str) -> list[str]:
    """Return the precisions of engines and variants."""
    return matching(incomplete, ("auto", "fp32", "fp16", "bf16", "int8", "fp8", "int4"))


def _no_address(text: str) -> str:
    # Without the address, which may contain a password.
    if re.match(r"[\w+]+://|(rtsp|http)s?(:|//)", text, re.IGNORECASE):
        raise typer.BadParameter("an address is not a bundle; the bundle comes before the sources")
    return text


def share(value: float | None) -> float | None:
    """Check a share from 0 to 1, as an option's callback; percentages are detected."""
    if value is not None and not 0 <= value <= 1:
        meant = f": did you mean {value / 100:g}?" if 1 < value <= 100 else ""
        raise typer.BadParameter(f"{value:g} is not within 0 to 1{meant}")
    return value


ENGINE = "Engine"
"""The help section for engine and machine."""

Bundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle: its directory or zip.", callback=_no_address)]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help=f"auto, {', '.join(row.name for row in ROWS)}, or one from another package.",
        show_default=True,
        autocompletion=complete_engine,
        rich_help_panel=ENGINE,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32, bf16 if engine and processor support it, int8 or any variant's precision; auto is "
        "the fastest that the bundle proves to return FP32's answers. Default: this machine's plan (edgebone tune), "
        "or auto.",
        autocompletion=complete_precision,
        rich_help_panel=ENGINE,
    ),
]
Hint = Annotated[
    Literal["latency", "throughput"],
    typer.Option(
        "--hint",
        help="latency, or throughput for several runs in flight, if the engine supports it.",
        rich_help_panel=ENGINE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads for inference. Default: all cores.", rich_help_panel=ENGINE),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
