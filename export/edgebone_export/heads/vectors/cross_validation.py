"""Cross-validation: fit on some pictures and predict the others, so that no choice is made on training data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgebone_export.heads.data.splits import Rows
from edgebone_export.heads.features.fitted import Features
from edgebone_export.heads.vectors.cores import one_core_per_call
from edgebone_export.heads.vectors.graph import Layer


class Path(Protocol):
    """A model that is fitted in steps, each continuing from the last."""

    def advance(self, step: float) -> None:
        """Fit the next step."""

    def scores(self, x: Features) -> Features:
        """Return the current model's scores for standardised features (n, d)."""

    def layers(self) -> tuple[Layer, ...]:
        """Return layers that compute the same scores; later steps do not change them."""


Start = Callable[[NDArray[Any]], Path]
"""Starts a path on some rows, by index."""


@dataclass(frozen=True)
class Validated:
    """A model, and the cross-validation results of models like it.

    Attributes:
        layers: The model fitted on all rows, after the best step.
        step: Index of that step.
        tried: Figures of every step tried.
        rows: int64: the predicted rows.
        scores: float32 (rows, width): predictions at the best step, each by a model that had not seen the row's
            picture.
        fold: int64: the fold of each predicted row.
    """

    layers: tuple[Layer, ...]
    step: int
    tried: list[dict[str, Any]]
    rows: Rows
    scores: Features
    fold: Rows


def fit_and_validate(
    start: Start,
    x: Features,
    fold: Rows,
    steps: Sequence[float],
    judge: Callable[[Features, Rows], dict[str, float]],
    patience: int,
    progress: Callable[[str], None],
    step_name: str,
) -> Validated:
    """Advance the model of all rows, and one per fold that has not seen the fold, through the steps together.

    Stops when predictions only get worse. Each model has a thread of its own.

    Args:
        start: Starts a path.
        x: Standardised features (n, d).
        fold: The fold in which each row is tested; -1 for none. At least one row must be in a fold.
        steps: Steps in order.
        judge: Returns figures of predictions for rows, including ``loss``: lower is better.
        patience: Number of consecutive steps worse than the best before stopping.
        progress: Called with one line per step.
        step_name: Name of a step in figures and messages.
    """
    rows = np.flatnonzero(fold >= 0)
    tests = [np.flatnonzero(fold == number) for number in range(int(fold.max()) + 1)]
    tried: list[dict[str, Any]] = []
    best: Validated | None = None
    with one_core_per_call(), ThreadPoolExecutor(min(len(tests) + 1, os.cpu_count() or 1)) as pool:
        whole, *paths = pool.map(
            start, [np.arange(len(fold)), *(np.flatnonzero(fold != at) for at in range(len(tests)))]
        )

        def go(path: Path, test: Rows) -> Features:
            path.advance(steps[len(tried)])
            return path.scores(x[test])

        while len(tried) < len(steps):
            _, *parts = pool.map(go, [whole, *paths], [rows[:0], *tests])
            every = np.empty((len(fold), parts[0].shape[1]), np.float32)
            for test, part in zip(tests, parts, strict=True):
                every[test] = part
            figures = {name: round(value, 6) for name, value in judge(every[rows], rows).items()}
            step = steps[len(tried)]
            tried.append({step_name: step, **figures})
            progress(f"{step_name} {step:g}: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
            if best is None or figures["loss"] < tried[best.step]["loss"]:
                best = Validated(whole.layers(), len(tried) - 1, tried, rows, every[rows], fold[rows])
            elif len(tried) - 1 - best.step > patience:
                break
    assert best is not None
    return best


def fit(start: Start, n: int, steps: Sequence[float]) -> tuple[Layer, ...]:
    """Fit a model on n rows through the steps, without testing."""
    with one_core_per_call():
        path = start(np.arange(n))
        for step in steps:
            path.advance(step)
        return path.layers()
