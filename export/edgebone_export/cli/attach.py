"""``edgebone attach`` and ``edgebone detach``: heads onto a bundle's backbone, and off it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone.cli.output import note, say
from edgebone_export.cli.steps import Steps

if TYPE_CHECKING:
    from edgebone.core.head_file import HeadFile
    from edgebone_export.heads.attach.attach import Attached

Force = Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")]


def attach(
    bundle: Annotated[Path, typer.Argument(help="The bundle whose backbone the heads were fitted on.")],
    heads: Annotated[list[str], typer.Argument(help="Heads: NAME.head, or NEWNAME=NAME.head.")],
    output: Annotated[Path, typer.Option("-o", "--out", help="The bundle to write.")],
    detached: Annotated[
        bool,
        typer.Option(
            "--detached",
            help="Attach the heads as graphs of their own, outside the backbone's graph: own rates, swapped while "
            "serving. (edgebone detach takes a head off a bundle.)",
        ),
    ] = False,
    drop: Annotated[
        list[str] | None, typer.Option(help="A head that the new bundle shall not have; repeatable.")
    ] = None,
    force: Force = False,
) -> None:
    """Make one bundle of a backbone and several heads, each proved against the head alone."""
    from edgebone.core.bundle_writing import check_target
    from edgebone_export.given import check_bundle

    check_bundle(bundle)
    files = list(map(_read, heads))
    check_target(output, force)
    with Steps() as steps:
        _need_packages()
        from edgebone_export.heads.attach.attach import attach as run_attach

        report = run_attach(
            bundle, files, output, detached=detached, drop=drop or (), overwrite=force, progress=steps.begin
        )
    show(report)


def detach(
    bundle: Annotated[Path, typer.Argument(help="The bundle.")],
    names: Annotated[list[str], typer.Argument(help="Names of the heads that go.")],
    output: Annotated[Path, typer.Option("-o", "--out", help="The bundle to write.")],
    keep_heads: Annotated[
        Path | None, typer.Option("--keep-heads", help="A folder for the heads that go, as NAME.head.")
    ] = None,
    force: Force = False,
) -> None:
    """Take heads off a bundle."""
    from edgebone.core.bundle_writing import check_target
    from edgebone_export.given import check_bundle

    check_bundle(bundle)
    check_target(output, force)
    with Steps() as steps:
        _need_packages()
        from edgebone_export.heads.attach.attach import detach as run_detach

        report = run_detach(bundle, names, output, save=keep_heads, overwrite=force, progress=steps.begin)
    show(report)


def _need_packages() -> None:
    from edgebone_export.need_packages import need

    need("a bundle's graph", "heads", "onnx", "onnx_ir", "onnxruntime")


def _read(text: str) -> HeadFile:
    """A head of its own name, or of another that is given before it; a path with ``=`` in it stays a path."""
    from edgebone.core.head_file import read_head, renamed

    name, _, path = text.rpartition("=")
    return read_head(text) if not name or Path(text).exists() else renamed(read_head(path), name)


def show(report: Attached) -> None:
    """Say on stdout what was written, and on stderr what was left out."""
    for name, reason in report.left_out.items():
        note(f"edgebone: variant {name} is left out: {reason}")
    largest = max(report.max_abs.values(), default=0.0)
    proof = f"; attached heads within {largest:.2g} of the same heads alone" if largest else ""
    say(f"{report.path}: heads {', '.join(report.heads)}{proof}")
