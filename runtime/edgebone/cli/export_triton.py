"""``edgebone export-triton``: a model repository for NVIDIA Triton."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgebone.cli import options
from edgebone.cli.output import say, say_json
from edgebone.engines.table import ROWS

_BACKENDS = sorted(row.name for row in ROWS if row.triton)


def export_triton_command(
    bundle: options.Bundle,
    repository: Annotated[Path, typer.Option("-o", "--out", metavar="REPO", help="The model repository's folder.")],
    name: Annotated[str | None, typer.Option("--name", help="The model's name. Default: the bundle's.")] = None,
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="One version each, from 1. Default: fp32.")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            help=f"{', '.join(_BACKENDS)}.",
            autocompletion=lambda incomplete: options.matching(incomplete, _BACKENDS),
        ),
    ] = "onnxruntime",
    max_batch: Annotated[
        int | None, typer.Option("--max-batch", min=1, help="The largest batch that Triton gathers.")
    ] = None,
    instances: Annotated[int, typer.Option("--instances", min=1, help="The number of parallel copies.")] = 1,
    delay_us: Annotated[
        int, typer.Option("--delay-us", min=0, help="How long Triton waits to fill a batch, in microseconds.")
    ] = 1000,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name.")] = False,
    json: options.Json = False,
) -> None:
    """Write a bundle into an NVIDIA Triton model repository: config.pbtxt, versions, labels and a warm-up."""
    from edgebone.triton.repository import export_triton

    made = export_triton(
        bundle,
        repository,
        name=name,
        variants=variant or [],
        backend=backend,
        max_batch=max_batch,
        instances=instances,
        delay_us=delay_us,
        overwrite=force,
    )
    if json:
        import msgspec

        record = {"path": str(made.path), "versions": made.versions}
        say_json(msgspec.json.encode(record))
        return
    versions = ", ".join(f"{number}: {own}" for number, own in made.versions.items())
    say(f"{made.path}: versions {versions}; serve it with: tritonserver --model-repository={repository}")
