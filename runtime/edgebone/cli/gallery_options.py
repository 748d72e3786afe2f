"""What the verbs of ``edgebone gallery`` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebone.cli.options import share
from edgebone.cli.output import note

if TYPE_CHECKING:
    from edgebone.gallery import Gallery

File = Annotated[str, typer.Argument(metavar="GALLERY", help="The gallery's file, such as products.gallery.")]
Model = Annotated[
    str, typer.Option("--model", metavar="BUNDLE", help="A bundle whose output is an embedding: its directory or zip.")
]
Head = Annotated[str | None, typer.Option("--head", help="The head that gives the embedding, where there are several.")]
Rate = Annotated[
    float | None,
    typer.Option(
        "--false-accept-rate",
        callback=share,
        help="How many unknown pictures in one may be taken for known. If not given: as before; else 0.01, of "
        "signatures 0.001.",
    ),
]


def rate_of(gallery: Gallery, given: float | None) -> float:
    """The rate that was asked for now, or before, or is usual."""
    from edgebone.gallery.gallery import FALSE_ACCEPT_RATE
    from edgebone.gallery.signature import FALSE_MATCH_RATE
    from edgebone.gallery.views import SIGNATURE

    if given is not None:
        return given
    if gallery.calibration is not None:
        return gallery.calibration.false_accept_rate
    return FALSE_MATCH_RATE if gallery.views == SIGNATURE else FALSE_ACCEPT_RATE


def kind_of(path: str) -> Gallery:
    """An empty gallery of the kind that a file holds, for what needs no vectors: they may be many.

    Raises:
        GalleryError: The file is missing, cut off, no gallery, or of another version.
    """
    from edgebone.gallery import Gallery
    from edgebone.gallery.file import read_header

    found = read_header(Path(path))
    kind = Gallery(found.space, found.dimension, found.storage, found.about, found.views)
    kind.path = Path(path)
    return kind


def say_unreadable(lines: Sequence[str], total: int) -> None:
    """List the pictures that could not be read; fail where none could.

    Raises:
        SourceError: None of them could be read.
    """
    from edgebone.core.errors import SourceError

    for line in lines:
        note(f"edgebone: left out: {line}")
    if len(lines) == total:
        raise SourceError(f"none of {total} pictures could be read")
