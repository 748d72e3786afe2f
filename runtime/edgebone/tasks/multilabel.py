"""Independent labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.results import MultiLabel
from edgebone.tasks.contract import Task


def _headlines(result: MultiLabel) -> set[str]:
    return set(result.labels)


def _agreement(a: MultiLabel, b: MultiLabel, _: Mapping[str, Any]) -> float:
    return float(set(a.labels) == set(b.labels))


MULTILABEL = Task(
    "multilabel",
    MultiLabel,
    "labels",
    _headlines,
    _agreement,
    drawing="edgebone.sinks.annotate:LABELS",
    has_labels=True,
)
