"""Text that is safe to show on a terminal, whoever wrote the labels, names and files in it."""

from __future__ import annotations

import logging
import re

# C0, DEL and C1, with which a terminal is told to do things and lines are forged; what turns the direction of writing
# (CVE-2021-42574), and the separators of lines and paragraphs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Escape control characters, line ends among them: ESC becomes ``\u001b``.

    The form is JSON's: within a JSON text, whose strings hold such characters, it means the same as before.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class PrintableFormatter(logging.Formatter):
    """One line a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, see :func:`printable`."""
        return printable(super().format(record))
