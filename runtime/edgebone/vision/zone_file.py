"""The file of zones and lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgebone.core import limits
from edgebone.core.bounded import Name, Share
from edgebone.core.errors import EdgeboneError
from edgebone.vision.json_file import read_json_file

Point = tuple[Share, Share]
Anchor = Literal["bottom_center", "center"]


class ZonesError(EdgeboneError, ValueError):
    """The file of zones cannot be read. Exit code 1."""


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An area of the picture.

    Attributes:
        name: Its name in events.
        polygon: Its corners, x and y as shares of the picture's width and height, 0 to 1.
        labels: The classes that count; empty for all.
        anchor: The point of a box that must be in it; by default where an object stands on the ground.
        dwell_s: The time in it after which an object has a ``dwell`` event; None for none.
        source: The name of the source that it belongs to; None for all.
    """

    name: Name
    polygon: Annotated[list[Point], msgspec.Meta(min_length=3, max_length=limits.CORNERS)]
    labels: list[str] = []
    anchor: Anchor = "bottom_center"
    dwell_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    source: str | None = None


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that objects cross.

    Attributes:
        name: Its name in events.
        start: Its first point, x and y as shares of the picture's width and height.
        end: Its last point. ``in`` is towards the left, seen from the start.
        labels: The classes that count; empty for all.
        anchor: The point of a box that must cross it.
        source: The name of the source that it belongs to; None for all.
    """

    name: Name
    start: Point
    end: Point
    labels: list[str] = []
    anchor: Anchor = "bottom_center"
    source: str | None = None


class ZoneFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        schema: 1.
        zones: The areas.
        lines: The lines.
    """

    schema: Literal[1]
    zones: Annotated[list[Zone], msgspec.Meta(max_length=limits.ZONES)] = []
    lines: Annotated[list[Line], msgspec.Meta(max_length=limits.ZONES)] = []

    def of(self, source: str) -> list[Zone | Line]:
        """Return the zones and lines of one source, by its name: its own and those for all sources."""
        places: list[Zone | Line] = [*self.zones, *self.lines]
        return [place for place in places if place.source in (None, source)]


def read_zones(path: Path) -> ZoneFile:
    """Read a file of zones.

    Raises:
        ZonesError: It is missing, not JSON, or has other content; the message names the place.
    """
    found = read_json_file(path, ZoneFile, ZonesError, "zones")
    names = [*(zone.name for zone in found.zones), *(line.name for line in found.lines)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise ZonesError(
            f"{path}: " + (f"the name {twice[0]} is used twice" if twice else "it has no zone and no line")
        )
    for line in found.lines:
        if line.start == line.end:
            raise ZonesError(f"{path}: line {line.name} starts where it ends")
    return found
