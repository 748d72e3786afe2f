"""Watches a shelf whose facings a detector finds."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.boxes import iou_matrix
from edgebone.core.frame import Frame
from edgebone.vision.cutting import rectangles
from edgebone.vision.shelf import Place, Recognise, Shelf
from edgebone.vision.shelf_file import EMPTY, Box, ShelfFile, ShelfZone, facings_of
from edgebone.vision.shelf_stock import Stock, Told

# A box is an earlier facing if it overlaps it this much; while it does so well, the facing keeps its place, so that a
# detector's unrest costs no inference.
_SAME_IOU = 0.3
_STILL_IOU = 0.7


class FoundShelf(Shelf):
    """A :class:`Shelf` whose facings are the boxes that a detector finds in its zones.

    A box belongs to the first zone that has its middle. A facing without a box counts as empty, and is gone when enough
    looks agree; so a product that the detector misses once stays. Empty places are not counted: nobody knows how many
    there are. A facing's row is that of the zone's rows that has its middle, its column the place from the left.

    Args:
        file: The zones.
        recognise: Names pictures of facings.
    """

    def __init__(self, file: ShelfFile, recognise: Recognise) -> None:
        self._boxes: NDArray[Any] = np.zeros((0, 4))
        self._looked = 0
        self._visible: set[int] = set()
        super().__init__(file, recognise)

    def update_found(self, frame: Frame, xyxy: NDArray[Any]) -> tuple[Stock, list[Told]]:
        """Process a frame and the boxes found in it: (n, 4), in pixels.

        Returns:
            The stock and the changes.

        Raises:
            ShelfError: A zone is outside the picture.
        """
        self._boxes = xyxy
        return self.update(frame)

    def replace(self, file: ShelfFile) -> None:
        """See :meth:`Shelf.replace`; every zone is counted again after enough looks."""
        super().replace(file)
        self._looked = 0

    def _grid(self, file: ShelfFile, zone: ShelfZone) -> list[Place]:
        return []

    def _sizes(self, size_hw: tuple[int, int]) -> list[Box]:
        # Of boxes one alone may be wrong; it would decide how far the camera may move.
        sizes = sorted(super()._sizes(size_hw), key=lambda box: min(box[2] - box[0], box[3] - box[1]))
        return sizes[len(sizes) // 2 :] or [self._area(zone, size_hw) for zone in self.file.zones]

    def _area(self, zone: ShelfZone, size_hw: tuple[int, int]) -> Box:
        return facings_of(self.file, msgspec.structs.replace(zone, rows=1, columns=1), size_hw)[0]

    def _not_settled(self, zone: ShelfZone) -> str | None:
        if self._looked >= self.file.agree:
            return None
        return f"{self._looked} look{'' if self._looked == 1 else 's'} so far, {self.file.agree} must agree"

    def _find_places(self, size_hw: tuple[int, int]) -> None:
        if size_hw != self._size_hw:
            if self._size_hw != (0, 0):
                self._places = {zone.name: [] for zone in self.file.zones}
            self._size_hw, self._standing = size_hw, None
        boxes = rectangles(self._boxes, size_hw)
        boxes = boxes[boxes[:, 2] > boxes[:, 0]]
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        free = np.ones(len(boxes), bool)
        self._visible = set()
        for zone in self.file.zones:
            left, top, right, bottom = area = self._area(zone, size_hw)
            own = free & (middle >= (left, top)).all(axis=1) & (middle < (right, bottom)).all(axis=1)
            free &= ~own
            kept = [place for place in self._places[zone.name] if set(place.looks) != {EMPTY}]
            self._places[zone.name] = self._ranked(zone, area, self._matched(zone, kept, boxes[own]))

    def _matched(self, zone: ShelfZone, places: list[Place], boxes: NDArray[np.int64]) -> list[Place]:
        """Return the zone's places, with new ones for boxes that are none of them."""
        overlap = iou_matrix(np.array([place.xyxy for place in places]).reshape(-1, 4), boxes)
        new = set(range(len(boxes)))
        for flat in np.argsort(-overlap, axis=None, kind="stable").tolist():
            row, column = divmod(flat, len(boxes))
            if overlap[row, column] < _SAME_IOU:
                break
            if column not in new or id(places[row]) in self._visible:
                continue
            new.discard(column)
            self._visible.add(id(places[row]))
            if overlap[row, column] < _STILL_IOU:
                places[row].xyxy, places[row].thumbnail = _box(boxes[column]), None
        added = [Place(zone, 0, 0, deque(maxlen=self.file.looks), _box(boxes[column])) for column in sorted(new)]
        self._visible.update(map(id, added))
        return places + added

    def _ranked(self, zone: ShelfZone, area: Box, places: list[Place]) -> list[Place]:
        """Number the places by the zone's rows, and from the left."""
        _, top, _, bottom = area
        for place in places:
            middle = (place.xyxy[1] + place.xyxy[3]) / 2
            place.row = min(max(int((middle - top) / (bottom - top) * zone.rows), 0), zone.rows - 1)
        places.sort(key=lambda place: (place.row, place.xyxy))
        ahead: Counter[int] = Counter()
        for place in places:
            place.column = ahead[place.row]
            ahead[place.row] += 1
        return places

    def _look(self, image: NDArray[np.uint8], places: Sequence[Place]) -> int:
        self._looked += 1
        for place in places:
            if id(place) not in self._visible:
                # Its thumbnail goes, too: unchanged, it would never be named again.
                place.seen, place.thumbnail = EMPTY, None
        return super()._look(image, [place for place in places if id(place) in self._visible])

    def _count(self, zone: ShelfZone) -> dict[str, int]:
        return {product: number for product, number in super()._count(zone).items() if product != EMPTY}


def _box(row: NDArray[np.int64]) -> Box:
    left, top, right, bottom = row.tolist()
    return left, top, right, bottom
