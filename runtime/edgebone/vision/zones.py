"""Who enters, stays in and leaves a zone, and who crosses a line: counted by supervision, told once each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgebone.core.detections import Detections, import_supervision
from edgebone.core.errors import EdgeboneError
from edgebone.core.foreign import foreign
from edgebone.core.frame import Frame
from edgebone.vision.clock import time_s
from edgebone.vision.events import Event
from edgebone.vision.tracking import LOST_AFTER_S
from edgebone.vision.zone_file import Line, Zone, ZoneFile, ZonesError, read_zones

# An anchor that trembles on a line, or on a zone's edge, must have been on one side for so many frames.
_STEADY_FRAMES = 2


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
    """A zone or line of one source at one picture size, and what is known about it."""

    what: Zone | Line
    shape: Any
    visits: dict[int, _Visit] = field(default_factory=dict)
    entered: int = 0
    left: int = 0


@dataclass
class _Seen:
    """One source's places."""

    size_hw: tuple[int, int]
    places: list[_Place]


class Zones:
    """Watches zones and lines in the pictures of any number of sources; each source has counts of its own.

    Times are the frames' own: of a recording its position, of a camera the moment of capture. Pictures without times
    count as frames at 30 a second, and nobody dwells in them. An object that is not seen for a second has left. An
    object counts once it is seen in a zone in two frames.

    Args:
        file: The zones and lines.
        lost_after_s: After how long out of sight an object has left, in seconds.

    Example:
        >>> zones = Zones.load("zones.json")  # doctest: +SKIP
        >>> events = zones.update(frame, tracking.update(frame, found))  # doctest: +SKIP
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
            ZonesError: The file is not there, or says something else.
            MissingDependencyError: supervision is not installed.
        """
        return cls(read_zones(Path(path)))

    def update(self, frame: Frame, detections: Detections) -> list[Event]:
        """Take in a frame; to be called for every frame of a source, in order, those without boxes too.

        Args:
            frame: The frame.
            detections: What was found in it, with tracks.

        Returns:
            What happened, in the order of the file's zones and then its lines.

        Raises:
            EdgeboneError: The detections have no tracks.
            ZonesError: A line is so short that it has no direction in this picture, or a zone has a time to dwell in it
                and the pictures have none.
        """
        if detections.tracker_id is None:
            raise EdgeboneError("zones need to know which box is which object: track the detections first (--track)")
        tracked = detections[detections.tracker_id >= 0]
        events: list[Event] = []
        for place in self._places(frame):
            wanted = place.what.labels
            of_class = tracked[np.isin(tracked.labels, wanted)] if wanted else tracked
            update = self._update_zone if isinstance(place.what, Zone) else self._update_line
            events += update(place, frame, of_class)
        return events

    def counts(self, source: str) -> dict[str, dict[str, int]]:
        """What was counted so far: of a zone ``now``, ``entered`` and ``left``, of a line ``in`` and ``out``."""
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
        """The sources that were seen so far, in the order in which they came."""
        return tuple(self._sources)

    def _places(self, frame: Frame) -> list[_Place]:
        """The source's own; made anew, with the counts of before, when its pictures change their size."""
        seen = self._sources.get(frame.source)
        if seen is None or seen.size_hw != frame.size_hw:
            all_places: list[Zone | Line] = [*self.file.zones, *self.file.lines]
            places = [
                _Place(what, self._shape(what, frame.size_hw))
                for what in all_places
                if what.source in (None, frame.source)
            ]
            dwelling = [what.name for what in self.file.zones if what.dwell_s and what.source in (None, frame.source)]
            if dwelling and not frame.has_time:
                raise ZonesError(
                    f"{frame.source}: zone {dwelling[0]} tells who dwells in it, and pictures have no times: say how "
                    "many were taken a second with --fps, or leave dwell_s out"
                )
            for place, before in zip(places, seen.places if seen else (), strict=False):
                place.entered, place.left = before.entered, before.left
            seen = self._sources[frame.source] = _Seen(frame.size_hw, places)
        return seen.places

    def _shape(self, what: Zone | Line, size_hw: tuple[int, int]) -> Any:
        height, width = size_hw
        sv = self._supervision
        anchor = (sv.Position.BOTTOM_CENTER if what.anchor == "bottom_center" else sv.Position.CENTER,)
        if isinstance(what, Zone):
            corners = np.rint(np.array(what.polygon) * (width - 1, height - 1)).astype(np.int64)
            return sv.PolygonZone(corners, triggering_anchors=anchor)
        start, end = (sv.Point(x * width, y * height) for x, y in (what.start, what.end))
        with foreign(lambda why: ZonesError(f"line {what.name} is none in a picture of {width}x{height}: {why}")):
            return sv.LineZone(start, end, anchor, minimum_crossing_threshold=_STEADY_FRAMES)

    def _update_zone(self, place: _Place, frame: Frame, detections: Detections) -> list[Event]:
        assert isinstance(place.what, Zone)
        assert detections.tracker_id is not None
        height, width = frame.size_hw
        clipped = detections.to_supervision()
        # A box that ends at the picture's edge stands in the zone that ends there.
        clipped.xyxy = detections.xyxy.clip(0, (width - 1, height - 1, width - 1, height - 1))
        inside = place.shape.trigger(clipped) if len(detections) else np.zeros(0, bool)
        now_s = time_s(frame)
        events: list[Event] = []
        for tracker_id, label, is_in in zip(detections.tracker_id.tolist(), detections.labels, inside, strict=True):
            visit = place.visits.get(tracker_id)
            if visit is None:
                if is_in:
                    place.visits[tracker_id] = _Visit(label, now_s, now_s)
                continue
            visit.outside = 0 if is_in else visit.outside + 1
            if is_in:
                visit.inside += 1
                visit.seen_s = now_s
            if is_in and not visit.entered and visit.inside >= _STEADY_FRAMES:
                visit.entered = True
                place.entered += 1
                events.append(_event("enter", place, frame, tracker_id, visit.label))
        for tracker_id, visit in list(place.visits.items()):
            stayed_s = visit.seen_s - visit.since_s
            if visit.outside >= _STEADY_FRAMES or now_s - visit.seen_s > self._lost_after_s:
                del place.visits[tracker_id]
                if visit.entered:
                    place.left += 1
                    events.append(_event("leave", place, frame, tracker_id, visit.label, stayed_s=stayed_s))
            elif visit.entered and not visit.dwelt and place.what.dwell_s and stayed_s >= place.what.dwell_s:
                visit.dwelt = True
                events.append(_event("dwell", place, frame, tracker_id, visit.label, stayed_s=stayed_s))
        return events

    def _update_line(self, place: _Place, frame: Frame, detections: Detections) -> list[Event]:
        if not len(detections):
            return []
        assert detections.tracker_id is not None
        crossed_in, crossed_out = place.shape.trigger(detections.to_supervision())
        events = []
        for row, (tracker_id, label) in enumerate(zip(detections.tracker_id.tolist(), detections.labels, strict=True)):
            if crossed_in[row] or crossed_out[row]:
                place.entered += int(crossed_in[row])
                place.left += int(crossed_out[row])
                direction = "in" if crossed_in[row] else "out"
                events.append(_event("cross", place, frame, tracker_id, label, direction=direction))
        return events


def _event(kind: Any, place: _Place, frame: Frame, tracker_id: int, label: str, **own: Any) -> Event:
    if not frame.has_time:
        # Counted in pictures, it would be no time.
        own.pop("stayed_s", None)
    return Event(kind, place.what.name, frame.source, frame.index, frame.position_s, tracker_id, label, **own)
