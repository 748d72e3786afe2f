"""Names the pictures of a shelf's facings, by a gallery or a head with classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebone.core.matches import UNKNOWN
from edgebone.core.results import ABSTAIN, Results
from edgebone.decode.heads import find_head
from edgebone.gallery.embedding import embed_pictures, embedding_head
from edgebone.gallery.recognise import open_galleries
from edgebone.tasks.classification import CLASSIFICATION

if TYPE_CHECKING:
    from edgebone.gallery import Gallery
    from edgebone.model.model import Model
    from edgebone.vision.shelf import Pictures, Recognise


def recogniser(
    model: Model, gallery: str | Gallery | None, head: str | None = None, score: float = 0.5
) -> tuple[Recognise, frozenset[str]]:
    """Return a function that names pictures of facings, and the names that it knows.

    Args:
        model: A loaded bundle.
        gallery: The products' gallery or its file, for a head with an embedding; None for a head with classes.
        head: The head; None for the only one.
        score: The confidence from which a class is accepted, 0 to 1.

    Raises:
        BundleError: No such head, or none is named and the bundle has none or several.
        GalleryError: The gallery cannot be read, or was made with another network.
    """
    if gallery is None:
        return _by_classes(model, head, score)
    name = embedding_head(model, head)
    opened = open_gallery(model, gallery, name) if isinstance(gallery, str) else gallery

    def recognise(pictures: Pictures) -> list[str]:
        return [matches.label for matches in opened.identify_all(embed_pictures(model, pictures, name))]

    return recognise, frozenset(opened.labels())


def _by_classes(model: Model, head: str | None, score: float) -> tuple[Recognise, frozenset[str]]:
    heads = model.manifest.heads
    advice = "or a head with an embedding, and a gallery"
    name, _ = find_head(heads, CLASSIFICATION, head, "a shelf without a gallery", advice=advice)

    def label_of(results: Results) -> str:
        result = CLASSIFICATION.pick(results, name)
        if result.decision is not None:
            return UNKNOWN if result.decision == ABSTAIN else result.decision
        return result.label if result.confidence[0] >= score else UNKNOWN

    def recognise(pictures: Pictures) -> list[str]:
        return [label_of(results) for results in model(list(pictures), heads=[name])]

    return recognise, frozenset(heads[name].labels or ())


def open_gallery(model: Model, gallery: str, head: str | None) -> Gallery:
    """Load a gallery for a head with an embedding; None for the only one.

    Raises:
        BundleError: No such head, or none is named and the bundle has none or several.
        GalleryError: The gallery cannot be read, or was made with another network.
    """
    name = embedding_head(model, head)
    return open_galleries(model, {name: gallery})[name]
