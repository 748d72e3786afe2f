"""Makes the names of a stream's sources unique, so that state kept by name belongs to one source."""

from __future__ import annotations

from collections.abc import Sequence


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Number equal names in order: ``cam``, ``cam (2)``, ``cam (3)``.

    Two cameras that differ only in a token or a password have equal names, and so has a file given twice.
    """
    distinct: list[str] = []
    for name in names:
        number, candidate = 1, name
        # Another source may already have this name.
        while candidate in distinct or (number > 1 and candidate in names):
            number += 1
            candidate = f"{name} ({number})"
        distinct.append(candidate)
    return tuple(distinct)
