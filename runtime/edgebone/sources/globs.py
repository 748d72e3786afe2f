"""Files by a pattern."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from edgebone.core.errors import SourceError
from edgebone.sources.folders import in_order, pictures_among
from edgebone.sources.network_address import redact_word

_DEEP = re.compile(r"(?:^|(?<=/))\*\*(?:/+|$)")


def files_matching(pattern: str) -> list[Path]:
    """The files that a pattern matches, in order (see :func:`edgebone.sources.folders.in_order`).

    Args:
        pattern: As for :func:`glob.glob`. Unlike there, ``**`` does not go through links to folders: one that leads
            back to a folder above it has no end, and two of them more paths than can be listed.
    """
    return in_order(path for path in map(Path, set(_names(pattern))) if path.is_file() or _leads_nowhere(path))


def pictures_matching(pattern: str) -> list[Path]:
    """The pictures among the files that a pattern matches, in order.

    Raises:
        SourceError: There are none.
    """
    matching = files_matching(pattern)
    found = pictures_among(matching, pattern)
    if not found:
        none = f"none of the {len(matching)} files that match is a picture" if matching else "no file matches"
        raise SourceError(f"{redact_word(pattern)}: {none}")
    return found


def _leads_nowhere(path: Path) -> bool:
    """Whether it is a link to nothing: a file that is to be missed."""
    return path.is_symlink() and not path.exists()


def _names(pattern: str) -> Iterator[str]:
    before, *rest = _DEEP.split(pattern, maxsplit=1)
    if not rest:
        yield from glob.glob(pattern)  # noqa: PTH207
        return
    for top in glob.glob(before) if before else ["."]:  # noqa: PTH207
        for folder, subfolders, _ in os.walk(top):
            # As everywhere in patterns: what is hidden has to be named.
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            yield from _names(os.path.join(glob.escape(folder), rest[0] or "*"))  # noqa: PTH118
