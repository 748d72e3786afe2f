"""Lists files by a pattern."""

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
    """Return the files that match a pattern, in order (see :func:`edgebone.sources.folders.in_order`).

    Args:
        pattern: As for :func:`glob.glob`. Unlike there, ``**`` does not follow links to folders: a link to a parent
            folder never ends, and two of them make more paths than can be listed.
    """
    return in_order(path for path in map(Path, set(_names(pattern))) if path.is_file() or _leads_nowhere(path))


def pictures_matching(pattern: str) -> list[Path]:
    """Return the pictures among the files that match a pattern, in order.

    Raises:
        SourceError: No picture matches.
    """
    matching = files_matching(pattern)
    found = pictures_among(matching, pattern)
    if not found:
        none = f"none of the {len(matching)} files that match is a picture" if matching else "no file matches"
        raise SourceError(f"{redact_word(pattern)}: {none}")
    return found


def _leads_nowhere(path: Path) -> bool:
    """Return whether it is a dangling link, which must be reported."""
    return path.is_symlink() and not path.exists()


def _names(pattern: str) -> Iterator[str]:
    before, *rest = _DEEP.split(pattern, maxsplit=1)
    if not rest:
        yield from glob.glob(pattern)  # noqa: PTH207
        return
    for top in glob.glob(before) if before else ["."]:  # noqa: PTH207
        for folder, subfolders, _ in os.walk(top):
            # As in all patterns, hidden files must be named explicitly.
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            yield from _names(os.path.join(glob.escape(folder), rest[0] or "*"))  # noqa: PTH118
