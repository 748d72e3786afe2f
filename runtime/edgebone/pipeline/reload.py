"""Reloads the files of a run while it continues."""

from __future__ import annotations

from collections.abc import Callable

from edgebone.core.errors import EdgeboneError


def load_again(what: str, load: Callable[[], object], notice: Callable[[str], object]) -> None:
    """Reload something and report it; on an error, report that and keep the previous one.

    Args:
        what: Its name in messages: ``bundle``, ``zones``.
        load: Loads it.
        notice: Called with a line.
    """
    are, were = ("are", "they were") if what.endswith("s") else ("is", "it was")
    try:
        load()
    except EdgeboneError as error:
        notice(f"{error}; continuing with the {what} as {were}")
    else:
        notice(f"the {what} {are} loaded again")
