"""How outputs are compared: one cosine, one relative difference, and which tolerance tells right from wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgebone.core.compare import (
    FP32,
    HEAD,
    REDUCED,
    REDUCED_HEAD,
    SAME_INPUT,
    Difference,
    compare,
    comparison_of,
    cosine,
    fault,
    nearest_score,
    values_within,
    worst,
)
from edgebone.core.manifest import Head

ZERO, ONE = np.zeros(3, np.float32), np.array([1, 2, 2], np.float32)
BOXES = np.array([[[10, 10, 20, 20, 0.9, 1], [40, 40, 60, 60, 0.5, 0]]], np.float32)


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        (ZERO, ZERO, 1.0),
        (ZERO, ONE, 0.0),
        (ONE, ZERO, 0.0),
        (ONE, ONE, 1.0),
        (ONE, -ONE, -1.0),
        (ONE, np.array([2, 1, -2], np.float32), 0.0),
        (ONE, np.array([1, np.inf, 2], np.float32), 0.0),
        (ONE, np.array([1, np.nan, 2], np.float32), 0.0),
        (np.full(3, 1e-40, np.float32), np.full(3, 1e-40, np.float32), 1.0),
    ],
    ids=["both zero", "first zero", "second zero", "same", "opposite", "square", "inf", "nan", "tiny"],
)
def test_the_cosine_of_any_two_vectors_is_decided(a: np.ndarray, b: np.ndarray, wanted: float) -> None:
    assert cosine(a, b) == pytest.approx(wanted, abs=1e-12)
    if np.isfinite(a).all():
        same = compare(a[None], b[None], "values", FP32) if np.isfinite(b).all() else None
        assert same is None or same.cosine == pytest.approx(wanted, abs=1e-12)


def test_values_are_compared_picture_by_picture() -> None:
    want = np.array([[1, 0], [0, 10]], np.float32)
    have = np.array([[0, 1], [0, 9]], np.float32)
    found = compare(have, want, "scores", FP32)
    assert found == Difference(max_abs=1.0, max_rel=0.1, cosine=0.0, top1=0.5)
    assert not values_within(found, FP32)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tolerance", [FP32, REDUCED, HEAD, REDUCED_HEAD, SAME_INPUT])
def test_what_is_not_finite_is_never_right(bad: float, tolerance: object) -> None:
    found = compare(np.array([[1, bad]], np.float32), np.ones((1, 2), np.float32), "values", FP32)
    assert (found.finite, found.cosine, found.max_rel) == (False, 0.0, np.inf)
    assert fault(found, FP32) == "NaN or infinity in the outputs"
    assert not values_within(found, tolerance)  # type: ignore[arg-type]


def test_boxes_are_found_in_any_order_and_wrong_ones_are_not() -> None:
    assert compare(BOXES[:, ::-1], BOXES, "boxes", FP32) == Difference(matched=1.0)
    moved = BOXES.copy()
    moved[0, 0, 0] += 3
    assert compare(moved, BOXES, "boxes", dataclasses.replace(FP32, full=False)).matched == 0.5
    assert compare(moved, BOXES, "boxes", REDUCED).matched == 1.0
    assert fault(Difference(matched=0.95), FP32) == "99 % of the boxes must be the recorded ones"
    assert fault(Difference(matched=0.95), REDUCED) == ""


def test_where_no_box_is_shown_the_nearest_is_looked_for() -> None:
    assert nearest_score(BOXES, 0.25) == 0.25
    assert nearest_score(BOXES * 0.1, 0.25) == pytest.approx(0.045)
    assert nearest_score(BOXES[:, :0], 0.25) == 0


def test_pixels_are_counted_by_picture() -> None:
    want = np.zeros((2, 4, 4), np.uint8)
    have = want.copy()
    have[1, 0, :2] = 1
    assert compare(have, want, "classes", FP32) == Difference(equal=0.875)
    assert fault(Difference(equal=0.99), FP32) == "99.9 % of the pixels must have the recorded class"


def test_a_small_difference_of_small_values_is_within_a_heads_tolerance() -> None:
    want = np.full((1, 4), 1e-3, np.float32)
    assert values_within(compare(want + 5e-5, want, "values", HEAD), HEAD)
    assert not values_within(compare(want + 2e-4, want, "values", HEAD), HEAD)
    large = np.full((1, 4), 100, np.float32)
    assert values_within(compare(large + 5e-3, large, "values", HEAD), HEAD)
    assert not values_within(compare(large + 5e-2, large, "values", HEAD), HEAD)


def test_the_worst_of_several_outputs_is_told() -> None:
    both = worst([Difference(1.0, 0.1, 0.9), Difference(matched=0.5), Difference(0.5, 0.2, 0.95)])
    assert both == Difference(1.0, 0.2, 0.9, matched=0.5)
    assert worst([]) == Difference()


@pytest.mark.parametrize(
    ("decoder", "dtype", "wanted"),
    [
        ("boxes@1", "float32", "boxes"),
        ("classification@1", "float32", "scores"),
        ("segmentation@1", "uint8", "classes"),
        ("segmentation@1", "float32", "values"),
        (None, "int64", "classes"),
        (None, "float32", "values"),
    ],
)
def test_an_output_is_compared_as_what_reads_it(decoder: str | None, dtype: str, wanted: str) -> None:
    head = None if decoder is None else Head(decoder, ("output",))
    assert comparison_of(head, np.dtype(dtype)) == wanted
