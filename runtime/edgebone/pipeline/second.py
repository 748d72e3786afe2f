"""A second model, which is asked about crops of a frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import EdgeboneError, TensorError
from edgebone.core.results import Results
from edgebone.gallery.embedding import embedding_head
from edgebone.gallery.recognise import name_embeddings, open_galleries
from edgebone.gallery.watch import GalleryWatch

if TYPE_CHECKING:
    from edgebone.gallery import Gallery
    from edgebone.model.model import Model

# A thousand crops prepared at once would need a gigabyte.
_MOST_BATCH = 32


class Second:
    """A model that looks at crops, with its gallery.

    Args:
        model: A loaded model, which stays open; or a bundle's path, which this opens and closes.
        gallery: The gallery's file for the model's only embedding, whose head alone is then asked; None without one.
        notice: Called with a line at the first failure, and when the gallery has changed.
        options: Those of :func:`edgebone.load`, for a path.

    Attributes:
        model: The model.
        asked: The number of crops that it was asked about.
        failed: The number of them that it did not answer.
        failure: The first failure's message; empty if there was none.

    Raises:
        BundleError: The bundle cannot be opened, or has no embedding or several for the gallery.
        GalleryError: The gallery cannot be read, or was made with another network.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        gallery: str | os.PathLike[str] | None,
        notice: Callable[[str], object],
        options: Mapping[str, Any],
    ) -> None:
        self._load: Callable[[], Model] | None = None
        if isinstance(model, (str, os.PathLike)):
            from edgebone.model.model import load

            self._load = partial(load, model, **options)
        self._gallery = gallery
        self._notice = notice
        self._watch = GalleryWatch(notice)
        self.asked = self.failed = 0
        self.failure = ""
        self.model: Model = model if self._load is None else self._load()  # type: ignore[assignment]
        try:
            self._galleries = self._open_gallery(self.model)
        except BaseException:
            self.close()
            raise

    def _open_gallery(self, model: Model) -> dict[str, Gallery]:
        return {} if self._gallery is None else open_galleries(model, {"": self._gallery})

    def ask(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Results | None]:
        """Return the model's results for pictures, in the largest batches that it takes; None where it failed."""
        size = min(self.model.max_batch, _MOST_BATCH)
        found: list[Results | None] = []
        for start in range(0, len(pictures), size):
            found += self._ask(pictures[start : start + size])
        return found

    def _ask(self, pictures: Sequence[NDArray[np.uint8]]) -> Sequence[Results | None]:
        try:
            found = self._run(pictures)
        except TensorError as error:
            if len(pictures) > 1:
                # A crop too narrow to be resized must not cost the others their answers.
                return [result for picture in pictures for result in self._ask([picture])]
            return self._fail(error, 1)
        except EdgeboneError as error:
            return self._fail(error, len(pictures))
        self.asked += len(pictures)
        return found

    def _run(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Results]:
        if not self._galleries:
            return self.model(list(pictures))
        head = embedding_head(self.model)
        by_head = self.model(list(pictures), heads=[head])
        return [results[head] for results in by_head if isinstance(results, dict)]

    def _fail(self, error: EdgeboneError, pictures: int) -> list[Results | None]:
        if not self.failure:
            self.failure = str(error)
            self._notice(f"{self.model.bundle.path} cannot answer about a crop: {error}; counted from now on")
        self.asked += pictures
        self.failed += pictures
        return [None] * pictures

    def named(self, results: Results) -> Results:
        """Return results with the gallery's names instead of the embedding.

        Raises:
            GalleryError: The vector does not fit the gallery.
        """
        if not self._galleries or isinstance(results, dict):
            return results
        head = embedding_head(self.model)
        named = name_embeddings({head: results}, self._galleries)
        return named[head] if isinstance(named, dict) else named

    def follow_gallery(self, at_once: bool = False) -> bool:
        """Reload the gallery if its file has changed; return whether it was."""
        return self._watch.look([*self._galleries.values()], at_once)

    def load_again(self, check: Callable[[Model], object]) -> bool:
        """Reload the bundle and its gallery, and free the previous model; return whether there was a path to load.

        Args:
            check: Raises EdgeboneError for a model that cannot replace the previous one.

        Raises:
            EdgeboneError: They cannot be used; the previous ones stay.
        """
        if self._load is None:
            return False
        model = self._load()
        try:
            check(model)
            galleries = self._open_gallery(model)
        except BaseException:
            model.close()
            raise
        self.model.close()
        self.model, self._galleries = model, galleries
        return True

    def close(self) -> None:
        """Free the model that was opened by its path."""
        if self._load is not None:
            self.model.close()
