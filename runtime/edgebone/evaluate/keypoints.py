"""COCO's average precision of keypoints, by the similarity of an object's keypoints, counted by faster-coco-eval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from edgebone.core.errors import SourceError
from edgebone.core.manifest import Head
from edgebone.core.results import Results
from edgebone.evaluate.answers import LeftOut
from edgebone.evaluate.contract import Evaluation, Figures, Truth
from edgebone.evaluate.detection import EVALUATION as DETECTION
from edgebone.evaluate.detection import CocoData, count_coco, read_instances
from edgebone.evaluate.predictor import Predictor
from edgebone.tasks.keypoints import KEYPOINTS

_NAMES = {"AP": "AP_all", "AP50": "AP_50", "AP75": "AP_75", "APm": "AP_medium", "APl": "AP_large", "AR": "AR_all"}
# How far people are apart who annotate the same keypoint of a person, as a share of the object's size: COCO's own.
_COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip


class _Annotation(msgspec.Struct, frozen=True):
    id: int
    keypoints: list[float] = []


class _Instances(msgspec.Struct, frozen=True):
    annotations: list[_Annotation]


def check_keypoints(data: CocoData, names: tuple[str, ...]) -> None:
    """Reject annotations whose keypoints are not the head's.

    Raises:
        SourceError: An annotation has another number of them, with both numbers.
    """
    for item in msgspec.json.decode(data.json, type=_Instances).annotations:
        if len(item.keypoints) != 3 * len(names):
            raise SourceError(
                f"{data.where}: annotation {item.id} has {len(item.keypoints) / 3:g} keypoints of x, y and visibility, "
                f"the bundle's head has {len(names)}"
            )


def evaluate_keypoints(
    model: Predictor,
    name: str,
    data: CocoData,
    count: int,
    progress: Callable[[int], None],
    left_out: LeftOut,
) -> tuple[dict[str, float], int]:
    """Run a model over annotated pictures and count.

    Args:
        model: A model, loaded with a low score.
        name: The head.
        data: The annotations.
        count: The number of keypoints. COCO's 17 have COCO's tolerances; those of others are 1 / count.
        progress: Called with the number of pictures done.
        left_out: Called with the reason for each picture that is not counted.

    Returns:
        COCO's figures, 0 to 1 (-1 if there is nothing to count), and the number of pictures counted.

    Raises:
        MissingDependencyError: faster-coco-eval is not installed.
        SourceError: No picture can be read, or the annotations lack what COCO's metrics need.
    """

    def rows_of(results: Results, number: int) -> list[dict[str, Any]]:
        return _rows(KEYPOINTS.pick(results, name).to_dict(), number, data.category_ids)

    sigmas = list(_COCO_SIGMAS) if count == len(_COCO_SIGMAS) else [1 / count] * count
    return count_coco(model, data, rows_of, "keypoints", _NAMES, progress, left_out, kpt_oks_sigmas=sigmas)


def _rows(found: Mapping[str, Any], number: int, category_ids: Mapping[int, int]) -> list[dict[str, Any]]:
    """Return one picture's objects as COCO results; classes missing in the data are omitted."""
    return [
        {"image_id": number, "category_id": category_ids[row["category_id"]], "score": row["score"]}
        | {key: row[key] for key in ("bbox", "keypoints")}
        for row in found["detections"]
        if row["category_id"] in category_ids
    ]


def _read(name: str, head: Head, labels: Path, images: Path | None) -> Truth:
    data = read_instances(labels, images, head)
    names = tuple(head.params["keypoints"])
    check_keypoints(data, names)

    def count(model: Predictor, progress: Callable[[int], None], left_out: LeftOut) -> Figures:
        found, n = evaluate_keypoints(model, name, data, len(names), progress, left_out)
        text = ", ".join(f"{key} {found[key]:.3f}" for key in ("AP", "AP50", "AP75"))
        return Figures(100 * found["AP"], {**found, "n": n}, f"keypoint {text} on {n} pictures")

    return Truth(tuple(data.paths.values()), count, data.check_sizes)


EVALUATION = Evaluation(DETECTION.find, _read, settings=DETECTION.settings)
