"""Draws accuracy against speed."""

from __future__ import annotations

from pathlib import Path

from edgebone.core.errors import missing
from edgebone.core.writing import writing
from edgebone.tune.tuner import Tuned


def plot_pareto(tuned: Tuned, path: Path) -> None:
    """Write a picture of everything whose accuracy was counted: latency or rate to the right, accuracy upwards.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing("matplotlib", "bench", "--plot") from error
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    counted = [entry for entry in tuned.entries if entry.accuracy is not None]
    latency = tuned.goal == "latency"
    points = [
        (entry.speed.p50_ms if latency else entry.speed.fps, entry.accuracy.value if entry.accuracy else 0.0)
        for entry in counted
    ]
    seen: set[tuple[str, str]] = set()
    for entry, (x, y) in zip(counted, points, strict=True):
        color = "tab:green" if entry.best else "tab:blue" if entry.holds else "tab:red"
        axes.scatter(x, y, color=color, s=60 if entry.best else 30, zorder=3)
        name = f"{entry.candidate.engine} {entry.candidate.precision}"
        if (name, entry.candidate.hint) not in seen:
            axes.annotate(str(entry.candidate), (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8)
        seen.add((name, entry.candidate.hint))
    front = sorted(point for entry, point in zip(counted, points, strict=True) if entry.best)
    axes.plot([x for x, _ in front], [y for _, y in front], color="tab:green", linewidth=1)
    axes.set_xlabel("median latency of one run, ms" if latency else "frames a second")
    metric = counted[0].accuracy.metric if counted and counted[0].accuracy else "accuracy"
    axes.set_ylabel(f"{metric}, points of 100")
    axes.set_title(str(tuned.machine), fontsize=9)
    axes.grid(alpha=0.3)
    for color, text in (("tab:green", "best"), ("tab:blue", "within the budget"), ("tab:red", "over the budget")):
        axes.scatter([], [], color=color, label=text)
    axes.legend(loc="best", fontsize=8)
    with writing(path):
        figure.savefig(path, dpi=110)
