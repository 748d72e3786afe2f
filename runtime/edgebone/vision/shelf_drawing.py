"""Draws a shelf's facings and its stock."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.matches import UNKNOWN
from edgebone.vision.shelf_file import EMPTY, ShelfFile, ShelfZone
from edgebone.vision.shelf_stock import CameraKind, Facing, Kind, State, Stock, Told

Bgr = tuple[int, int, int]
Xy = tuple[int, int]

# Okabe and Ito's colours (2008), which colour-blind people can tell apart.
_GREEN, _ORANGE, _RED, _PINK, _YELLOW = (115, 158, 0), (0, 159, 230), (0, 94, 213), (167, 121, 204), (66, 228, 240)
_GREY, _WHITE, _GROUND, _TROUGH = (150, 150, 150), (245, 245, 245), (38, 32, 28), (72, 64, 58)
_STATES: dict[State, Bgr] = {
    "expected": _GREEN, "misplaced": _PINK, "empty": _RED, "unknown": _YELLOW, "unsettled": _GREY,
}  # fmt: skip
_KINDS: dict[Kind | CameraKind, Bgr] = {
    "out_of_stock": _RED, "low_stock": _ORANGE, "restocked": _GREEN, "misplaced": _PINK,
    "camera_moved": _YELLOW, "camera_back": _GREEN,
}  # fmt: skip
_FONT = cv2.FONT_HERSHEY_DUPLEX
_PANEL_SHARE = 0.4
_LEAST_PX = 4


def draw_shelf(
    image_bgr: NDArray[np.uint8],
    file: ShelfFile,
    stock: Stock,
    events: Sequence[Told],
    position_s: float | None = None,
) -> NDArray[np.uint8]:
    """Draw the facings onto a frame, and beside it a panel with the stock of each zone and the latest events.

    Args:
        image_bgr: uint8, shape (height, width, 3), BGR; not modified.
        file: The shelf.
        stock: The stock.
        events: The events so far, oldest first; those that fit are shown, newest first.
        position_s: The time to show, in seconds.

    Returns:
        uint8, shape (height, wider, 3): the frame with the panel on its right.
    """
    canvas = image_bgr.copy()
    for facing in stock.facings:
        _facing(canvas, facing)
    return np.hstack([canvas, _panel(canvas.shape[0], canvas.shape[1], file, stock, events, position_s)])


def _facing(canvas: NDArray[np.uint8], facing: Facing) -> None:
    left, top, right, bottom = facing.xyxy
    inset = max(1, (right - left) // 40)
    left, top, right, bottom = left + inset, top + inset, right - inset - 1, bottom - inset - 1
    # Too small to be visible.
    if right - left < _LEAST_PX or bottom - top < _LEAST_PX:
        return
    color = _STATES[facing.state]
    if facing.state in ("empty", "misplaced", "unknown"):
        inside = canvas[top:bottom, left:right]
        inside[:] = cv2.addWeighted(inside, 0.82, np.full_like(inside, color), 0.18, 0)
    cv2.rectangle(canvas, (left, top), (right, bottom), color, max(1, (right - left) // 50), cv2.LINE_AA)
    # Scaled to the facing, so that text does not cover a shelf of many facings.
    scale = min(0.5, max(0.3, (right - left) / 320))
    lines = _wrapped(facing.product or "...", right - left - 6, scale)[:2]
    line = round(26 * scale) + 3
    strip = canvas[max(top, bottom - line * len(lines) - 4) : bottom + 1, left : right + 1]
    strip[:] = cv2.addWeighted(strip, 0.25, np.full_like(strip, color), 0.55, 0)
    for number, text in enumerate(lines):
        _text(canvas, text, (left + 4, bottom - 5 - line * (len(lines) - 1 - number)), scale, _WHITE)


def _panel(
    height: int, beside: int, file: ShelfFile, stock: Stock, events: Sequence[Told], position_s: float | None
) -> NDArray[np.uint8]:
    """Draw the stock and the events on a separate background."""
    width = max(160, round(beside * _PANEL_SHARE))
    # Even, as codecs require.
    width += (width + beside) % 2
    panel = np.full((height, width, 3), _GROUND, np.uint8)
    rows = sum(2 + len(zone.expected) for zone in file.zones)
    line = max(11, min(30, height // (rows + 10)))
    scale = line / 48
    y = round(1.4 * line)
    _text(panel, "Stock", (line, y), scale * 1.3, _WHITE)
    if position_s is not None:
        _text(panel, f"{position_s:6.1f} s", (width - 5 * line, y), scale * 1.1, _GREY)
    for zone in file.zones:
        y = _zone(panel, zone, stock.counts[zone.name], y + round(1.5 * line), line, scale)
    y += round(1.5 * line)
    _text(panel, "Events", (line, y), scale * 1.3, _WHITE)
    for event in reversed(events):
        y += round(1.2 * line)
        if y > height - line // 2:
            break
        _event(panel, event, y, line, scale)
    return panel


def _zone(
    panel: NDArray[np.uint8], zone: ShelfZone, counts: dict[str, int | None], y: int, line: int, scale: float
) -> int:
    """Draw a zone's name, a bar for each expected product, and the rest in one line; return the lower end."""
    width = panel.shape[1]
    _text(panel, zone.name, (line, y), scale * 1.1, _YELLOW)
    facings = zone.rows * zone.columns
    bar_left, bar_right = round(width * 0.7), width - 2 * line
    for item in zone.expected:
        y += line
        count = counts.get(item.product, 0)
        color = _GREY if count is None else _RED if not count else _ORANGE if count < item.minimum else _GREEN
        _text(panel, _shortened(item.product, bar_left - 2 * line, scale), (line, y), scale, _WHITE)
        top, bottom = y - round(0.6 * line), y
        cv2.rectangle(panel, (bar_left, top), (bar_right, bottom), _TROUGH, -1)
        share = (bar_right - bar_left) / facings
        if count:
            cv2.rectangle(panel, (bar_left, top), (bar_left + round(share * count), bottom), color, -1)
        # Mark the minimum.
        at = bar_left + round(share * item.minimum)
        cv2.line(panel, (at, top - 2), (at, bottom + 2), _WHITE, 1)
        _text(panel, "-" if count is None else str(count), (bar_right + line // 2, y), scale, color)
    others = [product for product in counts if product not in zone.products]
    # Misplaced products come first.
    others.sort(key=lambda product: product in (EMPTY, UNKNOWN))
    stray = bool(zone.expected) and any(product not in (EMPTY, UNKNOWN) for product in others)
    text = ", ".join(f"{product} {'-' if counts[product] is None else counts[product]}" for product in others)
    y += line
    _text(panel, _shortened(text, width - 2 * line, scale), (line, y), scale, _PINK if stray else _GREY)
    return y


def _event(panel: NDArray[np.uint8], event: Told, y: int, line: int, scale: float) -> None:
    when = str(event.frame) if event.position_s is None else f"{event.position_s:.1f}"
    color = _KINDS[event.event]
    cv2.circle(panel, (line + line // 4, y - round(0.28 * line)), max(3, line // 4), color, -1, cv2.LINE_AA)
    _text(panel, when, (2 * line, y), scale, _GREY)
    left = round(4 * line)
    _text(panel, _shortened(event.headline, panel.shape[1] - left - line // 2, scale), (left, y), scale, _WHITE)


def _text(canvas: NDArray[np.uint8], text: str, at: Xy, scale: float, color: Bgr) -> None:
    cv2.putText(canvas, _ascii(text), at, _FONT, scale, color, 1, cv2.LINE_AA)


def _ascii(text: str) -> str:
    """Return text without accents, with ? for letters missing in OpenCV's fonts."""
    plain = "".join(part for part in unicodedata.normalize("NFKD", text) if not unicodedata.combining(part))
    return plain.encode("ascii", "replace").decode()


def _width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(_ascii(text), _FONT, scale, 1)[0][0])


def _shortened(text: str, width: int, scale: float) -> str:
    if _width(text, scale) <= width:
        return text
    while text and _width(text + "..", scale) > width:
        text = text[:-1]
    return text.rstrip("-_, ") + ".."


def _wrapped(text: str, width: int, scale: float) -> list[str]:
    """Return at most two lines, broken between words and shortened."""
    if _width(text, scale) <= width:
        return [text]
    breaks = [index + 1 for index, letter in enumerate(text) if letter in " -_"]
    at = max((index for index in breaks if _width(text[:index], scale) <= width), default=0)
    if not at:
        return [_shortened(text, width, scale)]
    return [text[:at], _shortened(text[at:], width, scale)]
