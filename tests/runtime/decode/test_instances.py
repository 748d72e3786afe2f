"""Decoders of objects with their areas, held against plain arithmetic."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError, EngineError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head, Preprocess
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.preprocess import plan

NET_HW = (64, 96)
WHOLE = Geometry(NET_HW, NET_HW, (1.0, 1.0), (0.0, 0.0))
LABELS = ("person", "dog")
C, MASK_HW = 4, (16, 24)


def specs(*tensors: np.ndarray) -> list[TensorSpec]:
    return [TensorSpec(f"o{i}", "float32", ("batch", *array.shape)) for i, array in enumerate(tensors)]


def detect(decoder: str, *tensors: np.ndarray, geometry: Geometry = WHOLE, **params: Any) -> Detections:
    head = Head(decoder, tuple(f"o{i}" for i in range(len(tensors))), LABELS, {"score": 0.3, "iou": None, **params})
    found = make_decoder("d", head, specs(*tensors), NET_HW)(tensors, geometry)
    assert isinstance(found, Detections)
    return found


@pytest.fixture
def prototypes() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(C, *MASK_HW)).astype(np.float32)


def some(n: int, seed: int = 2) -> np.ndarray:
    """Rows of left, top, right, bottom, score, class, coefficients, best first."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 50, (n, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, 40, (n, 2))], axis=1).clip(0, (96, 64, 96, 64))
    scores = np.linspace(0.95, 0.4, n)
    return np.column_stack([boxes, scores, rng.integers(0, 2, n), rng.normal(size=(n, C))]).astype(np.float32)


def ultralytics(rows: np.ndarray, prototypes: np.ndarray, size_hw: tuple[int, int] = NET_HW) -> np.ndarray:
    """ops.process_mask(upsample=True): sums, bilinear to the input's size, above 0, cropped by the box."""
    masks = []
    for row in rows:
        total = np.tensordot(row[6:], prototypes, 1)
        large = cv2.resize(total, size_hw[::-1], interpolation=cv2.INTER_LINEAR) > 0
        x, y = np.arange(size_hw[1]), np.arange(size_hw[0])[:, None]
        masks.append(large & (x >= row[0]) & (x < row[2]) & (y >= row[1]) & (y < row[3]))
    return np.stack(masks)


def test_areas_are_those_of_ultralytics(prototypes: np.ndarray) -> None:
    rows = some(100)
    found = detect("instances@1", rows, prototypes)
    wanted = ultralytics(rows, prototypes)
    # Those without a pixel are not shown.
    wanted = wanted[wanted.any(axis=(1, 2))]
    assert found.mask is not None
    have = found.mask.full()
    assert have.shape == wanted.shape
    assert (have != wanted).mean() < 1e-5
    # Some of 64x96 pixels are kept as 16x24 cells, and fewer.
    assert max(values.size for values in found.mask.values) <= 16 * 24
    nothing = detect("instances@1", rows[:0], prototypes).mask
    assert nothing is not None
    assert len(nothing) == 0


def test_raw_forms_are_the_decoded_one(prototypes: np.ndarray) -> None:
    rows = some(30)
    wanted = detect("instances@1", rows, prototypes)
    centred = np.concatenate([(rows[:, :2] + rows[:, 2:4]) / 2, rows[:, 2:4] - rows[:, :2]], axis=1)
    scores = np.full((len(rows), 2), 0.01, np.float32)
    scores[np.arange(len(rows)), rows[:, 5].astype(int)] = rows[:, 4]
    v8 = np.concatenate([centred, scores, rows[:, 6:]], axis=1).T
    v5 = np.concatenate([centred, np.ones((len(rows), 1)), scores, rows[:, 6:]], axis=1)
    for decoder, first in (("yolov8-seg@1", v8), ("yolov5-seg@1", v5)):
        found = detect(decoder, first.astype(np.float32), prototypes)
        np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=1e-4)
        assert found.labels == wanted.labels
        assert found.mask is not None and wanted.mask is not None
        assert (found.mask.full() != wanted.mask.full()).mean() < 1e-5


@pytest.mark.parametrize("size_hw", [(480, 640), (640, 480), (33, 200)])
def test_areas_lead_back_to_the_picture(size_hw: tuple[int, int], prototypes: np.ndarray) -> None:
    spec = Preprocess("letterbox", NET_HW, "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1))
    geometry = plan(spec, *size_hw)
    height, width = size_hw
    box = geometry.to_network(np.array([[0.2 * width, 0.3 * height], [0.7 * width, 0.9 * height]])).reshape(-1)
    row = np.concatenate([box, [0.9, 1], [1, 0, 0, 0]])[None].astype(np.float32)
    # Positive left of the picture's middle.
    plane = np.zeros_like(prototypes)
    middle = geometry.to_network(np.array([width / 2, 0]))[0] * MASK_HW[1] / NET_HW[1]
    plane[0] = middle - (np.arange(MASK_HW[1]) + 0.5)
    found = detect("instances@1", row, plane, geometry=geometry)
    assert found.mask is not None
    (mask,) = found.mask.full()
    assert mask.shape == size_hw
    rows, columns = np.nonzero(mask)
    # Up to half the width and no further, from the box's own sides.
    wanted = [0.2 * width, 0.3 * height, 0.5 * width, 0.9 * height]
    np.testing.assert_allclose([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], wanted, atol=1.5)


def test_masks_of_boxes_are_pasted_as_torchvision_pastes_them() -> None:
    torch = pytest.importorskip("torch")
    paste = pytest.importorskip("torchvision.models.detection.roi_heads").paste_masks_in_image
    rng = np.random.default_rng(4)
    rows = some(40)[:, :6]
    grids = np.stack([cv2.blur(grid, (3, 3)) for grid in np.float32(rng.random((40, 14, 14)))])
    first = np.concatenate([rows, grids.reshape(40, -1)], axis=1)
    found = detect("roi-masks@1", first, mask_hw=[14, 14])
    wanted = paste(torch.from_numpy(grids[:, None].copy()), torch.from_numpy(found.xyxy), NET_HW)[:, 0].numpy() > 0.5
    assert found.mask is not None
    assert (found.mask.full() != wanted).mean() < 1e-5


def test_a_grid_covers_its_whole_box_also_beyond_the_picture() -> None:
    # A picture of half the input's width, with padding on the right.
    geometry = plan(Preprocess("letterbox", NET_HW, "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1)), 64, 48)
    (left, _), (right, _) = geometry.to_source(np.array([[40.0, 0.0], [88.0, 64.0]]))
    assert right > 48 > left
    grid = np.zeros((14, 14), np.float32)
    grid[:, :7] = 1
    row = np.concatenate([[40, 0, 88, 64, 0.9, 0], grid.ravel()])[None].astype(np.float32)
    found = detect("roi-masks@1", row, geometry=geometry, mask_hw=[14, 14])
    assert found.mask is not None
    columns = np.flatnonzero(found.mask.full()[0].any(axis=0))
    assert columns.min() == pytest.approx(left, abs=1.5)
    assert columns.max() + 1 == pytest.approx(min((left + right) / 2, 48), abs=1.5)


def test_an_area_in_the_padding_alone_is_not_shown() -> None:
    geometry = plan(Preprocess("letterbox", NET_HW, "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1)), 64, 48)
    edge = float(geometry.to_network(np.array([[48.0, 0.0]]))[0, 0])
    plane = np.full((C, *MASK_HW), -1, np.float32)
    plane[0, :, int(edge / 4) + 2 :] = 1
    row = np.array([[edge - 20, 4, edge + 20, 60, 0.9, 0, 1, 0, 0, 0]], np.float32)
    assert len(detect("instances@1", row, plane, geometry=geometry)) == 0
    plane[0, 8, int(edge / 4) - 3] = 1
    (area,) = detect("instances@1", row, plane, geometry=geometry).area
    assert area > 0


@pytest.mark.parametrize(
    ("decoder", "shapes", "words"),
    [
        ("instances@1", [(9, 10)], r"\[batch, boxes, 6 \+ coefficients\], then their prototypes .*outputs o0"),
        ("instances@1", [(9, 10), (5, 8, 8)], "then their prototypes"),
        ("instances@1", [(9, 10), (4, 8)], "then their prototypes"),
        ("yolov8-seg@1", [(11, 9), (4, 8, 8)], r"\[batch, 4 \+ 2 labels \+ coefficients, boxes\]"),
        ("yolov5-seg@1", [(9, 10), (4, 8, 8)], r"\[batch, boxes, 5 \+ 2 labels \+ coefficients\]"),
    ],
)
def test_heads_of_masks_whose_sizes_do_not_fit_are_refused(
    decoder: str, shapes: list[tuple[int, ...]], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        detect(decoder, *(np.zeros(shape, np.float32) for shape in shapes))


def test_a_grid_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BundleError, match=r"roi-masks@1 reads one output .*k, 202\] \(6 \+ a mask of 14x14"):
        detect("roi-masks@1", np.zeros((9, 6 + 100), np.float32), mask_hw=[14, 14])


def test_prototypes_that_are_no_numbers_are_an_error(prototypes: np.ndarray) -> None:
    prototypes[0, 3, 3] = np.nan
    with pytest.raises(EngineError, match="NaN or infinity"):
        detect("instances@1", some(3), prototypes)


def test_a_thousand_boxes_are_the_best_three_hundred(prototypes: np.ndarray) -> None:
    found = detect("instances@1", some(1000), prototypes)
    assert 250 < len(found) <= 300
    assert len(found.to_dict()["detections"]) == len(found)
