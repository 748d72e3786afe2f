"""Keypoints by their similarity and oriented boxes by their overlap: figures known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgebone import labelling
from edgebone.core.detections import Detections
from edgebone.core.errors import SourceError
from edgebone.core.keypoints import KeyPoints, Skeleton
from edgebone.core.manifest import Head
from edgebone.core.oriented import corners_of, hulls_of
from edgebone.evaluate import keypoints, oriented
from edgebone.evaluate.contract import Figures
from edgebone.evaluate.oriented import Found, average_precision

NAMES = {"class_name": np.array(["dog"])}


class Answers:
    """Answers with what was recorded for each picture."""

    max_batch = 1

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results

    def __call__(self, paths: list[Path]) -> list[Any]:
        return [self.results[path.name] for path in paths]


def annotated(folder: Path, *annotations: dict[str, Any]) -> Path:
    (folder / "images").mkdir()
    for index in range(2):
        cv2.imwrite(str(folder / "images" / f"{index}.png"), np.zeros((100, 200, 3), np.uint8))
    common = {"category_id": 7, "iscrowd": 0, "area": 1600.0, "bbox": [10, 10, 40, 40]}
    content = {
        "images": [{"id": index, "file_name": f"{index}.png", "width": 200, "height": 100} for index in range(2)],
        "categories": [{"id": 7, "name": "dog"}],
        "annotations": [{"id": index + 1, "image_id": 0, **common, **item} for index, item in enumerate(annotations)],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def count(evaluation: Any, head: Head, data: Path, *results: Any) -> Figures:
    truth = evaluation.read("x", head, data, None)
    truth.check()
    answers = Answers({f"{index}.png": result for index, result in enumerate(results)})
    figures = truth.count(answers, lambda _: None, lambda error: pytest.fail(str(error)))
    assert isinstance(figures, Figures)
    return figures


def posed(*points: tuple[float, float]) -> KeyPoints:
    xy = np.array([points] if points else [], np.float32).reshape(-1, 2, 2)
    n = len(xy)
    return KeyPoints(
        xy, np.full((n, 2), 0.9, np.float32), np.array([[10, 10, 50, 50]] * n, np.float32).reshape(n, 4),
        np.full(n, 0.8, np.float32), np.zeros(n, np.int64), Skeleton(("nose", "tail")),
        {"class_name": NAMES["class_name"][:n]},
    )  # fmt: skip


@pytest.mark.parametrize(("off", "ap", "ap50"), [(0.0, 1.0, 1.0), (20.0, 0.7, 1.0), (60.0, 0.0, 0.0)])
def test_keypoints_count_by_their_similarity(off: float, ap: float, ap50: float, tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    head = Head("keypoints@1", ("o",), ("dog",), {"keypoints": ["nose", "tail"]})
    data = annotated(tmp_path, {"keypoints": [20, 20, 2, 40, 40, 2], "num_keypoints": 2})
    # With a tolerance of 1/2 the similarity is exp(-d² / (2 · area · (2/2)²)), the mean of both points: for d of 20 of
    # both exp(-400 / 3200) = 0.88, within 8 of the 10 thresholds; half of it for one point that far off.
    found = count(keypoints.EVALUATION, head, data, posed((20 + off, 20), (40 + off, 40)), posed())
    similarity = np.exp(-(off**2) / 3200)
    wanted = np.mean(similarity >= np.linspace(0.5, 0.95, 10))
    assert found.record["AP"] == pytest.approx(wanted, abs=1e-6)
    assert found.record["AP50"] == pytest.approx(ap50)
    assert (found.record["n"], found.value) == (2, pytest.approx(100 * wanted, abs=1e-3))
    assert abs(wanted - ap) <= 0.11


def test_annotations_with_other_keypoints_are_refused(tmp_path: Path) -> None:
    head = Head("keypoints@1", ("o",), ("dog",), {"keypoints": ["nose", "tail", "paw"]})
    data = annotated(tmp_path, {"keypoints": [20, 20, 2, 40, 40, 2], "num_keypoints": 2})
    with pytest.raises(SourceError, match="has 2 keypoints of x, y and visibility, the bundle's head has 3"):
        keypoints.EVALUATION.read("x", head, data, None)


def turned(*boxes: tuple[float, ...], scores: tuple[float, ...]) -> Detections:
    corners = corners_of(np.array(boxes).reshape(-1, 5))
    n = len(corners)
    data = {"class_name": np.repeat(NAMES["class_name"], n), "xyxyxyxy": corners, "angle": np.zeros(n)}
    hulls = hulls_of(corners).astype(np.float32)
    return Detections(hulls, np.array(scores, np.float32), np.zeros(n, np.int64), data)


def test_oriented_boxes_count_by_their_overlap_as_they_are_turned(tmp_path: Path) -> None:
    head = Head("oriented@1", ("o",), ("dog",), {})
    boxes = (50, 50, 40, 10, np.pi / 5), (150, 50, 40, 10, -np.pi / 5)
    corners = [corners_of(np.array([box])).reshape(-1).tolist() for box in boxes]
    data = annotated(tmp_path, *({"segmentation": [row]} for row in corners))
    nothing = turned(scores=())
    every = count(oriented.EVALUATION, head, data, turned(*boxes, scores=(0.9, 0.8)), nothing)
    assert every.record == {"AP": 1.0, "AP50": 1.0, "n": 2}
    # The first is turned the wrong way; the second, with a lower score, is right: half the recall at half the
    # precision, of 51 of the 101 recalls.
    wrong = (50, 50, 40, 10, -np.pi / 5)
    half = count(oriented.EVALUATION, head, data, turned(wrong, boxes[1], scores=(0.9, 0.8)), nothing)
    assert half.record["AP50"] == pytest.approx(0.5 * 51 / 101, abs=1e-6)
    # A second box on the same object is wrong, but comes after the full recall.
    twice = count(oriented.EVALUATION, head, data, turned(*boxes, boxes[0], scores=(0.9, 0.8, 0.7)), nothing)
    assert twice.record["AP"] == 1


def test_a_box_that_overlaps_in_part_counts_below_its_overlap() -> None:
    one = Found(corners_of(np.array([[0, 0, 10, 10, 0.3]])), np.zeros(1, np.int64), np.ones(1))
    # The overlap of a square and the same one that is moved along a side by a fifth: 8 / 12.
    moved = corners_of(np.array([[2 * np.cos(0.3), 2 * np.sin(0.3), 10, 10, 0.3]]))
    figures = average_precision([one], [Found(moved, np.zeros(1, np.int64), np.ones(1))])
    np.testing.assert_allclose(figures, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0])


def test_annotations_without_four_corners_are_refused(tmp_path: Path) -> None:
    data = annotated(tmp_path, {"segmentation": [[1, 2, 3, 4, 5, 6]]})
    with pytest.raises(SourceError, match="an annotation of picture 0 has no four corners"):
        oriented.EVALUATION.read("x", Head("oriented@1", ("o",), ("dog",), {}), data, None)


def test_labels_of_a_network_are_what_it_is_evaluated_by(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    pose = posed((20, 20), (40, 40))
    boxes = turned((50, 50, 40, 10, np.pi / 5), scores=(0.9,))
    for writer, evaluation, decoder, params, result in (
        (labelling.Keypoints, keypoints.EVALUATION, "keypoints@1", {"keypoints": ["nose", "tail"]}, pose),
        (labelling.Oriented, oriented.EVALUATION, "oriented@1", {}, boxes),
    ):
        folder = tmp_path / decoder
        (folder / "images").mkdir(parents=True)
        cv2.imwrite(str(folder / "images" / "0.png"), np.zeros((100, 200, 3), np.uint8))
        answers: Any = writer(folder, ("dog",))
        assert answers.add("0", (100, 200), result) == [0]
        answers.close()
        head = Head(decoder, ("o",), ("dog",), params)
        assert count(evaluation, head, folder / "instances.json", result).record["AP"] == 1
    (category,) = json.loads((tmp_path / "keypoints@1" / "instances.json").read_text())["categories"]
    assert category == {"id": 1, "name": "dog", "keypoints": ["nose", "tail"], "skeleton": []}
