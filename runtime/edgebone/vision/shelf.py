"""Watches a shelf: recognises products facing by facing, counts them by zone, and reports changes of stock."""

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
from edgebone.vision.shelf_stock import CameraEvent, Facing, Kind, ShelfEvent, State, Stock, Told
from edgebone.vision.standing import Standing

Pictures = Sequence[NDArray[np.uint8]]
Recognise = Callable[[Pictures], Sequence[str]]
"""Returns a label per picture: a product, ``empty`` or ``unknown``. Pictures are uint8, height × width × 3, BGR."""


# Small enough to average noise, large enough that a turned package differs.
_THUMBNAIL_PX = 16
# A shift up to this share of the smallest facing's side keeps products within their facing.
_TOLERATED_SHARE = 0.25
# A single picture blurred by a knock is ignored.
_MOVED_FRAMES = 2
_LEVELS: dict[str, Kind] = {"out": "out_of_stock", "low": "low_stock", "enough": "restocked"}


@dataclass
class Place:
    """A facing and its latest looks."""

    zone: ShelfZone
    row: int
    column: int
    looks: deque[str]
    xyxy: Box = (0, 0, 0, 0)
    thumbnail: NDArray[np.int16] | None = None
    seen: str = UNKNOWN
    product: str | None = None

    def settle(self, agree: int) -> None:
        """Evaluate the latest look."""
        self.looks.append(self.seen)
        label, votes = Counter(self.looks).most_common(1)[0]
        # A facing whose looks never agree must not prevent counting its zone.
        if votes >= agree or (self.product is None and len(self.looks) == self.looks.maxlen):
            self.product = label

    @property
    def state(self) -> State:
        """The judgement of the product."""
        if self.product is None:
            return "unsettled"
        if self.product == EMPTY:
            return "empty"
        if self.product == UNKNOWN:
            return "unknown"
        return "expected" if not self.zone.expected or self.product in self.zone.products else "misplaced"


@dataclass
class _Said:
    """The reported state of a zone: products below their minimum, and misplaced ones."""

    levels: dict[str, str] = field(default_factory=dict)
    strays: dict[int, str] = field(default_factory=dict)


class Shelf:
    """Watches one shelf through one fixed camera.

    Only facings whose pixels changed since their last embedding go through the network again; the others repeat their
    last answer. A facing's product changes when enough of the latest looks agree. A zone is counted and has events once
    all its facings are settled; products missing at that time are also reported.

    While the camera does not show its original view (it was turned, or the shelf is covered), nothing is recognised or
    counted. If each look is independent (``looks`` is 1), views are not compared.

    Args:
        file: The zones.
        recognise: Names pictures of facings.

    Attributes:
        looks: The number of looks at facings so far.
        embedded: The number of them that went through the network.

    Example:
        >>> from pathlib import Path
        >>> from edgebone.sources import open_source
        >>> from edgebone.vision.shelf_file import read_shelf
        >>> def recognise(pictures):
        ...     return ["milk" if picture.mean() > 50 else "empty" for picture in pictures]
        >>> shelf = Shelf(read_shelf(Path("shelf.json")), recognise)
        >>> stock, events = shelf.update(open_source("shelf.jpg").read())
        >>> print(stock, [str(event) for event in events])
        top: milk 2 []
    """

    def __init__(self, file: ShelfFile, recognise: Recognise) -> None:
        self.file = file
        self.looks = 0
        self.embedded = 0
        self._recognise = recognise
        self._size_hw = (0, 0)
        self._said = {zone.name: _Said() for zone in file.zones}
        self._places = {zone.name: self._grid(file, zone) for zone in file.zones}
        self._standing: Standing | None = None
        self._away = 0
        self._told_away = False

    def replace(self, file: ShelfFile) -> None:
        """Continue with another file; unchanged zones keep their state.

        The camera's view in the next frame becomes the original view.
        """
        same = (file.units, file.looks, file.agree) == (self.file.units, self.file.looks, self.file.agree)
        kept = {zone.name for zone in file.zones if same and zone in self.file.zones}
        self._said = {zone.name: self._said[zone.name] if zone.name in kept else _Said() for zone in file.zones}
        self._places = {
            zone.name: self._places[zone.name] if zone.name in kept else self._grid(file, zone) for zone in file.zones
        }
        self.file, self._size_hw, self._standing = file, (0, 0), None

    def update(self, frame: Frame) -> tuple[Stock, list[Told]]:
        """Process a frame.

        Returns:
            The stock and the changes.

        Raises:
            ShelfError: A zone is outside the picture.
        """
        self._find_places(frame.size_hw)
        places = [place for zone in self._places.values() for place in zone]
        away, events = self._look_at_camera(frame)
        embedded = 0
        if away is None:
            embedded = self._look(frame.image, places)
            for place in places:
                place.settle(self.file.agree)
        counts: dict[str, dict[str, int | None]] = {}
        reasons: dict[str, str] = {}
        for zone in self.file.zones:
            known = self._count(zone)
            reason = away or self._not_settled(zone)
            counts[zone.name] = dict.fromkeys(known) if reason else dict(known)
            if reason:
                reasons[zone.name] = reason
            else:
                events += self._events(zone, known, frame)
        facings = tuple(
            Facing(place.zone.name, place.row, place.column, place.xyxy, place.product, place.state) for place in places
        )
        return Stock(facings, counts, embedded, reasons), events

    def _look_at_camera(self, frame: Frame) -> tuple[str | None, list[Told]]:
        """Return why the camera does not show its original view, and the events about that."""
        if self.file.looks == 1:
            return None, []
        if self._standing is None:
            least = min(min(right - left, bottom - top) for left, top, right, bottom in self._sizes(frame.size_hw))
            self._standing = Standing(_TOLERATED_SHARE * least)
        reason = self._standing.why_not(frame.image)
        self._away = self._away + 1 if reason else 0
        where = (frame.source, frame.index, frame.position_s)
        if reason and not self._told_away and self._away >= _MOVED_FRAMES:
            self._told_away = True
            return reason, [CameraEvent("camera_moved", reason, *where)]
        if not reason and self._told_away:
            self._told_away = False
            return None, [CameraEvent("camera_back", "", *where)]
        return reason, []

    def _sizes(self, size_hw: tuple[int, int]) -> list[Box]:
        """Return the boxes that a shift of the camera must not leave."""
        return [place.xyxy for zone in self._places.values() for place in zone]

    def _not_settled(self, zone: ShelfZone) -> str | None:
        """Return why a zone cannot be counted yet."""
        places = self._places[zone.name]
        open_places = [place for place in places if place.product is None]
        if not open_places:
            return None
        looks = max(len(place.looks) for place in open_places)
        return (
            f"{len(open_places)} of {len(places)} facings are not settled: {looks} look{'' if looks == 1 else 's'} so "
            f"far, {self.file.agree} must agree"
        )

    def look_again(self) -> None:
        """Send every facing through the network at the next frame, since the recogniser has changed."""
        for places in self._places.values():
            for place in places:
                place.thumbnail = None

    def _grid(self, file: ShelfFile, zone: ShelfZone) -> list[Place]:
        """Return a zone's places before the first frame."""
        grid = ((row, column) for row in range(zone.rows) for column in range(zone.columns))
        return [Place(zone, row, column, deque(maxlen=file.looks)) for row, column in grid]

    def _find_places(self, size_hw: tuple[int, int]) -> None:
        if size_hw == self._size_hw:
            return
        boxes = {zone.name: facings_of(self.file, zone, size_hw) for zone in self.file.zones}
        for name, places in self._places.items():
            for place, xyxy in zip(places, boxes[name], strict=True):
                place.xyxy, place.thumbnail = xyxy, None
        self._size_hw, self._standing = size_hw, None

    def _look(self, image: NDArray[np.uint8], places: Sequence[Place]) -> int:
        """Recognise the product at each place; return the number of embedded facings."""
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
            raise EdgeboneError(f"{len(pictures)} pictures of facings need one label each, got {len(labels)}")
        for (place, thumbnail), label in zip(changed, labels, strict=True):
            # Only after the network has answered: after a failure the place is processed again.
            place.thumbnail, place.seen = thumbnail, label
        self.looks += len(places)
        self.embedded += len(changed)
        return len(changed)

    def _count(self, zone: ShelfZone) -> dict[str, int]:
        found = Counter(place.product for place in self._places[zone.name] if place.product is not None)
        counts = {item.product: found.pop(item.product, 0) for item in zone.expected}
        return {**counts, **dict(sorted(found.items()))}

    def _events(self, zone: ShelfZone, counts: dict[str, int], frame: Frame) -> list[Told]:
        places, told = self._places[zone.name], self._said[zone.name]
        if not zone.expected:
            return []
        where = (frame.source, frame.index, frame.position_s)
        events: list[Told] = []
        for item in zone.expected:
            count = counts[item.product]
            level = "out" if not count else "low" if count < item.minimum else "enough"
            if level != told.levels.get(item.product, "enough"):
                events.append(ShelfEvent(_LEVELS[level], zone.name, item.product, count, *where))
            told.levels[item.product] = level
        strays: dict[int, str] = {}
        for place in places:
            product = place.product
            if product is None or place.state != "misplaced":
                continue
            # By the place itself: rows and columns of facings that a detector finds may change.
            strays[id(place)] = product
            if told.strays.get(id(place)) != product:
                facing = (place.row, place.column)
                events.append(ShelfEvent("misplaced", zone.name, product, counts[product], *where, facing))
        told.strays = strays
        return events
