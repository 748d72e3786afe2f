"""What every result with boxes is asked: for its boxes, for some of its rows, and to carry tracks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.detections import Detections, Index
from edgebone.core.results import Result
from edgebone.tasks.table import TASKS, task_of_result

BOXED = tuple(task for task in TASKS if task.boxes is not None)
"""The tasks whose results have boxes."""


def boxes_of(result: Result) -> Detections | None:
    """Return the boxes of a result, row for row; None if it has none."""
    task = task_of_result(result)
    return None if task is None or task.boxes is None else task.boxes(result)


def only_rows(result: Result, index: Index) -> Result:
    """Return a result with boxes with only these rows of it."""
    rows: Any = result
    found: Result = rows[index]
    return found


def with_tracks(result: Result, tracker_id: NDArray[np.int64]) -> Result:
    """Return a result with boxes with the tracks of its rows: int64, shape (n,), -1 for a row without a track."""
    rows: Any = result
    found: Result = dataclasses.replace(rows, tracker_id=tracker_id)
    return found


def with_data(result: Result, data: Mapping[str, NDArray[Any]]) -> Result:
    """Return a result with boxes with these further arrays, whose first axis is its rows."""
    rows: Any = result
    found: Result = dataclasses.replace(rows, data={**rows.data, **data})
    return found
