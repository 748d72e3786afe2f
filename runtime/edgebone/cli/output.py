"""Prints all text of the command line, line by line, with control characters escaped."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgebone.core.terminal import printable

if TYPE_CHECKING:
    from rich.text import Text


def say(line: str) -> None:
    """Print a line of results."""
    sys.stdout.write(f"{printable(line)}\n")


def note(line: str) -> None:
    """Print a line about the run on stderr."""
    sys.stderr.write(f"{printable(line)}\n")


def notice(line: str) -> None:
    """Print the program's own line about the run on stderr, such as a reload."""
    note(f"edgebone: {line}")


def say_json(text: bytes) -> None:
    """Print JSON of one line or several, with its meaning unchanged."""
    sys.stdout.flush()
    # JSON is UTF-8 in any terminal encoding.
    sys.stdout.buffer.write("".join(f"{printable(line)}\n" for line in text.decode().rstrip("\n").split("\n")).encode())


def as_shown(text: str) -> Text:
    """Return text that rich shows literally: in a string it interprets ``[red]`` as markup."""
    from rich.text import Text

    return Text(printable(text))
