"""``edgebone eval``: accuracy on labelled pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgebone.cli import options
from edgebone.cli.output import note, say, say_json

if TYPE_CHECKING:
    from edgebone.core.errors import SourceError
    from edgebone.core.manifest import Head
    from edgebone.evaluate.answers import LeftOut
    from edgebone.model.model import Model

    Run = Callable[[Model, Callable[[int], None], LeftOut], tuple[dict[str, Any], str]]


def eval_command(
    bundle: options.Bundle,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Classes: a CSV with file,class_index, or a folder with a subfolder a class (label, index). "
            "Boxes: COCO's instances.json. Areas: a folder of masks (PNGs of class ids, 255 is not counted).",
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option("--images", help="The pictures of boxes and areas; images beside --data if not given."),
    ] = None,
    head: Annotated[str | None, typer.Option("--head", help="The head to evaluate, where there are several.")] = None,
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """Count top-1 and top-5, COCO's mAP or mIoU on labelled pictures, through the path that serves frames.

    Pictures that cannot be read are named and not counted; the figure is of the others, and the exit code 4.
    """
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from edgebone.cli.random_weights import say_if_random
    from edgebone.core.bundle import open_bundle
    from edgebone.core.errors import SourceError
    from edgebone.core.writing import as_utf8
    from edgebone.evaluate.detection import LEAST_SCORE
    from edgebone.evaluate.heads import choose_head
    from edgebone.model.model import load

    with open_bundle(bundle) as opened:
        kind, name, chosen = choose_head(opened.manifest.heads, head)
    say_if_random(bundle)
    score = LEAST_SCORE if kind == "detection" else None
    total, run = _KINDS[kind](name, chosen, data, images)
    unreadable: list[str] = []

    def left_out(error: SourceError) -> None:
        note(f"edgebone: left out: {error}")
        unreadable.append(as_utf8(str(error)))

    with load(bundle, engine=engine, precision=precision, threads=threads, score=score) as model:
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
            task = bar.add_task("pictures", total=total)
            record, text = run(model, lambda done: bar.update(task, completed=done), left_out)
    if json:
        record |= {"unreadable": unreadable, "engine": model.engine.name, "precision": model.engine.precision}
        say_json(msgspec.json.encode(record))
    else:
        say(f"{text} ({model.engine.name} {model.engine.precision})")
    if unreadable:
        raise SourceError(f"{len(unreadable)} of {total} pictures could not be read; the figure is of the others")


def _classification(name: str, head: Head, data: Path, images: Path | None) -> tuple[int, Run]:
    from edgebone.evaluate.classification import evaluate_classifier, read_labels

    if images is not None:
        raise typer.BadParameter("--images goes with boxes and areas; a classifier's CSV names its pictures")
    pictures = read_labels(data, head.labels)

    def run(model: Model, progress: Callable[[int], None], left_out: LeftOut) -> tuple[dict[str, Any], str]:
        found = evaluate_classifier(model, name, pictures, progress, left_out)
        text = f"top-1 {found.top1:.2f} %, top-5 {found.top5:.2f} % of {found.n} pictures"
        return {"top1": found.top1, "top5": found.top5, "n": found.n}, text

    return len(pictures), run


def _detection(name: str, head: Head, data: Path, images: Path | None) -> tuple[int, Run]:
    from edgebone.evaluate.detection import evaluate_detector, read_instances

    instances = read_instances(data, images, head)
    instances.check_sizes()
    n = len(instances.paths)

    def run(model: Model, progress: Callable[[int], None], left_out: LeftOut) -> tuple[dict[str, Any], str]:
        lost = 0

        def count(error: SourceError) -> None:
            nonlocal lost
            lost += 1
            left_out(error)

        found = evaluate_detector(model, name, instances, progress, count)
        text = ", ".join(f"{key} {found[key]:.3f}" for key in ("AP", "AP50", "AP75"))
        return {**found, "n": n - lost}, f"{text} on {n - lost} pictures"

    return n, run


def _segmentation(name: str, head: Head, data: Path, images: Path | None) -> tuple[int, Run]:
    from edgebone.evaluate.segmentation import evaluate_segmentation, read_masks

    pictures = read_masks(data, images)

    def run(model: Model, progress: Callable[[int], None], left_out: LeftOut) -> tuple[dict[str, Any], str]:
        found = evaluate_segmentation(model, name, head.labels, pictures, progress, left_out)
        record = {"mIoU": found.miou, "IoU": found.iou, "pixel_accuracy": found.pixel_accuracy, "n": found.n}
        return record, f"mIoU {found.miou:.3f}, pixel accuracy {found.pixel_accuracy:.3f} on {found.n} pictures"

    return len(pictures), run


_KINDS = {"classification": _classification, "detection": _detection, "segmentation": _segmentation}
