"""Map masks of pictures to the pixels of the network's input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgebone.core.geometry import Geometry

IGNORED = 255


def mask_to_network(mask: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Return the nearest class for each pixel of the network's input; 255 outside the picture."""
    rows, rows_inside = _nearest(geometry, mask.shape[0], 0)
    columns, columns_inside = _nearest(geometry, mask.shape[1], 1)
    made = mask[rows][:, columns]
    made[~rows_inside] = IGNORED
    made[:, ~columns_inside] = IGNORED
    return np.asarray(made, np.uint8)


def _nearest(geometry: Geometry, size: int, axis: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    centers = np.arange(geometry.network_hw[axis]) + 0.5
    source = (centers - geometry.offset_xy[1 - axis]) / geometry.scale_xy[1 - axis]
    # A mask may have another size than its picture.
    place = np.floor(source * size / geometry.source_hw[axis]).astype(np.int64)
    return np.clip(place, 0, size - 1), (place >= 0) & (place < size)
