"""Preprocessing: the transforms that the network was trained with, and the way back to the picture."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgebone.core.errors import TensorError
from edgebone.core.geometry import Geometry
from edgebone.core.manifest import Preprocess
from edgebone.preprocess import _goes_by_rule, plan, preprocess, takes_y_first


def spec(mode: str = "crop", size_hw: tuple[int, int] = (32, 32), **changes: object) -> Preprocess:
    values: dict[str, object] = {
        "mode": mode, "size_hw": size_hw, "interpolation": "bilinear", "antialias": True, "color": "rgb",
        "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "resize": 36 if mode == "crop" else None,
    }  # fmt: skip
    return Preprocess(**{**values, **changes})  # type: ignore[arg-type]


def run(how: Preprocess, image: np.ndarray, fill: int = 77) -> tuple[np.ndarray, Geometry]:
    out = np.full((*how.size_hw, 3), fill, np.uint8)
    return out, preprocess(how, image, out)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


MODES = [
    spec(), spec(resize=(40, 50)), spec(resize=20),
    spec("letterbox"), spec("letterbox", anchor="top_left"), spec("stretch"),
    spec(antialias=False), spec("letterbox", antialias=False), spec("stretch", antialias=False),
]  # fmt: skip
sides = st.integers(1, 300)


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(40, 300), aspect=st.floats(0.3, 3), resize=st.integers(40, 96), cut=st.integers(-10, 10),
    bicubic=st.booleans(), seed=st.integers(0, 1000),
)  # fmt: skip
def test_crop_is_torchvisions_resize_and_center_crop_within_two_steps_on_noise(
    height: int, aspect: float, resize: int, cut: int, bicubic: bool, seed: int
) -> None:
    width, net_h, net_w = int(height * aspect), resize - cut, resize - cut // 2
    transforms = pytest.importorskip("torchvision.transforms")
    image = noise(height, width, seed)
    mode = transforms.InterpolationMode.BICUBIC if bicubic else transforms.InterpolationMode.BILINEAR
    both = transforms.Compose([transforms.Resize(resize, mode), transforms.CenterCrop((net_h, net_w))])
    wanted = np.asarray(both(Image.fromarray(image[..., ::-1].copy())))
    how = spec(size_hw=(net_h, net_w), resize=resize, interpolation="bicubic" if bicubic else "bilinear")
    have, _ = run(how, image)
    difference = np.abs(have.astype(int) - wanted.astype(int))
    assert difference.max() <= 2
    # A wrong filter or crop is off by whole steps on average.
    assert difference.mean() < 0.25


@pytest.mark.parametrize("size_hw", [(300, 220), (220, 300), (400, 220), (300, 223), (640, 200), (600, 440)])
def test_a_part_of_an_enlarged_picture_is_what_it_is_in_the_whole_one(size_hw: tuple[int, int]) -> None:
    image = noise(*size_hw)
    how = spec(size_hw=(224, 224), resize=(300, 260), interpolation="bicubic")
    have, geometry = run(how, image)
    whole = Image.fromarray(image[..., ::-1].copy()).resize((260, 300), Image.Resampling.BICUBIC)
    left, top = (round(-offset) for offset in geometry.offset_xy)
    difference = np.abs(have.astype(int) - np.asarray(whole)[top : top + 224, left : left + 224])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", [256, 232, 224, (256, 256)])
@pytest.mark.parametrize("size_hw", [(480, 640), (1080, 1920), (333, 500), (375, 500), (640, 480)])
def test_at_imagenet_sizes_crop_differs_from_torchvision_in_a_few_values_in_a_thousand_by_one_step(
    interpolation: str, resize: int | tuple[int, int], size_hw: tuple[int, int]
) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    image = noise(*size_hw)
    mode = transforms.InterpolationMode(interpolation)
    both = transforms.Compose([transforms.Resize(resize, mode), transforms.CenterCrop(224)])
    wanted = np.asarray(both(Image.fromarray(image[..., ::-1].copy()))).astype(int)
    have, _ = run(spec(size_hw=(224, 224), resize=resize, interpolation=interpolation), image)
    difference = np.abs(have - wanted)
    assert (difference > 1).mean() < 1e-5
    assert (difference > 0).mean() < 4e-3


@pytest.mark.parametrize("net", range(37, 44))
def test_a_crop_larger_than_the_picture_is_padded_with_black_as_torchvision_does(net: int) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    image = np.full((36, 36, 3), 200, np.uint8)
    wanted = np.asarray(transforms.CenterCrop(net)(Image.fromarray(image)))
    have, geometry = run(spec(size_hw=(net, net), resize=36), image)
    assert np.array_equal(have, wanted)
    assert have.min() == 0
    assert geometry.offset_xy == ((net - 36) // 2, (net - 36) // 2)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(
    ("anchor", "shape", "inside"),
    [
        ("center", (50, 100), (8, 24, 0, 32)), ("top_left", (50, 100), (0, 16, 0, 32)),
        ("center", (100, 50), (0, 32, 8, 24)), ("top_left", (100, 50), (0, 32, 0, 16)),
        ("center", (10, 10), (0, 32, 0, 32)),
    ],
)  # fmt: skip
def test_letterbox_places_the_picture_and_pads_the_rest(
    anchor: str, shape: tuple[int, int], inside: tuple[int, int, int, int], antialias: bool
) -> None:
    how = spec("letterbox", anchor=anchor, pad_value=99, antialias=antialias)
    have, _ = run(how, np.full((*shape, 3), 250, np.uint8))
    y0, y1, x0, x1 = inside
    wanted = np.full((32, 32, 3), 99, np.uint8)
    wanted[y0:y1, x0:x1] = 250
    assert np.array_equal(have, wanted)


@pytest.mark.parametrize("antialias", [True, False])
def test_stretch_brings_every_corner_to_its_corner(antialias: bool) -> None:
    image = np.zeros((64, 160, 3), np.uint8)
    image[:32, :80], image[:32, 80:], image[32:, :80] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    have, geometry = run(spec("stretch", color="bgr", antialias=antialias), image)
    assert [have[y, x].tolist() for y, x in ((0, 0), (0, 31), (31, 0), (31, 31))] == [
        [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0],
    ]  # fmt: skip
    assert geometry.scale_xy == (0.2, 0.5)


@pytest.mark.parametrize("how", MODES, ids=str)
def test_the_channel_order_is_the_manifests(how: Preprocess) -> None:
    import msgspec

    image = np.full((60, 60, 3), (10, 20, 30), np.uint8)
    rgb, _ = run(msgspec.structs.replace(how, color="rgb"), image)
    bgr, _ = run(msgspec.structs.replace(how, color="bgr"), image)
    assert rgb[16, 16].tolist() == [30, 20, 10]
    assert np.array_equal(rgb[..., ::-1], bgr)


@pytest.mark.parametrize("how", MODES, ids=str)
def test_pictures_that_are_not_contiguous_give_the_same(how: Preprocess) -> None:
    image = noise(50, 70)
    wanted, _ = run(how, image)
    wide = np.zeros((50, 140, 6), np.uint8)
    wide[:, ::2, ::2] = image
    turned = np.ascontiguousarray(image[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    read_only = image.copy()
    read_only.flags.writeable = False
    for view in (wide[:, ::2, ::2], turned, np.asfortranarray(image), read_only):
        assert np.array_equal(run(how, view)[0], wanted)


@pytest.mark.parametrize("how", MODES, ids=str)
def test_neither_the_picture_nor_the_rest_of_the_batch_is_changed(how: Preprocess) -> None:
    image = noise(50, 70)
    before = image.copy()
    batch = np.full((3, *how.size_hw, 3), 5, np.uint8)
    preprocess(how, image, batch[1])
    assert np.array_equal(image, before)
    assert (batch[[0, 2]] == 5).all()
    assert np.array_equal(batch[1], run(how, image)[0])


@pytest.mark.parametrize("how", MODES, ids=str)
def test_nothing_of_the_picture_before_stays_in_a_reused_buffer(how: Preprocess) -> None:
    for shape in ((10, 90), (90, 10), (1, 1), (40, 41)):
        image = noise(*shape)
        assert np.array_equal(run(how, image, fill=1)[0], run(how, image, fill=254)[0])


@pytest.mark.parametrize("how", MODES, ids=str)
@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (1, 1), (2, 3999)])
def test_extreme_pictures_do_not_fail(how: Preprocess, shape: tuple[int, int]) -> None:
    have, geometry = run(how, np.full((*shape, 3), 200, np.uint8))
    assert 200 in have
    assert min(geometry.scale_xy) > 0


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8), np.zeros((8, 8, 1), np.uint8), np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 3), np.int8),
        np.zeros((0, 8, 3), np.uint8), np.zeros((8, 0, 3), np.uint8), np.zeros((), np.uint8),
    ],
    ids=lambda image: f"{image.dtype}{image.shape}",
)  # fmt: skip
def test_what_is_no_picture_is_refused_with_what_was_given(image: np.ndarray) -> None:
    with pytest.raises(TensorError) as caught:
        run(spec(), image)
    assert str(image.dtype) in str(caught.value)
    assert str(image.shape) in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    how=st.sampled_from(MODES), height=st.integers(1, 5000), width=st.integers(1, 5000),
    x=st.floats(-1e4, 1e4), y=st.floats(-1e4, 1e4),
)  # fmt: skip
def test_a_point_goes_to_the_network_and_back(how: Preprocess, height: int, width: int, x: float, y: float) -> None:
    geometry = plan(how, height, width)
    point = np.array([[x, y]])
    assert np.allclose(geometry.to_source(geometry.to_network(point)), point, atol=1e-6, rtol=0)
    assert np.allclose(geometry.to_network(geometry.to_source(point)), point, atol=1e-6, rtol=0)


@settings(max_examples=150, deadline=None)
@given(how=st.sampled_from(MODES), height=st.integers(60, 300), width=st.integers(60, 300), data=st.data())
def test_a_bright_spot_lands_where_the_geometry_says(
    how: Preprocess, height: int, width: int, data: st.DataObject
) -> None:
    side = 16
    x = data.draw(st.integers(0, width - side))
    y = data.draw(st.integers(0, height - side))
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + side, x : x + side] = 255
    have, geometry = run(how, image)
    middle = geometry.to_network(np.array([x + side / 2, y + side / 2]))
    margin = np.array(geometry.scale_xy) * side / 2 + 2
    if (middle - margin < 0).any() or (middle + margin > how.size_hw[::-1]).any():
        return
    weights = (have[..., 0].astype(float) - (how.pad_value if how.mode == "letterbox" else 0)).clip(0)
    if how.mode == "letterbox":
        weights[weights < 30] = 0
    ys, xs = np.mgrid[: how.size_hw[0], : how.size_hw[1]] + 0.5
    found = np.array([(xs * weights).sum(), (ys * weights).sum()]) / weights.sum()
    assert np.abs(found - middle).max() < 1


def test_the_padding_may_be_a_colour_in_the_networks_order() -> None:
    spec = Preprocess("letterbox", (8, 8), "nearest", False, "rgb", (0, 0, 0), (1, 1, 1), pad_value=(1, 2, 3))
    out = np.zeros((8, 8, 3), np.uint8)
    preprocess(spec, np.full((4, 8, 3), (30, 20, 10), np.uint8), out)
    assert out[0].tolist() == [[1, 2, 3]] * 8
    assert out[4].tolist() == [[10, 20, 30]] * 8
    with pytest.raises(ValueError, match="pad_value must be 0 to 255"):
        Preprocess("letterbox", (8, 8), "nearest", False, "rgb", (0, 0, 0), (1, 1, 1), pad_value=(1, 2, 300))


@pytest.mark.parametrize(("height", "width"), [(480, 640), (427, 640), (640, 427), (1, 5000), (3, 3), (416, 416)])
def test_sides_are_rounded_as_the_network_was_trained(height: int, width: int) -> None:
    common = ("letterbox", (416, 416), "bilinear", False, "bgr", (0, 0, 0), (1, 1, 1))
    nearest = plan(Preprocess(*common), height, width)  # type: ignore[arg-type]
    down = plan(Preprocess(*common, rounding="down"), height, width)  # type: ignore[arg-type]
    scale = min(416 / height, 416 / width)
    for geometry, whole in ((nearest, round), (down, int)):
        sides = geometry.scale_xy[1] * height, geometry.scale_xy[0] * width
        assert sides == pytest.approx((max(1, whole(height * scale)), max(1, whole(width * scale))))


def said(**settings: object) -> Preprocess:
    common = {"interpolation": "bilinear", "antialias": False, "color": "bgr", "mean": [0, 0, 0], "std": [1, 1, 1]}
    return msgspec.convert({**common, **settings}, Preprocess)


@pytest.mark.parametrize("anchor", ["top_left", "center"])
@pytest.mark.parametrize("size_hw", [(300, 500), (500, 300), (100, 100), (37, 251)])
def test_padding_before_the_resize_is_what_nudenet_does(size_hw: tuple[int, int], anchor: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3)).astype(np.uint8)
    spec = said(mode="letterbox", size_hw=[320, 320], pad="before", pad_value=[7, 8, 9], anchor=anchor)
    out = np.zeros((320, 320, 3), np.uint8)
    geometry = preprocess(spec, image, out)
    side = max(size_hw)
    top, left = ((side - size_hw[0]) // 2, (side - size_hw[1]) // 2) if anchor == "center" else (0, 0)
    padded = np.full((side, side, 3), (7, 8, 9), np.uint8)
    padded[top : top + size_hw[0], left : left + size_hw[1]] = image
    np.testing.assert_array_equal(out, cv2.resize(padded, (320, 320)))
    corner = geometry.to_source(np.array([[left * 320 / side, top * 320 / side], [320, 320]]))
    np.testing.assert_allclose(corner, [[0, 0], [side - left, side - top]], atol=1e-9)


@pytest.mark.parametrize(("width", "fitted"), [(100, 96), (51, 49), (101, 97), (400, 192), (1, 1)])
def test_a_text_line_keeps_its_height(width: int, fitted: int) -> None:
    """PaddleOCR's resize_norm_img(): the width is rounded up, and squeezed where it would be too long."""
    image = np.random.default_rng(0).integers(0, 256, (50, width, 3)).astype(np.uint8)
    spec = said(
        mode="height",
        size_hw=[48, 192],
        rounding="up",
        anchor="top_left",
        pad_value=127.5,
        mean=[0.5] * 3,
        std=[0.5] * 3,
    )
    out = np.zeros((48, 192, 3), np.uint8)
    geometry = preprocess(spec, image, out)
    assert round(width * geometry.scale_xy[0]) == fitted
    np.testing.assert_array_equal(out[:, :fitted], cv2.resize(image, (fitted, 48)))
    assert (out[:, fitted:] == 128).all()


@pytest.mark.parametrize(("name", "flag"), [("lanczos4", cv2.INTER_LANCZOS4), ("area", cv2.INTER_AREA)])
def test_opencvs_other_filters(name: str, flag: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 220, 3)).astype(np.uint8)
    out = np.zeros((64, 64, 3), np.uint8)
    preprocess(said(mode="stretch", size_hw=[64, 64], interpolation=name), image, out)
    np.testing.assert_array_equal(out, cv2.resize(image, (64, 64), interpolation=flag))
    with pytest.raises(msgspec.ValidationError, match=f"{name} needs antialias false"):
        said(mode="stretch", size_hw=[64, 64], interpolation=name, antialias=True)
    with pytest.raises(msgspec.ValidationError, match="pad before needs mode letterbox"):
        said(mode="stretch", size_hw=[64, 64], pad="before")


@pytest.mark.parametrize("rule_holds", [True, False])
def test_pillows_order_is_known_for_any_size(rule_holds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not rule_holds:
        # A Pillow that goes by another rule than the known one is tried on each size.
        monkeypatch.setattr("edgebone.preprocess._y_loses_most", lambda source_hw, resized_hw: source_hw[0] % 2 == 0)
    _goes_by_rule.cache_clear()
    takes_y_first.cache_clear()
    rng = np.random.default_rng(0)
    both = set()
    for _ in range(60):
        source_hw, resized_hw = (tuple(map(int, rng.integers(8, 90, 2))) for _ in range(2))
        picture = Image.fromarray(rng.integers(0, 256, source_hw, np.uint8))
        y_first = takes_y_first("bicubic", source_hw, resized_hw)
        between = (source_hw[1], resized_hw[0]) if y_first else (resized_hw[1], source_hw[0])
        steps = picture.resize(between, Image.Resampling.BICUBIC).resize(resized_hw[::-1], Image.Resampling.BICUBIC)
        assert picture.resize(resized_hw[::-1], Image.Resampling.BICUBIC).tobytes() == steps.tobytes()
        both.add(y_first)
    _goes_by_rule.cache_clear()
    takes_y_first.cache_clear()
    assert both == ({True, False} if int(PIL.__version__.split(".")[0]) >= 13 else {False})


def test_half_of_an_odd_margin_is_rounded_as_the_library_does() -> None:
    spec = Preprocess("crop", (224, 224), "bilinear", True, "rgb", (0.0,) * 3, (1.0,) * 3, resize=256)
    # 455 pixels wide: a margin of 115.5 on each side.
    assert plan(spec, 720, 1280).offset_xy == (-116.0, -16.0)
    down = msgspec.structs.replace(spec, rounding="down")
    assert plan(down, 720, 1280).offset_xy == (-115.0, -16.0)
