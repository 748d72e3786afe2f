"""Counts the products on a shelf frame by frame: stock, low stock and misplaced products."""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import EdgeboneError
from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.near import did_you_mean
from edgebone.core.results import Results
from edgebone.decode.heads import find_head
from edgebone.gallery.watch import GalleryWatch
from edgebone.pipeline.recogniser import open_gallery, recogniser
from edgebone.pipeline.step import Step
from edgebone.tasks.boxed import BOXED, boxes_of
from edgebone.vision.shelf import Pictures, Recognise, Shelf
from edgebone.vision.shelf_drawing import draw_shelf
from edgebone.vision.shelf_file import ShelfFile, read_shelf
from edgebone.vision.shelf_found import FoundShelf
from edgebone.vision.shelf_stock import Stock, Told

if TYPE_CHECKING:
    from edgebone.gallery import Gallery
    from edgebone.model.model import Model

# More than fit into a panel.
_EVENTS_SHOWN = 20

_log = logging.getLogger("edgebone.pipeline")


class Stocktaking(Step):
    """Counts the products of a shelf's zones; a frame's result is its :class:`~edgebone.vision.shelf_stock.Stock`.

    The model runs on facings that have changed, never on a whole frame. With ``then`` the pipeline's model is a
    detector that finds the facings, and the second one names those that have changed. A gallery is reloaded while the
    pipeline runs if its file changes.

    Args:
        file: The file of the shelf.
        gallery: The products' gallery, for a head with an embedding; None for a head with classes.
        head: The head that recognises the products; None for the only one.
        score: Without a gallery, the confidence from which a class is accepted, 0 to 1.
        one_look: One look at each facing is enough, for separate photographs.
        then: The model that names the boxes of the pipeline's own model, which stays open; None if that one names the
            zones' rows and columns.
        notice: Called with a line when the gallery has changed; None logs it.

    Attributes:
        shelf: The shelf, with counts of looks.
        stock: The stock in the latest frame; None before the first.

    Raises:
        ShelfError: The file is missing or invalid.
    """

    files = "shelf"

    def __init__(
        self,
        file: str | os.PathLike[str],
        gallery: str | os.PathLike[str] | None = None,
        head: str | None = None,
        *,
        score: float = 0.5,
        one_look: bool = False,
        then: Model | None = None,
        notice: Callable[[str], object] | None = None,
    ) -> None:
        self._path = Path(file)
        self._gallery = None if gallery is None else os.fspath(gallery)
        self._head = head
        self._score = score
        self._one_look = one_look
        self._notice = notice or _log.warning
        self._watch = GalleryWatch(self._notice)
        # Keyed by the model that they were opened for, which may not replace the previous one.
        self._galleries: weakref.WeakKeyDictionary[Model, Gallery | None] = weakref.WeakKeyDictionary()
        self._recognise: tuple[Model, Recognise] | None = None
        self._source = ""
        self._shown: deque[Told] = deque(maxlen=_EVENTS_SHOWN)
        self._then = then
        self.looks_itself = then is None
        self.shelf = (Shelf if then is None else FoundShelf)(self._read(), self._name)
        self.stock: Stock | None = None

    def prepare(self, model: Model) -> None:
        """See :meth:`Step.prepare`.

        Raises:
            BundleError: The model has no such head, or several if none is named; or the detector has no boxes.
            GalleryError: The gallery cannot be read, or was made with another network.
            EdgeboneError: The shelf expects a product that neither of them knows.
        """
        if self._then is not None:
            finder, _ = find_head(model.manifest.heads, BOXED, None, "a shelf whose facings a detector finds")
            if model.head_every.get(finder, 1) != 1:
                raise EdgeboneError(f"a shelf needs boxes on every frame; let head {finder} run on all")
            model = self._then
        gallery = None if self._gallery is None else open_gallery(model, self._gallery, self._head)
        self._check_known(self.shelf.file, model, gallery)
        self._galleries[model] = gallery

    def refresh(self, model: Model) -> None:
        """Reload a gallery whose file has changed."""
        self._follow_gallery(self._then or model, at_once=False)

    def load_again(self, model: Model) -> None:
        """Reload the gallery and the shelf's file; unchanged zones keep their state.

        Raises:
            EdgeboneError: The file cannot be used; the shelf is unchanged.
        """
        model = self._then or model
        self._follow_gallery(model, at_once=True)
        file = self._read()
        self._check_known(file, model, self._galleries.get(model))
        self.shelf.replace(file)

    def look(self, frame: Frame, results: Results, model: Model) -> tuple[Results, Sequence[Event]]:
        """Return the shelf's stock as the result, and the changes as events.

        Raises:
            ShelfError: A zone is outside the picture.
            EdgeboneError: The frame is from another source than the previous ones.
        """
        self._source = self._source or frame.source
        if frame.source != self._source:
            raise EdgeboneError(
                f"a shelf is watched through one camera, {self._source}: have a pipeline with a step of its own look "
                f"at {frame.source}"
            )
        namer = self._then or model
        if self._recognise is None or self._recognise[0] is not namer:
            self._recognise = namer, recogniser(namer, self._galleries.get(namer), self._head, self._score)[0]
            self.shelf.look_again()
        if isinstance(self.shelf, FoundShelf):
            self.stock, events = self.shelf.update_found(frame, _boxes(results))
        else:
            self.stock, events = self.shelf.update(frame)
        self._shown += events
        return self.stock, events

    def draw(self, image: NDArray[np.uint8], frame: Frame) -> NDArray[np.uint8]:
        """Draw the facings and a panel with the stock and the latest events."""
        if self.stock is None:
            return image
        return draw_shelf(image, self.shelf.file, self.stock, self._shown, frame.position_s)

    def summary(self) -> list[str]:
        """Return a line for each zone with its final stock."""
        return [] if self.stock is None else self.stock.lines()

    def _read(self) -> ShelfFile:
        file = read_shelf(self._path, grid=self._then is None)
        return file.with_one_look() if self._one_look else file

    def _name(self, pictures: Pictures) -> Sequence[str]:
        assert self._recognise is not None
        return self._recognise[1](pictures)

    def _check_known(self, file: ShelfFile, model: Model, gallery: Gallery | None) -> None:
        known = recogniser(model, gallery, self._head, self._score)[1]
        strange = sorted(file.products - known)
        if strange:
            raise EdgeboneError(
                f"{self._path} expects {strange[0]}, which {self._gallery or model.bundle.path} does not know; "
                f"{did_you_mean(strange[0], known)}it knows {', '.join(sorted(known)[:10])}"
                f"{', …' if len(known) > 10 else ''}"
            )

    def _follow_gallery(self, model: Model, at_once: bool) -> None:
        gallery = self._galleries.get(model)
        if gallery is None or not self._watch.look([gallery], at_once):
            return
        self.shelf.look_again()
        gone = sorted(self.shelf.file.products - gallery.labels().keys())
        if gone:
            self._notice(f"the shelf expects {gone[0]}, which {gallery.path} no longer knows")


def _boxes(results: Results) -> NDArray[np.float32]:
    """Return the boxes of a frame's results, (n, 4); none where the detector skipped the frame."""
    found = map(boxes_of, results.values() if isinstance(results, dict) else [results])
    return next((boxes.xyxy for boxes in found if boxes is not None), np.zeros((0, 4), np.float32))
