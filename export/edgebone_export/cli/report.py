"""What an export or import says at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebone.cli.output import note, say

if TYPE_CHECKING:
    from edgebone_export.bundling.assemble import ExportReport


def show(report: ExportReport) -> None:
    """Print what was made and how it was proved."""
    weights, parity, pre = report.manifest.model.weights, report.parity, report.preprocess_parity
    agreement, matched = parity.top1_agreement, parity.matched
    lines = [
        f"{report.path}: {report.manifest.name}, {report.size_bytes / 1e6:.1f} MB, {report.seconds:.1f} s",
        f"weights: {weights.name}, {weights.origin}; {weights.verified}",
        f"against {parity.reference} on {parity.pictures} pictures: max difference {parity.max_abs:.2g}, "
        f"cosine {parity.cosine:.7f}"
        + ("" if agreement is None else f", top-1 agreement {100 * agreement:.0f} %")
        + ("" if matched is None else f", {100 * matched:.2f} % of boxes or pixels the same"),
    ]
    if pre is not None:
        lines.append(
            f"preprocessing against the library's: off by at most {pre.max_steps:.2f} of 255, "
            f"{pre.mean_steps:.4f} on average"
        )
    reading = report.reading
    if reading is not None:
        lines.append(
            "proved: the graph computes what the file computes; whether the file is read rightly, it cannot know: "
            "--expect ANSWERS.json compares it with answers of your own"
            if reading.agreement is None
            else f"as expected: the bundle gives {reading.agreement}"
        )
    lines.append(f"next: edgebone run {report.path} PICTURE")
    for line in lines:
        say(line)
    for doubt in () if reading is None else reading.doubts:
        note(f"WARNING: {doubt}")
