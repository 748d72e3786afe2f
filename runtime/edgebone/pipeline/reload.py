"""What a run was started with, loaded again while it goes on."""

from __future__ import annotations

from collections.abc import Callable

from edgebone.core.errors import EdgeboneError


def load_again(what: str, load: Callable[[], object], notice: Callable[[str], object]) -> None:
    """Load something again, and say so; where it is refused, that is said, and the one before goes on.

    Args:
        what: What it is called: ``bundle``, ``zones``.
        load: Loads it.
        notice: Called with a line.
    """
    are, were = ("are", "they were") if what.endswith("s") else ("is", "it was")
    try:
        load()
    except EdgeboneError as error:
        notice(f"{error}; going on with the {what} as {were}")
    else:
        notice(f"the {what} {are} loaded again")
