"""Errors raised on the workstation; see :mod:`edgebone.core.errors` for the rest of the tree."""

from __future__ import annotations

import re
import traceback

from edgebone.core.errors import EdgeboneError


class ExportError(EdgeboneError, RuntimeError):
    """The network cannot be exported. Exit code 8."""

    exit_code = 8


class ParityError(ExportError):
    """The exported graph does not match PyTorch. Exit code 8."""


class WeightsError(EdgeboneError, ValueError):
    """Weights cannot be found, differ from the publisher's, or do not fit the network. Exit code 9."""

    exit_code = 9


class UnknownModelError(EdgeboneError, KeyError):
    """No model has that name. Exit code 10."""

    exit_code = 10

    def __str__(self) -> str:
        """Return the message itself; KeyError would quote it."""
        return str(self.args[0])


def in_one_line(error: BaseException) -> str:
    """Return the root cause of another library's error in one line: torch's own report runs over pages.

    If the cause has no message, as an assertion may, return the line of code that raised it.
    """
    while error.__cause__ is not None and str(error.__cause__).strip():
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    reason = next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]
    if not reason:
        frames = traceback.extract_tb(error.__traceback__)
        reason = f"at {frames[-1].line!r}" if frames else ""
    # A KeyError's whole message is the key.
    return reason if " " in reason and not reason.startswith("at ") else f"{type(error).__name__} {reason}".strip()
