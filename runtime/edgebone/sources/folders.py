"""Lists the pictures of a folder or a pattern in order, and reports other files."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from edgebone.core.errors import SourceError
from edgebone.core.foreign import in_one_line
from edgebone.sources.images import is_listed

_DIGITS = re.compile(r"([0-9]+)")
_KINDS_SAID = 5

_log = logging.getLogger("edgebone.sources")


def in_order(paths: Iterable[Path]) -> list[Path]:
    """Sort paths in natural order, ``2.png`` before ``10.png``, folder by folder."""
    return sorted(paths, key=_order)


def _order(path: Path) -> tuple[list[tuple[tuple[int, str], ...]], str]:
    # The whole path last: 1.png and 01.png have equal numbers but a fixed order.
    return [tuple(map(_word, _DIGITS.split(part))) for part in path.parts], str(path)


def _word(text: str) -> tuple[int, str]:
    """Return text unchanged; a number with its length first, which compares by value."""
    if not text[:1].isdecimal() or not text.isascii():
        return 0, text
    digits = text.lstrip("0")
    return len(digits), digits


def pictures_in(folder: Path, deep: bool = False) -> list[Path]:
    """Return the pictures of a folder by content, in order; other files are left out, with one warning.

    Hidden files do not count as pictures (macOS writes ``._x.jpg``).

    Args:
        folder: The folder.
        deep: Also search its folders, except hidden ones and links.

    Raises:
        SourceError: The folder cannot be listed.
    """
    try:
        return pictures_among(_files_in(folder, deep), str(folder))
    except OSError as error:
        raise SourceError(f"{folder}: the folder cannot be listed: {in_one_line(error).lower()}") from error


def pictures_among(paths: Iterable[Path], where: str) -> list[Path]:
    """Return the pictures among files by content, in order; others are left out, with one warning.

    Args:
        paths: The files.
        where: Their origin, for the warning.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    for path in paths:
        if is_listed(path):
            found.append(path)
        else:
            others[path.suffix.lower() or "without suffix"] += 1
    if others:
        kinds = [f"{suffix} {count}" for suffix, count in others.most_common(_KINDS_SAID)]
        kinds += ["…"] if len(others) > _KINDS_SAID else []
        number = others.total()
        _log.warning("%s: %d other file%s left out: %s", where, number, "" if number == 1 else "s", ", ".join(kinds))
    return in_order(found)


def _files_in(folder: Path, deep: bool) -> Iterable[Path]:
    for child in folder.iterdir():
        if child.name.startswith("."):
            continue
        if not child.is_dir():
            yield child
        elif deep and not child.is_symlink():
            yield from _files_in(child, deep)
