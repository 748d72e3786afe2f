"""Motion JPEG: each frame is a picture of its own, decoded when somebody looks at it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError


def decode_jpeg(data: NDArray[np.uint8], source: str) -> NDArray[np.uint8]:
    """Decode one picture.

    Args:
        data: uint8, the file's bytes.
        source: The camera's name, for the message.

    Returns:
        uint8, shape (height, width, 3), BGR.

    Raises:
        SourceError: It is damaged.
    """
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise SourceError(f"{source}: a damaged picture of {data.size} bytes")
    return np.asarray(image, np.uint8)
