"""Objects with their keypoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgebone.core.boxes import matched_share
from edgebone.core.compare import REDUCED
from edgebone.core.keypoints import KeyPoints, keypoint_rows, same_keypoints
from edgebone.tasks.contract import Task
from edgebone.tasks.detection import LEAST_SCORE


def _headlines(result: KeyPoints) -> set[str]:
    return set(result.labels)


def _agreement(a: KeyPoints, b: KeyPoints, params: Mapping[str, Any]) -> float:
    """Compare boxes as for detection; the keypoints of the same box must be near each other."""
    rows, others = keypoint_rows(a), keypoint_rows(b)
    return matched_share(
        rows,
        others,
        min_score=float(params.get("score", LEAST_SCORE)),
        full=False,
        iou=REDUCED.iou,
        score_within=REDUCED.score_within,
        alike=same_keypoints(rows, others, REDUCED.iou, 2),
    )


KEYPOINTS = Task(
    "keypoints",
    KeyPoints,
    "keypoints",
    _headlines,
    _agreement,
    metric="keypoint AP",
    figures="COCO's mAP of keypoints",
    evaluation="edgebone.evaluate.keypoints:EVALUATION",
    drawing="edgebone.sinks.annotate:KEYPOINTS",
    writer="edgebone.labelling:Keypoints",
    has_labels=True,
    boxes=lambda result: result.boxes,
)
