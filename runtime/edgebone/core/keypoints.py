"""Objects with their keypoints, with supervision's field names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from edgebone.core.boxes import SAME_PX, same_place
from edgebone.core.detections import Detections, Index, import_supervision, rows_at
from edgebone.core.shown import Shown

# Keypoints that are farther apart than this share of their box's diagonal are no longer the same.
_APART = 0.1
# Pairs of objects that are compared at a time: 17 keypoints of 4,096 pairs are 1.6 MB.
_AT_ONCE = 1 << 12


@dataclass(frozen=True)
class Skeleton:
    """What the keypoints of an object are.

    Attributes:
        names: The keypoints' names, in order; all differ.
        edges: The places in ``names`` of two keypoints that are joined, from 0.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        """Reject edges that lead nowhere, and names that do not tell keypoints apart."""
        if not self.names:
            raise ValueError("a skeleton needs keypoints, got none")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"keypoints must have different names, got {', '.join(self.names)}")
        for a, b in self.edges:
            if not (0 <= a < len(self.names) and 0 <= b < len(self.names)) or a == b:
                raise ValueError(
                    f"the skeleton joins keypoints {a} and {b}, but there are {len(self.names)}, counted from 0"
                )


@dataclass(frozen=True, repr=False)
class KeyPoints(Shown):
    """The objects found in one picture with the keypoints of each, best first; none found is a length of 0.

    Indexing is as of :class:`edgebone.core.detections.Detections`.

    Attributes:
        xy: float32, shape (n, k, 2): x and y of each object's keypoints in pixels of the picture, (0, 0) being the
            outer corner of the first pixel.
        keypoint_confidence: float32, shape (n, k), 0 to 1: how sure it is that the keypoint is visible; None if the
            network does not say.
        xyxy: float32, shape (n, 4): the objects' boxes, as in Detections.
        detection_confidence: float32, shape (n,), 0 to 1, descending: the objects' scores.
        class_id: int64, shape (n,): the class's index in the bundle's labels.
        skeleton: The keypoints' names, and which are joined.
        data: Further arrays by name, whose first axis is n; ``class_name`` holds the classes' names.
        tracker_id: As in Detections.
    """

    xy: NDArray[np.float32]
    keypoint_confidence: NDArray[np.float32] | None
    xyxy: NDArray[np.float32]
    detection_confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    skeleton: Skeleton
    data: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    tracker_id: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Reject arrays whose shapes do not match."""
        n, k = len(self.xyxy), len(self.skeleton.names)
        confidence = self.keypoint_confidence
        if self.xy.shape != (n, k, 2) or (confidence is not None and confidence.shape != (n, k)):
            given = "none" if confidence is None else str(confidence.shape)
            raise ValueError(
                f"{n} boxes with {k} keypoints need xy ({n}, {k}, 2) and keypoint_confidence ({n}, {k}) or none, got "
                f"xy {self.xy.shape} and keypoint_confidence {given}"
            )
        # It checks the rest.
        _ = self.boxes

    @property
    def boxes(self) -> Detections:
        """The objects' boxes, row for row."""
        return Detections(self.xyxy, self.detection_confidence, self.class_id, self.data, self.tracker_id)

    @property
    def labels(self) -> tuple[str, ...]:
        """The objects' class names."""
        return self.boxes.labels

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.xyxy)

    @overload
    def __getitem__(self, index: str) -> NDArray[Any]: ...

    @overload
    def __getitem__(self, index: Index) -> KeyPoints: ...

    def __getitem__(self, index: Index | str) -> KeyPoints | NDArray[Any]:
        """Return the chosen objects as KeyPoints; for a name, that entry of ``data``.

        Raises:
            IndexError: An integer past the end.
            KeyError: No such entry of ``data``.
        """
        if isinstance(index, str):
            return self.data[index]
        index = rows_at(index, len(self))
        boxes, confidence = self.boxes[index], self.keypoint_confidence
        return KeyPoints(
            self.xy[index],
            None if confidence is None else confidence[index],
            boxes.xyxy,
            boxes.confidence,
            boxes.class_id,
            self.skeleton,
            boxes.data,
            boxes.tracker_id,
        )

    def to_supervision(self) -> Any:
        """The same as ``supervision.KeyPoints``, for its annotators; boxes and tracks are in its ``data``.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        data = {name: np.asarray(array) for name, array in self.data.items()}
        if self.tracker_id is not None:
            data["tracker_id"] = self.tracker_id
        return import_supervision().KeyPoints(
            xy=self.xy,
            keypoint_confidence=self.keypoint_confidence,
            detection_confidence=self.detection_confidence,
            class_id=self.class_id,
            data={**data, "xyxy": self.xyxy},
        )

    def to_dict(self) -> dict[str, Any]:
        """``{"detections": [{"bbox": …, …, "keypoints": [x, y, confidence, x, y, confidence, …]}, …]}``.

        As of Detections, with COCO's ``keypoints`` in the skeleton's order. An unknown confidence is 1.
        """
        confidence = np.ones(self.xy.shape[:2]) if self.keypoint_confidence is None else self.keypoint_confidence
        points = np.concatenate([self.xy, confidence[..., None]], axis=2, dtype=np.float64)
        found = self.boxes.to_dict()
        for entry, row in zip(found["detections"], points.round(3).tolist(), strict=True):
            entry["keypoints"] = [number for point in row for number in point]
        return found

    def __str__(self) -> str:
        """``2 person (best 87.1 %)``."""
        return str(self.boxes)


def same_keypoints(a: NDArray[Any], b: NDArray[Any], iou: float, dims: int) -> NDArray[np.bool_]:
    """Return which of two lists' overlapping boxes have the same keypoints: bool (n, m).

    These may be apart, on average, by the share of the box's diagonal that the overlap leaves, at most a tenth, and
    their confidences by the same share of 1.

    Args:
        a: Rows of left, top, right, bottom, score, class, and each keypoint's values: (n, 6 + k·dims).
        b: The same, (m, 6 + k·dims).
        iou: The overlap from which two boxes are the same.
        dims: Values of a keypoint: x and y; with 3, its confidence, too.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    within = min(1 - iou, _APART)
    same = np.zeros((len(a), len(b)), np.bool_)
    # Only boxes that overlap are compared further: lists have hundreds of rows.
    pairs = np.argwhere(same_place(a[:, :4], b[:, :4], iou))
    for start in range(0, len(pairs), _AT_ONCE):
        rows, columns = pairs[start : start + _AT_ONCE].T
        shape = len(rows), (a.shape[1] - 6) // dims, dims
        have, want = a[rows, 6:].reshape(shape), b[columns, 6:].reshape(shape)
        apart = np.linalg.norm(have[..., :2] - want[..., :2], axis=2).mean(axis=1)
        diagonal = np.linalg.norm(b[columns, 2:4] - b[columns, :2], axis=1)
        alike = apart <= np.maximum(within * diagonal, SAME_PX)
        if dims == 3:
            alike &= np.abs(have[..., 2] - want[..., 2]).mean(axis=1) <= within
        same[rows, columns] = alike
    return same


def keypoint_rows(found: KeyPoints) -> NDArray[np.float64]:
    """Return objects as rows of left, top, right, bottom, score, class, then x and y of each keypoint: (n, 6 + 2·k)."""
    points = found.xy.reshape(len(found), 2 * len(found.skeleton.names))
    return np.column_stack([found.xyxy, found.detection_confidence, found.class_id, points]).astype(np.float64)
