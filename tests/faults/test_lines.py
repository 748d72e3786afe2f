"""Lines: counts that hung on who else is in the picture, on the release of a library, and on two memories' lengths."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("trackers")

from edgebone.vision import Tracking, ZonesError
from edgebone.vision.line_counter import LineCounter
from edgebone.vision.zone_file import ZoneFile
from support.zones import LINE, ZONE, boxes, frame, zones_of

Shot = list[tuple[float, float]]


def crossings(tmp_path: Path, shots: list[Shot]) -> tuple[dict[str, int], set[int]]:
    zones, tracking = zones_of(tmp_path, lines=[LINE]), Tracking()
    ids: set[int] = set()
    for index, centers in enumerate(shots):
        tracked = tracking.update(frame(index), boxes(*centers))
        assert tracked.tracker_id is not None
        zones.update(frame(index), tracked)
        ids.update(tracked.tracker_id[tracked.tracker_id >= 0].tolist())
    return zones.counts("video")["gate"], ids


def walk_with_a_gap(unseen: int, company: bool) -> list[Shot]:
    """Somebody walks to the right over the line at 200, unseen around it; another one stands somewhere else."""
    shots: list[Shot] = []
    for index in range(60):
        x = 140 + 2.0 * index
        hidden = 27 <= index < 27 + unseen
        shots.append(([] if hidden else [(x, 100)]) + ([(40, 100)] if company else []))
    return shots


@pytest.mark.parametrize("company", [False, True])
@pytest.mark.parametrize("unseen", [0, 1, 5, 15])
def test_who_is_not_seen_on_the_line_is_counted_whoever_else_is_in_view(
    tmp_path: Path, unseen: int, company: bool
) -> None:
    assert crossings(tmp_path, walk_with_a_gap(unseen, company))[0] == {"in": 1, "out": 0}


@pytest.mark.parametrize("unseen", range(22, 29))
def test_the_line_remembers_whom_the_tracker_remembers(tmp_path: Path, unseen: int) -> None:
    shots: list[Shot] = [*[[(190.0, 100.0)]] * 20, *[[]] * unseen, *[[(215.0, 100.0)]] * 10]
    counts, ids = crossings(tmp_path, shots)
    # One object of the tracker's has gone over; two that it does not know for one have not.
    assert counts == {"in": 1 if len(ids) == 1 else 0, "out": 0}


def test_a_box_that_flickers_over_the_line_is_no_crossing(tmp_path: Path) -> None:
    xs = [190.0] * 5 + [210.0] + [190.0] * 5 + [210.0] + [190.0] * 5 + [210.0] + [190.0] * 5
    assert crossings(tmp_path, [[(x, 100)] for x in xs])[0] == {"in": 0, "out": 0}


def test_what_passes_beyond_an_end_of_a_line_and_points_on_it_have_no_side() -> None:
    # Upwards in the picture: its left is the picture's left.
    counter = LineCounter((100, 100), (100, 0))
    known, left = counter.sides(np.array([[90, 50], [110, 50], [90, 101], [90, -1], [100, 50], [np.nan, 50]]))
    assert known.tolist() == [True, True, False, False, False, False]
    assert left[:2].tolist() == [True, False]
    assert [counter.update([7], np.array([[x, y]]))[0] for x, y in ((90, 50), (90, 150), (110, 150), (110, 50))] == [
        None
    ] * 4
    assert counter.update([7], np.array([[110, 40]])) == ["out"]


def test_two_heads_number_their_objects_apart_in_one_zone(tmp_path: Path) -> None:
    zones = zones_of(tmp_path, zones=[ZONE], lines=[LINE])
    trackings = {"people": Tracking(), "cars": Tracking()}
    events = []
    for index in range(30):
        # Both are object 1 of their head; one stands in the zone, the other one walks into it.
        for head, x in (("people", 300.0), ("cars", 100 + 5.0 * index)):
            tracked = trackings[head].update(frame(index), boxes((x, 100), label=head))
            events += zones.update(frame(index), tracked, head)
    told = {(event.event, event.place, event.head, event.tracker_id) for event in events}
    assert told == {("enter", "door", "people", 1), ("cross", "gate", "cars", 1), ("enter", "door", "cars", 1)}
    assert len(events) == 3
    assert events[0].to_dict()["head"] == "people"
    assert zones.counts("video") == {"door": {"now": 2, "entered": 2, "left": 0}, "gate": {"in": 1, "out": 0}}


def test_other_zones_are_taken_over_and_those_that_stay_keep_what_they_know(tmp_path: Path) -> None:
    zones, tracking = zones_of(tmp_path, zones=[ZONE], lines=[LINE]), Tracking()
    inside = [(300.0, 100.0)]

    def look(first: int) -> list[str]:
        told = []
        for index in range(first, first + 10):
            told += zones.update(frame(index), tracking.update(frame(index), boxes(*inside)))
        return [f"{event.event} {event.place}" for event in told]

    assert look(0) == ["enter door"]
    other = {**ZONE, "name": "left", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    moved = {**LINE, "start": [0.1, 0.0], "end": [0.1, 1.0]}
    zones.replace(msgspec.convert({"schema": 1, "zones": [other, ZONE], "lines": [moved]}, ZoneFile))
    assert look(10) == ["enter left"]
    assert zones.counts("video") == {
        "left": {"now": 1, "entered": 1, "left": 0},
        "door": {"now": 1, "entered": 1, "left": 0},
        "gate": {"in": 0, "out": 0},
    }
    none = {**LINE, "end": [0.5, 1e-200]}
    with pytest.raises(ZonesError, match="line gate has no length"):
        zones.replace(msgspec.convert({"schema": 1, "lines": [none]}, ZoneFile))
    assert set(zones.counts("video")) == {"left", "door", "gate"}
