"""Draws zones, lines and their counts into the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.vision.zone_file import Zone
from edgebone.vision.zones import Zones

_COLOR_BGR = (66, 228, 240)


def draw_zones(
    image_bgr: NDArray[np.uint8], zones: Zones, source: str, counts: dict[str, dict[str, int]]
) -> NDArray[np.uint8]:
    """Draw a source's zones and lines with their counts.

    Args:
        image_bgr: uint8, shape (height, width, 3), BGR; drawn onto.
        zones: The zones.
        source: The picture's source.
        counts: From :meth:`Zones.counts`.

    Returns:
        The same picture.
    """
    height, width = image_bgr.shape[:2]
    scale = max(0.4, min(height, width) / 900)
    thickness = max(1, round(min(height, width) / 400))
    for place in zones.file.of(source):
        shares = place.polygon if isinstance(place, Zone) else [place.start, place.end]
        points = np.rint(np.array(shares) * (width - 1, height - 1)).astype(np.int32)
        cv2.polylines(image_bgr, [points], isinstance(place, Zone), _COLOR_BGR, thickness, cv2.LINE_AA)
        counted = "  ".join(f"{what} {number}" for what, number in counts.get(place.name, {}).items())
        # OpenCV's font supports only ASCII.
        text = f"{place.name}  {counted}".encode("ascii", "replace").decode()
        _write(image_bgr, text, points[points[:, 1].argmin()], scale, thickness)
    return image_bgr


def _write(image_bgr: NDArray[np.uint8], text: str, at_xy: NDArray[np.int32], scale: float, thickness: int) -> None:
    """Write text on a dark strip above a point, or below it at the picture's upper edge."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    left = max(0, min(int(at_xy[0]), image_bgr.shape[1] - width - 8))
    bottom = max(int(at_xy[1]) - 2, height + below + 6)
    cv2.rectangle(image_bgr, (left, bottom - height - below - 6), (left + width + 8, bottom), (0, 0, 0), -1)
    at = (left + 4, bottom - below - 2)
    cv2.putText(image_bgr, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, _COLOR_BGR, thickness, cv2.LINE_AA)
