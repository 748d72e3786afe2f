"""Sources that print alike: two cameras of one recorder that differ in a token, and one file that is given twice."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgebone
from edgebone.core.frame import Frame
from edgebone.sources import open_source, open_sources
from edgebone.sources.names import distinct_names
from edgebone.stream.inbox import Inbox
from support.bundles import write_boxes_bundle
from support.camera_servers import free_port, mjpeg_server
from support.pictures import GREEN, RED, picture, write_video
from support.program import edgebone as program

EVERYWHERE = {"schema": 1, "zones": [{"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]}


def test_names_that_are_alike_get_numbers_and_the_others_stay() -> None:
    assert distinct_names(["a", "b", "a", "a"]) == ("a", "b", "a (2)", "a (3)")
    assert distinct_names(["a", "a", "a (2)"]) == ("a", "a (3)", "a (2)")
    assert distinct_names([]) == ()


def by_source(path: Path) -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for line in path.read_text().splitlines():
        found[json.loads(line)["source"]].append(json.loads(line))
    return dict(found)


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes_bundle(tmp_path_factory.mktemp("alike") / "boxes.bundle", "found")


def test_two_cameras_that_differ_in_their_token_are_two_sources(boxes: Path, tmp_path: Path) -> None:
    pytest.importorskip("trackers")
    with mjpeg_server([cv2.imencode(".jpg", picture(RED))[1].tobytes()], fps=20) as url:
        done = program(
            "run", boxes, f"{url}?token=aaa", f"{url}?token=bbb", "--track", "--frames", 30, "--jsonl", tmp_path / "o",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name = f"{url}?***"
    found = by_source(tmp_path / "o")
    assert set(found) == {name, f"{name} (2)"}
    for lines in found.values():
        # The first box of a track has no id yet; one shared tracker began anew with almost every frame.
        ids = [row["tracker_id"] for line in lines for row in line["detections"]]
        assert len(ids) > 5
        assert ids.count(None) < len(ids) / 2
    for line in (f"{name}: ", f"{name} (2): "):
        assert line in done.stdout


def test_one_file_given_twice_is_two_sources(boxes: Path, tmp_path: Path) -> None:
    pytest.importorskip("trackers")
    video = write_video(tmp_path / "v.avi", [GREEN] * 20)
    (tmp_path / "zones.json").write_text(json.dumps(EVERYWHERE))
    events = tmp_path / "events.jsonl"
    done = program(
        "run", boxes, video, video, "--track", "--zones", tmp_path / "zones.json", "--events", events,
        "--jsonl", tmp_path / "o",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {name: [line["frame"] for line in lines] for name, lines in by_source(tmp_path / "o").items()} == {
        str(video): list(range(20)),
        f"{video} (2)": list(range(20)),
    }
    entered = [json.loads(line) for line in events.read_text().splitlines()]
    assert [(event["event"], event["tracker_id"]) for event in entered] == [("enter", 1)] * 2
    assert {event["source"] for event in entered} == {str(video), f"{video} (2)"}
    assert f"{video} (2): all: now 1, entered 1, left 0" in done.stdout
    assert f"{video} (2): 20 frames" in done.stdout


def test_the_figures_of_sources_that_are_alike_are_apart(colors_bundle: Path) -> None:
    with edgebone.load(colors_bundle) as model, model.stream([picture(RED)] * 3, [picture(RED)] * 2) as stream:
        seen = [frame.source for frame, _ in stream]
    assert seen == ["arrays"] * 3 + ["arrays (2)"] * 2
    assert [(source.name, source.frames) for source in stream.stats.sources] == [("arrays", 3), ("arrays (2)", 2)]


def test_frames_of_ones_own_keep_their_source() -> None:
    own = [Frame(picture(RED), 0, 0, "mine")]
    inbox = Inbox([open_source(own), open_source(own)])
    taken = [inbox.take(), inbox.take()]
    assert [found[1].source for found in taken if found] == ["mine", "mine"]
    inbox.close()


def test_what_is_said_of_a_camera_names_the_one_that_is_meant(
    caplog: pytest.LogCaptureFixture, colors_bundle: Path
) -> None:
    url = f"http://127.0.0.1:{free_port()}/cam"
    inbox = Inbox(open_sources([f"{url}?token=aaa", f"{url}?token=bbb"], 0.2), forgiving=True)
    assert inbox.take() is None
    inbox.close()
    begins = {message.partition(": ")[0] for message in caplog.messages}
    assert begins == {f"{url}?***", f"{url}?*** (2)"}
    assert all(inbox.health(number).error.count(" (2)") == number for number in (0, 1))


def test_a_camera_cut_to_a_region_keeps_its_name(colors_bundle: Path) -> None:
    with edgebone.load(colors_bundle) as model:
        pictures = [np.ascontiguousarray(picture(RED))]
        with model.stream(pictures, pictures, roi_xyxy=(0, 0, 8, 8)) as stream:
            assert sorted(frame.source for frame, _ in stream) == ["arrays", "arrays (2)"]


def test_prometheus_tells_sources_that_are_alike_apart(colors_bundle: Path) -> None:
    pytest.importorskip("prometheus_client")
    from urllib.request import urlopen

    from edgebone.telemetry import serve_metrics

    with edgebone.load(colors_bundle) as model, model.stream([picture(RED)] * 3, [picture(RED)] * 2) as stream:
        list(stream)
        server = serve_metrics(lambda: stream.stats, port := free_port(), sensors=[])
        text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
        server.close()
    assert 'edgebone_frames_total{source="arrays"} 3.0' in text
    assert 'edgebone_frames_total{source="arrays (2)"} 2.0' in text
