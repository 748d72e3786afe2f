"""Boxes: the result itself, and the decoders of every family, held against plain arithmetic."""

from __future__ import annotations

import dataclasses
import itertools
import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebone.core.boxes import iou_matrix, matched_share
from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head, Preprocess
from edgebone.core.results import results_to_dict
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.preprocess import plan

NET_HW = (64, 96)
WHOLE = Geometry(NET_HW, NET_HW, (1.0, 1.0), (0.0, 0.0))
LABELS = ("person", "traffic light ☂ 2", "車")


def detect(head: Head, *tensors: np.ndarray, geometry: Geometry = WHOLE, **settings: object) -> Detections:
    specs = [TensorSpec(f"o{i}", "float32", ("batch", *array.shape)) for i, array in enumerate(tensors)]
    found = make_decoder("d", head, specs, NET_HW, **settings)(tensors, geometry)
    assert isinstance(found, Detections)
    return found


def head(decoder: str, outputs: int = 1, **params: object) -> Head:
    names = tuple(f"o{i}" for i in range(outputs))
    return Head(decoder, names, LABELS, {"score": 0.3, "iou": 0.5, **params})


def rows(*boxes: tuple[float, ...]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 6)


SOME = rows((10, 10, 30, 40, 0.9, 1), (50, 20, 60, 30, 0.8, 0), (11, 10, 30, 40, 0.7, 1), (11, 10, 30, 40, 0.6, 2))


def test_boxes_come_best_first_and_overlapping_ones_of_a_class_are_dropped() -> None:
    found = detect(head("boxes@1"), SOME)
    assert found.labels == ("traffic light ☂ 2", "person", "車")
    np.testing.assert_array_equal(found.confidence, np.float32([0.9, 0.8, 0.6]))
    np.testing.assert_array_equal(found.xyxy[0], [10, 10, 30, 40])
    assert (found.xyxy.dtype, found.confidence.dtype, found.class_id.dtype) == (np.float32, np.float32, np.int64)
    assert len(detect(head("boxes@1", class_agnostic=True), SOME)) == 2
    assert len(detect(head("boxes@1"), SOME, iou=1.0)) == 4
    assert len(detect(head("boxes@1", iou=None), SOME)) == 4
    assert len(detect(head("boxes@1"), SOME, score=0.85)) == 1
    assert len(detect(head("boxes@1", max_detections=2), SOME)) == 2


def test_nothing_found_is_an_empty_result_of_the_same_types() -> None:
    for found in (detect(head("boxes@1"), np.zeros((0, 6), np.float32)), detect(head("boxes@1"), SOME, score=1.0)):
        assert len(found) == 0
        assert found.xyxy.shape == (0, 4)
        assert (found.xyxy.dtype, found.class_id.dtype) == (np.float32, np.int64)
        assert found.to_dict() == {"detections": []}
        assert str(found) == "nothing found"
        assert found.labels == Detections.empty().labels == ()


def test_a_score_at_the_threshold_is_kept() -> None:
    assert len(detect(head("boxes@1", score=0.5), rows((1, 1, 9, 9, 0.5, 0)))) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(6))
def test_outputs_that_are_no_numbers_are_an_error_and_no_box(bad: float, column: int) -> None:
    broken = SOME.copy()
    broken[2, column] = bad
    with pytest.raises(EngineError, match="head d: the network returned NaN or infinity"):
        detect(head("boxes@1"), broken)


@pytest.mark.filterwarnings("error")
def test_a_box_whose_size_overflows_is_an_error() -> None:
    raw = np.zeros((126, 8), np.float32)
    raw[0] = [0, 0, 500, 0, 1, 1, 0, 0]
    with pytest.raises(EngineError, match="infinite sides"):
        detect(head("yolox@1"), raw)


def test_a_class_without_a_label_is_an_error() -> None:
    with pytest.raises(EngineError, match="returned class 7, the bundle has 3 labels"):
        detect(head("boxes@1"), rows((1, 1, 9, 9, 0.9, 7)))


def greedy(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou: float) -> list[int]:
    """Suppression as it is written down, one box after the other."""
    kept: list[int] = []
    overlap = iou_matrix(boxes, boxes)
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(classes[index] != classes[other] or overlap[index, other] <= iou for other in kept):
            kept.append(index)
    return kept


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0.1, 0.9))
def test_suppression_is_greedy(seed: int, n: int, iou: float) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 50, (n, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (n, 2))], axis=1).clip(0, 64).astype(np.float32)
    scores = rng.permutation(np.linspace(0.4, 0.99, n)).astype(np.float32)
    classes = rng.integers(0, 3, n)
    found = detect(head("boxes@1", iou=iou), np.column_stack([boxes, scores, classes]).astype(np.float32))
    wanted = greedy(boxes, scores, classes, iou)
    np.testing.assert_array_equal(found.confidence, scores[wanted])
    np.testing.assert_array_equal(found.class_id, classes[wanted])


def test_further_data_may_have_more_axes_and_goes_with_its_boxes() -> None:
    found = detect(head("boxes@1"), SOME)
    corners = np.arange(3 * 4 * 2, dtype=np.float32).reshape(3, 4, 2)
    turned = dataclasses.replace(found, data={**found.data, "xyxyxyxy": corners})
    np.testing.assert_array_equal(turned[[2, 0]]["xyxyxyxy"], corners[[2, 0]])
    np.testing.assert_array_equal(turned[1]["xyxyxyxy"], corners[1:2])
    with pytest.raises(ValueError, match=r"xyxyxyxy \(2, 4, 2\)"):
        dataclasses.replace(found, data={"xyxyxyxy": corners[:2]})


def test_more_boxes_than_a_result_holds_are_cut_after_suppression() -> None:
    many = np.concatenate([SOME[:1]] * 5 + [rows((60, 40, 70, 60, 0.4, 0))])
    found = detect(head("boxes@1", max_detections=2), many)
    np.testing.assert_allclose(found.confidence, [0.9, 0.4])


LETTERBOX = Preprocess("letterbox", NET_HW, "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("size_hw", [(480, 640), (640, 480), (1, 1), (1, 3000), (3000, 1), (64, 96)])
def test_boxes_lead_back_to_the_picture_and_stay_in_it(size_hw: tuple[int, int]) -> None:
    geometry = plan(LETTERBOX, *size_hw)
    height, width = size_hw
    wanted = np.array([[0.1 * width, 0.2 * height, 0.7 * width, 0.9 * height]])
    seen = geometry.to_network(wanted.reshape(-1, 2)).reshape(-1, 4)
    outside = np.array([[-500, -500, 900, 900]])
    found = detect(
        head("boxes@1", iou=None),
        np.concatenate([np.column_stack([seen, [[0.9]], [[0]]]), np.column_stack([outside, [[0.8]], [[1]]])]).astype(
            np.float32
        ),
        geometry=geometry,
    )
    np.testing.assert_allclose(found.xyxy[0], wanted[0], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found.xyxy[1], [0, 0, width, height])


def test_a_box_in_the_padding_alone_is_none() -> None:
    geometry = plan(LETTERBOX, 100, 300)
    assert geometry.offset_xy == (0.0, 16.0)
    assert len(detect(head("boxes@1"), rows((5, 0, 40, 10, 0.9, 0)), geometry=geometry)) == 0


# --- families: the same boxes, written as each network gives them

BOXES = np.array([[10, 8, 30, 40], [40.5, 20, 90, 60], [2, 2, 12, 22]], np.float32)
SCORES = np.array([[0.9, 0.1, 0.0], [0.1, 0.2, 0.75], [0.6, 0.1, 0.2]], np.float32)


def centers() -> np.ndarray:
    return np.concatenate([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]], axis=1)


def expect(found: Detections, boxes: np.ndarray = BOXES) -> None:
    np.testing.assert_array_equal(found.class_id, [0, 2, 0])
    np.testing.assert_allclose(found.confidence, [0.9, 0.75, 0.6], rtol=1e-5)
    np.testing.assert_allclose(found.xyxy, boxes, rtol=1e-5, atol=1e-4)


def test_yolox() -> None:
    raw = np.zeros((126, 8), np.float32)
    # 8x12 cells of 8, 4x6 of 16, 2x3 of 32; a box may hang on any cell.
    cells = [(0, 8, 3, 4), (96 + 7, 16, 1, 1), (96 + 24 + 4, 32, 1, 1)]
    for (row, stride, column, line), box, scores in zip(cells, centers(), SCORES, strict=True):
        raw[row, :2] = box[:2] / stride - (column, line)
        raw[row, 2:4] = np.log(box[2:] / stride)
        raw[row, 4:] = (0.5, *scores)
    rows_of = [index for index, *_ in cells]
    # The cell's number is its line times the columns, plus its column.
    raw[4 * 12 + 3], raw[0] = raw[0].copy(), 0
    assert rows_of[1] == 96 + 1 * 6 + 1 and rows_of[2] == 120 + 1 * 3 + 1
    found = detect(head("yolox@1", score=0.25), raw)
    np.testing.assert_array_equal(found.class_id, [0, 2, 0])
    np.testing.assert_allclose(found.confidence, [0.45, 0.375, 0.3], rtol=1e-5)
    np.testing.assert_allclose(found.xyxy, BOXES, rtol=1e-5, atol=1e-4)


def test_yolov5() -> None:
    raw = np.column_stack([centers(), [1, 1, 1], SCORES]).astype(np.float32)
    expect(detect(head("yolov5@1"), raw))
    raw[:, 4] = 0.5
    np.testing.assert_allclose(detect(head("yolov5@1"), raw).confidence, [0.45, 0.375, 0.3], rtol=1e-5)


def test_yolov8() -> None:
    expect(detect(head("yolov8@1"), np.column_stack([centers(), SCORES]).astype(np.float32).T))


def test_end_to_end_rows_are_not_suppressed() -> None:
    twice = np.concatenate([SOME[:1], SOME[:1]])
    assert len(detect(head("boxes@1", iou=None), twice)) == 2


def test_detr_takes_every_class_of_a_query() -> None:
    logits = np.log(SCORES.clip(1e-6) / (1 - SCORES.clip(1e-6))).astype(np.float32)
    relative = (centers() / [96, 64, 96, 64]).astype(np.float32)
    expect(detect(head("detr@1", 2, iou=None), logits, relative))
    both = detect(head("detr@1", 2, iou=None, score=0.15), logits, relative)
    assert both.class_id.tolist() == [0, 2, 0, 1, 2] or both.class_id.tolist() == [0, 2, 0, 2, 1]


def test_the_first_detr_has_a_class_for_nothing() -> None:
    logits = np.array([[5, 0, 0, 0], [0, 0, 1, 9], [0, 4, 0, 0]], np.float32)
    relative = (centers() / [96, 64, 96, 64]).astype(np.float32)
    found = detect(head("detr@1", 2, iou=None, activation="softmax"), logits, relative)
    assert found.labels == ("person", "traffic light ☂ 2")


def test_ssd() -> None:
    relative = (BOXES / [96, 64, 96, 64]).astype(np.float32)
    expect(detect(head("ssd@1", 2, background=False), SCORES, relative))
    expect(detect(head("ssd@1", 2, background=False, box_unit="pixels"), SCORES, BOXES))
    assert detect(head("ssd@1", 2), SCORES, relative).labels == ("車",)


@pytest.mark.parametrize(
    ("decoder", "shapes", "words"),
    [
        ("yolox@1", [(126, 7)], r"\[batch, 126, 8\].*96x64 at strides 8, 16, 32.*outputs o0 \['batch', 126, 7\]"),
        ("yolox@1", [(125, 8)], r"\[batch, 126, 8\].*'batch', 125, 8"),
        ("yolov5@1", [(8, 126)], r"\[batch, boxes, 8\].*'batch', 8, 126"),
        ("yolov8@1", [(84, 126)], r"\[batch, 7, boxes\] \(4 \+ 3 labels\).*'batch', 84, 126"),
        ("yolov8@1", [(7, 126), (7, 126)], r"one output.*o1"),
        ("detr@1", [(10, 3), (10, 5)], r"logits \[batch, queries, 3\].*'batch', 10, 5"),
        ("detr@1", [(10, 3), (9, 4)], r"boxes \[batch, queries, 4\]"),
        ("ssd@1", [(10, 4), (10, 3)], r"scores \[batch, boxes, 3\].*o0 \['batch', 10, 4\]"),
        ("boxes@1", [(10, 7)], r"\(batch, k, 6\).*'batch', 10, 7"),
    ],
)  # fmt: skip
def test_a_decoder_that_does_not_fit_is_refused_with_both_shapes(
    decoder: str, shapes: list[tuple[int, ...]], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        detect(head(decoder, len(shapes)), *(np.zeros(shape, np.float32) for shape in shapes))


@pytest.mark.parametrize(
    "params", [{"score": 2}, {"iou": -1}, {"max_detections": 0}, {"strides": [8]}, {"score": None}]
)
def test_settings_that_cannot_be_meant_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="head d: boxes@1 rejects its parameters"):
        detect(head("boxes@1", **params), SOME)


# --- the result


def test_detections_are_chosen_by_index_slice_and_mask_as_in_supervision() -> None:
    found = detect(head("boxes@1", iou=None), SOME)
    assert found[0].labels == ("traffic light ☂ 2",)
    assert found[-1].labels == ("車",)
    assert found[1:3].labels == found[[1, 2]].labels == found[np.array([False, True, True, False])].labels
    assert found[found.class_id == 1].confidence.tolist() == pytest.approx([0.9, 0.7])
    assert found["class_name"].tolist() == list(found.labels)
    assert len(found[[]]) == len(found[found.confidence > 2]) == 0
    assert [one.labels[0] for one in found] == list(found.labels)
    with pytest.raises(IndexError):
        found[4]
    with pytest.raises(KeyError):
        found["tracker"]


def test_detections_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"xyxy \(2, 4\), confidence \(3,\)"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(3, np.float32), np.zeros(2, np.int64))


def test_json_is_in_cocos_terms() -> None:
    found = json.loads(msgspec.json.encode(results_to_dict(detect(head("boxes@1"), SOME))))
    assert found["detections"][0] == {
        "bbox": [10, 10, 20, 30], "category_id": 1, "label": "traffic light ☂ 2", "score": 0.9
    }  # fmt: skip
    assert str(detect(head("boxes@1"), SOME)).startswith("1 traffic light ☂ 2 (best 90.0 %), 1 person (best 80.0 %)")


def test_supervision_takes_them() -> None:
    supervision = pytest.importorskip("supervision")
    found = detect(head("boxes@1", iou=None), SOME)
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    np.testing.assert_array_equal(theirs.xyxy, found.xyxy)
    assert theirs["class_name"].tolist() == list(found.labels)
    chosen = theirs[theirs.confidence > 0.65]
    ours = found[found.confidence > 0.65]
    np.testing.assert_array_equal(chosen.xyxy, ours.xyxy)
    np.testing.assert_allclose(theirs.area, found.area)
    assert len(Detections.empty().to_supervision()) == 0


# --- comparing lists of boxes


def test_the_same_boxes_in_another_order_are_matched() -> None:
    assert matched_share(SOME, SOME[::-1], min_score=0.1, full=False) == 1
    for column, by, same in itertools.product(range(6), (1e-4, 5.0), (True,)):
        moved = SOME.copy()
        moved[1, column] += by
        share = matched_share(SOME, moved, min_score=0.1, full=False)
        # A small step changes a class number, too.
        assert (share == 1) == (same and by < 1 and column != 5)


def test_a_missing_box_counts_in_either_direction() -> None:
    assert matched_share(SOME, SOME[:3], min_score=0.1, full=False) == 0.75
    assert matched_share(SOME[:3], SOME, min_score=0.1, full=False) == 0.75
    assert matched_share(SOME[:0], SOME, min_score=0.1, full=False) == 0
    assert matched_share(SOME[:0], SOME, min_score=0.95, full=False) == 1
    # What a full list could not hold any more is not missed.
    assert matched_share(SOME, SOME[:3], min_score=0.1, full=True) == 1
