"""Prints two columns of text for people: names on the left, values on the right."""

from __future__ import annotations

from collections.abc import Sequence

from edgebone.cli.output import say


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print rows; the terminal wraps long ones, so that a pipe gets one line per row."""
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        say(f"{name:<{width}}  {text}")
