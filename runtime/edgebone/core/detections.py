"""Boxes that a detector found in one picture, with supervision's field names."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import missing
from edgebone.core.masks import Masks
from edgebone.core.oriented import ANGLE, CORNERS
from edgebone.core.results import results_to_dict
from edgebone.core.shown import Shown

CLASS_NAME = "class_name"
CROPS = "crops"
"""The entry of ``data`` with what other models said about each box: a dict of results by the name of the step."""
PARENT = "parent"
"""The entry of ``data`` with the row of the box that each box was found in."""

Index = int | slice | list[int] | list[bool] | NDArray[Any]


@dataclass(frozen=True, repr=False)
class Detections(Shown):
    """The boxes found in one picture, best first; none found is a length of 0.

    Indexing with an integer, a slice, a list, or an array of booleans or integers returns the chosen boxes as
    Detections; ``detections["class_name"]`` returns that entry of ``data``. Both are as in supervision.

    Attributes:
        xyxy: float32, shape (n, 4): left, top, right, bottom in pixels of the picture, (0, 0) being the outer
            corner of the first pixel.
        confidence: float32, shape (n,), 0 to 1, descending.
        class_id: int64, shape (n,): the class's index in the bundle's labels.
        data: Further arrays by name, whose first axis is n; ``class_name`` holds the classes' names. Oriented boxes
            have ``xyxyxyxy``, float32 (n, 4, 2): their corners, see :func:`edgebone.core.oriented.corners_of`; and
            ``angle``, float32 (n,), -π/2 to π/2; ``xyxy`` is the upright box around them.
        tracker_id: int64, shape (n,): the number of each box's object within its source, from 1; -1 for a box without a
            track yet. None if tracking is off.
        mask: The objects' areas, n of them; None if the network returns boxes alone.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int64]
    data: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    tracker_id: NDArray[np.int64] | None = None
    mask: Masks | None = None

    def __post_init__(self) -> None:
        """Reject arrays whose shapes do not match."""
        n = len(self.xyxy)
        columns: dict[str, NDArray[Any]] = {"confidence": self.confidence, "class_id": self.class_id}
        if self.tracker_id is not None:
            columns["tracker_id"] = self.tracker_id
        if (
            self.xyxy.shape != (n, 4)
            or any(array.shape != (n,) for array in columns.values())
            or any(array.shape[:1] != (n,) for array in self.data.values())
        ):
            raise ValueError(
                f"detections need xyxy (n, 4) and n of everything else, got xyxy {self.xyxy.shape}, "
                + ", ".join(f"{name} {array.shape}" for name, array in {**columns, **self.data}.items())
            )
        if self.mask is not None and len(self.mask) != n:
            raise ValueError(f"detections need a mask for each of {n} boxes, got {len(self.mask)}")

    @classmethod
    def empty(cls) -> Detections:
        """No boxes."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
            {CLASS_NAME: np.zeros(0, np.str_)},
        )

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.xyxy)

    @overload
    def __getitem__(self, index: str) -> NDArray[Any]: ...

    @overload
    def __getitem__(self, index: Index) -> Detections: ...

    def __getitem__(self, index: Index | str) -> Detections | NDArray[Any]:
        """Return the chosen boxes as Detections; for a name, that entry of ``data``.

        Raises:
            IndexError: An integer past the end.
            KeyError: No such entry of ``data``.
        """
        if isinstance(index, str):
            return self.data[index]
        index = rows_at(index, len(self))
        return Detections(
            self.xyxy[index],
            self.confidence[index],
            self.class_id[index],
            {name: array[index] for name, array in self.data.items()},
            None if self.tracker_id is None else self.tracker_id[index],
            None if self.mask is None else self.mask[index],
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The boxes' class names; class numbers if there are no names."""
        names: NDArray[Any] = self.data.get(CLASS_NAME, self.class_id)
        return tuple(str(name) for name in names)

    @property
    def answers(self) -> tuple[str, ...]:
        """What other models said about each box: ``oat milk, open``; empty for a box that none was asked about."""
        asked: NDArray[Any] = self.data.get(CROPS, np.full(len(self), None, object))
        return tuple(
            ", ".join(label for name in names or () if (label := str(self.data[name][row])))
            for row, names in enumerate(asked)
        )

    @property
    def area(self) -> NDArray[np.float32]:
        """float32, shape (n,): the areas in square pixels: those of the masks if there are any, else of the boxes."""
        if self.mask is not None:
            return self.mask.area.astype(np.float32)
        return np.asarray((self.xyxy[:, 2] - self.xyxy[:, 0]) * (self.xyxy[:, 3] - self.xyxy[:, 1]), np.float32)

    def to_supervision(self) -> Any:
        """The same as ``supervision.Detections``, for its annotators, zones and trackers.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        return import_supervision().Detections(
            xyxy=self.xyxy,
            confidence=self.confidence,
            class_id=self.class_id,
            data={name: np.asarray(array) for name, array in self.data.items()},
            tracker_id=self.tracker_id,
            mask=None if self.mask is None else self.mask.full(),
        )

    def to_dict(self) -> dict[str, Any]:
        """``{"detections": [{"bbox": [x, y, width, height], "category_id": …, "label": …, "score": …}, …]}``.

        As in COCO: pixels of the original picture; ``category_id`` is the index in the bundle's labels. Tracked boxes
        also have a ``tracker_id``, None for a box without a track yet; oriented ones their corners and angle; masks a
        ``segmentation`` ``{"size": [height, width], "counts": …}`` in COCO's compressed run lengths. What other models
        said about a box is under ``crops``, by the step's name, each as its own results' JSON; a box found within
        another has its row as ``parent``.
        """
        boxes = self.xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        rows = zip(boxes.round(3).tolist(), self.class_id.tolist(), self.labels, self.confidence.tolist(), strict=True)
        found: list[dict[str, Any]] = [
            {"bbox": bbox, "category_id": class_id, "label": label, "score": round(score, 6)}
            for bbox, class_id, label, score in rows
        ]
        if self.tracker_id is not None:
            for entry, tracker_id in zip(found, self.tracker_id.tolist(), strict=True):
                entry["tracker_id"] = tracker_id if tracker_id >= 0 else None
        if CORNERS in self.data:
            turned = zip(self.data[CORNERS].astype(np.float64), self.data[ANGLE].tolist(), strict=True)
            for entry, (corners, angle) in zip(found, turned, strict=True):
                entry |= {CORNERS: corners.round(3).tolist(), ANGLE: round(angle, 6)}
        for entry, parent in zip(found, self.data.get(PARENT, ()), strict=False):
            entry["parent"] = int(parent)
        for entry, asked in zip(found, self.data.get(CROPS, ()), strict=False):
            if asked:
                entry["crops"] = {name: results_to_dict(results) for name, results in asked.items()}
        if self.mask is not None:
            for entry, lengths in zip(found, self.mask.to_rle(), strict=True):
                entry["segmentation"] = lengths
        return {"detections": found}

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per box; with masks, the area in pixels instead of the run lengths."""
        rows = Shown.rows(dataclasses.replace(self, mask=None))
        if self.mask is not None:
            for row, pixels in zip(rows, self.mask.area.tolist(), strict=True):
                row["area"] = pixels
        return rows

    def __str__(self) -> str:
        """``2 person (best 87.1 %), 1 dog (best 61.0 %)``, and what other models said: ``: 1 oat milk``."""
        counts = Counter(self.labels)
        best: dict[str, float] = {}
        for label, score in zip(self.labels, self.confidence.tolist(), strict=True):
            best[label] = max(score, best.get(label, 0.0))
        found = ", ".join(f"{n} {label} (best {100 * best[label]:.1f} %)" for label, n in counts.most_common())
        answers = Counter(answer for answer in self.answers if answer)
        said = ", ".join(f"{n} {answer}" for answer, n in answers.most_common())
        return f"{found}: {said}" if said else found or "nothing found"


def rows_at(index: Index, count: int) -> slice | NDArray[Any]:
    """Return an index of rows as numpy takes it, so that the result has rows, also one or none.

    Raises:
        IndexError: An integer past the end.
    """
    if isinstance(index, (int, np.integer)):
        index = [range(count)[index]]
    return np.asarray(index, None if index else np.int64) if isinstance(index, list) else index


def joined(parts: Sequence[Detections], *more: str) -> Detections:
    """Return the boxes of several lists, best first; they need the same entries of ``data``.

    Args:
        parts: The lists; none is no boxes.
        *more: Entries of ``data`` that an empty result has as well, as int64.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        empty = Detections.empty()
        return Detections(
            empty.xyxy, empty.confidence, empty.class_id, {**empty.data, **dict.fromkeys(more, empty.class_id)}
        )
    confidence = np.concatenate([part.confidence for part in parts])
    best = np.argsort(-confidence, kind="stable")
    return Detections(
        np.concatenate([part.xyxy for part in parts])[best],
        confidence[best],
        np.concatenate([part.class_id for part in parts])[best],
        {name: np.concatenate([part.data[name] for part in parts])[best] for name in parts[0].data},
    )


def import_supervision() -> Any:
    """The package supervision.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise missing("supervision", "annotate", "to_supervision()") from error
    return supervision


def class_names(labels: Sequence[str]) -> NDArray[Any]:
    """Return class names by class id, as an array for indexing."""
    return np.array(labels, dtype=np.str_)
