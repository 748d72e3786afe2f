"""Motion JPEG: each frame is a separate picture, decoded on first access."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core import limits
from edgebone.core.errors import SourceError
from edgebone.core.pixels import too_large

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
# Markers without a length: TEM and the restarts.
_BARE = {0x01, *range(0xD0, 0xD8)}
# Start of a frame, in any coding; C4, C8 and CC in between are tables and a reserved marker.
_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def decode_jpeg(data: NDArray[np.uint8], source: str) -> NDArray[np.uint8]:
    """Decode one picture; its header is checked before memory is allocated for its pixels.

    Args:
        data: uint8, the file's bytes.
        source: The camera's name, for the message.

    Returns:
        uint8, shape (height, width, 3), BGR.

    Raises:
        SourceError: It is damaged, or larger than ``limits`` allows.
    """
    content = data.tobytes()
    size_hw = jpeg_size(content)
    if size_hw is None:
        raise SourceError(f"{source}: a damaged picture of {data.size} bytes")
    refusal = too_large(f"{source}: a picture", size_hw, limits.FRAME_PIXELS)
    if refusal:
        raise SourceError(refusal)
    # Each scan is a pass over all pixels, but may take only a few bytes.
    if content.count(bytes([0xFF, _SCAN])) > limits.JPEG_SCANS:
        raise SourceError(f"{source}: a picture of more than {limits.JPEG_SCANS} scans")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise SourceError(f"{source}: a damaged picture of {data.size} bytes")
    return np.asarray(image, np.uint8)


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Return height and width from a JPEG's header (ITU-T T.81, annex B); None without such a header."""
    if not content.startswith(bytes([0xFF, _START, 0xFF])):
        return None
    place = 2
    while (place := content.find(b"\xff", place)) >= 0:
        kind = content[place + 1] if place + 1 < len(content) else _END
        if kind == 0xFF:
            place += 1
        elif kind == 0 or kind in _BARE:
            place += 2
        elif kind in (_END, _SCAN):
            break
        elif kind in _FRAME:
            height, width = content[place + 5 : place + 7], content[place + 7 : place + 9]
            size_hw = int.from_bytes(height, "big"), int.from_bytes(width, "big")
            return size_hw if len(width) == 2 and all(size_hw) else None
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return None
