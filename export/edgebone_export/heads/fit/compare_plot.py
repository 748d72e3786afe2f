"""Plot the accuracy of backbones against latency."""

from __future__ import annotations

import io
from pathlib import Path

from edgebone.core.errors import missing
from edgebone.core.writing import write_whole, writing
from edgebone_export.heads.fit.compare import Comparison

# Above this ratio of slowest to fastest, a linear axis crowds the fast ones.
_WIDE = 4.0


def plot_comparison(found: Comparison, path: Path) -> None:
    """Write a plot: median latency on x, held-out accuracy with its interval on y, the Pareto front as a line.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter, ScalarFormatter
    except ModuleNotFoundError as error:
        raise missing("matplotlib", "bench", "--plot") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if found.rows[-1].p50_ms > _WIDE * found.rows[0].p50_ms:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks([row.p50_ms for row in found.rows], [f"{row.p50_ms:.1f}" for row in found.rows])
    for row in found.rows:
        color = "tab:green" if row.on_front else "tab:gray"
        low, high = row.interval95
        y = 100 * row.accuracy
        axes.errorbar(
            row.p50_ms, y, yerr=[[y - 100 * low], [100 * high - y]], color=color, marker="o", capsize=3, linewidth=1
        )
        axes.annotate(row.name, (row.p50_ms, y), xytext=(6, 6), textcoords="offset points", fontsize=9, color=color)
    front = [row for row in found.rows if row.on_front]
    axes.plot([row.p50_ms for row in front], [100 * row.accuracy for row in front], color="tab:green", linewidth=1)
    axes.set_xlabel("median time per picture, ms")
    axes.set_ylabel(f"accuracy on {found.rows[0].held_out} held-out pictures, % (95 % interval)")
    axes.set_title(f"{found.head} heads on {found.data}; {found.machine}", fontsize=9)
    axes.grid(alpha=0.3)
    axes.margins(x=0.15)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png")
    with writing(path):
        write_whole(path, drawn.getvalue())
