"""Depth: from the network's cells to the picture, what it says, and how far it is from measured distances."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgebone.core.depth import DepthMap
from edgebone.core.errors import BundleError, EngineError, SourceError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Head, Preprocess
from edgebone.core.tensors import TensorSpec
from edgebone.decode import make_decoder
from edgebone.evaluate.depth import compare_depth, read_depth
from edgebone.preprocess import plan
from edgebone.sinks.annotate import annotate

NET_HW = (8, 12)
WHOLE = Geometry(NET_HW, NET_HW, (1.0, 1.0), (0.0, 0.0))


def depth(array: np.ndarray, geometry: Geometry = WHOLE, unit: str = "metres") -> DepthMap:
    spec = TensorSpec("o", array.dtype.name, ("batch", *array.shape))
    found = make_decoder("far", Head("depth@1", ("o",), (), {"unit": unit}), [spec], NET_HW)([array], geometry)
    assert isinstance(found, DepthMap)
    return found


def ramp(rows: int = 8, columns: int = 12) -> np.ndarray:
    """Distances that grow linearly to the right and down."""
    y, x = np.mgrid[:rows, :columns]
    return np.asarray(1 + (x + 0.5) / columns + 2 * (y + 0.5) / rows, np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_cell_has_its_distance_in_float32(dtype: str) -> None:
    for array in (ramp(), ramp()[None]):
        found = depth(array.astype(dtype))
        np.testing.assert_allclose(found.values, ramp(), rtol=1e-3)
        assert found.values.dtype == np.float32
        np.testing.assert_array_equal(found.full_size(), found.values)


def test_the_full_size_is_linear_between_cells_also_where_the_map_is_coarser_than_the_input() -> None:
    geometry = Geometry((80, 240), NET_HW, (12 / 240, 8 / 80), (0.0, 0.0))
    for cells in (ramp(), ramp(4, 6)):
        found = depth(cells, geometry).full_size()
        assert (found.shape, found.dtype) == ((80, 240), np.float32)
        # Beyond the outermost centres the edge's value is kept.
        np.testing.assert_allclose(found[20:60, 40:200], ramp(80, 240)[20:60, 40:200], rtol=1e-5)
        assert (found.min(), found.max()) == (cells.min(), cells.max())


def test_cells_of_padding_are_left_out_and_pixels_that_were_cut_off_have_no_distance() -> None:
    letterbox = Preprocess("letterbox", NET_HW, "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1), pad_value=114)
    cells = ramp()
    cells[:2], cells[6:] = 90, 90
    found = depth(cells, plan(letterbox, 40, 120))
    assert found.values.shape == (4, 12)
    assert found.full_size().max() < 4
    crop = Preprocess("crop", NET_HW, "bilinear", False, "rgb", (0, 0, 0), (1, 1, 1), resize=8)
    seen = np.isfinite(depth(ramp(), plan(crop, 80, 240)).full_size())
    assert seen.shape == (80, 240)
    assert seen.any(axis=0).sum() == 120
    assert seen[:, 60:180].all()


def test_the_summary_says_unit_spread_and_the_nearest_pixel() -> None:
    geometry = Geometry((80, 120), NET_HW, (0.1, 0.1), (0.0, 0.0))
    cells = np.full(NET_HW, 3, np.float32)
    cells[2, 4], cells[7, 11] = 0.75, 12
    found = depth(cells, geometry)
    said = {"unit": "metres", "min": 0.75, "median": 3.0, "max": 12.0, "nearest_xy": [45, 25]}
    assert found.to_dict() == {"depth": said}
    assert str(found) == "depth 0.75 to 12 m, median 3 m, nearest at (45, 25)"
    relative = depth(cells, geometry, unit="relative")
    assert relative.nearest_xy == (115, 75)
    assert str(relative) == "relative depth 0.75 to 12, median 3, nearest at (115, 75)"
    assert found.rows() == [{f"depth.{key}": value for key, value in said.items()}]


def test_the_nearest_is_drawn_brightest_whatever_the_unit() -> None:
    black = np.zeros((160, 240, 3), np.uint8)
    geometry = Geometry((160, 240), NET_HW, (0.05, 0.05), (0.0, 0.0))
    for unit, near in (("metres", "left"), ("relative", "right")):
        drawn = annotate(black, depth(ramp(), geometry, unit)).astype(int)
        left, right = drawn[80, 2].sum(), drawn[-2, -2].sum()
        assert (left > right + 100) if near == "left" else (right > left + 100)


def test_outputs_that_are_no_depth_are_refused() -> None:
    for shape in ((2, 8, 12), (8,)):
        with pytest.raises(BundleError, match=r"head far: depth@1 reads one float output of shape \[batch, height"):
            depth(np.zeros(shape, np.float32))
    with pytest.raises(BundleError, match="depth@1 reads one float"):
        depth(np.zeros(NET_HW, np.uint8))
    with pytest.raises(BundleError, match="rejects its parameters: Invalid enum value 'feet'"):
        depth(ramp(), unit="feet")
    broken = ramp()
    broken[3, 3] = np.nan
    with pytest.raises(EngineError, match="head far: the network returned NaN"):
        depth(broken)


def test_errors_are_shares_of_the_true_distance_over_measured_pixels() -> None:
    truth = np.full(NET_HW, 2.0)
    truth[:4] = np.nan
    truth[4] = 0
    cells = np.full(NET_HW, 2, np.float32)
    cells[:5] = 50
    assert compare_depth(depth(cells), truth) == (0.0, 1.0)
    # A third of the measured pixels is 30 % too far, another 10 % too near.
    cells[5], cells[6] = 2.6, 1.8
    abs_rel, delta1 = compare_depth(depth(cells), truth) or (0, 0)
    assert (abs_rel, delta1) == (pytest.approx(0.4 / 3, abs=1e-6), pytest.approx(2 / 3))
    assert compare_depth(depth(cells), np.zeros(NET_HW)) is None


def test_relative_depth_is_fitted_to_the_inverse_distances_first() -> None:
    truth = ramp().astype(np.float64)
    abs_rel, delta1 = compare_depth(depth((7 / ramp() - 3).astype(np.float32), unit="relative"), truth) or (1, 0)
    assert (abs_rel, delta1) == (pytest.approx(0, abs=1e-5), 1)
    abs_rel, _ = compare_depth(depth(np.flip(ramp()).copy(), unit="relative"), np.flip(truth[::-1])) or (0, 0)
    assert abs_rel > 0.1


def test_measured_distances_are_metres_in_npy_and_millimetres_in_png(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ramp())
    cv2.imwrite(str(tmp_path / "a.png"), (ramp() * 1000).round().astype(np.uint16))
    np.testing.assert_allclose(read_depth(tmp_path / "a.npy"), ramp(), rtol=1e-6)
    np.testing.assert_allclose(read_depth(tmp_path / "a.png"), ramp(), atol=6e-4)
    cv2.imwrite(str(tmp_path / "eight.png"), np.zeros(NET_HW, np.uint8))
    np.save(tmp_path / "three.npy", np.zeros((1, *NET_HW)))
    (tmp_path / "no.npy").write_bytes(b"no array")
    for name, words in (
        ("eight.png", "one channel of 16 bits, this is L"),
        ("three.npy", r"shape \(height, width\), found float64 \(1, 8, 12\)"),
        ("no.npy", "not an array of distances"),
    ):
        with pytest.raises(SourceError, match=words):
            read_depth(tmp_path / name)
