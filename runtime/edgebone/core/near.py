"""Finds names similar to an unknown name: suggestions of what was meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

_LIKENESS = 0.6


def near(name: object, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names spelt similarly, most similar first; ignores case, and ``_`` equals ``-``.

    Args:
        name: The unknown name.
        known: The known names.
        most: The largest number of names to return.
    """
    # Imported here: only errors pay for it.
    import difflib

    plain: dict[str, list[str]] = {}
    for item in known:
        plain.setdefault(_plain(item), []).append(item)
    found = difflib.get_close_matches(_plain(str(name)), plain, most, _LIKENESS)
    return [item for key in found for item in plain[key]][:most]


def did_you_mean(name: object, known: Iterable[str], meant: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return ``did you mean person? `` for a message that then lists the known names; empty if none is near.

    Args:
        name: The unknown name.
        known: The known names.
        meant: Known names by lower-case synonym; they take precedence over similar spelling.
    """
    word = str(name).lower()
    found = [meant[word]] if word in meant else near(name, known)
    return f"did you mean {' or '.join(found)}? " if found else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
