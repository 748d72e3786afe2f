"""The state of a shelf in one frame, and its events."""

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
    """The current state of one place on the shelf.

    Attributes:
        zone: Its zone's name.
        row: Its row in the zone, from 0 at the top.
        column: Its column, from 0 at the left.
        xyxy: Its place in the picture, in pixels.
        product: The product, ``empty`` or ``unknown``; None until enough looks were taken.
        state: The judgement of the product; a zone without expected products expects every product.
    """

    zone: str
    row: int
    column: int
    xyxy: Box
    product: str | None
    state: State


@dataclass(frozen=True)
class Stock:
    """The stock of a shelf in one frame.

    Attributes:
        facings: Every facing, zone by zone, row by row.
        counts: By zone, the number of facings per product, including ``empty``, ``unknown``, and expected products with
            0. None if currently unknown; ``reasons`` then has the zone.
        embedded: The number of facings that went through the network for this frame; the others had not changed.
        reasons: By zone, why its counts are unknown; without zones whose counts are known.
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
    """A change on the shelf.

    Attributes:
        event: ``out_of_stock``: none of an expected product is left. ``low_stock``: some are left, but fewer than the
            minimum. ``restocked``: enough again. ``misplaced``: a product is in an unexpected place.
        zone: The zone's name.
        product: The product's label.
        count: The current number of the zone's facings with it.
        source: The frame's source.
        frame: The frame's index.
        position_s: The frame's time within a recording; None for a live source.
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
        """Return plain JSON values, without ``facing`` if the event has none."""
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
    """The camera lost or regained its original view of the shelf; in between nothing is counted.

    Attributes:
        event: ``camera_moved`` or ``camera_back``.
        reason: The reason, in words; empty for ``camera_back``.
        source: The frame's source.
        frame: The frame's index.
        position_s: The frame's time within a recording; None for a live source.
    """

    event: CameraKind
    reason: str
    source: str
    frame: int
    position_s: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without an empty ``reason``."""
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
"""The events of a shelf."""


def _when(event: Told) -> str:
    return f"frame {event.frame}" if event.position_s is None else f"{event.position_s:.1f} s"
