"""Compare the speed of two engines in alternate turns on one picture."""

from __future__ import annotations

import statistics
import time

import numpy as np
from numpy.typing import NDArray

from edgebone.engines.protocol import Engine

_WARM_UP_S = 0.3
_TURNS, _TURN_S = 7, 0.15


def speedup(fast: Engine, plain: Engine, picture: NDArray[np.uint8]) -> float:
    """Return the speed of one engine relative to another: the median over turns of the ratio of their medians.

    Args:
        fast: The engine that should be faster.
        plain: The engine to compare with.
        picture: A network input, uint8 (batch, height, width, 3).
    """
    for engine in (fast, plain):
        _median_s(engine, picture, _WARM_UP_S)
    ratios = []
    for _ in range(_TURNS):
        own = _median_s(fast, picture, _TURN_S)
        ratios.append(_median_s(plain, picture, _TURN_S) / own)
    return statistics.median(ratios)


def _median_s(engine: Engine, picture: NDArray[np.uint8], seconds: float) -> float:
    feeds = {engine.inputs[0].name: picture}
    times: list[float] = []
    end = time.monotonic() + seconds
    while len(times) < 3 or time.monotonic() < end:
        started = time.perf_counter()
        engine.run(feeds)
        times.append(time.perf_counter() - started)
    return statistics.median(times)
