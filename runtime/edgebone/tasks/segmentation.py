"""One class per pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgebone.core.segmentation import SegmentationMap
from edgebone.tasks.contract import Task


def _headlines(result: SegmentationMap) -> set[str]:
    return {label for label, pixels in zip(result.labels[1:], result.area[1:], strict=True) if pixels}


def _agreement(a: SegmentationMap, b: SegmentationMap, _: Mapping[str, Any]) -> float:
    return float(np.mean(a.class_id == b.class_id))


SEGMENTATION = Task(
    "segmentation",
    SegmentationMap,
    "areas",
    _headlines,
    _agreement,
    metric="mIoU",
    figures="mIoU",
    evaluation="edgebone.evaluate.segmentation:EVALUATION",
    drawing="edgebone.sinks.annotate:AREAS",
    writer="edgebone.labelling:Masks",
    has_labels=True,
)
