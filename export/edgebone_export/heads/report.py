"""How reports of heads read: figures as text, and the lines that kinds have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Report = Mapping[str, Any]
MOST = 5
"""Classes, labels or confusions that are listed at most."""
_WHERE = {"held_out": "held out", "cross_validation": "cross-validation"}


def vector_lines(report: Report, measured: Callable[[str, Report, Report], list[str]]) -> list[str]:
    """The lines of a head on vectors, the most important first.

    Args:
        report: ``FittedHead.report``.
        measured: Writes what was measured at one place: the place's name, its figures, and the whole report.
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
        lines.append(f"nothing was measured: {report.get('why', 'no class has two pictures')}")
    if report.get("one_scene"):
        names = report["one_scene"]
        lines.append(
            f"all pictures look alike, which flatters the figures: {', '.join(names[:MOST])}"
            f"{f' and {len(names) - MOST} more' if len(names) > MOST else ''}"
        )
    if report.get("never_tested"):
        names = report["never_tested"]
        lines.append(
            f"never tested, for want of a second picture: {', '.join(names[:MOST])}"
            f"{f' and {len(names) - MOST} more' if len(names) > MOST else ''}"
        )
    return lines


def map_line(report: Report) -> str:
    """What a head on maps was fitted on, and how."""
    return (
        f"{report['task']}, {report['kind']}: {report['train']['pictures']} pictures, {report['parameters']} weights, "
        f"{report['seconds']:.1f} s; best of {report['epochs']} epochs: {report['best_epoch']}"
    )


def measured_on(report: Report) -> list[tuple[str, Report]]:
    """What was only measured on first, then what the choices were made on."""
    places = (("held out", report["held_out"]), ("validation, on which the epoch was chosen", report["validation"]))
    return [(name, found) for name, found in places if found is not None]


def share_text(value: Mapping[str, Any]) -> str:
    """``76.8 % (71.6 to 81.1 %, n 296)``."""
    if value["value"] is None:
        return "unknown (n 0)"
    low, high = value["interval95"]
    return f"{percent_text(value['value'])} ({100 * low:.1f} to {percent_text(high)}, n {value['n']})"


def percent_text(value: float) -> str:
    """``76.8 %`` of 0.768."""
    return f"{100 * value:.1f} %"


def number_text(value: Any) -> str:
    """Four digits of a number; ``unknown`` of None."""
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
