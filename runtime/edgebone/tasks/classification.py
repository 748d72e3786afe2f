"""One class of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.results import Classification
from edgebone.tasks.contract import Task


def _headlines(result: Classification) -> set[str]:
    return {result.decision or result.label}


def _agreement(a: Classification, b: Classification, _: Mapping[str, Any]) -> float:
    return float(a.class_id[0] == b.class_id[0])


CLASSIFICATION = Task(
    "classification",
    Classification,
    "classes",
    _headlines,
    _agreement,
    metric="top-1",
    figures="top-1 and top-5",
    evaluation="edgebone.evaluate.classification:EVALUATION",
    drawing="edgebone.sinks.annotate:CLASSES",
    writer="edgebone.labelling:Classes",
    one_score_a_label=True,
    has_labels=True,
)
