"""Format a report as text lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone_export.heads.kinds import find_kind, names_of


def report_text(report: Mapping[str, Any]) -> list[str]:
    """Format a fitted head's report as lines, the most important first.

    Args:
        report: ``FittedHead.report``, from a fit or one of the fitting functions.
    """
    # Fitting functions do not know their row of the table: the first row of the task formats their report.
    kind = find_kind(report["head"] if "head" in report else names_of(report["task"])[0])
    lines: list[str] = kind.load(kind.lines)(report)
    return lines
