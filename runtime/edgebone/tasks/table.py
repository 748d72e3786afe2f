"""The table of tasks, one row each."""

from __future__ import annotations

from typing import Any

from edgebone.core.results import Result
from edgebone.tasks.anomaly import ANOMALY
from edgebone.tasks.classification import CLASSIFICATION
from edgebone.tasks.contract import Task
from edgebone.tasks.depth import DEPTH
from edgebone.tasks.detection import DETECTION
from edgebone.tasks.embedding import EMBEDDING
from edgebone.tasks.features import FEATURES
from edgebone.tasks.instances import INSTANCES
from edgebone.tasks.keypoints import KEYPOINTS
from edgebone.tasks.matches import MATCHES
from edgebone.tasks.multilabel import MULTILABEL
from edgebone.tasks.oriented import ORIENTED
from edgebone.tasks.raw import RAW
from edgebone.tasks.regression import REGRESSION
from edgebone.tasks.segmentation import SEGMENTATION

# In drawing order: areas first, so that they do not cover boxes.
TASKS: tuple[Task[Any], ...] = (
    DEPTH,
    SEGMENTATION,
    ANOMALY,
    DETECTION,
    INSTANCES,
    ORIENTED,
    KEYPOINTS,
    CLASSIFICATION,
    MULTILABEL,
    REGRESSION,
    EMBEDDING,
    MATCHES,
    FEATURES,
    RAW,
)


def task_of_result(result: Result) -> Task[Any] | None:
    """Return the task of a result; None if unknown."""
    return next((task for task in TASKS if task.of(result) is not None), None)


def headlines(result: Result) -> set[str]:
    """Return a result's summary words, once each: the best class, or the classes found."""
    task = task_of_result(result)
    return {type(result).__name__.lower()} if task is None else task.headlines(result)
