"""What a report says, in lines for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone_export.heads.kinds import find_kind, load, names_of


def report_text(report: Mapping[str, Any]) -> list[str]:
    """Write a fitted head's report as lines, the most important first.

    Args:
        report: ``FittedHead.report``.
    """
    lines: list[str] = load(find_kind(names_of(report["task"])[0]).lines)(report)
    return lines
