"""Lists of class names: the line is the class, so that no line may be lost."""

from __future__ import annotations

from pathlib import Path

from edgebone.core.foreign import foreign
from edgebone.core.limits import LABELS_BYTES
from edgebone.core.reading import read_text
from edgebone_export.errors import ExportError


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a file with one class name a line, UTF-8.

    Returns:
        One name a line; an empty line keeps its place, as a class without a name. Empty lines at the end name nothing.

    Raises:
        ExportError: The file cannot be read, or names nothing.
    """
    with foreign(
        lambda reason: ExportError(
            f"labels {path}: not a readable file ({reason}); give a UTF-8 file with one class name a line"
        )
    ):
        # Not splitlines(), which takes form feeds and U+2028 inside a name for ends of lines, too.
        lines = read_text(path, LABELS_BYTES).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise ExportError(f"labels {path}: the file names no class; write one a line")
    return tuple(names)
