"""Shelves: what is counted and told of coloured facings, by hand and through the program."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgebone import Gallery, load
from edgebone.core.errors import EdgeboneError
from edgebone.core.frame import Frame
from edgebone.gallery.embedding import about, dimension_of, embed_pictures, space_of
from edgebone.pipeline import Pipeline, Stocktaking
from edgebone.sinks import open_sink
from edgebone.sinks.annotate import annotate
from edgebone.sinks.callback import CallbackSink
from edgebone.vision.shelf import Pictures, Shelf
from edgebone.vision.shelf_drawing import draw_shelf
from edgebone.vision.shelf_file import ShelfError, facings_of, read_shelf
from support.bundles import write_colors_bundle
from support.camera_servers import wait_for
from support.pictures import RED
from support.program import PROGRAM, edgebone, hear_ctrl_c, lines_of
from support.shelves import (
    BOTTOM,
    FULL,
    HAND,
    JUICE,
    MILK,
    NOTHING,
    PX,
    TOP,
    Bgr,
    by_color,
    changed,
    tiles,
    write_shelf,
)


def watch(shelf: Shelf, shots: list[list[Bgr]], first: int = 0) -> list[str]:
    """What is told of these frames, ten a second."""
    told = []
    for index, colors in enumerate(shots, first):
        _, events = shelf.update(Frame(tiles(colors, index), index, 0, "shelf", index / 10))
        told += [f"{event.frame} {event.event} {event.zone} {event.product} {event.count}" for event in events]
    return told


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(read_shelf(write_shelf(tmp_path)), by_color)


def test_a_full_shelf_is_counted_and_nothing_is_told(shelf: Shelf) -> None:
    stock, events = shelf.update(Frame(tiles(FULL), 0, 0, "shelf", 0.0))
    # Not looked at yet is not 0.
    assert stock.counts == {"top": {"milk": None}, "bottom": {"juice": None}}
    assert stock.to_dict()["reasons"]["top"] == "3 of 3 facings are not settled: 1 look so far, 2 must agree"
    assert {facing.state for facing in stock.facings} == {"unsettled"}
    for index in (1, 2):
        stock, more = shelf.update(Frame(tiles(FULL), index, 0, "shelf", index / 10))
        events += more
    assert not events
    assert stock.counts == {"top": {"milk": 3}, "bottom": {"juice": 3}}
    assert stock.to_dict() == {"zones": stock.counts, "embedded": 0}
    assert [facing.xyxy for facing in stock.facings][:2] == [(0, 0, PX, PX), (PX, 0, 2 * PX, PX)]
    assert {facing.state for facing in stock.facings} == {"expected"}
    assert str(stock) == "top: milk 3; bottom: juice 3"


def test_each_change_is_told_once(shelf: Shelf) -> None:
    one = changed(FULL, f0=NOTHING)
    two = changed(one, f1=NOTHING)
    out = changed(two, f2=NOTHING)
    steps = [FULL, one, two, out, two, FULL]
    assert watch(shelf, [colors for colors in steps for _ in range(5)]) == [
        "11 low_stock top milk 1",
        "16 out_of_stock top milk 0",
        "21 low_stock top milk 1",
        "26 restocked top milk 3",
    ]


def test_what_is_taken_at_once_is_out_of_stock_and_not_low_before(shelf: Shelf) -> None:
    gone = changed(FULL, f0=NOTHING, f1=NOTHING, f2=NOTHING)
    assert watch(shelf, [FULL] * 4 + [gone] * 4 + [FULL] * 4) == ["5 out_of_stock top milk 0", "9 restocked top milk 3"]


def test_what_is_missing_when_the_camera_starts_is_told_too(shelf: Shelf) -> None:
    assert watch(shelf, [changed(FULL, f0=NOTHING, f1=NOTHING, f4=MILK)] * 6) == [
        "1 low_stock top milk 1",
        "1 misplaced bottom milk 1",
    ]


def test_a_product_in_the_wrong_zone_is_told_with_its_place_and_again_when_it_moves(shelf: Shelf) -> None:
    watch(shelf, [FULL] * 4)
    events = []
    for index, colors in enumerate([changed(FULL, f4=MILK)] * 4 + [changed(FULL, f5=MILK)] * 4, 4):
        events += shelf.update(Frame(tiles(colors), index, 0, "shelf", index / 10))[1]
    assert [(event.event, event.product, event.facing, event.frame) for event in events] == [
        ("misplaced", "milk", (0, 1), 5),
        ("misplaced", "milk", (0, 2), 9),
    ]
    assert events[0].to_dict() == {
        "event": "misplaced", "zone": "bottom", "product": "milk", "count": 1, "source": "shelf", "frame": 5,
        "position_s": 0.5, "facing": (0, 1),
    }  # fmt: skip
    assert str(events[0]) == "0.5 s: bottom: milk misplaced in row 1, column 2 (1)"


def test_a_hand_in_one_frame_changes_nothing_and_one_that_stays_is_unknown(shelf: Shelf) -> None:
    hand = changed(FULL, f0=HAND, f1=HAND, f3=HAND)
    assert watch(shelf, [*[FULL] * 4, hand, *[FULL] * 4, hand, *[FULL] * 3]) == []
    stock, _ = shelf.update(Frame(tiles(hand), 13, 0, "shelf", 1.3))
    assert stock.counts["top"] == {"milk": 3}
    stock, events = shelf.update(Frame(tiles(hand), 14, 0, "shelf", 1.4))
    assert stock.counts["top"] == {"milk": 1, "unknown": 2}
    assert [event.event for event in events] == ["low_stock"]


def test_a_zone_that_expects_nothing_is_counted_only(tmp_path: Path) -> None:
    shelf = Shelf(
        read_shelf(write_shelf(tmp_path, {"name": "all", "xyxy": [0, 0, 1, 1], "rows": 2, "columns": 3})), by_color
    )
    assert watch(shelf, [changed(FULL, f0=NOTHING)] * 3 + [changed(FULL, f0=RED, f1=HAND)] * 3) == []
    stock, _ = shelf.update(Frame(tiles(FULL), 6, 0, "shelf"))
    assert stock.counts == {"all": {"jam": 1, "juice": 3, "milk": 1, "unknown": 1}}


def test_only_facings_that_changed_are_named_again(tmp_path: Path) -> None:
    asked = []

    def counting(pictures: Pictures) -> list[str]:
        asked.append(len(pictures))
        return by_color(pictures)

    shelf = Shelf(read_shelf(write_shelf(tmp_path)), counting)
    watch(shelf, [*[FULL] * 10, *[changed(FULL, f2=NOTHING, f5=RED)] * 10])
    assert asked == [6, 2]
    assert (shelf.looks, shelf.embedded) == (120, 8)
    # Light that drifts adds up: at some point all is looked at again.
    for index in range(12):
        shelf.update(Frame(np.asarray(tiles(FULL) * (1 - index / 100), np.uint8), index, 0, "shelf"))
    assert len(asked) > 2


def test_a_facing_that_never_agrees_does_not_hide_its_zone(tmp_path: Path) -> None:
    shelf = Shelf(read_shelf(write_shelf(tmp_path, agree=3)), by_color)
    told = watch(shelf, [changed(FULL, f0=color, f1=NOTHING) for color in (MILK, RED, JUICE)])
    assert told == []
    assert shelf.update(Frame(tiles(changed(FULL, f1=NOTHING)), 3, 0, "shelf"))[0].counts["top"]["milk"] == 2


def test_a_camera_may_change_its_size(shelf: Shelf) -> None:
    watch(shelf, [FULL] * 3)
    large = cv2.resize(tiles(FULL), None, fx=2, fy=2)
    stock, events = shelf.update(Frame(large, 3, 0, "shelf"))
    assert stock.facings[-1].xyxy == (4 * PX, 2 * PX, 6 * PX, 4 * PX)
    assert stock.counts["top"] == {"milk": 3}
    assert not events


def test_a_recogniser_with_too_few_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeboneError, match="6 pictures of facings need one label each, got 1"):
        Shelf(read_shelf(write_shelf(tmp_path)), lambda _: ["milk"]).update(Frame(tiles(FULL), 0, 0, "shelf"))


def test_facings_fill_their_zone(tmp_path: Path) -> None:
    zone = {"name": "odd", "xyxy": [3, 5, 104, 66], "rows": 2, "columns": 7}
    file = read_shelf(write_shelf(tmp_path, zone, units="pixels"))
    boxes = facings_of(file, file.zones[0], (70, 110))
    assert len(boxes) == 14
    assert (boxes[0][:2], boxes[-1][2:]) == ((3, 5), (104, 66))
    assert sum((right - left) * (bottom - top) for left, top, right, bottom in boxes) == 101 * 61
    with pytest.raises(ShelfError, match=r"zone odd ends at 104,66, outside the picture of 100x70"):
        facings_of(file, file.zones[0], (70, 100))
    shares = read_shelf(write_shelf(tmp_path, {**TOP, "columns": 9}))
    with pytest.raises(ShelfError, match="facings are smaller than a pixel"):
        facings_of(shares, shares.zones[0], (8, 8))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"zones": []}, "length >= 1"),
        ({"schema": 2}, "Invalid enum value 2"),
        ({"zone": []}, "unknown field `zone`"),
        ({"agree": 1}, "agree must be more than half of looks and at most all, not 1 of 3"),
        ({"agree": 4}, "not 4 of 3"),
        ({"zones": [TOP, TOP]}, "the name top is used twice"),
        ({"zones": [{**TOP, "xyxy": [0, 0, 0, 1]}]}, "zone top: xyxy must be left, top, right, bottom, not 0, 0, 0, 1"),
        ({"zones": [{**TOP, "xyxy": [0, 0, 640, 1]}]}, 'for pixels write "units": "pixels"'),
        ({"zones": [{**TOP, "xyxy": [0, 0, 1]}]}, r"\$.zones\[0\].xyxy"),
        ({"zones": [{**TOP, "colums": 3}]}, "unknown field `colums`"),
        ({"zones": [{**TOP, "rows": 0}]}, r">= 1"),
        ({"zones": [TOP], "looks": 10**20, "agree": 10**20}, r"<= 10000 - at `\$.(looks|agree)`"),
        ({"zones": [TOP], "looks": 1e20, "agree": 1e20}, r"at `\$.(looks|agree)`"),
        ({"zones": [{**TOP, "rows": 100_000, "columns": 100_000}]}, r"<= 10000 - at `\$.zones\[0\].(rows|columns)`"),
        ({"zones": [{**TOP, "rows": 10_000, "columns": 10_000}]}, "10,000 facings at most, not 100,000,000"),
        ({"zones": [{**TOP, "columns": 6000}, {**BOTTOM, "columns": 6000}]}, "10,000 facings at most, not 12,000"),
        ({"zones": [{**TOP, "expected": [{"product": "milk", "minimum": 4}]}]}, "top has 3 facings but expects 4 of"),
        ({"zones": [{**TOP, "expected": [{"product": "milk"}] * 2}]}, "zone top expects milk twice"),
        ({"zones": [{**TOP, "expected": [{"product": "empty"}]}]}, "empty cannot be an expected product"),
    ],
)
def test_what_a_shelf_file_may_not_say(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ShelfError, match=said) as caught:
        read_shelf(write_shelf(tmp_path, **change) if "zones" not in change else _written(tmp_path, change))
    assert str(tmp_path / "shelf.json") in str(caught.value)


def _written(folder: Path, content: dict[str, Any]) -> Path:
    (folder / "shelf.json").write_text(json.dumps({"schema": 1, **content}))
    return folder / "shelf.json"


def test_a_file_that_is_no_shelf_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ShelfError, match="cannot be read: No such file"):
        read_shelf(tmp_path / "none.json")
    (tmp_path / "x.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ShelfError, match="is not JSON"):
        read_shelf(tmp_path / "x.json")


def test_the_drawing_shows_states_and_has_room_beside_it(shelf: Shelf) -> None:
    image = tiles(changed(FULL, f0=NOTHING, f1=HAND, f4=MILK))
    events = []
    for index in range(4):
        stock, more = shelf.update(Frame(image, index, 0, "shelf", index / 10))
        events += more
    before = image.copy()
    # Nothing is written over the picture that the step draws on.
    assert (annotate(image, stock) == image).all()
    drawn = draw_shelf(image, shelf.file, stock, events, 0.3)
    assert (image == before).all()
    assert drawn.shape[0] == image.shape[0]
    assert drawn.shape[1] > image.shape[1]
    assert not drawn.shape[1] % 2
    middle = drawn[: 2 * PX, : 3 * PX][PX // 4 :: PX, PX // 2 :: PX].reshape(-1, 3)
    own = image[PX // 4 :: PX, PX // 2 :: PX].reshape(-1, 3)
    # What is as expected keeps its colours; empty, unknown and misplaced facings are tinted.
    assert (middle == own).all(axis=1).tolist() == [False, False, True, True, False, True]
    small = np.zeros((8, 12, 3), np.uint8)
    stock, _ = shelf.update(Frame(small, 4, 0, "shelf"))
    assert draw_shelf(small, shelf.file, stock, events).shape[0] == 8


def write_shots(path: Path, shots: list[list[Bgr]]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (3 * PX, 2 * PX))
    assert writer.isOpened()
    for colors in shots:
        writer.write(tiles(colors))
    writer.release()
    return path


def test_the_program_counts_by_a_head_with_classes(tmp_path: Path) -> None:
    top = {**TOP, "expected": [{"product": "green", "minimum": 2}]}
    shelf = write_shelf(tmp_path, top, {**BOTTOM, "expected": [{"product": "blue"}]})
    gone = changed(FULL, f0=RED, f1=RED)
    video = write_shots(tmp_path / "shots.mp4", [FULL] * 5 + [changed(FULL, f5=RED)] + [FULL] * 3 + [gone] * 5)
    bundle = write_colors_bundle(tmp_path / "colors.bundle", (1, 4))
    done = edgebone(
        "shelf", bundle, video, "--shelf", shelf, "--jsonl", tmp_path / "counts.jsonl",
        "--events", tmp_path / "events.jsonl", "--video", tmp_path / "out.mp4",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = lines_of(tmp_path / "events.jsonl")
    assert [(item["event"], item["zone"], item["product"], item["count"], item["frame"]) for item in told] == [
        ("low_stock", "top", "green", 1, 10),
        ("misplaced", "top", "red", 2, 10),
        ("misplaced", "top", "red", 2, 10),
    ]
    assert [item.get("facing") for item in told] == [None, [0, 0], [0, 1]]
    counts = lines_of(tmp_path / "counts.jsonl")
    assert [item["frame"] for item in counts] == list(range(14))
    assert counts[-1]["zones"] == {"top": {"green": 1, "red": 2}, "bottom": {"blue": 3}}
    assert counts[0]["embedded"] == 6
    assert done.stdout.splitlines()[0] == "1.0 s: top: green low stock (1)"
    assert done.stdout.splitlines()[-2:] == ["top: green 1, red 2", "bottom: blue 3"]
    assert "14 frames" in done.stderr
    assert "3 events" in done.stderr
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 14
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) > 3 * PX
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    capture.release()
    again = edgebone("shelf", bundle, video, "--shelf", shelf, "--every", 5, "--jsonl", tmp_path / "few.jsonl")
    assert again.returncode == 0, again.stderr
    assert [item["frame"] for item in lines_of(tmp_path / "few.jsonl")] == [0, 5, 10]


def test_a_pipeline_counts_and_never_has_the_model_look_at_a_whole_frame(tmp_path: Path) -> None:
    file = write_shelf(tmp_path, {**TOP, "expected": [{"product": "green", "minimum": 2}]})
    gone = changed(FULL, f0=RED, f1=RED)
    video = write_shots(tmp_path / "shots.avi", [FULL] * 3 + [gone] * 3)
    seen: list[Any] = []
    with load(write_colors_bundle(tmp_path / "colors.bundle", (1, 4))) as model:
        step = Stocktaking(file)
        pipeline = Pipeline(model, [step])
        pipeline.sinks = [
            CallbackSink(
                lambda frame, stock: seen.append((frame.size_hw, stock.counts)), lambda event: seen.append(event)
            ),
            open_sink(tmp_path / "seen.avi", draw=pipeline.draw),
        ]
        summary = pipeline.run(video)
    assert next(str(item) for item in seen if not isinstance(item, tuple)) == "0.4 s: top: green low stock (1)"
    assert seen[-1] == ((2 * PX, 3 * PX), {"top": {"green": 1, "red": 2}})
    assert list(summary.lines) == ["top: green 1, red 2"]
    # Three facings at first, and the two that changed: nothing else went through the network.
    assert (summary.stats.frames, summary.stats.infer.p50_ms, step.shelf.embedded) == (6, 0.0, 5)
    capture = cv2.VideoCapture(str(tmp_path / "seen.avi"))
    assert capture.get(cv2.CAP_PROP_FRAME_WIDTH) > 3 * PX
    capture.release()
    with load(tmp_path / "colors.bundle") as model, pytest.raises(EdgeboneError, match="watched through one camera"):
        Pipeline(model, [Stocktaking(file)]).run(video, tmp_path / "shots.avi")


def patterned(name: str) -> np.ndarray:
    """Facings that the thumbnail network tells apart, which looks at shapes and not at brightness."""
    rng = np.random.default_rng(sum(name.encode()))
    return cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), (PX, PX), interpolation=cv2.INTER_NEAREST)


def test_the_program_counts_by_a_gallery(layout_bundle: Path, tmp_path: Path) -> None:
    with load(layout_bundle) as model:
        gallery = Gallery(space_of(model), dimension_of(model), about=about(model))
        for name in ("milk", "juice", "empty"):
            gallery.add(embed_pictures(model, [patterned(name)]), name)
        gallery.calibrate(0.01, embed_pictures(model, [patterned(f"other {number}") for number in range(20)]))
        gallery.save(tmp_path / "products.gallery")
    shots = tmp_path / "shots"
    shots.mkdir()
    full = ["milk", "milk", "stranger", "juice", "juice", "juice"]
    for index, names in enumerate([full] * 3 + [["empty", *full[1:]]] * 3):
        rows = [np.hstack([patterned(name) for name in names[start : start + 3]]) for start in (0, 3)]
        cv2.imwrite(str(shots / f"{index}.png"), np.vstack(rows))
    events = tmp_path / "events.jsonl"
    asked = ("shelf", layout_bundle, shots, "--gallery", tmp_path / "products.gallery", "--events", events)
    done = edgebone(*asked, "--shelf", write_shelf(tmp_path), "--jsonl", tmp_path / "counts.jsonl")
    assert done.returncode == 0, done.stderr
    assert lines_of(tmp_path / "counts.jsonl")[2]["zones"] == {"top": {"milk": 2, "unknown": 1}, "bottom": {"juice": 3}}
    (told,) = lines_of(events)
    assert (told["event"], told["product"], told["count"], told["frame"]) == ("low_stock", "milk", 1, 4)
    assert told["position_s"] is None
    other = write_shelf(tmp_path, {**TOP, "expected": [{"product": "milch"}]})
    done = edgebone(*asked, "--shelf", other)
    assert (done.returncode, done.stdout) == (1, "")
    assert "expects milch, which" in done.stderr
    assert "does not know; did you mean milk? it knows empty, juice, milk" in done.stderr


def test_what_cannot_be_read_is_one_line(colors_bundle: Path, tmp_path: Path) -> None:
    shelf = write_shelf(tmp_path, {**TOP, "expected": [{"product": "green"}]})
    video = write_shots(tmp_path / "shots.mp4", [FULL])
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    pixels = tmp_path / "pixels"
    pixels.mkdir()
    wide = write_shelf(pixels, {**TOP, "xyxy": [0, 0, 500, 40], "expected": []}, units="pixels")
    out = ("--video", tmp_path / "out.mp4", "--jsonl", tmp_path / "counts.jsonl")
    for asked, code, said in (
        ((tmp_path / "none.bundle", video, "--shelf", shelf), 3, "none.bundle"),
        ((colors_bundle, tmp_path / "none.mp4", "--shelf", shelf), 4, "no such file"),
        ((colors_bundle, tmp_path / "bad.mp4", "--shelf", shelf), 4, "bad.mp4"),
        ((colors_bundle, video, "--shelf", tmp_path / "none.json"), 1, "none.json cannot be read"),
        ((colors_bundle, video, "--shelf", wide), 1, "zone top ends at 500,40, outside the picture of 120x80"),
        (
            (colors_bundle, video, "--shelf", shelf, "--gallery", tmp_path / "x.gallery"),
            3,
            "needs a head with an embed",
        ),
        (
            (colors_bundle, video, "--shelf", shelf, "--head", "other"),
            3,
            "there is no head other; the bundle has classi",
        ),
    ):
        done = edgebone("shelf", *asked, *out)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "out.mp4").exists()
        assert not (tmp_path / "counts.jsonl").exists()
        assert not list(tmp_path.glob(".*partial*"))


def test_a_camera_is_watched_until_it_is_interrupted(colors_bundle: Path, tmp_path: Path) -> None:
    shelf = write_shelf(tmp_path, {**TOP, "expected": []})
    counts, video = tmp_path / "counts.jsonl", tmp_path / "out.mp4"
    running = subprocess.Popen(
        [PROGRAM, "shelf", colors_bundle, "synthetic://320x240@30", "--shelf", shelf, "--max-fps", "10",
         "--jsonl", counts, "--video", video],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c,
    )  # fmt: skip
    try:
        wait_for(lambda: counts.exists() and len(counts.read_bytes().splitlines()) >= 5)
    finally:
        running.send_signal(signal.SIGINT)
        out, error = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out.startswith("top: ")
    assert error.splitlines()[-1] == "edgebone: interrupted"
    found = lines_of(counts)
    assert len(found) >= 5
    assert found[0]["position_s"] is None or found[0]["position_s"] >= 0
    capture = cv2.VideoCapture(str(video))
    # The interrupt may come between a frame's line and its picture.
    assert len(found) - capture.get(cv2.CAP_PROP_FRAME_COUNT) in (0, 1)
    capture.release()


def write_products(bundle: Path, path: Path, names: dict[str, str]) -> None:
    """A gallery of patterns by label."""
    with load(bundle) as model:
        gallery = Gallery(space_of(model), dimension_of(model), about=about(model))
        for label, name in names.items():
            gallery.add(embed_pictures(model, [patterned(name)]), label)
        gallery.calibrate(0.01, embed_pictures(model, [patterned(f"other {number}") for number in range(20)]))
        gallery.save(path, overwrite=True)


def test_facings_that_did_not_change_are_looked_at_again_when_asked(shelf: Shelf) -> None:
    watch(shelf, [FULL] * 4)
    before = shelf.embedded
    shelf.look_again()
    watch(shelf, [FULL] * 4, first=4)
    assert shelf.embedded == before + len(FULL)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_gallery_that_changes_is_taken_over_and_signals_lose_no_file(
    layout_bundle: Path,
    tmp_path: Path,
    number: int,
) -> None:
    full = ["milk", "milk", "stranger", "juice", "juice", "juice"]
    rows = [np.hstack([patterned(name) for name in full[start : start + 3]]) for start in (0, 3)]
    source = tmp_path / "shots.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10, (3 * PX, 2 * PX))
    for _ in range(20_000):
        writer.write(np.vstack(rows))
    writer.release()
    products = tmp_path / "products.gallery"
    write_products(layout_bundle, products, {"milk": "milk", "juice": "juice", "empty": "empty"})
    counts, video = tmp_path / "counts.jsonl", tmp_path / "out.mp4"
    running = subprocess.Popen(
        [PROGRAM, "shelf", layout_bundle, source, "--shelf", write_shelf(tmp_path), "--gallery", products,
         "--jsonl", counts, "--video", video],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c,
    )  # fmt: skip

    def latest() -> dict[str, int]:
        whole = counts.read_bytes().splitlines()[:-1] if counts.exists() else []
        return dict(json.loads(whole[-1])["zones"]["top"]) if whole else {}

    try:
        wait_for(lambda: latest() == {"milk": 2, "unknown": 1})
        running.send_signal(signal.SIGHUP)
        names = {"milk": "milk", "juice": "juice", "empty": "empty", "tea": "stranger"}
        write_products(layout_bundle, products, names)
        wait_for(lambda: latest() == {"milk": 2, "tea": 1})
        products.write_bytes(b"no gallery")
        running.send_signal(signal.SIGHUP)
        del names["milk"]
        write_products(layout_bundle, products, names)
        running.send_signal(signal.SIGHUP)
        wait_for(lambda: latest() == {"milk": 0, "tea": 1, "unknown": 2})
    finally:
        running.send_signal(number)
        out, error = running.communicate(timeout=30)
    assert running.returncode == 128 + number, error
    assert "Traceback" not in error
    assert "products.gallery has changed: 4 entries" in error
    assert "the shelf expects milk, which" in error
    assert "top: milk 0, tea 1, unknown 2" in out
    assert not list(tmp_path.glob(".*partial*"))
    capture = cv2.VideoCapture(str(video))
    assert abs(capture.get(cv2.CAP_PROP_FRAME_COUNT) - len(lines_of(counts))) <= 1
    capture.release()


def test_sighup_leaves_a_shelf_without_a_gallery_alone(colors_bundle: Path, tmp_path: Path) -> None:
    shelf = write_shelf(tmp_path, {**TOP, "expected": []})
    counts, video = tmp_path / "counts.jsonl", tmp_path / "out.mp4"
    running = subprocess.Popen(
        [PROGRAM, "shelf", colors_bundle, "synthetic://320x240@30?frames=45", "--shelf", shelf,
         "--jsonl", counts, "--video", video],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: counts.exists() and counts.stat().st_size > 0)
    running.send_signal(signal.SIGHUP)
    _, error = running.communicate(timeout=30)
    assert running.returncode == 0, error
    assert video.exists()
    assert not list(tmp_path.glob(".*partial*"))
