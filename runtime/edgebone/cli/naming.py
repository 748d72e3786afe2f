"""``--gallery``: names in the place of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgebone.cli.gallery_watch import GalleryWatch

if TYPE_CHECKING:
    from edgebone.core.results import Results
    from edgebone.gallery import Gallery
    from edgebone.model.model import Model


class Naming:
    """Names embeddings by the galleries of the model that made them."""

    def __init__(self, model: Model, paths: dict[str, str]) -> None:
        self._paths = paths
        self._galleries = {model: self.open(model)}
        self._watch = GalleryWatch()

    def open(self, model: Model) -> dict[str, Gallery]:
        """The galleries for a model's embeddings."""
        if not self._paths:
            return {}
        from edgebone.gallery.recognise import open_galleries

        return open_galleries(model, self._paths)

    def take(self, model: Model, galleries: dict[str, Gallery], answering: Model) -> None:
        """Name a further model's embeddings, too; results of those before it are still under way.

        Args:
            model: The model.
            galleries: Its galleries.
            answering: The model that gives results now. Of the cameras' newest results one may be of the model before.
        """
        known = list(self._galleries)
        first = max(0, known.index(answering) - 1) if answering in known else 0
        self._galleries = {**{key: self._galleries[key] for key in known[first:]}, model: galleries}

    def look(self) -> None:
        """Take over galleries whose files have changed: the newest model's, for which they are."""
        self._watch.look(list(list(self._galleries.values())[-1].values()))

    def __call__(self, results: Results, model: Model) -> Results:
        """A model's results with what the galleries know in the place of embeddings."""
        galleries = self._galleries.get(model)
        if not galleries:
            return results
        from edgebone.gallery.recognise import name_embeddings

        return name_embeddings(results, galleries)
