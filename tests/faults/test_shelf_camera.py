"""A shelf's camera that was knocked, and counts that were made up: of a shelf that nobody had looked at yet."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgebone.core.frame import Frame
from edgebone.vision.shelf import Shelf
from edgebone.vision.shelf_file import ShelfFile, read_shelf
from support.bundles import write_colors_bundle
from support.camera_servers import wait_for
from support.program import PROGRAM, edgebone, lines_of
from support.shelves import BOTTOM, FULL, HAND, JUICE, MILK, TOP, by_color, changed, tiles, write_shelf

SIDE = 120


def scenery() -> np.ndarray:
    """A wall of many edges, larger than the picture."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(40, 220, (60, 90, 3)).astype(np.uint8)
    return cv2.resize(coarse, (900, 600), interpolation=cv2.INTER_NEAREST)


def view(colors: list[tuple[int, int, int]], x: int = 0, y: int = 0, gain: float = 1.0, seed: int = 0) -> np.ndarray:
    """Six facings on that wall, seen by a camera that is turned by so many pixels."""
    wall = scenery()
    for place, color in enumerate(colors):
        row, column = divmod(place, 3)
        top, left = 180 + row * SIDE, 270 + column * SIDE
        wall[top + 5 : top + SIDE - 5, left + 5 : left + SIDE - 5] = color
    seen = wall[100 + y : 500 + y, 150 + x : 750 + x].astype(np.float32) * gain
    return (seen + np.random.default_rng(seed).normal(0, 4, seen.shape)).clip(0, 255).astype(np.uint8)


def shelf_of(folder: Path, **own: Any) -> Shelf:
    top = {**TOP, "xyxy": [120, 80, 120 + 3 * SIDE, 80 + SIDE]}
    bottom = {**BOTTOM, "xyxy": [120, 80 + SIDE, 120 + 3 * SIDE, 80 + 2 * SIDE]}
    return Shelf(read_shelf(write_shelf(folder, top, bottom, units="pixels", **own)), by_color)


def look(shelf: Shelf, *pictures: np.ndarray, first: int = 0) -> tuple[list[str], Any]:
    told: list[str] = []
    for index, picture in enumerate(pictures, first):
        stock, events = shelf.update(Frame(picture, index, 0, "camera", index / 10))
        told += [f"{event.frame} {event.headline}" for event in events]
    return told, stock


WHOLE = {"top": {"milk": 3}, "bottom": {"juice": 3}}


@pytest.mark.parametrize("turned", [(60, 0), (-90, 40), (0, -80), (140, 0)])
def test_a_camera_that_is_turned_counts_nothing_until_it_is_back(tmp_path: Path, turned: tuple[int, int]) -> None:
    shelf = shelf_of(tmp_path)
    assert look(shelf, *[view(FULL, seed=n) for n in range(4)])[0] == []
    told, stock = look(shelf, *[view(FULL, *turned, seed=n) for n in range(6)], first=4)
    assert told == ["5 camera moved"]
    assert stock.counts == {"top": {"milk": None}, "bottom": {"juice": None}}
    assert stock.embedded == 0
    assert set(stock.reasons) == {"top", "bottom"}
    assert "the camera" in stock.reasons["top"]
    told, stock = look(shelf, *[view(FULL, seed=n) for n in range(4)], first=10)
    assert told == ["10 camera back"]
    assert stock.counts == WHOLE


def test_what_changes_on_the_shelf_and_in_the_light_is_no_move(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    look(shelf, *[view(FULL, seed=n) for n in range(4)])
    gone = changed(FULL, f0=(60, 60, 60), f1=(60, 60, 60), f2=(60, 60, 60))
    pictures = [view(gone, gain=gain, seed=2) for gain in (1.0, 0.9, 1.1, 1.0)]
    assert look(shelf, *pictures, first=4)[0] == ["5 out of stock: milk"]
    # A nudge that leaves the products in their facings.
    assert look(shelf, *[view(gone, 8, 4, seed=n) for n in range(4)], first=8)[0] == []
    covered = view(FULL)
    covered[:, :360] = HAND
    assert not any("camera" in line for line in look(shelf, *[covered] * 4, first=12)[0])


def test_in_the_dark_and_before_a_hand_nothing_is_out_of_stock(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    look(shelf, *[view(FULL, seed=n) for n in range(4)])
    dark = np.zeros((400, 600, 3), np.uint8)
    assert look(shelf, *[dark] * 5, first=4)[0] == ["5 camera moved"]
    told, stock = look(shelf, *[view(FULL, seed=n) for n in range(3)], first=9)
    assert (told, stock.counts) == (["9 camera back"], WHOLE)


def test_one_blurred_picture_is_left_out_and_no_news(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    look(shelf, *[view(FULL, seed=n) for n in range(4)])
    told, stock = look(shelf, view(FULL, 70, 0), *[view(FULL, seed=n) for n in range(2)], first=4)
    assert (told, stock.counts) == ([], WHOLE)


def test_a_file_that_is_taken_over_keeps_what_zones_know_and_takes_the_place_of_now(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    look(shelf, *[view(FULL, seed=n) for n in range(4)])
    other: ShelfFile = read_shelf(
        write_shelf(
            tmp_path,
            {**TOP, "xyxy": [120, 80, 120 + 3 * SIDE, 80 + SIDE]},
            {**BOTTOM, "name": "new", "xyxy": [120, 80 + SIDE, 120 + 3 * SIDE, 80 + 2 * SIDE]},
            units="pixels",
        )
    )
    shelf.replace(other)
    told, stock = look(shelf, view(FULL, 5, 0), first=4)
    assert told == []
    assert stock.counts == {"top": {"milk": 3}, "new": {"juice": None}}
    assert look(shelf, view(FULL, 5, 0), first=5)[1].counts == {"top": {"milk": 3}, "new": {"juice": 3}}


def test_one_photograph_is_enough_when_that_is_asked_for(tmp_path: Path) -> None:
    top = {**TOP, "expected": [{"product": "green", "minimum": 3}]}
    shelf = write_shelf(tmp_path, top, {**BOTTOM, "expected": [{"product": "blue"}]})
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), tiles([MILK, MILK, JUICE, JUICE, JUICE, JUICE]))
    bundle = write_colors_bundle(tmp_path / "colors.bundle", (1, 4))
    done = edgebone("shelf", bundle, photo, "--shelf", shelf)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "top: not known (3 of 3 facings are not settled: 1 look so far, 2 must agree)"
    )
    assert "--one-look" in done.stderr
    done = edgebone("shelf", bundle, photo, "--shelf", shelf, "--one-look")
    assert done.stdout.splitlines()[-2:] == ["top: green 2, blue 1", "bottom: blue 3"]
    assert "frame 0: top: green low stock (2)" in done.stdout
    done = edgebone("shelf", bundle, photo, "--shelf", shelf, "--one-look", "--json", "--jsonl", tmp_path / "counts")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in told] == ["low_stock", "misplaced", "stock"]
    assert told[-1]["zones"] == {"top": {"green": 2, "blue": 1}, "bottom": {"blue": 3}}
    assert "reasons" not in lines_of(tmp_path / "counts")[0]


def test_sighup_loads_the_file_of_the_shelf_again_also_while_no_frame_comes(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "colors.bundle", (1, 4))
    shelf = write_shelf(tmp_path, {**TOP, "expected": []})
    counts = tmp_path / "counts.jsonl"
    # One frame at once, and the next one much later.
    running = subprocess.Popen(
        [PROGRAM, "shelf", bundle, "synthetic://120x80@0.01", "--shelf", shelf, "--jsonl", counts],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert running.stderr is not None
        wait_for(lambda: counts.exists() and counts.read_bytes().endswith(b"\n"))
        shelf.write_text("{")
        running.send_signal(signal.SIGHUP)
        said = running.stderr.readline()
        assert "shelf.json is not JSON" in said
        assert said.endswith("; continuing with the shelf as it was\n")
        write_shelf(tmp_path, {**TOP, "name": "other", "expected": []})
        running.send_signal(signal.SIGHUP)
        assert running.stderr.readline() == "edgebone: the shelf is loaded again\n"
    finally:
        running.terminate()
        running.communicate(timeout=30)
    assert running.returncode == 143
