"""Boxes around objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.boxes import matched_share
from edgebone.core.compare import REDUCED
from edgebone.core.detections import Detections
from edgebone.core.oriented import CORNERS
from edgebone.tasks.contract import Task

# Boxes below it do not change the figures noticeably.
LEAST_SCORE = 0.01


def _headlines(result: Detections) -> set[str]:
    return set(result.labels)


def _agreement(a: Detections, b: Detections, params: Mapping[str, Any]) -> float:
    """Compare boxes from the head's score threshold up."""
    least = float(params.get("score", LEAST_SCORE))
    return matched_share(
        rows_of(a), rows_of(b), min_score=least, full=False, iou=REDUCED.iou, score_within=REDUCED.score_within
    )


def rows_of(found: Detections) -> NDArray[np.float64]:
    """Return boxes, scores and classes as rows (n, 6)."""
    return np.column_stack([found.xyxy, found.confidence, found.class_id]).astype(np.float64)


DETECTION = Task(
    "detection",
    Detections,
    "boxes",
    _headlines,
    _agreement,
    metric="AP",
    figures="COCO's mAP",
    evaluation="edgebone.evaluate.detection:EVALUATION",
    drawing="edgebone.sinks.annotate:BOXES",
    writer="edgebone.labelling:Boxes",
    has_labels=True,
    own=lambda result: result.mask is None and CORNERS not in result.data,
    boxes=lambda result: result,
)
