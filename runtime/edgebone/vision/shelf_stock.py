"""What is known about a shelf in one frame, and what is told about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from edgebone.core.event import event_values
from edgebone.vision.shelf_file import Box

Kind = Literal["out_of_stock", "low_stock", "restocked", "misplaced"]
CameraKind = Literal["camera_moved", "camera_back"]
State = Literal["expected", "misplaced", "empty", "unknown", "unsettled"]


@dataclass(frozen=True)
class Facing:
    """One place on the shelf, as it is known now.

    Attributes:
        zone: Its zone's name.
        row: Its row in the zone, from 0 at the top.
        column: Its column, from 0 at the left.
        xyxy: Where it lies in the picture, in pixels.
        product: What stands there, ``empty`` or ``unknown``; None as long as too few looks were taken.
        state: The same as it is judged; in a zone that expects nothing, every product is expected.
    """

    zone: str
    row: int
    column: int
    xyxy: Box
    product: str | None
    state: State


@dataclass(frozen=True)
class Stock:
    """What stands on the shelf in one frame.

    Attributes:
        facings: Every facing, zone by zone, row by row.
        counts: By zone: how many facings each product has, those of ``empty`` and ``unknown`` too. Products that are
            expected are there with 0 as well. None where it is not known now: ``reasons`` has the zone then.
        embedded: How many facings went through the network for this frame; the others had not changed.
        reasons: By zone: why its counts are not known, in words; without those that are.
    """

    drawn_by_step: ClassVar = True

    facings: tuple[Facing, ...]
    counts: dict[str, dict[str, int | None]]
    embedded: int
    reasons: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """``{"zones": {zone: {product: count}}, "embedded": n}``, and ``{"reasons": {zone: reason}}`` if any."""
        known = {"zones": self.counts, "embedded": self.embedded}
        return {**known, "reasons": self.reasons} if self.reasons else known

    def lines(self) -> list[str]:
        """``top: milk 3, empty 1`` for each zone, or ``bottom: not known (…)``."""
        return [
            f"{zone}: not known ({self.reasons[zone]})" if zone in self.reasons else f"{zone}: {_counted(counts)}"
            for zone, counts in self.counts.items()
        ]

    def __str__(self) -> str:
        """``top: milk 3, empty 1; bottom: juice 4``."""
        return "; ".join(self.lines())


def _counted(counts: dict[str, int | None]) -> str:
    return ", ".join(f"{product} {number}" for product, number in counts.items()) or "nothing"


@dataclass(frozen=True)
class ShelfEvent:
    """Something changed on the shelf.

    Attributes:
        event: ``out_of_stock``: none of an expected product is left. ``low_stock``: there are some, but fewer than
            the minimum. ``restocked``: there are enough again. ``misplaced``: a product stands where it is not
            expected.
        zone: The zone's name.
        product: The product's label.
        count: How many facings of the zone have it now.
        source: The frame's source.
        frame: The frame's index.
        position_s: The frame's time within a recording; None of a live source.
        facing: For ``misplaced``: row and column in the zone, from 0.
    """

    event: Kind
    zone: str
    product: str
    count: int
    source: str
    frame: int
    position_s: float | None
    facing: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without ``facing`` where the event has none."""
        return event_values(self, "facing")

    def __str__(self) -> str:
        """``12.3 s: top: milk out of stock (0)``."""
        place = f" in row {self.facing[0] + 1}, column {self.facing[1] + 1}" if self.facing else ""
        return f"{_when(self)}: {self.zone}: {self.product} {self.event.replace('_', ' ')}{place} ({self.count})"

    @property
    def headline(self) -> str:
        """``out of stock: milk``."""
        return f"{self.event.replace('_', ' ')}: {self.product}"


@dataclass(frozen=True)
class CameraEvent:
    """The camera does not look at the shelf as it did, or does so again; in between nothing is counted.

    Attributes:
        event: ``camera_moved`` or ``camera_back``.
        reason: What is wrong, in words; empty for ``camera_back``.
        source: The frame's source.
        frame: The frame's index.
        position_s: The frame's time within a recording; None of a live source.
    """

    event: CameraKind
    reason: str
    source: str
    frame: int
    position_s: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without ``reason`` where there is none."""
        return event_values(self, "reason")

    def __str__(self) -> str:
        """``12.3 s: the camera does not see the shelf; nothing is counted``."""
        return (
            f"{_when(self)}: {self.reason}; nothing is counted" if self.reason else f"{_when(self)}: the camera is back"
        )

    @property
    def headline(self) -> str:
        """``camera moved``."""
        return self.event.replace("_", " ")


Told: TypeAlias = "ShelfEvent | CameraEvent"
"""What is told of a shelf."""


def _when(event: Told) -> str:
    return f"frame {event.frame}" if event.position_s is None else f"{event.position_s:.1f} s"
