"""Names in the place of embeddings, by galleries."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.gallery.recognise import name_embeddings, open_galleries
from edgebone.gallery.watch import GalleryWatch
from edgebone.pipeline.step import Step

if TYPE_CHECKING:
    from edgebone.gallery import Gallery
    from edgebone.model.model import Model


class Naming(Step):
    """Names embeddings by the galleries of the model that made them.

    A gallery whose file changes is taken over while the pipeline runs.

    Args:
        galleries: A gallery's file by head; the only one's under an empty name.
        notice: Called with a line where a gallery has changed.
    """

    def __init__(
        self, galleries: Mapping[str, str | os.PathLike[str]], notice: Callable[[str], object] | None = None
    ) -> None:
        self._paths = {head: os.fspath(path) for head, path in galleries.items()}
        # By the model that they were opened for: results of one that was swapped may still be under way.
        self._galleries: weakref.WeakKeyDictionary[Model, dict[str, Gallery]] = weakref.WeakKeyDictionary()
        self._watch = GalleryWatch(notice)

    def prepare(self, model: Model) -> None:
        """Open the galleries for a model's embeddings.

        Raises:
            GalleryError: One cannot be read, or was made with another network.
            BundleError: The model has no such head, or several and none is named.
        """
        self._galleries[model] = open_galleries(model, self._paths)

    def refresh(self, model: Model) -> None:
        """Take over galleries whose files have changed; they are for the newest model."""
        self._watch.look([*self._galleries.get(model, {}).values()])

    def look(self, frame: Frame, results: Results, model: Model) -> tuple[Results, Sequence[Event]]:
        """The results with what the galleries know in the place of embeddings."""
        galleries = self._galleries.get(model)
        return (name_embeddings(results, galleries) if galleries else results), ()
