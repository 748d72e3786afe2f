"""``edgebone compile``: engines for TensorRT, TensorRT-RTX and OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone.cli import options
from edgebone.cli.output import as_shown, note, say, say_json

if TYPE_CHECKING:
    from edgebone.engines.tensorrt.settings import CompileSettings, Target


def compile_command(
    bundle: options.Bundle,
    target: Annotated[
        str, typer.Option("--target", help="tensorrt, tensorrt-rtx, tensorrt-rtx:sm86,sm89 or openvino.")
    ],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Only this variant; repeat for several; all if not given.")
    ] = None,
    workspace: Annotated[
        int | None, typer.Option("--workspace", metavar="MB", min=1, help="The most memory that a kernel may want.")
    ] = None,
    level: Annotated[
        int | None,
        typer.Option("--level", min=0, max=5, help="How long to look for fast kernels; TensorRT's own is 3."),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            "--timing-cache", dir_okay=False, help="A file that builds share; one in the user's cache if not given."
        ),
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let later versions of TensorRT load the engine.")
    ] = False,
    hardware: Annotated[
        str,
        typer.Option("--hardware", help="none, ampere-plus or same-compute-capability: other GPUs that may load it."),
    ] = "none",
    dla: Annotated[int | None, typer.Option("--dla", metavar="CORE", min=0, help="A Jetson's DLA core.")] = None,
    json: options.Json = False,
) -> None:
    """Compile a bundle's variants ahead of time.

    TensorRT's engines go into the bundle with everything that they depend on, and are made again where any of it
    differs. OpenVINO's compiled networks go into the user's cache.
    """
    from edgebone.engines.tensorrt.settings import CompileSettings, parse_target

    wanted = parse_target(target)
    settings = CompileSettings(workspace, level, version_compatible, hardware, dla)
    if wanted.name == "openvino":
        if settings != CompileSettings() or timing_cache is not None:
            raise typer.BadParameter("these are TensorRT's settings; openvino takes --variant alone")
        _openvino(bundle, variant or [], json)
        return
    _tensorrt(bundle, wanted, settings, variant or [], timing_cache, json)


def _openvino(bundle: str, variants: list[str], json: bool) -> None:
    from edgebone.engines.openvino.compile import compile_with_openvino

    warmed = compile_with_openvino(bundle, variants, _status)
    if json:
        import msgspec

        say_json(msgspec.json.encode(warmed))
        return
    for item in warmed:
        said = "was in the cache" if item.was_there else "compiled into the cache"
        say(f"{item.candidate} [{item.candidate.variant}]: {said}, {item.seconds:.2f} s")


def _tensorrt(
    bundle: str, target: Target, settings: CompileSettings, variants: list[str], timing_cache: Path | None, json: bool
) -> None:
    from rich.console import Console

    from edgebone.engines.tensorrt.compile import compile_into_bundle

    console = Console(stderr=True, highlight=False)
    begun: set[str] = set()

    def show(name: str, phase: str, share: float) -> None:
        if console.is_terminal:
            status.update(as_shown(f"{name}: {phase}, {100 * share:.0f} %"))
        elif name not in begun:
            # In a log, a line that says why it takes minutes.
            begun.add(name)
            _status(f"compiling {name} for {target}")

    with console.status(f"compiling for {target}") as status:
        results = compile_into_bundle(
            bundle,
            target,
            settings,
            variants,
            timing_cache,
            show,
            _status,
        )
    if json:
        import msgspec

        say_json(msgspec.json.encode(results))
        return
    for result in results:
        engine = result.engine
        size = "" if engine is None else f", {engine.seconds:.2f} s, {engine.size_bytes / 1e6:.1f} MB, {engine.file}"
        say(f"{result.variant} for {target}: {result.reason}{size}")


def _status(text: str) -> None:
    note(f"edgebone: {text}")
