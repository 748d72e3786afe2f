"""Tracks, zones and lines: on boxes that move as they are told, and on a real detector's."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from edgebone.core.errors import EdgeboneError
from edgebone.core.frame import Frame
from edgebone.vision import Tracking, Zones, ZonesError, draw_zones
from edgebone.vision.zone_file import ZoneFile, read_zones
from support.bundles import write_boxes_bundle
from support.pictures import write_video
from support.program import edgebone as program
from support.zones import BLACK, LINE, ZONE, boxes, frame, zones_of

pytest.importorskip("trackers")


def walk(xs: list[float], zones: Zones | None = None, source: str = "video") -> tuple[list[Any], list[int]]:
    """One person walks along these x; None of the picture is where x is below 0."""
    tracking = Tracking()
    events, ids = [], []
    for index, x in enumerate(xs):
        found = boxes((x, 100)) if x >= 0 else boxes()
        tracked = tracking.update(frame(index, source), found)
        assert tracked.tracker_id is not None
        ids += tracked.tracker_id.tolist()
        if zones:
            events += zones.update(frame(index, source), tracked)
    return events, ids


def test_an_object_keeps_its_id_while_it_moves_and_over_frames_without_it() -> None:
    _, ids = walk([50 + 3 * n if n not in range(20, 26) else -1 for n in range(60)])
    assert ids == [-1] + [1] * 53


def test_two_cameras_number_their_objects_apart_and_two_objects_differ() -> None:
    tracking = Tracking()
    seen: dict[str, set[tuple[int, ...]]] = {"a": set(), "b": set()}
    for index in range(10):
        for source in seen:
            found = tracking.update(frame(index, source), boxes((50 + index, 60), (300 - index, 60)))
            assert found.tracker_id is not None
            seen[source].add(tuple(found.tracker_id.tolist()))
    assert seen["a"] == seen["b"] == {(-1, -1), (1, 2)}


def test_dropped_frames_count_as_time() -> None:
    tracking = Tracking()
    for index in (0, 1, 2):
        tracking.update(frame(index), boxes((100, 100)))
    later = tracking.update(frame(200), boxes((100, 100)))
    again = tracking.update(frame(201), boxes((100, 100)))
    assert later.tracker_id is not None
    assert again.tracker_id is not None
    assert 1 not in (*later.tracker_id.tolist(), *again.tracker_id.tolist())


def test_tracks_are_in_the_json_only_where_there_are_any() -> None:
    plain = boxes((50, 50), (90, 50))
    assert "tracker_id" not in plain.to_dict()["detections"][0]
    tracking = Tracking()
    tracking.update(frame(0), boxes((50, 50)))
    tracked = tracking.update(frame(1), plain)
    assert [row["tracker_id"] for row in tracked.to_dict()["detections"]] == [1, None]
    assert tracked[tracked.confidence > 0.5].tracker_id is not None
    assert tracked.to_supervision().tracker_id.tolist() == [1, -1]


def test_who_walks_through_a_zone_enters_dwells_and_leaves_once(tmp_path: Path) -> None:
    zones = zones_of(tmp_path, zones=[{**ZONE, "dwell_s": 0.5}])
    there, stay, back = [50 + 5.0 * n for n in range(40)], [245.0] * 25, [245 - 5.0 * n for n in range(40)]
    events, _ = walk([*there, *stay, *back], zones)
    assert [event.event for event in events] == ["enter", "dwell", "leave"]
    enter, dwell, leave = (event.to_dict() for event in events)
    assert enter == {
        "event": "enter", "place": "door", "source": "video", "frame": 31, "position_s": 1.24, "tracker_id": 1,
        "label": "person",
    }  # fmt: skip
    assert 0.5 <= dwell["stayed_s"] < 0.6
    assert 1.5 < leave["stayed_s"] < 2.2
    assert zones.counts("video") == {"door": {"now": 0, "entered": 1, "left": 1}}


def test_who_vanishes_in_a_zone_has_left_a_second_later(tmp_path: Path) -> None:
    zones = zones_of(tmp_path, zones=[ZONE])
    events, _ = walk([300.0] * 20 + [-1] * 40, zones)
    assert [(event.event, event.frame) for event in events] == [("enter", 2), ("leave", 45)]


def test_a_line_is_crossed_once_each_way_and_trembling_on_it_counts_nothing(tmp_path: Path) -> None:
    zones = zones_of(tmp_path, lines=[LINE])
    right = [150 + 5.0 * n for n in range(21)]
    events, _ = walk([*right, *right[::-1]], zones)
    assert [(event.event, event.direction) for event in events] == [("cross", "in"), ("cross", "out")]
    assert zones.counts("video") == {"gate": {"in": 1, "out": 1}}
    trembling = zones_of(tmp_path, lines=[LINE])
    events, _ = walk([*right[:9], *[199.0, 201.0] * 30], trembling)
    assert len(events) <= 1


def test_labels_sources_and_live_cameras(tmp_path: Path) -> None:
    zones = zones_of(tmp_path, zones=[{**ZONE, "labels": ["car"]}, {**ZONE, "name": "other", "source": "camera"}])
    events, _ = walk([300.0] * 5, zones)
    assert events == []
    assert set(zones.counts("video")) == {"door"}
    tracking = Tracking()
    found = []
    for index in range(4):
        live = Frame(BLACK, index, time.monotonic_ns(), "camera")
        found += zones.update(live, tracking.update(live, boxes((300, 100), label="car")))
        time.sleep(0.04)
    assert [(event.place, event.position_s) for event in found] == [("door", None), ("other", None)]


def test_untracked_boxes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeboneError, match="--track"):
        zones_of(tmp_path, zones=[ZONE]).update(frame(0), boxes((1, 1)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ('{"schema": 2}', "schema"),
        ('{"schema": 1}', "no zone and no line"),
        (json.dumps({"schema": 1, "zones": [{"name": "a", "polygon": [[0, 0], [1, 1]]}]}), "length >= 3"),
        (json.dumps({"schema": 1, "zones": [{"name": "a", "polygon": [[0, 0], [1, 1], [2, 0]]}]}), "<= 1"),
        (json.dumps({"schema": 1, "zones": [{**ZONE, "color": "red"}]}), "unknown field `color`"),
        (json.dumps({"schema": 1, "zones": [ZONE], "lines": [{**LINE, "name": "door"}]}), "door is used twice"),
        (json.dumps({"schema": 1, "lines": [{**LINE, "end": [0.5, 0.0]}]}), "starts where it ends"),
    ],
)
def test_a_file_of_zones_that_is_none_says_where(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "zones.json"
    path.write_text(content)
    with pytest.raises(ZonesError, match=r"zones\.json") as caught:
        read_zones(path)
    assert words in str(caught.value)
    with pytest.raises(ZonesError, match="cannot be read"):
        read_zones(tmp_path / "none.json")


def test_zones_are_drawn_with_their_counts() -> None:
    import msgspec

    file = msgspec.convert({"schema": 1, "zones": [ZONE], "lines": [LINE]}, ZoneFile)
    zones = Zones(file)
    image = draw_zones(BLACK.copy(), zones, "video", {"door": {"now": 1}})
    assert image[100, 200:205].any()
    assert image[100, 395:].any()
    assert not image[150, 50].any()


def test_tracks_and_zones_from_the_command_line(tmp_path: Path) -> None:
    bundle = write_boxes_bundle(tmp_path / "b.bundle", "found")
    video = write_video(tmp_path / "v.avi", [(10, 250, 5)] * 30)
    (tmp_path / "zones.json").write_text(
        json.dumps({"schema": 1, "zones": [{**ZONE, "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]})
    )
    out, events, seen = tmp_path / "o.jsonl", tmp_path / "e.jsonl", tmp_path / "seen.avi"
    done = program(
        "run", bundle, video, "--track", "--zones", tmp_path / "zones.json", "--events", events, "--jsonl", out,
        "--video", seen,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["tracker_id"] for line in lines[2:] for row in line["detections"]} == {1}
    assert [json.loads(line)["event"] for line in events.read_text().splitlines()] == ["enter"]
    assert "door: now 1, entered 1, left 0" in done.stdout
    assert seen.exists()


def test_a_bundle_without_boxes_cannot_be_tracked(colors_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [(10, 250, 5)] * 3)
    done = program("run", colors_bundle, video, "--track")
    assert done.returncode == 3
    assert "no head that returns any" in done.stderr


@pytest.mark.slow
def test_cars_on_a_real_road_keep_their_ids(shared: Path, tmp_path: Path) -> None:
    import edgebone
    from edgebone_export import HeadSpec, import_onnx
    from edgebone_export.importers.conventions import find_labels

    bundle = tmp_path / "yolox.bundle"
    import_onnx(
        shared / "models" / "yolox_nano.onnx",
        bundle,
        heads=HeadSpec("yolox", labels=find_labels("coco")),
        preprocess="yolox",
    )
    tracking = Tracking()
    frames_of: dict[int, int] = {}
    with edgebone.load(bundle) as model:
        for seen, result in model.stream(shared / "data" / "driving" / "solidWhiteRight.mp4"):
            tracked = tracking.update(seen, result)
            assert tracked.tracker_id is not None
            for tracker_id in tracked.tracker_id.tolist():
                frames_of[tracker_id] = frames_of.get(tracker_id, 0) + 1
            if seen.index == 60:
                break
    assert max(frames_of.get(tracker_id, 0) for tracker_id in range(1, 9)) > 20
