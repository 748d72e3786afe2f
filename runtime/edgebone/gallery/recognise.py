"""Names the embeddings of a stream."""

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
    """Load the galleries for a model's embeddings.

    Args:
        model: The loaded bundle.
        paths: A gallery's file by head; the head "" stands for the only one with an embedding.

    Returns:
        The galleries for :func:`name_embeddings`.

    Raises:
        GalleryError: A gallery cannot be read, or was made with another network, head or views.
        BundleError: No such head, or none is named and the bundle has none or several.
    """
    found = {}
    for name, path in paths.items():
        head = embedding_head(model, name or None)
        gallery = Gallery.load(path)
        gallery.check(space_of(model, head, OWN), about(model, head, OWN))
        found[head] = gallery
        if len(model.manifest.heads) == 1:
            # A single head's results are not in a dict, unless it skips frames.
            found[""] = gallery
    return found


def name_embeddings(results: Results, galleries: Mapping[str, Gallery]) -> Results:
    """Replace embeddings by their galleries' matches; other results are unchanged.

    Args:
        results: A frame's results.
        galleries: By head name; "" for a model's only head. In a stream whose model is swapped, those of the model that
            ``stream.answered_by`` returns.

    Returns:
        The results with :class:`~edgebone.core.matches.Matches` instead of embeddings that have a gallery.

    Raises:
        GalleryError: An embedding's dimension differs from its gallery's, or it comes from a head that replaced the
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
