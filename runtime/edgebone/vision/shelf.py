"""What stands on a shelf: facing by facing, counted by zone, and told when something runs out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import EdgeboneError
from edgebone.core.frame import Frame
from edgebone.core.matches import UNKNOWN
from edgebone.vision.shelf_file import EMPTY, Box, ShelfFile, ShelfZone, facings_of
from edgebone.vision.shelf_stock import Facing, Kind, ShelfEvent, State, Stock

Pictures = Sequence[NDArray[np.uint8]]
Recognise = Callable[[Pictures], Sequence[str]]
"""Gives a label a picture: a product, ``empty`` or ``unknown``. Pictures are uint8, height × width × 3, BGR."""


# Small enough that noise is averaged away, large enough that a turned package differs.
_THUMBNAIL_PX = 16
_LEVELS: dict[str, Kind] = {"out": "out_of_stock", "low": "low_stock", "enough": "restocked"}


@dataclass
class _Place:
    """A facing and its last looks."""

    zone: ShelfZone
    row: int
    column: int
    looks: deque[str]
    xyxy: Box = (0, 0, 0, 0)
    thumbnail: NDArray[np.int16] | None = None
    seen: str = UNKNOWN
    product: str | None = None

    def settle(self, agree: int) -> None:
        """Take a look into account."""
        self.looks.append(self.seen)
        label, votes = Counter(self.looks).most_common(1)[0]
        # One that never agrees with itself must not keep its zone from being counted.
        if votes >= agree or (self.product is None and len(self.looks) == self.looks.maxlen):
            self.product = label

    @property
    def state(self) -> State:
        if self.product is None:
            return "unsettled"
        if self.product == EMPTY:
            return "empty"
        if self.product == UNKNOWN:
            return "unknown"
        return "expected" if not self.zone.expected or self.product in self.zone.products else "misplaced"


@dataclass
class _Told:
    """What the events of a zone have said so far: products that are not at their minimum, and strays."""

    levels: dict[str, str] = field(default_factory=dict)
    strays: dict[tuple[int, int], str] = field(default_factory=dict)


class Shelf:
    """Watches one shelf through one fixed camera.

    Only facings whose pixels changed since they were last embedded go through the network again; for the others the
    last answer counts once more. A facing's product changes when enough of the last looks agree. Of a zone there are
    events once all its facings are settled; what is missing then is told, too.

    Args:
        file: The zones.
        recognise: Names pictures of facings.

    Attributes:
        looks: How many looks at a facing were taken so far.
        embedded: How many of them went through the network.

    Example:
        >>> shelf = Shelf(read_shelf(Path("shelf.json")), recognise)  # doctest: +SKIP
        >>> stock, events = shelf.update(frame)  # doctest: +SKIP
    """

    def __init__(self, file: ShelfFile, recognise: Recognise) -> None:
        self.file = file
        self.looks = 0
        self.embedded = 0
        self._recognise = recognise
        self._size_hw = (0, 0)
        self._told = {zone.name: _Told() for zone in file.zones}
        self._places = {
            zone.name: [
                _Place(zone, row, column, deque(maxlen=file.looks))
                for row in range(zone.rows)
                for column in range(zone.columns)
            ]
            for zone in file.zones
        }

    def update(self, frame: Frame) -> tuple[Stock, list[ShelfEvent]]:
        """Look at a frame.

        Returns:
            What stands there, and what has changed.

        Raises:
            ShelfError: A zone is not within the picture.
        """
        self._find_places(frame.size_hw)
        places = [place for zone in self._places.values() for place in zone]
        embedded = self._look(frame.image, places)
        for place in places:
            place.settle(self.file.agree)
        counts = {zone.name: self._count(zone) for zone in self.file.zones}
        events = [event for zone in self.file.zones for event in self._events(zone, counts[zone.name], frame)]
        facings = tuple(
            Facing(place.zone.name, place.row, place.column, place.xyxy, place.product, place.state) for place in places
        )
        return Stock(facings, counts, embedded), events

    def look_again(self) -> None:
        """Have every facing go through the network at the next frame: what names it knows other things now."""
        for places in self._places.values():
            for place in places:
                place.thumbnail = None

    def _find_places(self, size_hw: tuple[int, int]) -> None:
        if size_hw == self._size_hw:
            return
        boxes = {zone.name: facings_of(self.file, zone, size_hw) for zone in self.file.zones}
        for name, places in self._places.items():
            for place, xyxy in zip(places, boxes[name], strict=True):
                place.xyxy, place.thumbnail = xyxy, None
        self._size_hw = size_hw

    def _look(self, image: NDArray[np.uint8], places: Sequence[_Place]) -> int:
        """See what stands at each place; gives how many had to be embedded for it."""
        changed, pictures = [], []
        for place in places:
            left, top, right, bottom = place.xyxy
            picture = image[top:bottom, left:right]
            thumbnail = cv2.resize(picture, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(
                np.int16
            )
            before = place.thumbnail
            if before is None or float(np.abs(thumbnail - before).mean()) > self.file.changed:
                changed.append((place, thumbnail))
                pictures.append(np.ascontiguousarray(picture))
        labels = self._recognise(pictures) if pictures else ()
        if len(labels) != len(pictures):
            raise EdgeboneError(f"{len(pictures)} pictures of facings need a label each, {len(labels)} were given")
        for (place, thumbnail), label in zip(changed, labels, strict=True):
            # After the network has answered: of one that failed, the place is looked at again.
            place.thumbnail, place.seen = thumbnail, label
        self.looks += len(places)
        self.embedded += len(changed)
        return len(changed)

    def _count(self, zone: ShelfZone) -> dict[str, int]:
        found = Counter(place.product for place in self._places[zone.name] if place.product is not None)
        counts = {item.product: found.pop(item.product, 0) for item in zone.expected}
        return {**counts, **dict(sorted(found.items()))}

    def _events(self, zone: ShelfZone, counts: dict[str, int], frame: Frame) -> list[ShelfEvent]:
        places, told = self._places[zone.name], self._told[zone.name]
        if not zone.expected or any(place.product is None for place in places):
            return []
        where = (frame.source, frame.index, frame.position_s)
        events = []
        for item in zone.expected:
            count = counts[item.product]
            level = "out" if not count else "low" if count < item.minimum else "enough"
            if level != told.levels.get(item.product, "enough"):
                events.append(ShelfEvent(_LEVELS[level], zone.name, item.product, count, *where))
            told.levels[item.product] = level
        strays = {
            (place.row, place.column): place.product
            for place in places
            if place.product is not None and place.state == "misplaced"
        }
        for facing, product in strays.items():
            if told.strays.get(facing) != product:
                events.append(ShelfEvent("misplaced", zone.name, product, counts[product], *where, facing))
        told.strays = strays
        return events
