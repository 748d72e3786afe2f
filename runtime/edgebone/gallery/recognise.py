"""Puts names to the embeddings of a stream."""

from __future__ import annotations

import os
from collections.abc import Mapping

from edgebone.core.matches import Matches
from edgebone.core.results import HeadResults, Result, Results
from edgebone.gallery.embedding import about, embedding_head, space_of, space_of_head
from edgebone.gallery.gallery import Gallery
from edgebone.gallery.views import OWN
from edgebone.model.model import Model
from edgebone.tasks.embedding import EMBEDDING


def open_galleries(model: Model, paths: Mapping[str, str | os.PathLike[str]]) -> dict[str, Gallery]:
    """Load the galleries that a model's embeddings are looked up in.

    Args:
        model: The loaded bundle.
        paths: A gallery's file by the head that it is for; the head "" is the only one with an embedding.

    Returns:
        What :func:`name_embeddings` takes.

    Raises:
        GalleryError: A gallery cannot be read, or was made with another network, head or views.
        BundleError: There is no such head, or none or several where none is named.
    """
    found = {}
    for name, path in paths.items():
        head = embedding_head(model, name or None)
        gallery = Gallery.load(path)
        gallery.check(space_of(model, head, OWN), about(model, head, OWN))
        found[head] = gallery
        if len(model.manifest.heads) == 1:
            # Its results come bare, unless it leaves frames out.
            found[""] = gallery
    return found


def name_embeddings(results: Results, galleries: Mapping[str, Gallery]) -> Results:
    """Replace embeddings by what galleries know of them; everything else stays as it is.

    Args:
        results: A frame's.
        galleries: By head name; under "" that of a model's only head. In a stream whose model is swapped, those of the
            model that ``stream.answered_by`` names.

    Returns:
        The same with :class:`~edgebone.core.matches.Matches` in the place of embeddings that have a gallery.

    Raises:
        GalleryError: An embedding is of another dimension than its gallery, or of a head that took the place of the
            gallery's own; open the galleries again after a swap.
    """
    if isinstance(results, dict):
        return HeadResults((name, _named(result, galleries.get(name))) for name, result in results.items())
    return _named(results, galleries.get(""))


def _named(result: Result, gallery: Gallery | None) -> Result | Matches:
    found = EMBEDDING.of(result)
    if gallery is None or found is None:
        return result
    own = found.head
    if own is not None:
        made_on = own.backbone
        space = space_of_head(own, made_on.preprocess, gallery.views)
        gallery.check(space, f"{made_on.name} {made_on.weights}, head {own.name}")
    return gallery.identify(found.vector)
