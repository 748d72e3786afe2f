"""Decoders: from raw tensors to results."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebone.core.anomaly import Anomaly
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head
from edgebone.core.results import (
    Classification,
    Embedding,
    FeatureMaps,
    MultiLabel,
    RawTensors,
    Regression,
    results_to_dict,
    results_to_text,
)
from edgebone.core.tensors import TensorSpec
from edgebone.decode import decoder_names, make_decoder

SIZE_HW = (32, 32)


def specs(shapes: list[tuple[int | str, ...]]) -> list[TensorSpec]:
    return [TensorSpec(f"o{index}", "float32", shape) for index, shape in enumerate(shapes)]


WHOLE = Geometry((32, 32), (32, 32), (1.0, 1.0), (0.0, 0.0))
LABELS = ("tabby cat", "7", "traffic light ☂ 2", "d", "e", "f")


def classify(scores: np.ndarray, activation: str = "softmax", top_k: int | None = None) -> Classification:
    head = Head("classification@1", ("logits",), LABELS, {"activation": activation})
    settings = {} if top_k is None else {"top_k": top_k}
    result = make_decoder("head", head, specs([("batch", len(LABELS))]), SIZE_HW, **settings)([scores], WHOLE)
    assert isinstance(result, Classification)
    return result


def test_every_known_decoder_is_listed() -> None:
    assert decoder_names() == [
        "anomaly@1", "boxes@1", "classification@1", "depth@1", "detr@1", "embedding@1", "features@1", "instances@1",
        "keypoints@1", "multilabel@1", "oriented@1", "raw@1", "regression@1", "roi-masks@1", "segmentation@1", "ssd@1",
        "yolov5-seg@1", "yolov5@1", "yolov8-obb@1", "yolov8-pose@1", "yolov8-seg@1", "yolov8@1", "yolox@1",
    ]  # fmt: skip


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=6, max_size=6), st.integers(1, 9))
def test_softmax_lists_the_best_classes_in_order(values: list[float], top_k: int) -> None:
    scores = np.array(values, np.float32)
    result = classify(scores, top_k=top_k)
    wide = np.exp(scores.astype(np.float64) - scores.max())
    wanted = wide / wide.sum()
    k = min(top_k, 6)
    assert np.allclose(result.probabilities, wanted, atol=1e-5)
    assert np.allclose(result.confidence, np.sort(wanted)[::-1][:k], atol=1e-5)
    assert len(result.labels) == len(set(result.class_id.tolist())) == k
    assert result.labels == tuple(LABELS[index] for index in result.class_id)
    assert (np.diff(result.confidence) <= 0).all()
    assert result.label == result.labels[0]


@pytest.mark.filterwarnings("error")
def test_sigmoid_and_none_keep_each_class_for_itself() -> None:
    scores = np.array([-1e5, -2, 0, 2, 1e5, 1], np.float32)
    result = classify(scores, "sigmoid")
    assert np.allclose(result.probabilities, [0, 0.119203, 0.5, 0.880797, 1, 0.731059], atol=1e-5)
    assert result.class_id.tolist() == [4, 3, 5, 2, 1]
    assert classify(np.array([0.1, 0.5, 0, 0, 0, 0.2], np.float32), "none", 2).class_id.tolist() == [1, 5]


def test_half_precision_scores_are_read_too() -> None:
    result = classify(np.array([60000, 0, -60000, 0, 0, 0], np.float16))
    assert result.label == "tabby cat"
    assert result.confidence.dtype == result.probabilities.dtype == np.float32


def test_results_are_plain_json_and_one_line_of_text() -> None:
    result = classify(np.array([1, 5, 3, 0, 0, 0], np.float32), top_k=2)
    found = json.loads(msgspec.json.encode(results_to_dict(result)))
    assert [item["label"] for item in found["classes"]] == ["7", "traffic light ☂ 2"]
    assert [item["class_id"] for item in found["classes"]] == [1, 2]
    assert found == json.loads(json.dumps(results_to_dict(result)))
    assert results_to_text(result) == "7 85.2 %, traffic light ☂ 2 11.5 %"
    both = {"a": result, "b": Embedding(np.array([3, 4], np.float32))}
    assert list(json.loads(json.dumps(results_to_dict(both)))["heads"]) == ["a", "b"]
    assert results_to_text(both).endswith("; b: embedding of 2 numbers, length 5")


def test_embedding_and_features_are_given_as_they_are() -> None:
    vector = np.arange(5, dtype=np.float32)
    result = make_decoder("e", Head("embedding@1", ("e",)), specs([("batch", 5)]), SIZE_HW)([vector], WHOLE)
    assert isinstance(result, Embedding)
    assert np.array_equal(result.vector, vector)
    assert json.loads(json.dumps(result.to_dict())) == {"embedding": [0, 1, 2, 3, 4]}
    maps = [np.ones((8, 4, 4), np.float32), np.full((16, 2, 2), 2, np.float32)]
    head = Head("features@1", ("a", "b"), (), {"strides": [8, 16]})
    features = make_decoder("f", head, specs([("batch", 8, 4, 4), ("batch", 16, 2, 2)]), SIZE_HW)(maps, WHOLE)
    assert isinstance(features, FeatureMaps)
    assert str(features) == "stride 8: 8×4×4, stride 16: 16×2×2"
    assert json.loads(json.dumps(features.to_dict()))["features"][1] == {"stride": 16, "shape": [16, 2, 2], "mean": 2}


def classifier(labels: str, **params: object) -> Head:
    return Head("classification@1", ("logits",), tuple(labels.split()), {"activation": "none", **params})


def decided(head: Head, *probabilities: float, **settings: object) -> Classification:
    decoder = make_decoder("head", head, specs([("batch", len(probabilities))]), SIZE_HW, **settings)
    result = decoder([np.array(probabilities, np.float32)], WHOLE)
    assert isinstance(result, Classification)
    return result


def test_without_an_operating_point_nothing_is_decided() -> None:
    result = decided(classifier("benign malignant"), 0.8, 0.2)
    assert result.decision is None
    assert list(result.to_dict()) == ["classes"]
    assert str(result) == "benign 80.0 %, malignant 20.0 %"


def test_an_operating_point_decides_on_the_class_that_is_looked_for() -> None:
    head = classifier("benign malignant", positive="malignant", threshold=0.125)
    result = decided(head, 0.8, 0.2)
    assert (result.decision, result.label) == ("malignant", "benign")
    assert result.to_dict()["decision"] == "malignant"
    assert str(result) == "malignant (benign 80.0 %, malignant 20.0 %)"
    assert decided(head, 0.875, 0.125).decision == "malignant"
    assert decided(head, 0.9, 0.1).decision == "benign"
    assert decided(head, 0.8, 0.2, threshold=0.5).decision == "benign"
    assert decided(classifier("ill well", positive="ill"), 0.6, 0.4).decision == "ill"


@pytest.mark.parametrize("band", [{"threshold": 0.25}, {}])
def test_close_probabilities_are_left_to_a_person(band: dict[str, float]) -> None:
    head = classifier("benign malignant", positive="malignant", abstain=[0.125, 0.375], **band)
    found = [decided(head, 1 - share, share).decision for share in (0.1, 0.125, 0.3, 0.375, 0.4)]
    assert found == ["benign", "abstain", "abstain", "abstain", "malignant"]


def test_of_many_classes_the_best_is_decided_on_where_it_is_probable_enough() -> None:
    head = classifier("a b c", abstain_below=0.5)
    assert decided(head, 0.2, 0.5, 0.3).decision == "b"
    result = decided(head, 0.2, 0.45, 0.35)
    assert (result.decision, result.label) == ("abstain", "b")
    assert decided(head, 0.2, 0.45, 0.35, abstain_below=0.4).decision == "b"


def test_labels_hold_each_for_itself() -> None:
    head = Head("multilabel@1", ("o0",), ("dog", "sofa", "car"), {"thresholds": [0.9, 0.3, 0.5]})
    decoder = make_decoder("head", head, specs([("batch", 3)]), SIZE_HW)
    result = decoder([np.array([2, -0.5, 1], np.float32)], WHOLE)
    assert isinstance(result, MultiLabel)
    assert result.labels == ("car", "sofa")
    assert str(result) == "car 73.1 %, sofa 37.8 %"
    assert np.allclose(result.probabilities, [0.880797, 0.377541, 0.731059], atol=1e-6)
    found = json.loads(json.dumps(result.to_dict()))
    assert [item["class_id"] for item in found["labels"]] == [2, 1]
    assert len(found["probabilities"]) == 3
    nothing = decoder([np.full(3, -9, np.float32)], WHOLE)
    assert str(nothing) == "no label"
    assert nothing.to_dict()["labels"] == []
    with pytest.raises(EngineError, match="NaN or infinity"):
        decoder([np.array([0, np.nan, 0], np.float32)], WHOLE)


def test_numbers_have_names_and_how_far_off_they_are() -> None:
    params = {"names": ["weight", "age"], "half_width": [20.4, 6.0]}
    values = np.array([182.5, 31], np.float32)
    decoder = make_decoder("head", Head("regression@1", ("o0",), (), params), specs([("batch", 2)]), SIZE_HW)
    result = decoder([values], WHOLE)
    assert isinstance(result, Regression)
    assert str(result) == "weight 182.5 ± 20.4, age 31 ± 6"
    found = json.loads(json.dumps(result.to_dict()))
    assert found["values"]["age"] == {"value": 31.0, "half_width": 6.0}
    plain = Head("regression@1", ("o0",), (), {"names": ["weight", "age"]})
    result = make_decoder("head", plain, specs([("batch", 2)]), SIZE_HW)([values], WHOLE)
    assert str(result) == "weight 182.5, age 31"
    assert result.to_dict() == {"values": {"weight": {"value": 182.5}, "age": {"value": 31.0}}}
    with pytest.raises(EngineError, match="NaN or infinity"):
        decoder([np.array([0, np.inf], np.float32)], WHOLE)


@pytest.mark.parametrize(
    ("head", "shapes", "words"),
    [
        (Head("detection@9", ("x",)), [(1, 4)], "needs decoder detection@9, this edgebone has anomaly@1, boxes@1"),
        (Head("classification@1", ("x",), ("a",), {}), [(1, 1)], "activation"),
        (Head("classification@1", ("x",), ("a",), {"activation": "relu"}), [(1, 1)], "relu"),
        (Head("classification@1", ("x",), ("a",), {"activation": "softmax", "top_k": 0}), [(1, 1)], ">= 1"),
        (Head("classification@1", ("x",), ("a",), {"activation": "softmax", "k": 1}), [(1, 1)], "k"),
        (Head("classification@1", ("x",), ("a",), {"activation": "softmax"}), [(1, 2)], r"\[batch, 1\]"),
        (Head("classification@1", ("x",), (), {"activation": "softmax"}), [(1, 2)], r"\[batch, 0\]"),
        (Head("classification@1", ("x",), ("a",), {"activation": "softmax"}), [(1, "any")], r"\[batch, 1\]"),
        (Head("classification@1", (), ("a",), {"activation": "softmax"}), [], "one output"),
        (classifier("a b", threshold=0.5), [(1, 2)], "need positive"),
        (classifier("a b", abstain=[0.2, 0.4]), [(1, 2)], "need positive"),
        (classifier("a b", positive="c"), [(1, 2)], "one of two labels"),
        (classifier("a b c", positive="a"), [(1, 3)], "one of two labels"),
        (classifier("a a", positive="a"), [(1, 2)], "one of two labels"),
        (classifier("a b", positive="a", abstain=[0.4, 0.2]), [(1, 2)], "the lower first"),
        (classifier("a b", positive="a", abstain=[0.4]), [(1, 2)], "length 2"),
        (classifier("a b", positive="a", threshold=1.5), [(1, 2)], "must be a probability"),
        (classifier("a b", positive="a", threshold=0.5, abstain=[0.6, 0.7]), [(1, 2)], "0.6 to 0.7, got 0.5"),
        (classifier("a b", positive="a", abstain_below=0.5), [(1, 2)], "without a positive class"),
        (classifier("a b", abstain_below=float("nan")), [(1, 2)], "must be a probability"),
        (classifier("a abstain", abstain_below=0.5), [(1, 2)], "a class is named 'abstain'"),
        (Head("multilabel@1", ("x",), ("a", "b")), [(1, 3)], r"\[batch, 2\]"),
        (Head("multilabel@1", ("x",), ("a", "b"), {"thresholds": [0.5]}), [(1, 2)], "1 thresholds and 2 labels"),
        (Head("multilabel@1", ("x",), ("a",), {"thresholds": [-0.5]}), [(1, 1)], "must be probabilities"),
        (Head("regression@1", ("x",)), [(1, 1)], "names"),
        (Head("regression@1", ("x",), (), {"names": ["a", "a"]}), [(1, 2)], "names must differ"),
        (Head("regression@1", ("x",), (), {"names": ["a", "b"]}), [(1, 1)], r"\[batch, 2\]"),
        (Head("regression@1", ("x",), (), {"names": ["a"], "half_width": [-1]}), [(1, 1)], "half_width must be 0"),
        (Head("regression@1", ("x",), (), {"names": ["a"], "half_width": [1, 2]}), [(1, 1)], "2 half widths and 1"),
        (Head("embedding@1", ("x",), (), {"top_k": 1}), [(1, 2)], "top_k"),
        (Head("embedding@1", ("x",)), [(1, 2, 3)], "one output of shape"),
        (Head("features@1", ("x",), (), {"strides": [8, 16]}), [(1, 2, 3, 4)], "2 outputs"),
        (Head("features@1", ("x",), (), {"strides": [8]}), [(1, 2)], "1 outputs"),
        (Head("features@1", ("x",), (), {"strides": "8"}), [(1, 2, 3, 4)], "strides"),
    ],
)
def test_a_head_that_cannot_be_read_is_refused_and_named(
    head: Head, shapes: list[tuple[int | str, ...]], words: str
) -> None:
    with pytest.raises(BundleError, match=rf"head my head.*{words}"):
        make_decoder("my head", head, specs(shapes), SIZE_HW)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_name_no_class(activation: str, bad: float) -> None:
    scores = np.array([0.1, 0.2, bad, 0.3, 0.1, 0.1], np.float32)
    with pytest.raises(EngineError, match="head head: the network returned NaN or infinity"):
        classify(scores, activation)


def test_raw_outputs_are_given_as_they_came() -> None:
    tensors = [np.array([[1.5, np.nan]], np.float32), np.array(7)]
    head = Head("raw@1", ("o0", "o1"))
    result = make_decoder("r", head, specs([("batch", 1, 2), ("batch",)]), SIZE_HW)(tensors, WHOLE)
    assert isinstance(result, RawTensors)
    assert result.tensors["o0"] is tensors[0]
    assert str(result) == "o0: float32 1×2, o1: int64 scalar"
    assert json.loads(json.dumps(result.to_dict()))["tensors"]["o0"] == {
        "shape": [1, 2], "dtype": "float32", "min": 1.5, "max": 1.5
    }  # fmt: skip


def anomaly(score: float, cells: np.ndarray, geometry: Geometry = WHOLE) -> Anomaly:
    head = Head("anomaly@1", ("score", "map"), (), {"threshold": 2.0})
    outputs = specs([("batch",), ("batch", *cells.shape)])
    found = make_decoder("a", head, outputs, SIZE_HW)([np.float32(score), cells], geometry)
    assert isinstance(found, Anomaly)
    return found


def test_an_anomaly_is_told_by_its_score_and_shown_where_it_is() -> None:
    cells = np.ones((8, 8), np.float32)
    cells[2, 5] = 3.5
    found = anomaly(3.5, cells, Geometry((64, 96), (32, 32), (1 / 3, 1 / 2), (0.0, 0.0)))
    assert found.is_anomalous
    assert found.map.shape == (64, 96)
    x, y = found.worst_xy
    assert 60 <= x < 72 and 16 <= y < 24
    assert found.map.max() == pytest.approx(3.5, abs=0.3)
    assert found.map[40:].max() == found.map[:, :48].max() == 1
    told = json.loads(msgspec.json.encode(results_to_dict(found)))
    assert told == {"anomaly": {"score": 3.5, "threshold": 2, "is_anomalous": True, "worst_xy": [x, y]}}
    assert str(found) == f"anomalous: 3.5 > 2 at ({x}, {y})"
    assert str(anomaly(2, cells)) == "normal: 2 ≤ 2"


def test_an_anomaly_map_is_linear_between_its_cells() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (8, 8)).copy()
    found = anomaly(1, ramp).map
    wanted = ((np.arange(32) + 0.5) / 4 - 0.5).clip(0, 7)
    np.testing.assert_allclose(found, np.broadcast_to(wanted, (32, 32)), atol=0.02)


def test_nothing_is_anomalous_where_the_network_did_not_look() -> None:
    cropped = Geometry((32, 64), (32, 32), (1.0, 1.0), (-16.0, 0.0))
    found = anomaly(1, np.ones((4, 4), np.float32), cropped).map
    assert not found[:, :16].any() and not found[:, 48:].any()
    assert (found[:, 16:48] == 1).all()


@pytest.mark.parametrize("bad", [(np.nan, 1.0), (1.0, np.inf)])
def test_an_anomaly_that_is_no_number_is_an_error(bad: tuple[float, float]) -> None:
    with pytest.raises(EngineError, match="NaN or infinity"):
        anomaly(bad[0], np.full((2, 2), bad[1], np.float32))


@pytest.mark.parametrize(
    ("params", "shapes", "words"),
    [
        ({}, [("batch",), ("batch", 4, 4)], "threshold"),
        ({"threshold": -1.0}, [("batch",), ("batch", 4, 4)], "0 or more, got -1.0"),
        ({"threshold": 1.0}, [("batch", 4, 4)], "two float outputs"),
        ({"threshold": 1.0}, [("batch", 4, 4), ("batch",)], r"\[batch\] and \[batch, height, width\]"),
    ],
)
def test_an_anomaly_head_that_does_not_fit_is_refused(
    params: dict[str, float], shapes: list[tuple[int | str, ...]], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        make_decoder("a", Head("anomaly@1", ("x", "y"), (), params), specs(shapes), SIZE_HW)
