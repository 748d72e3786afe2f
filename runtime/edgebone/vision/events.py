"""What happened in a zone or at a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgebone.core.event import event_values
from edgebone.vision.line_counter import Direction

Kind = Literal["enter", "leave", "dwell", "cross"]


@dataclass(frozen=True)
class Event:
    """One object did one thing.

    Attributes:
        event: ``enter``, ``leave`` and ``dwell`` for zones, ``cross`` for lines.
        place: The zone's or line's name.
        source: The frame's source.
        frame: The frame's index.
        position_s: The frame's time within a recording; None of a live source.
        tracker_id: Which object of this source it was, and of this head where one is named.
        label: Its class.
        stayed_s: For ``leave`` and ``dwell``: how long it was seen in the zone, in seconds; None where frames have no
            times.
        direction: For ``cross``: ``in`` or ``out``; ``in`` is towards the left of the line, seen from its start.
        head: The head that found it, where several find boxes.
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
        """Plain JSON values, without those that this kind of event does not have."""
        return event_values(self, "stayed_s", "direction", "head")
