"""All text of the command line leaves here, a line at a time: what control characters there are in it are escaped."""

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
    """Print a line about the run, beside the results."""
    sys.stderr.write(f"{printable(line)}\n")


def notice(line: str) -> None:
    """Print a line about the run that is the program's own: something was loaded again, or refused."""
    note(f"edgebone: {line}")


def say_json(text: bytes) -> None:
    """Print JSON of one line or several; it means the same afterwards."""
    sys.stdout.flush()
    # JSON is UTF-8 whatever the terminal's encoding.
    sys.stdout.buffer.write("".join(f"{printable(line)}\n" for line in text.decode().rstrip("\n").split("\n")).encode())


def as_shown(text: str) -> Text:
    """What rich shows as it is: it takes ``[red]`` in a string for a wish."""
    from rich.text import Text

    return Text(printable(text))
