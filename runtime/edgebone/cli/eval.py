"""``edgebone eval``: accuracy on labelled pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from edgebone.cli import options


def eval_command(
    bundle: options.Bundle,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="A CSV with file,class_index; or a folder with a subfolder a class (label, index).",
        ),
    ],
    engine: options.Engine = "auto",
    precision: options.Precision = "fp32",
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Count top-1 and top-5 on labelled pictures, through the path that serves frames."""
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from edgebone.evaluate import classifier_head, evaluate, read_labels
    from edgebone.model import load

    with load(bundle, engine=engine, precision=precision, threads=threads) as model:
        _, head = classifier_head(model.manifest.heads)
        pictures = read_labels(data, head.labels)
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
            task = bar.add_task("pictures", total=len(pictures))
            accuracy = evaluate(model, pictures, lambda done: bar.update(task, completed=done))
        engine_used = f"{model.engine.name} {model.engine.precision}"
    if json:
        record = {
            "top1": accuracy.top1,
            "top5": accuracy.top5,
            "n": accuracy.n,
            "engine": model.engine.name,
            "precision": model.engine.precision,
        }
        sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
    else:
        sys.stdout.write(
            f"top-1 {accuracy.top1:.2f} %, top-5 {accuracy.top5:.2f} % of {accuracy.n} pictures ({engine_used})\n"
        )
