"""What a second model found within crops, in the frame's pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgebone.core.detections import PARENT, Detections, joined
from edgebone.core.keypoints import KeyPoints
from edgebone.core.oriented import ANGLE, CORNERS, hulls_of
from edgebone.core.results import Result, Results
from edgebone.tasks.boxed import boxes_of
from edgebone.tasks.detection import DETECTION
from edgebone.tasks.keypoints import KEYPOINTS
from edgebone.tasks.oriented import ORIENTED
from edgebone.vision.cutting import Cut

MOVABLE = (DETECTION, KEYPOINTS, ORIENTED)
"""The tasks whose results can be moved from a crop into the frame."""


def in_frame(answers: Sequence[Results | None], cuts: Sequence[Cut], rows: Sequence[int]) -> Result:
    """Return what was found within crops, best first, with the rows of their parents.

    Args:
        answers: The second model's results for each crop; None where it failed.
        cuts: The crops.
        rows: The row of the box that each crop was cut out for.
    """
    parts: list[Any] = []
    for answer, cut, row in zip(answers, cuts, rows, strict=True):
        heads = [] if answer is None else [*answer.values()] if isinstance(answer, dict) else [answer]
        found = next((result for result in heads if any(task.of(result) is not None for task in MOVABLE)), None)
        boxes = None if found is None else boxes_of(found)
        if found is not None and boxes is not None and len(boxes):
            parts.append(_moved(found, boxes, cut, row))
    if parts and KEYPOINTS.of(parts[0]) is not None:
        return _joined_keypoints(parts)
    return joined(parts, PARENT)


def _moved(result: Result, boxes: Detections, cut: Cut, row: int) -> Result:
    data = {**boxes.data, PARENT: np.full(len(boxes), row, np.int64)}
    xyxy = cut.boxes_in_picture(boxes.xyxy)
    points = KEYPOINTS.of(result)
    if points is not None:
        return dataclasses.replace(points, xy=cut.points_in_picture(points.xy), xyxy=xyxy, data=data)
    if CORNERS in data:
        corners = cut.points_in_picture(data[CORNERS])
        (along_x, _, _), (along_y, _, _) = cut.to_picture
        turn = data[ANGLE] + np.arctan2(along_y, along_x)
        angle = np.asarray((turn + np.pi / 2) % np.pi - np.pi / 2, np.float32)
        xyxy, data = hulls_of(corners), {**data, CORNERS: corners, ANGLE: angle}
    return dataclasses.replace(boxes, xyxy=xyxy, data=data)


def _joined_keypoints(parts: Sequence[KeyPoints]) -> KeyPoints:
    def together(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    seen = None if parts[0].keypoint_confidence is None else together("keypoint_confidence")
    data = {name: np.concatenate([part.data[name] for part in parts]) for name in parts[0].data}
    scores = together("detection_confidence")
    whole = KeyPoints(together("xy"), seen, together("xyxy"), scores, together("class_id"), parts[0].skeleton, data)
    return whole[np.argsort(-scores, kind="stable")]
