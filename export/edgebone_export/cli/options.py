"""Options that several subcommands read alike."""

from __future__ import annotations

import typer


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``480x640`` to (480, 640)."""
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise typer.BadParameter(f"a size is HEIGHTxWIDTH, such as 224x224, not {text!r}")
    return int(height), int(width)


def parse_batch(text: str) -> tuple[int, int]:
    """``1`` to (1, 1), ``1-8`` to (1, 8)."""
    low, _, high = text.partition("-")
    high = high or low
    if not (low.isdigit() and high.isdigit() and 1 <= int(low) <= int(high)):
        raise typer.BadParameter(f"a batch is a number or a range, such as 1 or 1-8, not {text!r}")
    return int(low), int(high)
