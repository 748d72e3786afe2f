"""What is known about a shelf in one frame, and what is told about it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from edgebone.core.writing import as_utf8
from edgebone.vision.shelf_file import Box

Kind = Literal["out_of_stock", "low_stock", "restocked", "misplaced"]
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
            expected are there with 0 as well; facings that are not settled are not counted.
        embedded: How many facings went through the network for this frame; the others had not changed.
    """

    facings: tuple[Facing, ...]
    counts: dict[str, dict[str, int]]
    embedded: int

    def to_dict(self) -> dict[str, Any]:
        """``{"zones": {zone: {product: count}}, "embedded": n}``."""
        return {"zones": self.counts, "embedded": self.embedded}

    def __str__(self) -> str:
        """``top: milk 3, empty 1; bottom: juice 4``."""
        return "; ".join(f"{zone}: {counted(counts)}" for zone, counts in self.counts.items())


def counted(counts: dict[str, int]) -> str:
    """``milk 3, empty 1``, or ``nothing yet``."""
    return ", ".join(f"{product} {number}" for product, number in counts.items()) or "nothing yet"


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
        own = dataclasses.asdict(self)
        if self.facing is None:
            del own["facing"]
        own["source"] = as_utf8(self.source)
        own["position_s"] = None if self.position_s is None else round(self.position_s, 3)
        return own

    def __str__(self) -> str:
        """``12.3 s: top: milk out of stock (0)``."""
        when = f"frame {self.frame}" if self.position_s is None else f"{self.position_s:.1f} s"
        place = f" in row {self.facing[0] + 1}, column {self.facing[1] + 1}" if self.facing else ""
        return f"{when}: {self.zone}: {self.product} {self.event.replace('_', ' ')}{place} ({self.count})"
