"""Options that several subcommands share, written once."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from edgebone.engines.table import ROWS


def _no_address(text: str) -> str:
    # Not in its own words: an address may have a password in it.
    if re.match(r"[\w+]+://|(rtsp|http)s?(:|//)", text, re.IGNORECASE):
        raise typer.BadParameter("an address is no bundle; the bundle comes before what it looks at")
    return text


def share(value: float | None) -> float | None:
    """A share from 0 to 1, as an option's callback: percents are told from it."""
    if value is not None and not 0 <= value <= 1:
        meant = f": did you mean {value / 100:g}?" if 1 < value <= 100 else ""
        raise typer.BadParameter(f"{value:g} is not within 0 to 1{meant}")
    return value


Bundle = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle: its directory or zip.", callback=_no_address)]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help=f"auto, {', '.join(row.name for row in ROWS)}, or one that another package brings.",
        show_default=True,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="fp32, bf16 where engine and processor have it, int8 or what else the bundle has a variant of; auto is "
        "the fastest that the bundle proves to give FP32's answers. If not given: this machine's plan (edgebone tune), "
        "or auto.",
    ),
]
Hint = Annotated[
    str, typer.Option("--hint", help="latency, or throughput for several runs in flight, where the engine has it.")
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads for inference; all cores if not given.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
