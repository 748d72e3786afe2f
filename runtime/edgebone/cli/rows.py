"""Two columns of text, for a person: names at the left, what there is to say at the right."""

from __future__ import annotations

from collections.abc import Sequence

from edgebone.cli.output import say


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print rows; long ones are left to the terminal to wrap, so that a pipe gets one line a row."""
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        say(f"{name:<{width}}  {text}")
