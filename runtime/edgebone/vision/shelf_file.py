"""The file of a shelf: the places of its facings and the expected products."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgebone.core import limits
from edgebone.core.errors import EdgeboneError
from edgebone.core.matches import UNKNOWN
from edgebone.vision.json_file import read_json_file

EMPTY = "empty"
"""The label of an empty facing; a gallery learns it from pictures of the empty shelf."""

Count = Annotated[int, msgspec.Meta(ge=1, le=limits.FACINGS)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.NAME_LENGTH)]
Edge = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
Box = tuple[int, int, int, int]


class ShelfError(EdgeboneError, ValueError):
    """The file of a shelf cannot be read, or does not fit the pictures. Exit code 1."""


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A product that belongs in a zone.

    Attributes:
        product: Its label in the gallery or the head.
        minimum: The stock is low with fewer facings than this.
    """

    product: Name
    minimum: Count = 1


class ShelfZone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the shelf, split evenly into facings.

    Attributes:
        name: Its name in counts and events.
        xyxy: Left, top, right and bottom, in the file's units.
        rows: The number of rows of facings.
        columns: The number of columns of facings.
        expected: The products that belong there; if empty, the zone is counted but has no events.
    """

    name: Name
    xyxy: tuple[Edge, Edge, Edge, Edge]
    rows: Count = 1
    columns: Count = 1
    expected: Annotated[list[Expected], msgspec.Meta(max_length=limits.PRODUCTS)] = []

    @property
    def products(self) -> frozenset[str]:
        """The expected products."""
        return frozenset(item.product for item in self.expected)


class ShelfFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        schema: 1.
        zones: The zones.
        units: The units of their edges: shares of the picture's width and height, or pixels.
        agree: The number of looks that must agree before a facing's product changes; more than half of ``looks``.
        looks: The number of latest looks considered. With ten looks per second and 6 of 9, a hand that hides a facing
            for half a second changes nothing.
        changed: The mean difference from which a facing is processed again, in steps of 255. Above a camera's noise.
    """

    schema: Literal[1]
    zones: Annotated[list[ShelfZone], msgspec.Meta(min_length=1, max_length=limits.PRODUCTS)]
    units: Literal["shares", "pixels"] = "shares"
    agree: Count = 3
    looks: Count = 5
    changed: Annotated[float, msgspec.Meta(ge=0, le=255)] = 4.0

    @property
    def products(self) -> frozenset[str]:
        """Every expected product."""
        return frozenset[str]().union(*(zone.products for zone in self.zones))

    def with_one_look(self) -> ShelfFile:
        """Return the file with one look per facing."""
        return msgspec.structs.replace(self, agree=1, looks=1)


def read_shelf(path: Path, grid: bool = True) -> ShelfFile:
    """Read a file of a shelf.

    Args:
        path: The file.
        grid: Whether the facings are the zones' rows and columns; else a detector finds them.

    Raises:
        ShelfError: It is missing, not JSON, or not a shelf; the message names the place.
    """
    found = read_json_file(path, ShelfFile, ShelfError, "a shelf")
    reason = _reason_against(found, grid)
    if reason:
        raise ShelfError(f"{path}: {reason}")
    return found


def _reason_against(file: ShelfFile, grid: bool) -> str | None:
    """Return the violation of a rule that the types do not express."""
    if not file.looks / 2 < file.agree <= file.looks:
        return f"agree must be more than half of looks and at most all, not {file.agree} of {file.looks}"
    facings = sum(zone.rows * zone.columns for zone in file.zones)
    if facings > limits.FACINGS:
        return f"a shelf has {limits.FACINGS:,} facings at most, not {facings:,}; leave rows, columns or zones out"
    names = [zone.name for zone in file.zones]
    for zone in file.zones:
        left, top, right, bottom = zone.xyxy
        given = ", ".join(f"{edge:g}" for edge in zone.xyxy)
        products = [item.product for item in zone.expected]
        if names.count(zone.name) > 1:
            return f"the name {zone.name} is used twice"
        if not (left < right and top < bottom):
            return f"zone {zone.name}: xyxy must be left, top, right, bottom, not {given}"
        if file.units == "shares" and max(right, bottom) > 1:
            return f'zone {zone.name}: shares must be 0 to 1, not {given}; for pixels write "units": "pixels"'
        for item in zone.expected:
            if item.product in (EMPTY, UNKNOWN):
                return f"zone {zone.name}: {item.product} cannot be an expected product"
            if products.count(item.product) > 1:
                return f"zone {zone.name} expects {item.product} twice"
            if grid and item.minimum > zone.rows * zone.columns:
                own = zone.rows * zone.columns
                return f"zone {zone.name} has {own} facings but expects {item.minimum} of {item.product}"
    return None


def facings_of(file: ShelfFile, zone: ShelfZone, size_hw: tuple[int, int]) -> list[Box]:
    """Return the places of a zone's facings in a picture, row by row: left, top, right, bottom in whole pixels.

    Args:
        file: The zone's file.
        zone: The zone.
        size_hw: The picture's height and width, in pixels.

    Raises:
        ShelfError: The zone is outside the picture, or a facing would have no pixels.
    """
    height, width = size_hw
    scale_x, scale_y = (width, height) if file.units == "shares" else (1, 1)
    left, top, right, bottom = (
        edge * scale for edge, scale in zip(zone.xyxy, (scale_x, scale_y, scale_x, scale_y), strict=True)
    )
    if right > width or bottom > height:
        raise ShelfError(f"zone {zone.name} ends at {right:g},{bottom:g}, outside the picture of {width}x{height}")
    xs = [round(left + (right - left) * column / zone.columns) for column in range(zone.columns + 1)]
    ys = [round(top + (bottom - top) * row / zone.rows) for row in range(zone.rows + 1)]
    boxes = [(x0, y0, x1, y1) for y0, y1 in itertools.pairwise(ys) for x0, x1 in itertools.pairwise(xs)]
    if any(x0 == x1 or y0 == y1 for x0, y0, x1, y1 in boxes):
        grid = f"{zone.rows} rows of {zone.columns}"
        raise ShelfError(f"zone {zone.name}: {grid} facings are smaller than a pixel in a picture of {width}x{height}")
    return boxes
