"""``edgebone compare``: the same head on several backbones, accuracy against latency on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone.cli import options
from edgebone.cli.output import as_shown, note, say, say_json
from edgebone_export.cli.head_options import check_kind
from edgebone_export.cli.steps import Steps
from edgebone_export.heads.kinds import names_of

if TYPE_CHECKING:
    from edgebone_export.heads.fit.compare import Comparison

_KINDS = names_of("classification")
_DATA, _BACKBONES = "Data", "Backbones"


def compare(
    data: Annotated[
        Path,
        typer.Option(help="A folder with a folder a class, or a CSV with file and label.", rich_help_panel=_DATA),
    ],
    backbones: Annotated[
        str,
        typer.Option(
            help="Names from `edgebone models`, or bundles: mobilenet_v2,resnet50,my.bundle.",
            rich_help_panel=_BACKBONES,
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help=f"{', '.join(_KINDS)}.",
            autocompletion=lambda incomplete: options.matching(incomplete, _KINDS),
        ),
    ] = "linear",
    val: Annotated[
        Path | None,
        typer.Option(
            help="Pictures to measure on, labelled alike; a share is held out if not given.", rich_help_panel=_DATA
        ),
    ] = None,
    hold_out: Annotated[
        float, typer.Option(callback=options.share, help="The share that is held out.", rich_help_panel=_DATA)
    ] = 0.2,
    read: Annotated[
        str | None,
        typer.Option(help="What heads read, such as embedding,features_s16:avg; what has served best if not given."),
    ] = None,
    views: Annotated[
        int, typer.Option(min=1, help="Augmented views a picture, while fitting.", rich_help_panel=_DATA)
    ] = 1,
    weights: Annotated[
        str,
        typer.Option(help="default, a publisher's name such as IMAGENET1K_V1, or random.", rich_help_panel=_BACKBONES),
    ] = "default",
    weights_dir: Annotated[
        Path | None, typer.Option(help="A folder with publishers' weights files.", rich_help_panel=_BACKBONES)
    ] = None,
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time to measure each backbone's latency for.")] = 3.0,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy against latency as a PNG.")] = None,
    keep_bundles: Annotated[
        Path | None,
        typer.Option(
            help="A folder for exported and fitted bundles; the former are reused, the latter replaced.",
            rich_help_panel=_BACKBONES,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of all that is random.")] = 0,
    json: options.Json = False,
) -> None:
    """Fit the same head on several backbones, and measure what each is worth and what it costs here."""
    check_kind(kind, _KINDS)
    names = tuple(name.strip() for name in backbones.split(",") if name.strip())
    from edgebone.engines.select import check_words
    from edgebone_export.given import check_there

    check_there(data, val, weights_dir)
    check_words(engine, precision or "auto")
    with Steps() as steps:
        steps.begin("loading scikit-learn and PyTorch")
        from edgebone_export.need_packages import need, need_torch

        need_torch()
        need("fitting heads", "heads", "onnx_ir", "scipy", "sklearn")
        if plot is not None:
            # Not after an hour of fitting.
            need("--plot", "bench", "matplotlib")
        from edgebone.core.errors import EdgeboneError
        from edgebone_export.errors import ExportError
        from edgebone_export.heads.fit.compare import Backbones
        from edgebone_export.heads.fit.compare import compare as run_compare
        from edgebone_export.heads.fit.compare_plot import plot_comparison
        from edgebone_export.heads.fit.work import Settings

        found = run_compare(
            data,
            Backbones(names, weights, weights_dir, keep_bundles),
            Settings(
                kind=kind,
                val=val,
                hold_out=hold_out,
                read=read,
                views=views,
                engine=engine,
                precision=precision,
                seed=seed,
            ),
            seconds=seconds,
            progress=steps.begin,
            count=steps.count,
        )
    for item in found.failed:
        note(f"edgebone: {item.name}: {item.reason}")
    if not found.rows:
        raise ExportError("none of the backbones could be compared")
    if json:
        import msgspec

        say_json(msgspec.json.encode(found))
    else:
        _show(found)
    if plot is not None:
        plot_comparison(found, plot)
        note(f"drawn: {plot}")
    if found.failed:
        raise typer.Exit(EdgeboneError.exit_code)


def _show(found: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    from edgebone_export.heads.fit.compare import advice

    console = Console(highlight=False, markup=False)
    console.print(as_shown(f"{found.machine}; {found.head} heads on {found.data}"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    titles = ("", "backbone", "held out %", "95 %", "cross-val. %", "p50 ms", "MB", "features s", "fit s", "engine")
    for title in titles:
        table.add_column(title, justify="left" if title in ("", "backbone", "engine") else "right", no_wrap=True)
    for row in found.rows:
        low, high = row.interval95
        table.add_row(
            "*" if row.on_front else "",
            as_shown(row.name),
            f"{100 * row.accuracy:.1f}",
            f"{100 * low:.1f}-{100 * high:.1f}",
            "" if row.cross_validation is None else f"{100 * row.cross_validation:.1f}",
            f"{row.p50_ms:.2f}",
            f"{row.megabytes:.1f}",
            f"{row.features_s:.1f}",
            f"{row.fit_s:.1f}",
            as_shown(row.engine),
        )
    # A pipe has no width that a row must fit.
    console.print(table) if console.is_terminal else Console(width=200, highlight=False, markup=False).print(table)
    say(f"* none is both faster and more accurate; {found.rows[0].held_out} held-out pictures")
    for line in advice(found.rows):
        say(line)
    for row in found.rows:
        if row.bundle:
            say(f"{row.name} with its head: {row.bundle}")
