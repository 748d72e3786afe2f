"""Class maps: decoding onto the picture, and the result itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebone.core.errors import BundleError, EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head, Preprocess
from edgebone.core.rle import run_lengths
from edgebone.core.segmentation import SegmentationMap
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.preprocess import plan

NET_HW = (8, 12)
WHOLE = Geometry(NET_HW, NET_HW, (1.0, 1.0), (0.0, 0.0))
LABELS = ("background", "drivable area", "車線")


def segment(
    array: np.ndarray, geometry: Geometry = WHOLE, labels: tuple[str, ...] = LABELS, **params: object
) -> SegmentationMap:
    head = Head("segmentation@1", ("o",), labels, params)
    spec = TensorSpec("o", array.dtype.name, ("batch", *array.shape))
    found = make_decoder("s", head, [spec], NET_HW)([array], geometry)
    assert isinstance(found, SegmentationMap)
    return found


def truth() -> np.ndarray:
    mask = np.zeros(NET_HW, np.uint8)
    mask[2:6, 3:9] = 1
    mask[0, :] = 2
    return mask


def as_logits(mask: np.ndarray, classes: int = 3) -> np.ndarray:
    return (np.arange(classes)[:, None, None] == mask).astype(np.float32) * 3 - 1


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_scores_and_classes_give_the_same_map(dtype: str) -> None:
    for found in (segment(as_logits(truth()).astype(dtype)), segment(truth()), segment(truth().astype(np.int64))):
        np.testing.assert_array_equal(found.class_id, truth())
        assert found.class_id.dtype == np.uint8
    two = segment(as_logits(truth().clip(0, 1), 2), labels=LABELS[:2])
    np.testing.assert_array_equal(two.class_id, truth().clip(0, 1))


def test_one_channel_needs_a_threshold_and_two_labels() -> None:
    one = truth().clip(0, 1).astype(np.float32)[None]
    np.testing.assert_array_equal(segment(one, labels=LABELS[:2], threshold=0.5).class_id, truth().clip(0, 1))
    with pytest.raises(BundleError, match=r"3 labels, height, width.*'batch', 1, 8, 12"):
        segment(one)
    with pytest.raises(BundleError, match="2 labels and one float output"):
        segment(one, threshold=0.5)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(["letterbox", "stretch"]))
def test_every_pixel_gets_the_class_of_its_own_cell(height: int, width: int, mode: str) -> None:
    spec = Preprocess(mode, NET_HW, "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1))  # type: ignore[arg-type]
    geometry = plan(spec, height, width)
    mask = np.arange(96, dtype=np.uint8).reshape(NET_HW)
    labels = tuple(map(str, range(96)))
    found = segment(mask, geometry, labels)
    assert found.class_id.shape == (height, width)
    for y, x in {(0, 0), (height - 1, width - 1), (height // 2, width // 3)}:
        to_x, to_y = geometry.to_network(np.array([x + 0.5, y + 0.5]))
        assert found.class_id[y, x] == mask[int(to_y), int(to_x)]


def test_a_coarser_map_is_spread() -> None:
    found = segment(truth()[::2, ::2])
    np.testing.assert_array_equal(found.class_id, truth()[::2, ::2].repeat(2, 0).repeat(2, 1))


def test_what_a_crop_cut_off_is_background() -> None:
    crop = Preprocess("crop", NET_HW, "bilinear", True, "rgb", (0, 0, 0), (1, 1, 1), resize=12)
    found = segment(np.ones(NET_HW, np.uint8), plan(crop, 24, 48))
    assert found.class_id.shape == (24, 48)
    assert not found.class_id[:4].any() and not found.class_id[:, :12].any()
    assert found.class_id[4:20, 12:36].all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_an_error(bad: float) -> None:
    logits = as_logits(truth())
    logits[1, 2, 3] = bad
    with pytest.raises(EngineError, match="NaN or infinity"):
        segment(logits)


def test_a_class_without_a_label_is_an_error() -> None:
    with pytest.raises(EngineError, match="returned class 9, the bundle has 3 labels"):
        segment(np.full(NET_HW, 9, np.uint8))


def test_the_map_says_how_much_there_is_of_what() -> None:
    found = segment(truth())
    assert found.area.tolist() == [60, 24, 12]
    assert found.shares()["drivable area"] == 0.25
    assert str(found) == "background 62.5 %, drivable area 25.0 %, 車線 12.5 %"
    assert found.mask("車線").sum() == 12
    with pytest.raises(KeyError, match="there is no class 'lane'; there are background"):
        found.mask("lane")


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6))
def test_run_lengths_are_cocos(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    counts = run_lengths(mask)
    flat = np.concatenate([np.full(n, place % 2) for place, n in enumerate(counts)])
    np.testing.assert_array_equal(flat.reshape(mask.shape, order="F"), mask)
    assert all(counts[1:])


def test_json_holds_every_class_but_the_background() -> None:
    segments = segment(truth()).to_dict()["segments"]
    assert [item["label"] for item in segments] == ["drivable area", "車線"]
    assert segments[0]["area"] == 24
    assert segments[0]["segmentation"]["size"] == [8, 12]
    assert sum(segments[0]["segmentation"]["counts"]) == 96


def test_supervision_takes_it() -> None:
    pytest.importorskip("supervision")
    theirs = segment(truth()).to_supervision()
    assert theirs.mask.sum(axis=(1, 2)).tolist() == [24, 12]
    assert theirs["class_name"].tolist() == ["drivable area", "車線"]
    assert theirs.xyxy[0].tolist() == [3, 2, 8, 5]
    assert len(segment(np.zeros(NET_HW, np.uint8)).to_supervision()) == 0
