"""Plots accuracy against speed."""

from __future__ import annotations

import io
from pathlib import Path

from edgebone.core.errors import missing
from edgebone.core.writing import write_whole, writing
from edgebone.tune.tuner import Tuned


def plot_pareto(tuned: Tuned, path: Path) -> None:
    """Plot everything whose accuracy was counted: latency or rate on the x axis, accuracy on the y axis.

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
    middle = sum(x for x, _ in points) / max(len(points), 1)
    seen: dict[str, int] = {}
    for entry, (x, y) in zip(counted, points, strict=True):
        color = "tab:green" if entry.best else "tab:blue" if entry.holds else "tab:red"
        axes.scatter(x, y, color=color, s=60 if entry.best else 30, zorder=3)
        name = f"{entry.candidate.engine} {entry.candidate.precision}"
        if name in seen:
            # Entries are sorted fastest first: slower settings of the same candidate get no name.
            continue
        # Towards the middle, with neighbours' names below each other.
        seen[name] = len(seen)
        side, shift = ("right", -6) if x > middle else ("left", 6)
        place = (shift, -4 - 11 * (seen[name] % 3))
        axes.annotate(
            name, (x, y), xytext=place, textcoords="offset points", fontsize=8, ha=side, va="top", color=color
        )
    front = sorted(point for entry, point in zip(counted, points, strict=True) if entry.best)
    axes.plot([x for x, _ in front], [y for _, y in front], color="tab:green", linewidth=1)
    axes.set_xlabel("median latency of one run, ms" if latency else "frames per second")
    metric = counted[0].accuracy.metric if counted and counted[0].accuracy else "accuracy"
    axes.set_ylabel(f"{metric}, points of 100")
    axes.set_title(str(tuned.machine), fontsize=9)
    axes.grid(alpha=0.3)
    axes.margins(y=0.2)
    for color, text in (("tab:green", "best"), ("tab:blue", "within the budget"), ("tab:red", "over the budget")):
        axes.scatter([], [], color=color, label=text)
    axes.legend(loc="best", fontsize=8)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, format="png")
    with writing(path):
        write_whole(path, drawn.getvalue())
