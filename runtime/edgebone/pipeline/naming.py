"""Replaces embeddings by names from galleries."""

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

    A gallery is reloaded while the pipeline runs if its file changes.

    Args:
        galleries: A gallery's file by head; an empty name stands for the only one.
        notice: Called with a line when a gallery has changed.
    """

    def __init__(
        self, galleries: Mapping[str, str | os.PathLike[str]], notice: Callable[[str], object] | None = None
    ) -> None:
        self._paths = {head: os.fspath(path) for head, path in galleries.items()}
        # Keyed by the model that they were opened for: results of a replaced model may still be in flight.
        self._galleries: weakref.WeakKeyDictionary[Model, dict[str, Gallery]] = weakref.WeakKeyDictionary()
        self._watch = GalleryWatch(notice)

    def prepare(self, model: Model) -> None:
        """Open the galleries for a model's embeddings.

        Raises:
            GalleryError: One cannot be read, or was made with another network.
            BundleError: The model has no such head, or several if none is named.
        """
        self._galleries[model] = open_galleries(model, self._paths)

    def refresh(self, model: Model) -> None:
        """Reload galleries whose files have changed; they are for the newest model."""
        self._watch.look([*self._galleries.get(model, {}).values()])

    def look(self, frame: Frame, results: Results, model: Model) -> tuple[Results, Sequence[Event]]:
        """Return the results with matches instead of embeddings."""
        galleries = self._galleries.get(model)
        return (name_embeddings(results, galleries) if galleries else results), ()
