"""What a report says, in lines for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone_export.heads.kinds import find_kind, names_of


def report_text(report: Mapping[str, Any]) -> list[str]:
    """Write a fitted head's report as lines, the most important first.

    Args:
        report: ``FittedHead.report``, of a fit or of one of the functions that fit.
    """
    # Its functions alone do not know which row they are of: their lines are those of the task's first.
    kind = find_kind(report["head"] if "head" in report else names_of(report["task"])[0])
    lines: list[str] = kind.load(kind.lines)(report)
    return lines
