"""Two columns of text, for a person: names at the left, what there is to say at the right."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print rows; long ones are left to the terminal to wrap, so that a pipe gets one line a row."""
    width = max(len(name) for name, _ in rows)
    sys.stdout.write("".join(f"{name:<{width}}  {text}\n" for name, text in rows))
