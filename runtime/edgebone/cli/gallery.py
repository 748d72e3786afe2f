"""``edgebone gallery``: recognition by enrolled pictures."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgebone.cli import gallery_options, options
from edgebone.cli.gallery_enrol import enrol
from edgebone.cli.gallery_options import kind_of, rate_of, say_unreadable
from edgebone.cli.output import say, say_json
from edgebone.cli.rows import print_rows

gallery_command = typer.Typer(
    help="Recognise pictures by the most similar enrolled ones: enrol, search, remove, list, calibrate.",
    no_args_is_help=True,
)
gallery_command.command("enrol")(enrol)


@gallery_command.command("search")
def search(
    gallery: gallery_options.File,
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURE...", help="Pictures, folders, globs.")],
    model: gallery_options.Model,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="The number of entries that are listed and vote.")] = 5,
    head: gallery_options.Head = None,
    engine: options.Engine = "auto",
    precision: options.Precision = None,
    json: options.Json = False,
) -> None:
    """Identify pictures: a label of the gallery, or unknown. For streams use edgebone run."""
    import msgspec

    from edgebone.core.writing import as_utf8
    from edgebone.gallery import Gallery
    from edgebone.gallery.embedding import about, space_of
    from edgebone.gallery.enrolment import embed_samples, unlabelled
    from edgebone.model.model import load

    opened = Gallery.load(gallery)
    samples = unlabelled(pictures)
    with load(model, engine=engine, precision=precision) as loaded:
        opened.check(space_of(loaded, head, opened.views), about(loaded, head, opened.views))
        done = embed_samples(loaded, opened, samples, head, keep=False)
    for sample, matches in zip(done.samples, opened.identify_all(done.vectors[:, 0], top_k), strict=True):
        name = as_utf8(sample.source)
        if json:
            say_json(msgspec.json.encode({"source": name, **matches.to_dict()}))
        else:
            say(f"{name}: {matches}")
    sys.stdout.flush()
    say_unreadable(done.unreadable, len(samples))


@gallery_command.command("remove")
def remove(
    gallery: gallery_options.File,
    label: Annotated[str | None, typer.Option("--label", help="All entries of this label.")] = None,
    entry: Annotated[list[int] | None, typer.Option("--id", help="This entry; repeatable.")] = None,
) -> None:
    """Remove entries; the threshold stays until the gallery is calibrated again."""
    from edgebone.gallery import changing

    if (label is None) == (not entry):
        raise typer.BadParameter("say what to remove: --label NAME, or --id N")
    with changing(gallery) as changed:
        gone = changed.remove(ids=entry or None, label=label)
    say(f"{gallery}: {gone} entries removed, {len(changed)} of {len(changed.labels())} labels are left")


@gallery_command.command("list")
def list_(
    gallery: gallery_options.File,
    entries: Annotated[bool, typer.Option("--entries", help="List each entry with its id and source.")] = False,
    json: options.Json = False,
) -> None:
    """Show a gallery's content."""
    import msgspec

    from edgebone.gallery import Gallery

    opened = Gallery.load(gallery)
    each = [{"id": item.id, "label": item.label, "source": item.source} for item in opened.entries()] if entries else []
    if json:
        record = {
            "entries": len(opened),
            "labels": opened.labels(),
            "made_with": opened.about,
            "space": opened.space,
            "dimension": opened.dimension,
            "storage": opened.storage,
            "calibration": opened.calibration,
            **({"each": each} if entries else {}),
        }
        say_json(msgspec.json.encode(record))
        return
    text = f"{len(opened)} entries of {len(opened.labels())} labels, {opened.dimension} numbers in {opened.storage}"
    print_rows(
        [
            ("gallery", f"{gallery}: {text}"),
            ("made with", f"{opened.about} ({opened.space[:12]}…)"),
            ("calibration", str(opened.calibration or "none: everything gets the most similar entry's label")),
            *((f"entry {item['id']}", f"{item['label']}  {item['source']}") for item in each),
            *(() if entries else (("label", f"{label}: {count}") for label, count in opened.labels().items())),
        ]
    )


@gallery_command.command("calibrate")
def calibrate(
    gallery: gallery_options.File,
    false_accept_rate: gallery_options.Rate = None,
    strangers: Annotated[
        str | None,
        typer.Option(
            "--strangers", help="Pictures that are not in the gallery. Default: its own labels, each left out in turn."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="BUNDLE", help="For --strangers: the bundle.")] = None,
    head: gallery_options.Head = None,
) -> None:
    """Find the similarity threshold for known pictures, and store it in the gallery."""
    from edgebone.gallery import changing
    from edgebone.gallery.embedding import about, space_of
    from edgebone.gallery.enrolment import embed_samples, unlabelled
    from edgebone.model.model import load

    if (strangers is None) != (model is None):
        raise typer.BadParameter("--strangers and --model must be given together")
    vectors = None
    if strangers is not None and model is not None:
        opened, samples = kind_of(gallery), unlabelled([strangers])
        with load(model) as loaded:
            opened.check(space_of(loaded, head, opened.views), about(loaded, head, opened.views))
            done = embed_samples(loaded, opened, samples, head, keep=False)
        say_unreadable(done.unreadable, len(samples))
        vectors = done.vectors[:, 0]
    with changing(gallery) as changed:
        found = changed.calibrate(rate_of(changed, false_accept_rate), vectors)
    say(f"{gallery}: {found}")
