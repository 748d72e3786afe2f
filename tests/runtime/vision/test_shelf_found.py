"""Shelves whose facings a detector finds: what is counted and told, by hand and through the program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from edgebone import load
from edgebone.core.errors import EdgeboneError
from edgebone.core.frame import Frame
from edgebone.pipeline import Pipeline, Stocktaking
from edgebone.vision.shelf_file import ShelfError, read_shelf
from edgebone.vision.shelf_found import FoundShelf
from support.bundles import write_boxes_bundle, write_colors_bundle
from support.pictures import picture
from support.program import edgebone, lines_of
from support.shelves import BOTTOM, FULL, JUICE, MILK, PX, TOP, Bgr, by_color, tiles, write_shelf

BOXES = [(PX * column, PX * row, PX * column + PX, PX * row + PX) for row in (0, 1) for column in range(3)]
ZONES: list[dict[str, Any]] = [{**zone, "columns": 1} for zone in (TOP, BOTTOM)]


@pytest.fixture
def shelf(tmp_path: Path) -> FoundShelf:
    # More milk than the file has places for: a detector finds the places.
    return FoundShelf(read_shelf(write_shelf(tmp_path, *ZONES), grid=False), by_color)


def watch(shelf: FoundShelf, shots: list[tuple[list[Bgr], list[int]]], shake: float = 0.0) -> list[str]:
    """What is told of these frames, ten a second, where these facings are found."""
    rng = np.random.default_rng(0)
    told = []
    for index, (colors, visible) in enumerate(shots):
        boxes = np.array([BOXES[number] for number in visible], float).reshape(-1, 4)
        boxes += rng.uniform(-shake, shake, boxes.shape)
        _, events = shelf.update_found(Frame(tiles(colors), index, 0, "shelf", index / 10), boxes)
        told += [f"{event.frame} {event.event} {event.zone} {event.product} {event.count}" for event in events]
    return told


ALL = list(range(6))


def test_found_facings_are_counted_by_zone_and_named_once(shelf: FoundShelf) -> None:
    assert watch(shelf, [(FULL, ALL)] * 10, shake=2.0) == []
    stock, _ = shelf.update_found(Frame(tiles(FULL), 10, 0, "shelf", 1.0), np.array(BOXES))
    assert stock.counts == {"top": {"milk": 3}, "bottom": {"juice": 3}}
    assert [(facing.zone, facing.row, facing.column) for facing in stock.facings][:3] == [
        ("top", 0, 0), ("top", 0, 1), ("top", 0, 2),
    ]  # fmt: skip
    # A detector's unrest costs no inference.
    assert shelf.embedded == 6


def test_what_is_taken_is_told_and_what_is_missed_once_is_not(shelf: FoundShelf) -> None:
    missed = [(FULL, [0, 2, 3, 4, 5])]
    gone = [(FULL, [2, 3, 4, 5])] * 4
    assert watch(shelf, [(FULL, ALL)] * 4 + missed + [(FULL, ALL)] * 3 + gone + [(FULL, ALL)] * 4) == [
        "9 low_stock top milk 1",
        "13 restocked top milk 3",
    ]


def test_one_miss_of_a_detector_changes_no_count(tmp_path: Path) -> None:
    file = read_shelf(write_shelf(tmp_path, *ZONES), grid=False)
    shelf = FoundShelf(msgspec.structs.replace(file, looks=5, agree=3), by_color)
    counts = []
    for index in range(20):
        visible = [number for number in ALL if index != 8 or number != 1]
        stock, _ = shelf.update_found(
            Frame(tiles(FULL), index, 0, "shelf", index / 10), np.array([BOXES[number] for number in visible])
        )
        counts.append(stock.counts["top"]["milk"])
    assert counts[5:] == [3] * 15


def test_a_product_in_the_wrong_zone_is_told_once_though_others_come_and_go(shelf: FoundShelf) -> None:
    colors = [MILK, MILK, MILK, JUICE, JUICE, MILK]
    shots = [(colors, [0, 1, 2, 4, 5])] * 4 + [(colors, ALL)] * 4 + [(colors, [0, 1, 2, 5])] * 4
    assert watch(shelf, shots) == [
        "1 misplaced bottom milk 1", "9 out_of_stock bottom juice 0",
    ]  # fmt: skip


def test_an_empty_shelf_is_out_of_stock_and_nothing_is_counted_too_early(shelf: FoundShelf) -> None:
    stock, _ = shelf.update_found(Frame(tiles(FULL), 0, 0, "shelf", 0.0), np.zeros((0, 4)))
    assert stock.to_dict()["reasons"]["top"] == "1 look so far, 2 must agree"
    assert stock.counts["top"] == {"milk": None}
    stock, events = shelf.update_found(Frame(tiles(FULL), 1, 0, "shelf", 0.1), np.array([(900, 900, 950, 950)]))
    assert [str(event) for event in events] == [
        "0.1 s: top: milk out of stock (0)", "0.1 s: bottom: juice out of stock (0)",
    ]  # fmt: skip


def test_a_shelf_from_a_detector_and_a_second_bundle(tmp_path: Path) -> None:
    thirds = ((0, 0, 10, 32), (11, 0, 21, 32), (22, 0, 32, 32))
    detector = write_boxes_bundle(tmp_path / "finder.bundle", "found", corners=thirds)
    namer = write_colors_bundle(tmp_path / "colors.bundle", (1, 4))
    expected = [{"product": "red", "minimum": 2}, {"product": "green"}]
    shelf = write_shelf(tmp_path, {"name": "top", "xyxy": [0, 0, 1, 1], "expected": expected}, agree=1, looks=1)
    # A third red, a third green, a third blue; their mean is bright enough in each channel for a box.
    image = np.hstack([picture(bgr, (60, 40)) for bgr in ((60, 60, 250), (60, 250, 60), (250, 60, 60))])
    cv2.imwrite(str(tmp_path / "a.png"), image)
    out = tmp_path / "stock.jsonl"
    done = edgebone(
        "shelf", detector, tmp_path / "a.png", "--shelf", shelf, "--then", namer, "--one-look", "--jsonl", out,
        "--json", "--video", tmp_path / "seen.mp4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert lines_of(out)[0]["zones"] == {"top": {"red": 1, "green": 1, "blue": 1}}
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["low_stock", "misplaced", "stock"]
    done = edgebone("shelf", detector, tmp_path / "a.png", "--shelf", shelf, "--then", namer, "--classes", "red")
    assert done.returncode == 0, done.stderr
    # Without a detector the file's one place cannot hold two.
    with pytest.raises(ShelfError, match="1 facings but expects 2"):
        read_shelf(shelf)
    words = "a shelf whose facings a detector finds needs a head with"
    with load(namer) as model, pytest.raises(EdgeboneError, match=words):
        Pipeline(model, [Stocktaking(shelf, then=model)])
    done = edgebone("shelf", namer, tmp_path / "a.png", "--shelf", shelf, "--classes", "red")
    assert "--classes needs --then" in done.stderr
