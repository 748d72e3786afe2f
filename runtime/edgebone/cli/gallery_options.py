"""Shared options of ``edgebone gallery``."""

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
Head = Annotated[str | None, typer.Option("--head", help="The head that computes the embedding, if there are several.")]
Rate = Annotated[
    float | None,
    typer.Option(
        "--false-accept-rate",
        callback=share,
        help="The share of unknown pictures that may be accepted as known. Default: as before; else 0.01, for "
        "signatures 0.001.",
    ),
]


def rate_of(gallery: Gallery, given: float | None) -> float:
    """Return the requested rate, the previous one, or the default."""
    from edgebone.gallery.gallery import FALSE_ACCEPT_RATE
    from edgebone.gallery.signature import FALSE_MATCH_RATE
    from edgebone.gallery.views import SIGNATURE

    if given is not None:
        return given
    if gallery.calibration is not None:
        return gallery.calibration.false_accept_rate
    return FALSE_MATCH_RATE if gallery.views == SIGNATURE else FALSE_ACCEPT_RATE


def kind_of(path: str) -> Gallery:
    """Return an empty gallery of a file's kind, to avoid loading many vectors.

    Raises:
        GalleryError: The file is missing, truncated, not a gallery, or of another version.
    """
    from edgebone.gallery import Gallery
    from edgebone.gallery.file import read_header

    found = read_header(Path(path))
    kind = Gallery(found.space, found.dimension, found.storage, found.about, found.views)
    kind.path = Path(path)
    return kind


def say_unreadable(lines: Sequence[str], total: int) -> None:
    """List unreadable pictures; raise if all are.

    Raises:
        SourceError: None could be read.
    """
    from edgebone.core.errors import SourceError

    for line in lines:
        note(f"edgebone: left out: {line}")
    if len(lines) == total:
        raise SourceError(f"none of {total} pictures could be read")
