"""Objects with their areas."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edgebone.core.boxes import iou_matrix, matched_share
from edgebone.core.compare import REDUCED
from edgebone.core.detections import Detections
from edgebone.core.masks import mask_iou
from edgebone.tasks.contract import Task
from edgebone.tasks.detection import LEAST_SCORE, rows_of


def _headlines(result: Detections) -> set[str]:
    return set(result.labels)


def _agreement(a: Detections, b: Detections, params: Mapping[str, Any]) -> float:
    """Compare boxes as for detection; the areas of the same box must overlap as much as the boxes."""
    assert a.mask is not None
    assert b.mask is not None
    same_box = iou_matrix(a.xyxy, b.xyxy) >= REDUCED.iou
    least = float(params.get("score", LEAST_SCORE))
    return matched_share(
        rows_of(a),
        rows_of(b),
        min_score=least,
        full=False,
        iou=REDUCED.iou,
        score_within=REDUCED.score_within,
        alike=mask_iou(a.mask, b.mask, same_box) >= REDUCED.iou,
    )


INSTANCES = Task(
    "instances",
    Detections,
    "masks",
    _headlines,
    _agreement,
    metric="mask AP",
    figures="COCO's mAP of masks",
    evaluation="edgebone.evaluate.instances:EVALUATION",
    drawing="edgebone.sinks.annotate:INSTANCES",
    writer="edgebone.labelling:Boxes",
    has_labels=True,
    own=lambda result: result.mask is not None,
    boxes=lambda result: dataclasses.replace(result, mask=None),
)
