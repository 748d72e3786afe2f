"""How far away every pixel is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgebone.core.depth import DepthMap
from edgebone.tasks.contract import Task


def _headlines(_: DepthMap) -> set[str]:
    # Numbers are not counted: hardly any value repeats.
    return set()


def _agreement(a: DepthMap, b: DepthMap, _: Mapping[str, Any]) -> float:
    """Return 1 less the mean difference, as a share of the mean size."""
    off, size = float(np.abs(a.values - b.values).mean()), float(np.abs(b.values).mean())
    return max(0.0, 1 - off / size) if size else float(not off)


DEPTH = Task(
    "depth",
    DepthMap,
    "depth",
    _headlines,
    _agreement,
    metric="delta1",
    figures="absolute relative error and delta1",
    evaluation="edgebone.evaluate.depth:EVALUATION",
    drawing="edgebone.sinks.annotate:DEPTH",
)
