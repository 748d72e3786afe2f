"""``edgebone compile``: engines for TensorRT, TensorRT-RTX and OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgebone.cli import options
from edgebone.cli.output import as_shown, notice, say, say_json
from edgebone.engines.table import ROWS

_TARGETS = [row.name for row in ROWS if row.compile]


def compile_command(
    bundle: options.Bundle,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help=f"{', '.join(_TARGETS)}; tensorrt-rtx:sm86,sm89 for other GPUs.",
            autocompletion=lambda incomplete: options.matching(incomplete, _TARGETS),
        ),
    ],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Only this variant; repeatable. Default: all.")
    ] = None,
    workspace: Annotated[
        int | None, typer.Option("--workspace", metavar="MB", min=1, help="The memory limit of a kernel.")
    ] = None,
    level: Annotated[
        int | None,
        typer.Option("--level", min=0, max=5, help="How long to search for fast kernels; TensorRT's default is 3."),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            "--timing-cache", dir_okay=False, help="A file shared by builds. Default: one in the user's cache."
        ),
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let later versions of TensorRT load the engine.")
    ] = False,
    hardware: Annotated[
        Literal["none", "ampere-plus", "same-compute-capability"],
        typer.Option("--hardware", help="Other GPUs that can load the engine."),
    ] = "none",
    dla: Annotated[int | None, typer.Option("--dla", metavar="CORE", min=0, help="A Jetson's DLA core.")] = None,
    json: options.Json = False,
) -> None:
    """Compile a bundle's variants ahead of time.

    TensorRT's engines are written into the bundle with everything that they depend on, and rebuilt if anything differs.
    OpenVINO's compiled networks are written to the user's cache.
    """
    from rich.console import Console

    from edgebone.engines.opening import load_of_engine
    from edgebone.engines.table import find_target

    engine = find_target(target)
    asked = {
        "workspace_mb": workspace,
        "level": level,
        "timing_cache": timing_cache,
        "version_compatible": version_compatible or None,
        "hardware": None if hardware == "none" else hardware,
        "dla_core": dla,
    }
    settings = {name: value for name, value in asked.items() if value is not None}
    if not settings.keys() <= engine.compile_settings:
        raise typer.BadParameter(f"these are TensorRT's settings; {engine.name} takes only --variant")
    console = Console(stderr=True, highlight=False)
    begun: set[str] = set()

    def show(name: str, phase: str, share: float) -> None:
        if console.is_terminal:
            status.update(as_shown(f"{name}: {phase}, {100 * share:.0f} %"))
        elif name not in begun:
            # In a log, a line that says why it takes minutes.
            begun.add(name)
            notice(f"compiling {name} for {target}")

    with console.status(as_shown(f"compiling for {target}")) as status:
        results = load_of_engine(str(engine.compile))(bundle, target, variant or [], settings, show, notice)
    if json:
        import msgspec

        say_json(msgspec.json.encode([result.record for result in results]))
        return
    for result in results:
        say(result.text)
