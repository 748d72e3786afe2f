"""Format reports of heads: figures as text, and lines that kinds share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Report = Mapping[str, Any]
MOST = 5
"""Largest number of classes, labels or confusions to list."""
_WHERE = {"held_out": "held out", "cross_validation": "cross-validation"}


def vector_lines(report: Report, measured: Callable[[str, Report, Report], list[str]]) -> list[str]:
    """Return the report lines of a head on vectors, the most important first.

    Args:
        report: ``FittedHead.report``.
        measured: Formats one measurement, from its name, its figures, and the whole report.
    """
    chosen = ", ".join(f"{name} {number_text(value)}" for name, value in report["chosen"].items())
    counts = report["train"]
    views = f", {counts['rows']} views" if counts["rows"] != counts["pictures"] else ""
    lines = [
        f"{report['task']}, {report['kind']}: {counts['pictures']} pictures{views}, {report['features']} features, "
        f"{report['seconds']:.1f} s{'; chosen: ' if chosen else ''}{chosen}"
    ]
    for place, name in _WHERE.items():
        found = report.get(place)
        if found is not None:
            lines += measured(name, found, report)
    if report.get("held_out") is None and report.get("cross_validation") is None:
        lines.append(f"not measured: {report.get('why', 'no class has two pictures')}")
    if report.get("one_scene"):
        names = report["one_scene"]
        lines.append(
            f"all pictures look alike, so the figures are optimistic: {', '.join(names[:MOST])}"
            f"{f' and {len(names) - MOST} more' if len(names) > MOST else ''}"
        )
    if report.get("never_tested"):
        names = report["never_tested"]
        lines.append(
            f"not tested, since it needs a second picture: {', '.join(names[:MOST])}"
            f"{f' and {len(names) - MOST} more' if len(names) > MOST else ''}"
        )
    return lines


def map_line(report: Report) -> str:
    """Return the training line of a head on maps."""
    return (
        f"{report['task']}, {report['kind']}: {report['train']['pictures']} pictures, {report['parameters']} weights, "
        f"{report['seconds']:.1f} s; best of {report['epochs']} epochs: {report['best_epoch']}"
    )


def measured_on(report: Report) -> list[tuple[str, Report]]:
    """Return held-out measurements first, then those that choices were made on."""
    places = (("held out", report["held_out"]), ("validation, on which the epoch was chosen", report["validation"]))
    return [(name, found) for name, found in places if found is not None]


def share_text(value: Mapping[str, Any]) -> str:
    """Return a text such as ``76.8 % (71.6 to 81.1 %, n 296)``."""
    if value["value"] is None:
        return "unknown (n 0)"
    low, high = value["interval95"]
    return f"{percent_text(value['value'])} ({100 * low:.1f} to {percent_text(high)}, n {value['n']})"


def percent_text(value: float) -> str:
    """Return ``76.8 %`` for 0.768."""
    return f"{100 * value:.1f} %"


def number_text(value: Any) -> str:
    """Return a number with four digits; ``unknown`` for None."""
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
