"""Makes text safe for a terminal, whoever wrote the labels, names and files in it."""

from __future__ import annotations

import logging
import re

# C0, DEL and C1, which control a terminal and can forge lines; characters that change the text direction
# (CVE-2021-42574), and line and paragraph separators.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Escape control characters, including line ends: ESC becomes ``\u001b``.

    These are JSON's escapes: within a JSON text the meaning stays the same.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class PrintableFormatter(logging.Formatter):
    """Formats each record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line; see :func:`printable`."""
        return printable(super().format(record))
