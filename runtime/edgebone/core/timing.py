"""Durations on the monotonic clock and their percentiles."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Percentiles:
    """The percentiles of a duration, in milliseconds; all zero if nothing was measured."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


def percentiles(durations_ns: Iterable[int]) -> Percentiles:
    """Return the percentiles of durations in nanoseconds."""
    values_ms = np.fromiter(durations_ns, np.float64) / 1e6
    if not values_ms.size:
        return Percentiles(0.0, 0.0, 0.0, 0.0)
    p50, p90, p99, top = np.percentile(values_ms, (50, 90, 99, 100)).tolist()
    return Percentiles(round(p50, 4), round(p90, 4), round(p99, 4), round(top, 4))


class Window:
    """The latest durations of one stage; old ones are dropped, so that memory is bounded."""

    def __init__(self, size: int = 2048) -> None:
        self._values_ns: deque[int] = deque(maxlen=size)

    def add(self, duration_ns: int) -> None:
        """Add one duration."""
        self._values_ns.append(duration_ns)

    def percentiles(self) -> Percentiles:
        """Return the percentiles of the durations in the window."""
        return percentiles(tuple(self._values_ns))
