"""Compare boxes with annotations, using the code that evaluates a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.boxes import iou_matrix
from edgebone.core.detections import Detections
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head
from edgebone.core.results import Results
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.evaluate.detection import CocoData, evaluate_detector
from edgebone.tasks.detection import LEAST_SCORE
from edgebone_export.need_packages import need

Boxes = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Boxes of one picture: (k, 4) as left, top, right, bottom in network pixels, and (k,) class ids."""
_HIT_IOU = 0.5


def check_counting() -> None:
    """Check that average precision can be computed.

    Raises:
        MissingDependencyError: faster-coco-eval is not installed.
    """
    need("fitting detectors", "heads", "faster_coco_eval")


def decoder(
    labels: Sequence[str], boxes: int, size_hw: tuple[int, int], iou: float
) -> Callable[[NDArray[np.float32]], Detections]:
    """Return a decoder of one picture's (boxes, 6) as in the runtime, in network pixels, at the score for counting."""
    head = Head("boxes@1", ("boxes",), tuple(labels), {"score": LEAST_SCORE, "iou": iou, "max_detections": boxes})
    decode = make_decoder("boxes", head, [TensorSpec("boxes", "float32", ("batch", boxes, 6))], size_hw)
    whole = Geometry(size_hw, size_hw, (1.0, 1.0), (0.0, 0.0))
    return lambda rows: cast(Detections, decode([rows], whole))


class _Answers:
    """Detections by the index that replaces the picture's file."""

    max_batch = 1

    def __init__(self, found: Sequence[Detections]) -> None:
        self._found = found

    def __call__(self, picture: list[Any]) -> list[Results]:
        return [self._found[int(Path(item).name)] for item in picture]


def average_precision(
    found: Sequence[Detections], truth: Sequence[Boxes], labels: Sequence[str], size_hw: tuple[int, int]
) -> dict[str, float]:
    """Return COCO's figures, 0 to 1; those without anything to count are omitted.

    Args:
        found: Detections of each picture.
        truth: Annotated boxes of each picture; at least one box in total.
        labels: Class names.
        size_hw: Height and width of the pictures, in pixels.
    """
    height, width = size_hw
    annotations = [
        {
            "id": number,
            "image_id": row,
            "category_id": class_id,
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": 0,
        }
        for number, (row, (left, top, right, bottom), class_id) in enumerate(
            (
                (row, box, class_id)
                for row, (xyxy, ids) in enumerate(truth)
                for box, class_id in zip(xyxy.tolist(), ids.tolist(), strict=True)
            ),
            start=1,
        )
    ]
    instances = {
        "images": [{"id": row, "file_name": str(row), "width": width, "height": height} for row in range(len(truth))],
        "categories": [{"id": index, "name": label} for index, label in enumerate(labels)],
        "annotations": annotations,
    }
    data = CocoData(
        "the test pictures",
        msgspec.json.encode(instances),
        {row: Path(str(row)) for row in range(len(truth))},
        {index: index for index in range(len(labels))},
    )
    figures = evaluate_detector(_Answers(found), "boxes", data)
    return {name: value for name, value in figures.items() if value >= 0}


def best_score(found: Sequence[Detections], truth: Sequence[Boxes]) -> tuple[float, float]:
    """Return the score threshold with the best F1 at an IoU of 0.5, and that F1."""
    scores, hits = _matched(found, truth)
    if not hits.any():
        return 0.5, 0.0
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + _count(truth))
    best = int(f1.argmax())
    # Rounded down, so that the box itself is shown.
    return float(np.floor(scores[order][best] * 1000) / 1000), round(float(f1[best]), 6)


def f1_at(least: float, found: Sequence[Detections], truth: Sequence[Boxes]) -> float:
    """Return the F1, at an IoU of 0.5, of the boxes with a score of ``least`` or more."""
    scores, hits = _matched(found, truth)
    shown = scores >= least
    return round(2 * float(hits[shown].sum()) / max(float(shown.sum()) + _count(truth), 1.0), 6)


def _count(truth: Sequence[Boxes]) -> int:
    return sum(len(ids) for _, ids in truth)


def _matched(found: Sequence[Detections], truth: Sequence[Boxes]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return each found box's score, and whether it is right.

    Each box takes the best free annotation of its class, highest scores first, as in COCO.
    """
    scores, hits = [], []
    for result, (xyxy, class_id) in zip(found, truth, strict=True):
        overlap = iou_matrix(result.xyxy, xyxy) * (result.class_id[:, None] == class_id[None])
        for row in np.argsort(-result.confidence, kind="stable"):
            place = int(overlap[row].argmax()) if len(xyxy) else -1
            hit = place >= 0 and overlap[row, place] >= _HIT_IOU
            if hit:
                overlap[:, place] = 0
            scores.append(float(result.confidence[row]))
            hits.append(hit)
    return np.array(scores, np.float64), np.array(hits, np.bool_)
