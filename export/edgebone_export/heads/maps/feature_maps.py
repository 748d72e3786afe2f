"""Maps that dense heads are fitted on: arrays by tap, checked once and read one batch at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgebone_export.errors import ExportError

Maps = Mapping[str, NDArray[np.floating[Any]]]
"""By tap, such as ``features_s8``: (n, channels, height, width), float32 or float16, one row per view of a picture.

Only the rows of a batch are read at a time, so a ``np.memmap`` works if memory is short.
"""
_TAP = re.compile(r"features_s([0-9]+)")
# Enough pictures for a channel's mean.
_MOST_SAMPLED = 64
_LEAST_SPREAD = 0.01


def stride_of(tap: str) -> int:
    """Return the network input pixels per cell of a tap's maps.

    Raises:
        ExportError: The tap has no maps.
    """
    found = _TAP.fullmatch(tap)
    if found is None:
        raise ExportError(f"a dense head reads maps, such as features_s8 for stride 8; found {tap!r}")
    return int(found[1])


def finest_first(taps: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the taps' names in the order in which a head reads them."""
    return tuple(sorted(taps, key=stride_of))


def check_maps(maps: Maps, what: str, rows: int | None = None, size_hw: tuple[int, int] | None = None) -> int:
    """Check that maps are valid and match each other.

    Args:
        maps: The maps.
        what: Description for messages, such as ``training pictures``.
        rows: Expected number of rows; None takes the first tap's.
        size_hw: Height and width of the network's input in pixels; None if unknown.

    Returns:
        The number of rows.

    Raises:
        ExportError: There are no taps, or the number of rows or a shape is wrong.
    """
    if not maps:
        raise ExportError(f"{what}: no maps; a dense head reads one tap or more, such as features_s8")
    for tap in finest_first(maps):
        shape, dtype = maps[tap].shape, maps[tap].dtype
        if len(shape) != 4 or dtype not in (np.float32, np.float16):
            found = f"{dtype} {list(shape)}"
            raise ExportError(f"{what}: {tap}: expected float32 (n, channels, height, width), found {found}")
        rows = shape[0] if rows is None else rows
        if shape[0] != rows:
            raise ExportError(f"{what}: {tap}: expected maps of {rows} pictures, found {shape[0]}")
        stride = stride_of(tap)
        if size_hw and any(abs(pixels / stride - cells) >= 1 for pixels, cells in zip(size_hw, shape[2:], strict=True)):
            raise ExportError(
                f"{what}: {tap} has {shape[3]}x{shape[2]} cells of {stride} pixels, which is not {size_hw[1]}x"
                f"{size_hw[0]}; masks and boxes are in the pixels of the network's input"
            )
    assert rows is not None, "at least one tap exists"
    return rows


def check_same_taps(maps: Maps, train: Maps, what: str) -> None:
    """Check that maps have the taps and shapes of the training pictures.

    Raises:
        ExportError: A tap is missing or superfluous, or has another shape.
    """
    missing, more = sorted(train.keys() - maps.keys()), sorted(maps.keys() - train.keys())
    if missing or more:
        found = f"{', '.join(missing)} missing" if missing else f"{', '.join(more)} superfluous"
        raise ExportError(f"{what}: {found}; the training pictures have the taps {', '.join(finest_first(train))}")
    for tap, array in maps.items():
        if array.shape[1:] != train[tap].shape[1:]:
            raise ExportError(
                f"{what}: {tap} has maps {list(array.shape[1:])}, the training pictures {list(train[tap].shape[1:])}"
            )


def read(maps: Maps, rows: NDArray[np.int64] | Sequence[int]) -> tuple[Tensor, ...]:
    """Read some rows of every tap as float32, finest first; channels last in memory, which is faster on the CPU."""
    taken = (torch.from_numpy(np.asarray(maps[tap][rows], np.float32)) for tap in finest_first(maps))
    return tuple(item.contiguous(memory_format=torch.channels_last) for item in taken)


def channel_statistics(maps: Maps, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Return mean and standard deviation of each tap's channels, finest first; each float32 (channels,)."""
    found = []
    for tap in finest_first(maps):
        count = len(maps[tap])
        rows = np.sort(np.random.default_rng(seed).permutation(count)[:_MOST_SAMPLED])
        values = np.asarray(maps[tap][rows], np.float32)
        deviation = values.std(axis=(0, 2, 3), dtype=np.float64)
        # A nearly constant channel must not be amplified: it would drown all others once it changes.
        deviation = np.maximum(deviation, max(_LEAST_SPREAD * float(np.median(deviation)), 1e-6))
        mean = values.mean(axis=(0, 2, 3), dtype=np.float64)
        found.append((torch.tensor(mean, dtype=torch.float32), torch.tensor(deviation, dtype=torch.float32)))
    return found
