"""Average precision of oriented boxes, at their overlap as they are turned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgebone.core.errors import SourceError
from edgebone.core.manifest import Head
from edgebone.core.oriented import CORNERS, rotated_iou
from edgebone.evaluate.answers import LeftOut, answers
from edgebone.evaluate.contract import Evaluation, Figures, Truth
from edgebone.evaluate.detection import EVALUATION as DETECTION
from edgebone.evaluate.detection import CocoData, read_instances
from edgebone.evaluate.predictor import Predictor
from edgebone.tasks.oriented import ORIENTED

# COCO's overlaps, and its recalls at which precision is read.
_OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)


class _Annotation(msgspec.Struct, frozen=True):
    image_id: int
    category_id: int
    segmentation: Any = None


class _Instances(msgspec.Struct, frozen=True):
    annotations: list[_Annotation]


@dataclass(frozen=True)
class Found:
    """What is compared of one picture: boxes' corners (n, 4, 2), class ids (n,), and scores (n,)."""

    corners: NDArray[Any]
    class_id: NDArray[np.int64]
    scores: NDArray[Any]


def read_corners(data: CocoData, class_of: Mapping[int, int]) -> dict[int, Found]:
    """Return the true boxes of each picture that has any, by the picture's id; their scores are 1.

    Args:
        data: The annotations: COCO's, each with the box's four corners as its ``segmentation``, ``[[x, y, …]]``.
        class_of: The bundle's class id by the file's category id.

    Raises:
        SourceError: An annotation has no four corners.
    """
    rows: dict[int, list[tuple[NDArray[np.float64], int]]] = {}
    for item in msgspec.json.decode(data.json, type=_Instances).annotations:
        try:
            (polygon,) = item.segmentation
            corners = np.array(polygon, np.float64).reshape(4, 2)
        except (TypeError, ValueError) as error:
            raise SourceError(
                f"{data.where}: an annotation of picture {item.image_id} has no four corners; give them as its "
                "segmentation: [[x, y, x, y, x, y, x, y]]"
            ) from error
        rows.setdefault(item.image_id, []).append((corners, class_of[item.category_id]))
    return {
        number: Found(np.stack([row[0] for row in some]), np.array([row[1] for row in some]), np.ones(len(some)))
        for number, some in rows.items()
    }


def average_precision(truth: Sequence[Found], found: Sequence[Found]) -> NDArray[np.float64]:
    """Return the mean over classes of the average precision at each of COCO's overlaps: (10,), 0 to 1.

    Boxes are taken best first, and each is right if the true box of its class that it overlaps most, of those not yet
    found, overlaps it by enough. Precision is read at 101 recalls, as COCO does. -1 without true boxes, as there.

    Args:
        truth: The true boxes of each picture.
        found: A detector's, in the same order.
    """
    classes = np.unique(np.concatenate([item.class_id for item in truth]))
    figures = [_of_class(int(index), truth, found) for index in classes]
    return np.mean(figures, axis=0) if figures else np.full(len(_OVERLAPS), -1.0)


def _of_class(index: int, truth: Sequence[Found], found: Sequence[Found]) -> NDArray[np.float64]:
    scores, right, total = [], [], 0
    for true, seen in zip(truth, found, strict=True):
        wanted, own = true.corners[true.class_id == index], seen.class_id == index
        order = np.argsort(-seen.scores[own], kind="stable")
        scores.append(seen.scores[own][order])
        right.append(_matched(rotated_iou(seen.corners[own][order], wanted)))
        total += len(wanted)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.concatenate(right)[order].cumsum(axis=0)
    precision = hits / np.arange(1, len(order) + 1)[:, None]
    # The best precision at this recall or a higher one.
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    result = np.zeros(len(_OVERLAPS))
    for place in range(len(_OVERLAPS)):
        at = np.searchsorted(hits[:, place] / total, _RECALLS, side="left")
        # Recalls that are not reached have no precision.
        result[place] = np.append(precision[:, place], 0)[at].mean()
    return result


def _matched(overlap: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each box, best first, finds a true one at each of the overlaps: (n, 10) of (n, m)."""
    right = np.zeros((len(overlap), len(_OVERLAPS)), np.bool_)
    if not overlap.size:
        return right
    for place, least in enumerate(_OVERLAPS):
        free = overlap.copy()
        for row in range(len(overlap)):
            best = int(free[row].argmax())
            if free[row, best] >= least:
                right[row, place] = True
                free[:, best] = -1
    return right


def _read(name: str, head: Head, labels: Path, images: Path | None) -> Truth:
    data = read_instances(labels, images, head)
    true = read_corners(data, {number: index for index, number in data.category_ids.items()})
    nothing = Found(np.zeros((0, 4, 2)), np.zeros(0, np.int64), np.zeros(0))

    def count(model: Predictor, progress: Callable[[int], None], left_out: LeftOut) -> Figures:
        numbers, truth, found = list(data.paths), [], []
        for place, results in answers(model, list(data.paths.values()), left_out, progress):
            result = ORIENTED.pick(results, name)
            truth.append(true.get(numbers[place], nothing))
            found.append(Found(result[CORNERS], result.class_id, result.confidence))
        every = average_precision(truth, found)
        record = {"AP": round(float(every.mean()), 6), "AP50": round(float(every[0]), 6), "n": len(truth)}
        text = f"oriented AP {record['AP']:.3f}, AP50 {record['AP50']:.3f} on {len(truth)} pictures"
        return Figures(100 * float(record["AP"]), record, text)

    return Truth(tuple(data.paths.values()), count, data.check_sizes)


EVALUATION = Evaluation(DETECTION.find, _read, settings=DETECTION.settings)
