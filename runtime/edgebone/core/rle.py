"""COCO's run-length encoding of masks. Source: cocoapi, ``common/maskApi.c``.

Runs alternate between zeros and ones, column by column, beginning with zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Six bits of a character: five of the number and one that says whether more follow. A picture's pixels need seven.
_MOST_CHARACTERS = 7


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Return the uncompressed encoding of a mask, (height, width)."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    lengths: list[int] = np.diff(edges).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def runs_of(bitmap: NDArray[np.bool_], left_top: tuple[int, int], size_hw: tuple[int, int]) -> NDArray[np.int64]:
    """Return the run lengths of a mask that is empty outside a bitmap, without making the mask.

    Args:
        bitmap: (h, w).
        left_top: Where the bitmap lies in the mask, in pixels.
        size_hw: Height and width of the mask.

    Returns:
        int64, (runs,).
    """
    (left, top), (height, width) = left_top, size_hw
    columns = np.zeros((bitmap.shape[1], bitmap.shape[0] + 2), np.int8)
    columns[:, 1:-1] = bitmap.T
    steps = np.diff(columns, axis=1)
    starts, ends = (
        (column + left) * height + row + top for column, row in (np.nonzero(steps == 1), np.nonzero(steps == -1))
    )
    # A run that reaches the lower edge goes on at the top of the next column.
    goes_on = ends[:-1] == starts[1:]
    edges = np.column_stack([np.delete(starts, np.flatnonzero(goes_on) + 1), np.delete(ends, np.flatnonzero(goes_on))])
    edges = np.concatenate([[0], edges.ravel(), [height * width]])
    runs = np.diff(edges)
    return runs[:-1] if len(runs) > 1 and not runs[-1] else runs


def compressed(runs: NDArray[np.int64]) -> str:
    """Return run lengths as COCO's string of ASCII characters, as pycocotools writes it."""
    rest = runs.astype(np.int64)
    # From the fourth on, the difference from the run before the last one is written.
    rest[3:] -= runs[1:-2]
    characters = np.zeros((len(rest), _MOST_CHARACTERS), np.uint8)
    used = np.zeros(characters.shape, np.bool_)
    more = np.ones(len(rest), np.bool_)
    for place in range(_MOST_CHARACTERS):
        five = rest & 31
        rest >>= 5
        used[:, place] = more
        more = more & np.where(five & 16, rest != -1, rest != 0)
        characters[:, place] = five + 32 * more + 48
        if not more.any():
            break
    return characters[used].tobytes().decode("ascii")
