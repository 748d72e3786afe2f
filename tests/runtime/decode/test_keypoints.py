"""Objects with keypoints: the decoders, the result, and what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgebone.core.boxes import matched_share
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.keypoints import KeyPoints, Skeleton
from edgebone.core.manifest import Head
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.sinks.annotate import annotate
from edgebone.tasks.boxed import boxes_of, only_rows, with_tracks
from edgebone.tasks.choosing import only_classes
from edgebone.tasks.keypoints import KEYPOINTS

NET_HW = (64, 96)
WHOLE = Geometry(NET_HW, NET_HW, (1.0, 1.0), (0.0, 0.0))
LABELS = ("person", "dog")
PARTS = {"keypoints": ["nose", "left hand", "tail"], "skeleton": [[0, 1], [1, 2]]}
# Left, top, right, bottom, score, class, then nose, left hand, tail.
SOME = np.array(
    [
        [10, 10, 30, 40, 0.9, 1, 12, 12, 0.9, 20, 25, 0.5, 28, 38, 0.1],
        [50, 20, 60, 30, 0.8, 0, 52, 22, 0.7, 55, 25, 0.8, 99, -5, 0.2],
        [11, 10, 30, 40, 0.7, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ],
    np.float32,
)


def detect(decoder: str, array: np.ndarray, geometry: Geometry = WHOLE, **params: object) -> KeyPoints:
    head = Head(decoder, ("o",), LABELS, {"score": 0.3, "iou": 0.5, **PARTS, **params})
    spec = TensorSpec("o", array.dtype.name, ("batch", *array.shape))
    found = make_decoder("p", head, [spec], NET_HW)([array], geometry)
    assert isinstance(found, KeyPoints)
    return found


def columns(rows: np.ndarray) -> np.ndarray:
    """The same as YOLOv8 writes it."""
    sizes = rows[:, 2:4] - rows[:, :2]
    classes = np.where(rows[:, 5:6] == np.arange(2), rows[:, 4:5], 0.01)
    return np.concatenate([rows[:, :2] + sizes / 2, sizes, classes, rows[:, 6:]], axis=1).T.astype(np.float32)


def test_keypoints_go_with_their_box_in_pixels_of_the_picture() -> None:
    geometry = Geometry((32, 48), NET_HW, (2.0, 2.0), (0.0, 0.0))
    for found in (detect("keypoints@1", SOME, geometry), detect("yolov8-pose@1", columns(SOME), geometry)):
        assert found.labels == ("dog", "person")
        np.testing.assert_allclose(found.xyxy, [[5, 5, 15, 20], [25, 10, 30, 15]])
        np.testing.assert_allclose(found.xy[0], [[6, 6], [10, 12.5], [14, 19]])
        # Points outside the picture are moved to its edge, as boxes are.
        np.testing.assert_allclose(found.xy[1, 2], [48, 0])
        np.testing.assert_allclose(found.keypoint_confidence, [[0.9, 0.5, 0.1], [0.7, 0.8, 0.2]], atol=1e-6)
        assert (found.xy.dtype, found.skeleton) == (
            np.float32,
            Skeleton(("nose", "left hand", "tail"), ((0, 1), (1, 2))),
        )


def test_networks_without_confidences_of_keypoints_have_none() -> None:
    two = np.delete(SOME, [8, 11, 14], axis=1)
    for found in (detect("keypoints@1", two, dims=2), detect("yolov8-pose@1", columns(two), dims=2)):
        assert found.keypoint_confidence is None
        np.testing.assert_allclose(found.xy[0], SOME[0, 6:].reshape(3, 3)[:, :2])
        assert found.to_dict()["detections"][0]["keypoints"] == [12, 12, 1, 20, 25, 1, 28, 38, 1]
        assert found[[1]].keypoint_confidence is None


def test_the_result_is_indexed_chosen_and_tracked_as_boxes_are() -> None:
    found = detect("keypoints@1", SOME)
    assert len(found) == 2
    np.testing.assert_array_equal(found[1].xy, found.xy[1:])
    np.testing.assert_array_equal(found[found.class_id == 0].keypoint_confidence, found.keypoint_confidence[1:])
    np.testing.assert_array_equal(found["class_name"], ["dog", "person"])
    with pytest.raises(IndexError):
        found[2]
    boxes = boxes_of(found)
    assert boxes is not None
    np.testing.assert_array_equal(boxes.xyxy, found.xyxy)
    chosen, rows = only_classes(found, ["person"]), only_rows(found, [1])
    assert isinstance(chosen, KeyPoints)
    assert isinstance(rows, KeyPoints)
    np.testing.assert_array_equal(chosen.xy, rows.xy)
    tracked = with_tracks(found, np.array([7, -1]))
    assert [entry["tracker_id"] for entry in tracked.to_dict()["detections"]] == [7, None]
    empty = detect("keypoints@1", SOME[:0])
    assert (len(empty), empty.xy.shape, empty.to_dict(), str(empty)) == (
        0,
        (0, 3, 2),
        {"detections": []},
        "nothing found",
    )


def test_json_has_cocos_keypoints() -> None:
    (first, _) = detect("keypoints@1", SOME).to_dict()["detections"]
    assert json.loads(json.dumps(first)) == {
        "bbox": [10, 10, 20, 30], "category_id": 1, "label": "dog", "score": 0.9,
        "keypoints": [12, 12, 0.9, 20, 25, 0.5, 28, 38, 0.1],
    }  # fmt: skip


def test_supervision_gets_the_same() -> None:
    supervision = pytest.importorskip("supervision")
    found = detect("keypoints@1", SOME)
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.KeyPoints)
    np.testing.assert_array_equal(theirs.xy, found.xy)
    np.testing.assert_array_equal(theirs.keypoint_confidence, found.keypoint_confidence)
    np.testing.assert_array_equal(theirs.data["class_name"], ["dog", "person"])
    picture = np.zeros((*NET_HW, 3), np.uint8)
    assert supervision.VertexAnnotator().annotate(picture.copy(), theirs).any()


def test_points_and_edges_are_drawn_where_they_are_likely() -> None:
    black = np.zeros((640, 960, 3), np.uint8)
    drawn = annotate(black, detect("keypoints@1", SOME[:1], Geometry((640, 960), NET_HW, (0.1, 0.1), (0.0, 0.0))))
    # On the edge from nose to hand; the tail is not visible, and nothing leads to it.
    assert drawn[185, 160].any()
    assert not drawn[315, 240].any()


def test_agreement_is_lost_where_keypoints_are_elsewhere() -> None:
    found = detect("keypoints@1", SOME)
    moved = SOME.copy()
    moved[0, 6:] = moved[0, 6:] + np.tile([9, 9, 0], 3)
    assert KEYPOINTS.agreement(found, found, {}) == 1
    assert KEYPOINTS.agreement(detect("keypoints@1", moved), found, {}) == 0.5


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"skeleton": [[0, 3]]}, r"the skeleton joins keypoints 0 and 3, but there are 3, counted from 0"),
        ({"skeleton": [[1, 1]]}, "the skeleton joins keypoints 1 and 1"),
        ({"keypoints": ["a", "b", "a"]}, "keypoints must have different names, got a, b, a"),
        ({"keypoints": []}, "a skeleton needs keypoints"),
        ({"keypoints": ["a", "b"], "skeleton": []}, r"shape \[batch, k, 12\] \(2 keypoints of 3 values\), the network"),
        ({"dims": 2}, r"shape \[batch, k, 12\] \(3 keypoints of 2 values\)"),
        ({"dims": 4}, "Invalid enum value 4"),
    ],
)
def test_keypoints_that_do_not_fit_are_refused(params: dict[str, object], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        detect("keypoints@1", SOME, **params)


def test_outputs_that_are_no_numbers_are_an_error() -> None:
    broken = SOME.copy()
    broken[1, 9] = np.inf
    with pytest.raises(EngineError, match="head p: the network returned NaN or infinity"):
        detect("keypoints@1", broken)


def test_recorded_rows_are_the_same_only_with_their_keypoints() -> None:
    from edgebone.core.compare import FP32, compare, comparison_of

    head = Head("keypoints@1", ("o",), LABELS, {**PARTS})
    how = comparison_of(head, SOME.dtype)
    assert how == "keypoints_xyc"
    assert compare(SOME[None], SOME[None], how, FP32).matched == 1
    for column, by in ((6, 30.0), (8, -0.9)):
        other = SOME.copy()
        other[:, column] += by
        assert matched_share(SOME[:, :6], other[:, :6], min_score=0, full=False) == 1
        assert compare(other[None], SOME[None], how, FP32).matched == 0
