"""Turned boxes around objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.boxes import matched_share
from edgebone.core.compare import REDUCED
from edgebone.core.detections import Detections
from edgebone.core.oriented import CORNERS, rotated_iou
from edgebone.tasks.contract import Task
from edgebone.tasks.detection import LEAST_SCORE, rows_of


def _headlines(result: Detections) -> set[str]:
    return set(result.labels)


def _agreement(a: Detections, b: Detections, params: Mapping[str, Any]) -> float:
    """Compare boxes as for detection, by their overlap as they are turned."""
    return matched_share(
        rows_of(a),
        rows_of(b),
        min_score=float(params.get("score", LEAST_SCORE)),
        full=False,
        iou=REDUCED.iou,
        score_within=REDUCED.score_within,
        alike=rotated_iou(a[CORNERS], b[CORNERS]) >= REDUCED.iou,
    )


ORIENTED = Task(
    "oriented",
    Detections,
    "oriented boxes",
    _headlines,
    _agreement,
    metric="oriented AP",
    figures="mAP of oriented boxes",
    evaluation="edgebone.evaluate.oriented:EVALUATION",
    drawing="edgebone.sinks.annotate:ORIENTED",
    writer="edgebone.labelling:Oriented",
    has_labels=True,
    own=lambda result: CORNERS in result.data,
    boxes=lambda result: result,
)
