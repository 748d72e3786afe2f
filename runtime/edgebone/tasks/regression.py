"""Named numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgebone.core.results import Regression
from edgebone.tasks.contract import Task


def _headlines(_: Regression) -> set[str]:
    # Numbers are not counted: hardly any value repeats.
    return set()


def _agreement(a: Regression, b: Regression, _: Mapping[str, Any]) -> float:
    # Not by direction: a single number has none.
    off, size = np.linalg.norm(a.values - b.values), np.linalg.norm(b.values)
    return max(0.0, 1 - float(off / size)) if size else float(not off)


REGRESSION = Task("regression", Regression, "numbers", _headlines, _agreement)
