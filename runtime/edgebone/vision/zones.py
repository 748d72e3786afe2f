"""Reports objects that enter, stay in and leave zones, and that cross lines, once each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgebone.core.detections import Detections, import_supervision
from edgebone.core.errors import EdgeboneError
from edgebone.core.frame import Frame
from edgebone.vision.clock import time_s
from edgebone.vision.events import Event
from edgebone.vision.line_counter import STEADY_FRAMES, LineCounter
from edgebone.vision.tracking import LOST_AFTER_S
from edgebone.vision.zone_file import Line, Zone, ZoneFile, ZonesError, read_zones

# A head and a track id: each head's tracks are numbered separately.
_Key = tuple[str, int]


@dataclass
class _Visit:
    """An object in a zone."""

    label: str
    since_s: float
    seen_s: float
    inside: int = 1
    outside: int = 0
    entered: bool = False
    dwelt: bool = False


@dataclass
class _Place:
    """A zone or line of one source at one picture size, with its state."""

    what: Zone | Line
    shape: Any
    visits: dict[_Key, _Visit] = field(default_factory=dict)
    entered: int = 0
    left: int = 0


@dataclass
class _Seen:
    """One source's places."""

    size_hw: tuple[int, int]
    places: list[_Place]


class Zones:
    """Watches zones and lines in the pictures of any number of sources; each source has its own counts.

    Times are the frames' own: the position in a recording, the moment of capture for a camera. Pictures without times
    count as frames at 30 per second and have no dwell events. An object that is not seen for a second has left. An
    object counts when it was seen in a zone in two frames.

    Args:
        file: The zones and lines.
        lost_after_s: How long out of sight an object counts as left, in seconds.

    Example:
        >>> import edgebone
        >>> from edgebone.vision import Tracking
        >>> tracking, zones = Tracking(), Zones.load("zones.json")
        >>> with edgebone.load("yolox.bundle") as model:
        ...     for frame, found in model.stream("street.mp4"):
        ...         for event in zones.update(frame, tracking.update(frame, found)):
        ...             print(event.label, event.event, event.place)
        person enter door
    """

    def __init__(self, file: ZoneFile, lost_after_s: float = LOST_AFTER_S) -> None:
        self.file = file
        self._lost_after_s = lost_after_s
        self._supervision = import_supervision()
        self._sources: dict[str, _Seen] = {}

    @classmethod
    def load(cls, path: Path | str) -> Zones:
        """Read a file of zones.

        Raises:
            ZonesError: The file is missing or invalid.
            MissingDependencyError: supervision is not installed.
        """
        return cls(read_zones(Path(path)))

    def update(self, frame: Frame, detections: Detections, head: str = "") -> list[Event]:
        """Process a frame; call it for every frame of a source, in order, including those without boxes.

        Args:
            frame: The frame.
            detections: Its detections, with tracks.
            head: The head that found them, if several do; each has separate ids.

        Returns:
            The events, in the order of the file's zones and then its lines.

        Raises:
            EdgeboneError: The detections have no tracks.
            ZonesError: A line is too short to have a direction in this picture, or a zone has ``dwell_s`` and the
                pictures have no times.
        """
        if detections.tracker_id is None:
            raise EdgeboneError("zones need tracked detections: track them first (--track)")
        tracked = detections[detections.tracker_id >= 0]
        events: list[Event] = []
        for place in self._places(frame):
            wanted = place.what.labels
            of_class = tracked[np.isin(tracked.labels, wanted)] if wanted else tracked
            update = self._update_zone if isinstance(place.what, Zone) else self._update_line
            events += update(place, frame, of_class, head)
        return events

    def counts(self, source: str) -> dict[str, dict[str, int]]:
        """Return the counts so far: ``now``, ``entered`` and ``left`` for a zone, ``in`` and ``out`` for a line."""
        seen = self._sources.get(source)
        found = {}
        for place in seen.places if seen else ():
            if isinstance(place.what, Zone):
                now = sum(visit.entered for visit in place.visits.values())
                found[place.what.name] = {"now": now, "entered": place.entered, "left": place.left}
            else:
                found[place.what.name] = {"in": place.entered, "out": place.left}
        return found

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources seen so far, in order of appearance."""
        return tuple(self._sources)

    def _places(self, frame: Frame) -> list[_Place]:
        """Return the source's places; rebuilt with the previous counts when its pictures change size."""
        seen = self._sources.get(frame.source)
        if seen is None or seen.size_hw != frame.size_hw:
            places = [_Place(what, self._shape(what, frame.size_hw)) for what in self.file.of(frame.source)]
            dwelling = [place.what.name for place in places if isinstance(place.what, Zone) and place.what.dwell_s]
            if dwelling and not frame.has_time:
                raise ZonesError(
                    f"{frame.source}: zone {dwelling[0]} has dwell_s, but pictures have no times: set their rate "
                    "with --fps, or leave dwell_s out"
                )
            for place in places:
                for before in seen.places if seen else ():
                    if before.what == place.what:
                        place.entered, place.left = before.entered, before.left
            seen = self._sources[frame.source] = _Seen(frame.size_hw, places)
        return seen.places

    def replace(self, file: ZoneFile) -> None:
        """Continue with another file; unchanged zones and lines keep their counts and visits.

        Raises:
            ZonesError: A line has no direction in the pictures so far; the zones are unchanged.
        """
        replaced = {}
        for source, seen in self._sources.items():
            wanted = file.of(source)
            kept = {place.what.name: place for place in seen.places if place.what in wanted}
            places = [kept.get(what.name) or _Place(what, self._shape(what, seen.size_hw)) for what in wanted]
            replaced[source] = _Seen(seen.size_hw, places)
        self.file, self._sources = file, replaced

    def _shape(self, what: Zone | Line, size_hw: tuple[int, int]) -> Any:
        height, width = size_hw
        if isinstance(what, Zone):
            sv = self._supervision
            anchor = (sv.Position.BOTTOM_CENTER if what.anchor == "bottom_center" else sv.Position.CENTER,)
            corners = np.rint(np.array(what.polygon) * (width - 1, height - 1)).astype(np.int64)
            return sv.PolygonZone(corners, triggering_anchors=anchor)
        (x0, y0), (x1, y1) = ((x * width, y * height) for x, y in (what.start, what.end))
        if not (x1 - x0) ** 2 + (y1 - y0) ** 2:
            raise ZonesError(f"line {what.name} has no length in a picture of {width}x{height}")
        return LineCounter((x0, y0), (x1, y1))

    def _update_zone(self, place: _Place, frame: Frame, detections: Detections, head: str) -> list[Event]:
        assert isinstance(place.what, Zone)
        assert detections.tracker_id is not None
        height, width = frame.size_hw
        clipped = detections.to_supervision()
        # A box that ends at the picture's edge is in the zone that ends there.
        clipped.xyxy = detections.xyxy.clip(0, (width - 1, height - 1, width - 1, height - 1))
        inside = place.shape.trigger(clipped) if len(detections) else np.zeros(0, bool)
        now_s = time_s(frame)
        events: list[Event] = []
        for tracker_id, label, is_in in zip(detections.tracker_id.tolist(), detections.labels, inside, strict=True):
            visit = place.visits.get((head, tracker_id))
            if visit is None:
                if is_in:
                    place.visits[head, tracker_id] = _Visit(label, now_s, now_s)
                continue
            visit.outside = 0 if is_in else visit.outside + 1
            if is_in:
                visit.inside += 1
                visit.seen_s = now_s
            if is_in and not visit.entered and visit.inside >= STEADY_FRAMES:
                visit.entered = True
                place.entered += 1
                events.append(_event("enter", place, frame, head, tracker_id, visit.label))
        for (found_by, tracker_id), visit in list(place.visits.items()):
            stayed_s = visit.seen_s - visit.since_s
            if visit.outside >= STEADY_FRAMES or now_s - visit.seen_s > self._lost_after_s:
                del place.visits[found_by, tracker_id]
                if visit.entered:
                    place.left += 1
                    events.append(_event("leave", place, frame, found_by, tracker_id, visit.label, stayed_s=stayed_s))
            elif visit.entered and not visit.dwelt and place.what.dwell_s and stayed_s >= place.what.dwell_s:
                visit.dwelt = True
                events.append(_event("dwell", place, frame, found_by, tracker_id, visit.label, stayed_s=stayed_s))
        return events

    def _update_line(self, place: _Place, frame: Frame, detections: Detections, head: str) -> list[Event]:
        assert detections.tracker_id is not None
        ids = detections.tracker_id.tolist()
        left, top, right, bottom = detections.xyxy.T
        ys = bottom if place.what.anchor == "bottom_center" else (top + bottom) / 2
        moves = place.shape.update([(head, number) for number in ids], np.stack([(left + right) / 2, ys], axis=1))
        events = []
        for tracker_id, label, direction in zip(ids, detections.labels, moves, strict=True):
            if direction is not None:
                place.entered += direction == "in"
                place.left += direction == "out"
                events.append(_event("cross", place, frame, head, tracker_id, label, direction=direction))
        return events


def _event(kind: Any, place: _Place, frame: Frame, head: str, tracker_id: int, label: str, **own: Any) -> Event:
    if not frame.has_time:
        # Counted in pictures, it would not be a time.
        own.pop("stayed_s", None)
    return Event(
        kind, place.what.name, frame.source, frame.index, frame.position_s, tracker_id, label, head=head or None, **own
    )
