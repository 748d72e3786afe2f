"""``edgebone bench``: latency, stages and memory of every engine that fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone.cli import options
from edgebone.cli.disturbed import note_if_disturbed
from edgebone.cli.output import as_shown, note, say_json

if TYPE_CHECKING:
    from edgebone.bench.compare import Failed
    from edgebone.bench.measure import Measured
    from edgebone.core.machine import Machine

_FRAME = options.Size(720, 1280)


def bench_command(
    bundle: options.Bundle,
    engine: options.Engine = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="Only this precision. Default: all that fit.",
            autocompletion=options.complete_precision,
            rich_help_panel=options.ENGINE,
        ),
    ] = None,
    frame: Annotated[
        options.Size,
        typer.Option(
            "--frame",
            parser=options.parse_size,
            metavar="WIDTHxHEIGHT",
            help="The size of the camera's frames.",
            show_default="1280x720",
        ),
    ] = _FRAME,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Time for each engine.")] = 9.0,
    hint: options.Hint = "latency",
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Measure every engine and precision that fits, each in its own process, after a warm-up.

    Batch 1. The stages are timed one by one. `fps` is a live camera's rate; `files fps` a recording's, whose next frame
    is prepared during inference if the engine benefits; `engine fps` the network's alone. `own` is the runtime's own
    time per frame besides its three stages.
    """
    from rich.console import Console

    from edgebone.bench.compare import Failed, measure_in_own_process
    from edgebone.core.bundle import open_bundle
    from edgebone.core.errors import EngineError
    from edgebone.core.quiet import Watch
    from edgebone.engines.select import candidates, check_words, choose, precisions_of
    from edgebone.engines.spec import Candidate
    from edgebone.engines.table import names, this_machine

    machine = this_machine(engine)
    with open_bundle(bundle) as opened:
        variants = opened.manifest.variants
    check_words(engine)
    found = [
        Candidate(name, own, key, hint, threads)
        for name in (names() if engine == "auto" else (engine,))
        for key, variant in variants.items()
        for own in precisions_of(name, variant)
    ]
    if precision:
        found = candidates(opened.manifest, engine, precision, hint=hint, threads=threads)
    choice = choose(found, machine, variants)
    console = Console(stderr=True)
    rows: list[Measured | Failed] = []
    watch = Watch()
    for fit in choice.fits:
        with console.status(as_shown(f"measuring {fit.candidate} …")):
            rows.append(measure_in_own_process(bundle, fit.candidate, frame, seconds))
    disturbed = watch.until_now()
    measured = [row for row in rows if not isinstance(row, Failed)]
    failed = [row for row in rows if isinstance(row, Failed)]
    if json:
        import msgspec

        record = {
            "bundle": bundle,
            "machine": machine,
            "disturbed": disturbed,
            "results": measured,
            "failed": failed,
        }
        say_json(msgspec.json.encode(record))
    else:
        _show(machine, measured, frame)
    note_if_disturbed(disturbed)
    for row in failed:
        note(f"edgebone: {row.engine} {row.precision}: {row.reason}")
    if not measured:
        raise EngineError(f"{bundle}: no engine that fits could be measured")


def _show(machine: Machine, rows: list[Measured], frame: options.Size) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(as_shown(f"{machine}; {_versions(machine, rows)}; batch 1, frame {frame}"), soft_wrap=True)
    # One column per engine, since a dozen columns of figures would not fit a terminal.
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    for row in rows:
        table.add_column(as_shown(f"{row.engine} {row.precision}"), justify="right")
    for title, figure in _FIGURES:
        table.add_row(title, *(figure(row) for row in rows))
    console.print(table)


_FIGURES: tuple[tuple[str, Callable[[Measured], str]], ...] = (
    ("pre p50, ms", lambda row: f"{row.pre.p50_ms:.2f}"),
    ("infer p50, ms", lambda row: f"{row.infer.p50_ms:.2f}"),
    ("infer p90, ms", lambda row: f"{row.infer.p90_ms:.2f}"),
    ("infer p99, ms", lambda row: f"{row.infer.p99_ms:.2f}"),
    ("infer max, ms", lambda row: f"{row.infer.max_ms:.2f}"),
    ("decode p50, ms", lambda row: f"{row.decode.p50_ms:.2f}"),
    ("total p50, ms", lambda row: f"{row.total.p50_ms:.2f}"),
    ("total p99, ms", lambda row: f"{row.total.p99_ms:.2f}"),
    ("own, ms", lambda row: f"{row.own_ms:.3f}"),
    ("fps", lambda row: f"{row.fps:.1f}"),
    ("files fps", lambda row: f"{row.fps_files:.1f}"),
    ("engine fps", lambda row: f"{row.engine_fps:.1f}"),
    ("load, ms", lambda row: f"{row.load_ms:.0f}"),
    ("first frame, ms", lambda row: f"{row.first_ms:.1f}"),
    ("peak memory, MB", lambda row: f"{row.peak_memory_mb:.0f}"),
)


def _versions(machine: Machine, rows: list[Measured]) -> str:
    from edgebone.engines.table import find

    needed = dict.fromkeys(name for row in rows if (spec := find(row.engine)) for name in spec.packages)
    return ", ".join(f"{name} {machine.packages[name]}" for name in needed if name in machine.packages)
