"""``edgebone label``: a teacher's results as training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgebone.cli import options
from edgebone.cli.output import note, say, say_json

_SHOWN = 3


def label_command(
    bundle: options.Bundle,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A picture, a folder, a video or a camera.")],
    output: Annotated[Path, typer.Option("-o", "--out", help="The folder to write.")],
    head: Annotated[str | None, typer.Option("--head", help="The head that labels, if there are several.")] = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Use every N-th frame.")] = 1,
    skip: Annotated[
        int, typer.Option("--skip", min=0, help="Skip this many frames at the start, to test on later ones.")
    ] = 0,
    pictures: Annotated[int | None, typer.Option("--pictures", min=1, help="Stop after this many pictures.")] = None,
    score: Annotated[
        float | None, typer.Option("--score", callback=options.share, help="Score threshold for boxes.")
    ] = None,
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Write a folder of pictures labelled by a bundle, for `edgebone fit` and `edgebone eval`.

    A large network's areas, boxes or classes become training data for a light head on another backbone.
    """
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from edgebone.core.writing import as_utf8
    from edgebone.labelling import label
    from edgebone.model.model import load

    with load(bundle, engine=engine, precision=precision, threads=threads, score=score) as model:
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
            task = bar.add_task("pictures", total=None)
            report = label(
                model, source, output, head=head, every=every, skip=skip, most=pictures,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )  # fmt: skip
        by = f"{model.engine.name} {model.engine.precision}"
    if json:
        report.unreadable = {as_utf8(name): as_utf8(why) for name, why in report.unreadable.items()}
        record = {"path": as_utf8(str(output)), "by": by, "report": report}
        say_json(msgspec.json.encode(record))
        return
    for why in list(report.unreadable.values())[:_SHOWN]:
        note(f"left out: {why}")
    left = [f"{len(report.unreadable)} could not be read"] if report.unreadable else []
    left += [f"{report.damaged} frames were damaged"] if report.damaged else []
    left += [f"{report.undecided} undecided"] if report.undecided else []
    found = ", ".join(f"{name} in {count}" for name, count in report.found.items()) or "nothing found"
    say(
        f"{output}: {report.pictures} pictures with {report.kind} by {report.head} ({by}): {found}"
        f"{''.join(f'; {text}' for text in left)}"
    )
