"""Tiles of a frame: boxes of all of them, each object once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebone import load
from edgebone.core.detections import Detections
from edgebone.core.errors import BundleError
from edgebone.pipeline import Pipeline, Tiles
from edgebone.vision.tiling import merge_tiles, tiles_of
from support.bundles import write_boxes_bundle
from support.pictures import BLUE, GREEN, RED, picture
from support.program import edgebone as program

SIZE_HW = (100, 180)
# Two tiles of 100 × 100 that share 20 pixels.
PAIR = np.array([(0, 0, 100, 100), (80, 0, 180, 100)])
WHOLE = (0, 0, 180, 100)


def seen(objects: list[tuple[float, ...]], tiles: np.ndarray, off: float = 0.0, score: float = 0.9) -> list[Detections]:
    """What an honest detector finds of objects in each tile: what is visible, its sides off by some pixels."""
    found = []
    for number, tile in enumerate(tiles.tolist()):
        rows = []
        for x0, y0, x1, y1, class_id in objects:
            box = np.array([max(x0, tile[0]), max(y0, tile[1]), min(x1, tile[2]), min(y1, tile[3])])
            if (box[2:] - box[:2]).min() > 1:
                shift = off * np.array([1, -1, -1, 1]) * (-1) ** number
                rows.append([*(box + shift - np.tile(tile[:2], 2)), class_id, score])
        array = np.array(rows, np.float32).reshape(-1, 6)
        names = np.array([f"class {int(class_id)}" for class_id in array[:, 4]], np.str_)
        data = {"class_name": names}
        found.append(Detections(array[:, :4], array[:, 5], array[:, 4].astype(np.int64), data))
    return found


def merge(objects: list[tuple[float, ...]], tiles: np.ndarray = PAIR, off: float = 0.0) -> list[list[float]]:
    merged = merge_tiles(seen(objects, tiles, off), tiles, SIZE_HW)
    return sorted(
        [*box.round(1).tolist(), class_id] for box, class_id in zip(merged.xyxy, merged.class_id.tolist(), strict=True)
    )


@pytest.mark.parametrize(
    ("columns", "rows", "overlap"), [(1, 1, 0.2), (2, 2, 0.2), (3, 2, 0.1), (4, 4, 0.0), (7, 5, 0.5)]
)
def test_tiles_are_of_one_size_cover_the_picture_and_share_what_was_asked(
    columns: int, rows: int, overlap: float
) -> None:
    tiles = tiles_of((333, 517), columns, rows, overlap)
    assert len(tiles) == columns * rows
    assert len({(right - left, bottom - top) for left, top, right, bottom in tiles.tolist()}) == 1
    covered = np.zeros((333, 517), bool)
    for left, top, right, bottom in tiles:
        covered[top:bottom, left:right] = True
    assert covered.all()
    assert tiles.min() >= 0
    if columns > 1:
        shared = tiles[0, 2] - tiles[1, 0]
        assert shared >= overlap * (tiles[0, 2] - tiles[0, 0]) - 1


@pytest.mark.parametrize("off", [0.0, 1.0])
@pytest.mark.parametrize(
    "own",
    [
        pytest.param((10, 10, 30, 30), id="in one tile"),
        pytest.param((84, 40, 96, 60), id="in what both see"),
        pytest.param((70, 40, 92, 60), id="cut off by the second tile"),
        pytest.param((88, 40, 120, 60), id="cut off by the first tile"),
        pytest.param((30, 20, 150, 90), id="cut off by both"),
        pytest.param((60, 40, 82, 60), id="a sliver in the second tile"),
        pytest.param((0, 0, 180, 100), id="the whole picture"),
    ],
)
def test_an_object_at_a_border_is_found_once(own: tuple[float, ...], off: float) -> None:
    (found,) = merge([(*own, 0)], off=off)
    assert found[:4] == pytest.approx(own, abs=off + 0.1)


def test_neighbours_at_a_border_stay_two_and_so_do_classes() -> None:
    # Side by side in what both tiles see, and one above the other across the border.
    pair = [
        (80.0, 10.0, 90.0, 30.0, 0),
        (90.0, 10.0, 100.0, 30.0, 0),
        (70.0, 40.0, 110.0, 60.0, 0),
        (70.0, 61.0, 110.0, 81.0, 0),
    ]
    assert merge(pair) == sorted([*map(float, box[:4]), 0] for box in pair)
    same_place = [(70.0, 10.0, 95.0, 40.0, 0), (70.0, 10.0, 95.0, 40.0, 1)]
    assert len(merge(same_place)) == 2
    # A small one on a large one of its class, the large one cut off by both tiles.
    assert len(merge([(30.0, 20.0, 150.0, 90.0, 0), (84.0, 40.0, 94.0, 50.0, 0)])) == 2


def test_an_object_across_nine_tiles_is_one_and_the_whole_frame_adds_none() -> None:
    tiles = tiles_of(SIZE_HW, 3, 3, 0.25)
    assert merge([(5.0, 5.0, 175.0, 95.0, 0)], tiles) == [[5, 5, 175, 95, 0]]
    objects = [(5.0, 5.0, 175.0, 95.0, 0), (20.0, 20.0, 30.0, 30.0, 1), (60.0, 40.0, 75.0, 52.0, 1)]
    assert merge(objects, np.vstack([tiles, WHOLE])) == sorted([*box[:4], box[4]] for box in objects)
    assert merge([], tiles) == []


def test_many_random_objects_are_each_found_once() -> None:
    """Objects apart from each other, in tiles of a large frame: as many, at their places."""
    rng = np.random.default_rng(2)
    cells = [(x * 60, y * 60) for x in range(20) for y in range(10)]
    objects = []
    for x, y in cells:
        width, height = rng.uniform(6, 55, 2)
        objects.append((x + 2, y + 2, x + 2 + width, y + 2 + height, float(rng.integers(3))))
    tiles = tiles_of((600, 1200), 4, 3, 0.2)
    merged = merge_tiles(seen(objects, tiles, off=0.5), tiles, (600, 1200))
    assert len(merged) == len(objects)
    assert np.sort(merged.xyxy[:, 0]) == pytest.approx(np.sort([box[0] for box in objects]), abs=0.6)
    assert (np.diff(merged.confidence) <= 0).all()


def quarters(*colors: Any) -> np.ndarray:
    a, b, c, d = (picture(color, (60, 80)) for color in colors)
    return np.vstack([np.hstack([a, b]), np.hstack([c, d])])


def test_the_model_runs_on_each_tile_and_on_no_whole_frame(tmp_path: Path) -> None:
    image = quarters(RED, GREEN, BLUE, RED)
    with load(write_boxes_bundle(tmp_path / "finder.bundle", "found")) as model:
        seen: list[Any] = []
        from edgebone.sinks.callback import CallbackSink

        for step in (Tiles(2, 2, overlap=0), Tiles(2, 2, overlap=0, whole=True)):
            Pipeline(model, [step], [CallbackSink(lambda _, result: seen.append(result))]).run([image])
    # A box a quarter, in the frame's pixels; the whole frame's mean is red at 0.51.
    plain, whole = seen
    assert sorted((label, *box) for label, box in zip(plain.labels, plain.xyxy.tolist(), strict=True)) == [
        ("blue", 0, 60, 80, 120), ("green", 80, 0, 160, 60), ("red", 0, 0, 80, 60), ("red", 80, 60, 160, 120),
    ]  # fmt: skip
    assert ("red", 0, 0, 160, 120) in [
        (label, *box) for label, box in zip(whole.labels, whole.xyxy.tolist(), strict=True)
    ]


def test_tiles_from_the_command_line_and_what_they_refuse(tmp_path: Path) -> None:
    import cv2

    bundle = write_boxes_bundle(tmp_path / "finder.bundle", "found")
    cv2.imwrite(str(tmp_path / "a.png"), quarters(RED, GREEN, BLUE, RED))
    done = program("run", bundle, tmp_path / "a.png", "--tiles", "2x2", "--overlap", "0", "--json", "--track")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["detections"]) == 4
    both = write_boxes_bundle(tmp_path / "both.bundle")
    with load(both) as model, pytest.raises(BundleError, match="tiles merge boxes only"):
        Pipeline(model, [Tiles(2, 2)])
    for options, words in (
        (["--tiles", "2"], "tiles must be COLUMNSxROWS"),
        (["--tiles", "0x2"], "tiles must be COLUMNSxROWS"),
        (["--tiles", "2x2", "--overlap", "1"], "overlap"),
        (["--whole-too"], "--whole-too needs --tiles"),
    ):
        done = program("run", bundle, tmp_path / "a.png", *options)
        assert done.returncode == 2
        assert words in done.stderr
    with pytest.raises(ValueError, match="overlap must be"):
        Tiles(2, 2, overlap=1)
