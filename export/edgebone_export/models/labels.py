"""Read lists of class names: the line number is the class id, so no line may be lost."""

from __future__ import annotations

from pathlib import Path

from edgebone.core.foreign import foreign
from edgebone.core.limits import LABELS_BYTES
from edgebone.core.reading import read_text
from edgebone_export.errors import ExportError


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a UTF-8 file with one class name per line.

    Returns:
        One name per line; an empty line is a class without a name. Empty lines at the end are dropped.

    Raises:
        ExportError: The file cannot be read, or has no names.
    """
    with foreign(
        lambda reason: ExportError(
            f"labels {path}: not a readable file ({reason}); pass a UTF-8 file with one class name per line"
        )
    ):
        # Not splitlines(), which also splits at form feeds and U+2028 inside a name.
        lines = read_text(path, LABELS_BYTES).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise ExportError(f"labels {path}: the file has no class names; write one per line")
    return tuple(names)
