"""Areas of objects: kept small, full-size when asked, and as COCO writes them."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebone.core.detections import Detections
from edgebone.core.masks import Masks, mask_iou
from edgebone.core.rle import compressed, run_lengths, runs_of


def square(left: int, top: int, right: int, bottom: int, size_hw: tuple[int, int] = (12, 16)) -> Masks:
    """One area: all of its pixels."""
    place = np.array([[left, top, right, bottom]])
    cells = np.array([[left, top, left + 4.0, top + 4.0]])
    return Masks((np.ones((1, 1), np.float32),), cells, place, 0.5, size_hw)


def both(a: Masks, b: Masks) -> Masks:
    rows = (np.concatenate(pair) for pair in ((a.cells, b.cells), (a.pixels, b.pixels)))
    return Masks(a.values + b.values, *rows, a.threshold, a.size_hw)


def test_an_area_is_where_the_interpolated_values_are_above_the_threshold() -> None:
    # Two cells of 4 pixels, -1 and 3: the straight line between their centres (x = 2 and 6) is above 0 from 3 on.
    cells = np.array([[0.0, 0.0, 8.0, 4.0]])
    masks = Masks((np.float32([[-1, 3]]),), cells, np.array([[0, 0, 8, 4]]), 0.0, (4, 8))
    assert masks.full().tolist() == [[[False] * 3 + [True] * 5] * 4]
    # The same, shown from its third column on, and one row high.
    cut = dataclasses.replace(masks, pixels=np.array([[2, 1, 6, 2]]))
    bitmap, left_top = cut.bitmap(0)
    assert (bitmap.tolist(), left_top) == ([[False, True, True, True]], (2, 1))
    assert cut.full().sum() == cut.area[0] == 3


def test_areas_are_chosen_as_boxes_are() -> None:
    masks = both(square(1, 2, 4, 6), square(0, 0, 16, 12))
    assert masks.area.tolist() == [12, 192]
    for index, wanted in ((1, [192]), ([1, 0], [192, 12]), ([], []), ([True, False], [12]), (slice(0, 1), [12])):
        assert masks[index].area.tolist() == wanted
    with pytest.raises(IndexError):
        masks[2]
    assert len(masks[[]]) == 0
    assert masks[[]].full().shape == (0, *masks.size_hw)
    with pytest.raises(ValueError, match=r"cells \(n, 4\).*\(1, 4\) and \(2, 4\) for 1"):
        Masks(masks.values[:1], masks.cells[:1], masks.pixels, 0.0, (1, 1))
    with pytest.raises(ValueError, match="a mask for each of 1 boxes, got 2"):
        Detections(np.zeros((1, 4), np.float32), np.zeros(1, np.float32), np.zeros(1, np.int64), mask=masks)


def test_iou_of_areas_is_counted_in_pixels() -> None:
    a, b = both(square(0, 0, 4, 4), square(8, 8, 8, 8)), both(square(2, 0, 6, 4), square(4, 4, 8, 8))
    everything = np.ones((2, 2), np.bool_)
    np.testing.assert_allclose(mask_iou(a, b, everything), [[8 / 24, 0], [0, 0]])
    assert mask_iou(a[1], a[1], np.ones((1, 1), np.bool_)) == 1
    assert not mask_iou(a, b, ~everything).any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_run_lengths_of_a_part_are_those_of_the_whole(seed: int, height: int, width: int, top: int, left: int) -> None:
    bitmap = np.random.default_rng(seed).random((height, width)) < 0.6
    whole = np.zeros((height + top + seed % 2, width + left + seed % 3), np.bool_)
    whole[top : top + height, left : left + width] = bitmap
    assert runs_of(bitmap, (left, top), (whole.shape[0], whole.shape[1])).tolist() == run_lengths(whole)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 1.0])
def test_compressed_run_lengths_are_pycocotools(share: float) -> None:
    api = pytest.importorskip("faster_coco_eval.core.mask")
    rng = np.random.default_rng(3)
    for size in ((1, 1), (5, 3), (700, 900)):
        mask = rng.random(size) < share
        mask[: size[0] // 3] = share > 0
        wanted = api.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        assert compressed(runs_of(mask, (0, 0), size)) == (wanted if isinstance(wanted, str) else wanted.decode())


def test_a_thousand_areas_of_a_large_frame_are_written_one_by_one() -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 3000, (1000, 2)) % (3780, 2100)
    pixels = np.concatenate([corners, corners + 60], axis=1)
    values = tuple(np.float32(rng.normal(size=(1000, 8, 8))))
    masks = Masks(values, pixels.astype(np.float64), pixels, 0.0, (2160, 3840))
    xyxy = pixels.astype(np.float32)
    found = Detections(xyxy, np.full(1000, 0.5, np.float32), np.zeros(1000, np.int64), mask=masks)
    tracemalloc.start()
    rows = found.to_dict()["detections"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 1000
    assert peak < 40e6
    assert rows[0]["segmentation"]["size"] == [2160, 3840]


def test_boxes_with_areas_are_supervisions_with_masks() -> None:
    supervision = pytest.importorskip("supervision")
    masks = both(square(1, 2, 4, 6), square(0, 0, 16, 12))
    xyxy = np.float32([[1, 2, 4, 6], [0, 0, 16, 12]])
    found = Detections(xyxy, np.float32([0.9, 0.8]), np.array([0, 1]), mask=masks)
    theirs = found.to_supervision()
    assert isinstance(theirs, supervision.Detections)
    np.testing.assert_array_equal(theirs.mask, masks.full())
    assert theirs.area.tolist() == found.area.tolist() == [12, 192]
    assert found[1].mask is not None
    assert found.rows()[0] == {
        "left": 1, "top": 2, "width": 3, "height": 4, "category_id": 0, "label": "0", "score": 0.9, "area": 12
    }  # fmt: skip
