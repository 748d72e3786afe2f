"""``NAME.csv``: a row a frame, with what is most worth saying about it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results, results_to_text
from edgebone.sinks.line_file import LineFile

COLUMNS = ("source", "frame", "position_s", "result")


class CsvFile(LineFile):
    """Writes a CSV file; whoever follows the file sees whole rows only.

    Args:
        path: The file.
        append: Keep what it holds already.
    """

    def __init__(self, path: Path, append: bool) -> None:
        super().__init__(path, append)
        self._needs_columns = not (append and path.exists())

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Append a row.

        Raises:
            OutputError: The file cannot be written.
        """
        position = "" if frame.position_s is None else f"{frame.position_s:.3f}"
        rows: list[Sequence[object]] = [(frame.path or frame.source, frame.index, position, results_to_text(result))]
        if self._needs_columns:
            rows.insert(0, COLUMNS)
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self.write_line(text.getvalue().encode())
        self._needs_columns = False

    def discard(self) -> None:
        """Close the file after a failure; its rows are whole, and stay."""
        self.close()


def open_csv(target: str, *, append: bool = False, **_: Any) -> CsvFile:
    """Open ``NAME.csv``; the entry point names this function."""
    return CsvFile(Path(target), append)
