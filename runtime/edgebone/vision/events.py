"""Events in zones and at lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgebone.core.event import event_values
from edgebone.vision.line_counter import Direction

Kind = Literal["enter", "leave", "dwell", "cross"]


@dataclass(frozen=True)
class Event:
    """One event of one object.

    Attributes:
        event: ``enter``, ``leave`` and ``dwell`` for zones, ``cross`` for lines.
        place: The zone's or line's name.
        source: The frame's source.
        frame: The frame's index.
        position_s: The frame's time within a recording; None for a live source.
        tracker_id: The object's number within this source, and within the head if one is named.
        label: The object's class.
        stayed_s: For ``leave`` and ``dwell``: how long it was seen in the zone, in seconds; None if frames have no
            times.
        direction: For ``cross``: ``in`` or ``out``; ``in`` is towards the left of the line, seen from its start.
        head: The head that found it, if several find boxes.
    """

    event: Kind
    place: str
    source: str
    frame: int
    position_s: float | None
    tracker_id: int
    label: str
    stayed_s: float | None = None
    direction: Direction | None = None
    head: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without fields that this kind of event lacks."""
        return event_values(self, "stayed_s", "direction", "head")
