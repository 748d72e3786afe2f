"""``edgebone tune``: the fastest way to run a bundle on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgebone.cli import options
from edgebone.cli.disturbed import note_if_disturbed
from edgebone.cli.output import as_shown, note, say, say_json

if TYPE_CHECKING:
    from edgebone.tune.tuner import Entry, Tuned


def tune_command(
    bundle: options.Bundle,
    evaluate: Annotated[
        Path,
        typer.Option(
            "--eval",
            help="The data for accuracy: labels as for `edgebone eval`, or pictures alone (agreement with FP32).",
        ),
    ],
    goal: Annotated[
        Literal["latency", "throughput"], typer.Option("--goal", help="Latency of one run, or throughput.")
    ] = "latency",
    max_drop: Annotated[
        float, typer.Option("--max-drop", min=0, max=100, help="Points of 100 that may be lost against FP32.")
    ] = 1.0,
    cameras: Annotated[
        int | None,
        typer.Option(
            "--cameras",
            min=1,
            help="For throughput: the number of cameras, each of which delivers one frame at a time.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="The time per turn of each finalist.")] = 1.0,
    plot: Annotated[Path | None, typer.Option("--plot", help="Plot accuracy against speed into this PNG.")] = None,
    head: Annotated[str | None, typer.Option("--head", help="The head that the labels are for.")] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="The pictures of boxes and areas, if they are elsewhere.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Measure every engine, variant, precision, hint, number of threads and batch that fits this machine.

    The winner within the accuracy budget is written into the bundle as this machine's plan, which `edgebone run` and
    `edgebone.load` then follow. It is never slower than plain FP32 onnxruntime here.
    """
    from rich.console import Console

    from edgebone.cli.random_weights import say_if_random
    from edgebone.tune.plot import plot_pareto
    from edgebone.tune.tuner import tune

    say_if_random(bundle)
    console = Console(stderr=True, highlight=False)
    with console.status("reading the bundle") as status:
        tuned = tune(
            bundle,
            evaluate,
            goal=goal,
            max_drop=max_drop,
            cameras=cameras,
            seconds=seconds,
            head=head,
            images=images,
            progress=lambda text: status.update(as_shown(text)),
        )
    if plot is not None:
        plot_pareto(tuned, plot)
    if json:
        import msgspec

        say_json(msgspec.json.encode(tuned))
        return
    _show(tuned, bundle)


def _show(tuned: Tuned, bundle: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(as_shown(f"{tuned.machine}"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", "candidate", "variant", "p50 ms", "fps", "accuracy", "lost", "agreement"):
        table.add_column(title, justify="right" if title in ("p50 ms", "fps", "lost") else "left", no_wrap=True)
    shown: set[tuple[str, str, str]] = set()
    for entry in tuned.entries:
        candidate = entry.candidate
        kind = (candidate.engine, candidate.variant, candidate.precision)
        # Of each kind only the fastest setting is shown; the others are in --json.
        if kind not in shown or entry.best:
            table.add_row(*map(as_shown, _row(entry, tuned)))
        shown.add(kind)
    # A pipe has no width limit.
    console.print(table) if console.is_terminal else Console(width=200, highlight=False, markup=False).print(table)
    hidden = len(tuned.entries) - table.row_count
    if hidden:
        say(f"and {hidden} slower settings of these (all are in --json)")
    for line in tuned.failed:
        note(f"not measured: {line}")
    plan = tuned.plan
    note_if_disturbed(plan.disturbed)
    if tuned.kept_baseline:
        say(f"{bundle}: nothing better meets the budget: the plan is plain FP32 onnxruntime")
        return
    gain = plan.fp32_p50_ms / plan.p50_ms if tuned.goal == "latency" else plan.fps / plan.fp32_fps
    say(
        f"{bundle}: plan for this machine: {plan.engine} {plan.precision} [{plan.variant}], {plan.p50_ms:.2f} ms, "
        f"{plan.fps:.0f} fps, {gain:.2f}x plain FP32 onnxruntime"
    )


def _row(entry: Entry, tuned: Tuned) -> tuple[str, ...]:
    candidate, speed, accuracy = entry.candidate, entry.speed, entry.accuracy
    plan = tuned.plan
    chosen = (candidate.engine, candidate.precision, candidate.variant, candidate.hint) == (
        plan.engine,
        plan.precision,
        plan.variant,
        plan.hint,
    ) and (candidate.threads, candidate.batch) == (plan.threads, plan.batch)
    mark = "→" if chosen else "*" if entry.best else ""
    figures = (
        ("too slow to count" if entry.pruned else "not counted", "", "")
        if accuracy is None
        else (f"{accuracy.metric} {accuracy.value:.2f}", f"{accuracy.drop:+.2f}", f"{accuracy.agreement:.2f} %")
    )
    return mark, str(candidate), candidate.variant, f"{speed.p50_ms:.2f}", f"{speed.fps:.1f}", *figures
