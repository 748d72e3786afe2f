"""``edgebone eval``: accuracy on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone.cli import options
from edgebone.cli.output import note, say, say_json

if TYPE_CHECKING:
    from edgebone.core.errors import SourceError


def eval_command(
    bundle: options.Bundle,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Classes: a CSV with file,class_index, or a folder with one subfolder per class (label, index). "
            "Boxes: COCO's instances.json. Areas: a folder of masks (PNGs of class ids, 255 is not counted).",
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option("--images", help="The pictures of boxes and areas. Default: images beside --data."),
    ] = None,
    head: Annotated[str | None, typer.Option("--head", help="The head to evaluate, if there are several.")] = None,
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Compute top-1 and top-5, COCO's mAP or mIoU on labelled pictures, through the path that serves frames.

    Unreadable pictures are listed and not counted; the figures cover the others, and the exit code is 4.
    """
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from edgebone.cli.random_weights import say_if_random
    from edgebone.core.bundle import open_bundle
    from edgebone.core.errors import SourceError
    from edgebone.core.writing import as_utf8
    from edgebone.evaluate.heads import choose_head, settings_of
    from edgebone.model.model import load

    with open_bundle(bundle) as opened:
        heads = opened.manifest.heads
    name, evaluation = choose_head(heads, head)
    say_if_random(bundle)
    if images is not None and not evaluation.has_folder:
        raise typer.BadParameter("--images is for boxes and areas; a classifier's CSV names its pictures")
    truth = evaluation.read(name, heads[name], data, images)
    truth.check()
    total = len(truth.pictures)
    unreadable: list[str] = []

    def left_out(error: SourceError) -> None:
        note(f"edgebone: left out: {error}")
        unreadable.append(as_utf8(str(error)))

    with load(bundle, engine=engine, precision=precision, threads=threads, **settings_of({name: heads[name]})) as model:
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
            task = bar.add_task("pictures", total=total)
            found = truth.count(model, lambda done: bar.update(task, completed=done), left_out)
    if json:
        by = {"engine": model.engine.name, "precision": model.engine.precision}
        say_json(msgspec.json.encode({**found.record, "unreadable": unreadable, **by}))
    else:
        say(f"{found.text} ({model.engine.name} {model.engine.precision})")
    if unreadable:
        raise SourceError(f"{len(unreadable)} of {total} pictures could not be read; the figures cover the others")
