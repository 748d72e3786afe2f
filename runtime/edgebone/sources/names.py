"""Names of sources that are gone through together: no two are alike, so that what is kept by name is one source's."""

from __future__ import annotations

from collections.abc import Sequence


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Tell names that are alike apart by a number, in their order: ``cam``, ``cam (2)``, ``cam (3)``.

    Two cameras that differ in a token or a password alone have one name, and so has a file that is given twice.
    """
    distinct: list[str] = []
    for name in names:
        number, candidate = 1, name
        # Another source may be called so itself.
        while candidate in distinct or (number > 1 and candidate in names):
            number += 1
            candidate = f"{name} ({number})"
        distinct.append(candidate)
    return tuple(distinct)
