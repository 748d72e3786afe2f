"""Turned boxes: overlaps, suppression, the decoders and the result."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from edgebone.core.compare import FP32, compare, comparison_of
from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head
from edgebone.core.oriented import corners_of, rotated_iou
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.decode.detections import BoxParams, suppress_oriented
from edgebone.sinks.annotate import annotate
from edgebone.tasks.oriented import ORIENTED
from edgebone.tasks.table import task_of_result

NET_HW = (64, 96)
WHOLE = Geometry(NET_HW, NET_HW, (1.0, 1.0), (0.0, 0.0))
LABELS = ("plane", "ship")
# Centre, width, height, score, class, angle.
SOME = np.array(
    [[30, 30, 20, 4, 0.9, 1, np.pi / 6], [31, 30, 20, 4, 0.8, 1, np.pi / 6], [30, 30, 20, 4, 0.7, 1, -np.pi / 3]],
    np.float32,
)


def detect(decoder: str, array: np.ndarray, geometry: Geometry = WHOLE, **params: object) -> Detections:
    head = Head(decoder, ("o",), LABELS, {"score": 0.3, "iou": 0.5, **params})
    spec = TensorSpec("o", array.dtype.name, ("batch", *array.shape))
    found = make_decoder("t", head, [spec], NET_HW)([array], geometry)
    assert isinstance(found, Detections)
    return found


def random_boxes(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(0, 60, (n, 2)), rng.uniform(3, 50, (n, 2)), rng.uniform(-4, 4, n)])


def test_overlaps_are_opencvs() -> None:
    a, b = corners_of(random_boxes(25, 0)), corners_of(random_boxes(30, 1))
    b[:5] = a[:5]
    wanted = np.zeros((25, 30))
    for row, one in enumerate(a.astype(np.float32)):
        for column, other in enumerate(b.astype(np.float32)):
            shared = cv2.intersectConvexConvex(one, other)[0]
            wanted[row, column] = shared / (cv2.contourArea(one) + cv2.contourArea(other) - shared)
    np.testing.assert_allclose(rotated_iou(a, b), wanted, atol=1e-5)
    assert rotated_iou(a[:0], b).shape == (0, 30)


def test_overlaps_known_by_hand() -> None:
    square = corners_of(np.array([[0, 0, 2, 2, 0]]))
    # A square in a square turned by half a right angle: a regular octagon of 8(√2 - 1).
    octagon = 8 * (np.sqrt(2) - 1)
    for box, wanted in (
        ([0, 0, 2, 2, np.pi / 4], octagon / (8 - octagon)),
        ([0, 0, 2, 2, np.pi / 2], 1),
        ([1, 0, 2, 2, 0], 1 / 3),
        ([2, 0, 2, 2, 0], 0),
        ([0, 0, 0, 2, 0], 0),
    ):
        assert rotated_iou(square, corners_of(np.array([box])))[0, 0] == pytest.approx(wanted, abs=1e-9)


def test_boxes_are_suppressed_as_they_are_turned() -> None:
    columns = np.concatenate([SOME[:, :4], np.zeros((3, 1)), SOME[:, [4, 6]]], axis=1).T.astype(np.float32)
    for found in (detect("oriented@1", SOME), detect("yolov8-obb@1", columns)):
        # The second lies along the first, the third across it.
        np.testing.assert_allclose(found.confidence, [0.9, 0.7])
        np.testing.assert_allclose(found["angle"], [np.pi / 6, -np.pi / 3], atol=1e-6)
        np.testing.assert_allclose(found["xyxyxyxy"], corners_of(SOME[[0, 2]][:, [0, 1, 2, 3, 6]]), atol=1e-4)
    assert len(detect("oriented@1", SOME, iou=None)) == 3


def test_ten_thousand_turned_boxes_are_suppressed_in_little_memory() -> None:
    rng = np.random.default_rng(3)
    n = 10_000
    boxes = np.column_stack([rng.uniform(0, 4000, (n, 2)), rng.uniform(5, 60, (n, 2)), rng.uniform(-1.5, 1.5, n)])
    scores = rng.random(n).astype(np.float32)
    params = BoxParams(score=0.0, iou=0.5, max_detections=n)
    tracemalloc.start()
    kept = suppress_oriented(boxes.astype(np.float32), scores, np.zeros(n, np.int64), params)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 300e6
    # The same for the best thousand alone: worse ones drop no better ones.
    best = np.argsort(-scores, kind="stable")[:1000]
    alone = suppress_oriented(boxes[best].astype(np.float32), scores[best], np.zeros(1000, np.int64), params)
    assert best[alone].tolist() == kept[: len(alone)].tolist()
    assert len(alone) < 1000


def test_the_upright_box_lies_around_the_turned_one_in_the_picture() -> None:
    geometry = Geometry((32, 48), NET_HW, (2.0, 2.0), (0.0, 0.0))
    found = detect("oriented@1", np.array([[2, 20, 8, 4, 0.9, 0, np.pi]], np.float32), geometry)
    np.testing.assert_allclose(found.xyxy, [[0, 9, 3, 11]], atol=1e-5)
    np.testing.assert_allclose(found["xyxyxyxy"][0], [[-1, 9], [-1, 11], [3, 11], [3, 9]], atol=1e-5)
    # Half a turn changes nothing.
    assert found["angle"][0] == pytest.approx(0, abs=1e-6)
    outside = detect("oriented@1", np.array([[-20, 20, 8, 4, 0.9, 0, 0]], np.float32))
    assert len(outside) == 0
    assert outside["xyxyxyxy"].shape == (0, 4, 2)
    assert task_of_result(outside) is ORIENTED


def test_json_has_corners_and_angle() -> None:
    (entry,) = detect("oriented@1", np.array([[30, 30, 8, 4, 0.9, 0, 0]], np.float32)).to_dict()["detections"]
    assert entry == {
        "bbox": [26, 28, 8, 4], "category_id": 0, "label": "plane", "score": 0.9,
        "xyxyxyxy": [[34, 32], [34, 28], [26, 28], [26, 32]], "angle": 0.0,
    }  # fmt: skip


def test_supervision_draws_them_turned() -> None:
    supervision = pytest.importorskip("supervision")
    theirs = detect("oriented@1", SOME).to_supervision()
    picture = supervision.OrientedBoxAnnotator().annotate(np.zeros((*NET_HW, 3), np.uint8), theirs)
    assert picture.any()


def test_the_turned_outline_is_drawn() -> None:
    geometry = Geometry((640, 960), NET_HW, (0.1, 0.1), (0.0, 0.0))
    found = detect("oriented@1", np.array([[50, 40, 20, 20, 0.9, 0, np.pi / 4]], np.float32), geometry)
    drawn = annotate(np.zeros((640, 960, 3), np.uint8), found)
    right, corner = 500 + int(100 * np.sqrt(2)), 400
    assert drawn[corner - 2 : corner + 3, right - 3 : right + 2].any()
    # The upright box's corner.
    assert not drawn[corner + 135, right - 5].any()


def test_agreement_is_lost_where_boxes_are_turned_otherwise() -> None:
    found = detect("oriented@1", SOME[:1])
    turned = SOME[:1].copy()
    turned[0, 6] -= np.pi / 3
    assert ORIENTED.agreement(found, found, {}) == 1
    assert ORIENTED.agreement(detect("oriented@1", turned), found, {}) == 0


def test_recorded_rows_are_the_same_only_with_their_angle() -> None:
    how = comparison_of(Head("oriented@1", ("o",), LABELS), SOME.dtype)
    half_a_turn, turned = SOME.copy(), SOME.copy()
    half_a_turn[:, 6] += np.pi
    turned[:, 6] += 0.1
    assert compare(half_a_turn[None], SOME[None], how, FP32).matched == 1
    assert compare(turned[None], SOME[None], how, FP32).matched == 0


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(BundleError, match=r"oriented@1 reads one output of shape \(batch, k, 7\)"):
        detect("oriented@1", SOME[:, :6])
    with pytest.raises(BundleError, match=r"shape \[batch, 7, boxes\] \(4 \+ 2 labels \+ the angle\)"):
        detect("yolov8-obb@1", SOME)
