"""Names near a name that nothing has: what was most likely meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

_LIKENESS = 0.6


def near(name: object, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that are spelt like a name, the likest first; capitals count as small letters, ``_`` as ``-``.

    Args:
        name: What was said.
        known: What there is.
        most: How many to give at most.
    """
    # Only what is refused pays for it.
    import difflib

    plain: dict[str, list[str]] = {}
    for item in known:
        plain.setdefault(_plain(item), []).append(item)
    found = difflib.get_close_matches(_plain(str(name)), plain, most, _LIKENESS)
    return [item for key in found for item in plain[key]][:most]


def did_you_mean(name: object, known: Iterable[str], meant: Mapping[str, str] = MappingProxyType({})) -> str:
    """``did you mean person? `` for a message that goes on with what there is; empty where nothing is near.

    Args:
        name: What was said.
        known: What there is.
        meant: What others call by another word, by that word in small letters; before anything that is spelt alike.
    """
    word = str(name).lower()
    found = [meant[word]] if word in meant else near(name, known)
    return f"did you mean {' or '.join(found)}? " if found else ""


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
