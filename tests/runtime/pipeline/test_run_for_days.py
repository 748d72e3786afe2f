"""`edgebone run` as a service: limits, sinks that fail, a bundle that changes, and a run that is started again."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from edgebone.cli import restart
from edgebone.core.errors import OutputError
from edgebone.core.frame import Frame
from edgebone.core.results import Embedding
from edgebone.sinks.guarded import GuardedSink, StopRequest
from edgebone.sinks.jsonl import JsonLines
from support.bundles import other_colors, write_boxes_bundle, write_colors_bundle
from support.camera_servers import free_port, mjpeg_server, rtsp_server, wait_for
from support.pictures import GREEN, RED, picture, write_video
from support.program import finish, lines_of, start


def test_fewer_frames_and_a_part_of_them(colors_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [RED] * 30)
    out = tmp_path / "o.jsonl"
    code, _, err = finish(start("run", colors_bundle, video, "--every", 10, "--roi", "8,8,40,40", "--jsonl", out))
    assert code == 0, err
    assert [(line["frame"], line["origin_xy"]) for line in lines_of(out)] == [(0, [8, 8]), (10, [8, 8]), (20, [8, 8])]
    code, _, err = finish(start("run", colors_bundle, video, "--roi", "8,8,400,40"))
    assert (code, err.count("\n")) == (4, 1)
    assert "not within the picture of 64x48" in err
    for wrong in (("--roi", "1,2,3"), ("--sink-error", "shrug"), ("--events", "e"), ("--zones", "z")):
        assert finish(start("run", colors_bundle, video, *wrong))[0] == 2
    for wrong in ("1.2.3.4", "65536", "::1:9477", "[::1:9477"):
        code, _, err = finish(start("run", colors_bundle, video, "--metrics", wrong))
        assert code == 2
        assert "'--metrics': give a port, such as 9477, or ADDRESS:PORT" in err


def test_a_file_that_is_appended_to_keeps_its_lines(colors_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [RED] * 3)
    for more in ((), ("--append",), ("--append",)):
        assert finish(start("run", colors_bundle, video, "--jsonl", tmp_path / "o.jsonl", *more))[0] == 0
    assert [line["frame"] for line in lines_of(tmp_path / "o.jsonl")] == [0, 1, 2] * 3


@pytest.mark.slow
def test_a_camera_is_served_until_sigterm_and_the_files_are_whole(colors_bundle: Path, tmp_path: Path) -> None:
    out, video = tmp_path / "o.jsonl", tmp_path / "o.avi"
    with rtsp_server(user="bob", password="s3cret") as server:
        url = server.url.replace("//", "//bob:s3cret@")
        process = start("run", colors_bundle, url, "--jsonl", out, "--video", video)
        wait_for(lambda: len(lines_of(out)) > 10)
        process.terminate()
        code, text, err = finish(process)
    assert code == 143
    lines = lines_of(out)
    assert {line["source"] for line in lines} == {server.url}
    assert "s3cret" not in text + err + out.read_text()
    import cv2

    capture = cv2.VideoCapture(str(video))
    # The signal may come between a frame's line and its picture.
    assert len(lines) - capture.get(cv2.CAP_PROP_FRAME_COUNT) in (0, 1)
    capture.release()


@pytest.mark.slow
def test_a_bundle_is_loaded_again_at_sighup_and_a_broken_one_is_not(tmp_path: Path) -> None:
    bundle, out = write_colors_bundle(tmp_path / "a.bundle"), tmp_path / "o.jsonl"
    process = start("run", bundle, "synthetic://64x48@50", "--jsonl", out)

    def latest() -> str:
        return str(lines_of(out)[-1]["classes"][0]["label"]) if lines_of(out) else ""

    wait_for(lambda: latest() in ("blue", "green", "red"))
    bundle.rename(tmp_path / "old.bundle")
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    other_colors(bundle)
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: latest() in ("azure", "lime", "rose"))
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert "no such bundle" in err
    assert "continuing with the bundle as it was" in err
    assert "the bundle is loaded again" in err
    indices = [line["frame"] for line in lines_of(out)]
    assert indices == sorted(set(indices))


@pytest.mark.slow
def test_one_camera_of_two_that_is_given_up_does_not_end_the_other(colors_bundle: Path, tmp_path: Path) -> None:
    gone = f"rtsp://127.0.0.1:{free_port()}/cam"
    words = ("run", colors_bundle, gone, "synthetic://64x48@20?frames=60", "--give-up", 1)
    code, _, err = finish(start(*words))
    assert code == 4
    assert "giving up" in err
    code, out, _ = finish(start(*words, "--forgiving"))
    assert code == 0
    assert re.search(r"^synthetic://64x48@20\?frames=60: [1-9]\d* frames", out, re.M), out


@pytest.mark.parametrize("place", ["{}", "localhost:{}", "[::ffff:127.0.0.1]:{}"])
def test_metrics_are_served_while_it_runs(colors_bundle: Path, place: str) -> None:
    from urllib.request import urlopen

    port = free_port()
    process = start("run", colors_bundle, "synthetic://64x48@20", "--metrics", place.format(port))

    def frames() -> float:
        try:
            text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2).read().decode()
        except OSError:
            return 0
        return float(next((line.split()[-1] for line in text.splitlines() if line.startswith("edgebone_frames_t")), 0))

    wait_for(lambda: frames() > 5)
    code, _, err = finish(start("run", colors_bundle, "synthetic://64x48@20", "--metrics", place.format(port)))
    assert code == 1
    assert f"metrics cannot be served on port {port}" in err
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130


@pytest.mark.slow
def test_a_run_that_is_killed_is_started_again_and_its_lines_are_kept(colors_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    process = start("run", colors_bundle, "synthetic://64x48@50", "--jsonl", out, "--restart")

    def runs() -> list[int]:
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [int(pid) for pid in listed]

    wait_for(lambda: len(lines_of(out)) > 5)
    (first,) = runs()
    os.kill(first, signal.SIGKILL)
    before = len(lines_of(out))
    wait_for(lambda: len(lines_of(out)) > before + 10)
    assert runs() != [first]
    process.terminate()
    code, _, err = finish(process)
    assert code == 143
    assert "ended with code 137; restarting in" in err
    indices = [line["frame"] for line in lines_of(out)]
    # The numbers begin again once; a camera's very first frame may have been passed over.
    assert sum(after <= before for before, after in itertools.pairwise(indices)) == 1


def test_a_run_that_fails_at_once_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(restart, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(restart, "_QUICK_FAILURES", 2)
    assert restart.supervise(["run", str(tmp_path / "none.bundle"), "synthetic://8x8@9"]) == 3
    assert restart.supervise(["--version"]) == 0


@pytest.mark.parametrize("option", ["--video", "--out"])
def test_a_video_is_not_written_over_by_the_next_start(colors_bundle: Path, tmp_path: Path, option: str) -> None:
    code, _, err = finish(start("run", colors_bundle, "usb:0", option, tmp_path / "v.mp4", "--restart"))
    assert code == 2
    assert "a restarted run would overwrite its video" in err


class Disk:
    """A sink whose disk is full from one frame to another."""

    def __init__(self, full: range) -> None:
        self.full = full
        self.seen: list[int] = []
        self.closed = False

    def write(self, frame: Frame, result: object, events: object = ()) -> None:
        if frame.index in self.full:
            raise OutputError("o.jsonl cannot be written: the disk is full")
        self.seen.append(frame.index)

    def close(self) -> None:
        self.closed = True

    def discard(self) -> None:
        raise AssertionError("nothing is to be thrown away")


def frame(index: int) -> Frame:
    return Frame(picture(GREEN), index, 0, "camera")


RESULT = Embedding(None)  # type: ignore[arg-type]


def test_a_full_disk_is_logged_once_and_writing_goes_on_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk(range(3, 7))
    sink = GuardedSink(disk, "log")
    for index in range(10):
        sink.write(frame(index), RESULT)
    assert disk.seen == [0, 1, 2, 7, 8, 9]
    assert sink.lost == 4
    assert [record.getMessage() for record in caplog.records] == [
        "o.jsonl cannot be written: the disk is full; continuing without it",
        "written again, after 4 lost: o.jsonl cannot be written: the disk is full",
    ]


def test_the_other_policies_raise_or_ask_for_an_end() -> None:
    with pytest.raises(OutputError):
        GuardedSink(Disk(range(1)), "raise").write(frame(0), RESULT)
    with pytest.raises(StopRequest):
        GuardedSink(Disk(range(1)), "stop").write(frame(0), RESULT)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("policy", "code"), [("raise", 7), ("stop", 7), ("log", 0)])
def test_a_full_disk_ends_the_run_or_does_not(colors_bundle: Path, tmp_path: Path, policy: str, code: int) -> None:
    source, video = write_video(tmp_path / "v.avi", [RED] * 20), tmp_path / "seen.avi"
    words = ("run", colors_bundle, source, "--jsonl", "/dev/full", "--append", "--video", video, "--sink-error", policy)
    found, out, err = finish(start(*words))
    assert found == code
    assert "disk is full" in err
    # An orderly end keeps what was written; a raised one leaves nothing half-written.
    assert video.exists() == (policy == "log")
    assert ("20 frames" in out) == (policy == "log")


def test_json_lines_that_are_appended_survive_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_bytes(b'{"frame": 1}\n')
    lines = JsonLines(path, append=True)
    lines.write_line(b'{"frame": 2}\n')
    lines.close()
    assert path.read_bytes() == b'{"frame": 1}\n{"frame": 2}\n'


def test_a_camera_over_http_on_the_command_line(colors_bundle: Path) -> None:
    import cv2

    with mjpeg_server([cv2.imencode(".jpg", picture(RED))[1].tobytes()]) as url:
        code, out, _ = finish(start("run", colors_bundle, f"{url}?token=abc", "--frames", 5))
    assert code == 0
    assert "cam.mjpg?***: 5 frames, most often: red 100 %" in out
    assert "abc" not in out


def hears_hangup(process: subprocess.Popen[str]) -> bool:
    """Whether a process has a handler for SIGHUP yet."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


def test_sighup_during_the_start_is_one_reload_and_no_end(tmp_path: Path) -> None:
    bundle, out = write_colors_bundle(tmp_path / "a.bundle"), tmp_path / "o.jsonl"
    process = start("run", bundle, "synthetic://64x48@50", "--jsonl", out)
    wait_for(lambda: hears_hangup(process))
    assert not out.exists()
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(lines_of(out)) > 20)
    process.terminate()
    code, _, err = finish(process)
    assert code == 143
    assert err.count("the bundle is loaded again") == 1


def test_sighup_ends_a_run_over_files_as_a_closed_terminal_does(colors_bundle: Path, tmp_path: Path) -> None:
    process = start("run", colors_bundle, write_video(tmp_path / "v.avi", [RED] * 3))
    wait_for(lambda: hears_hangup(process))
    process.send_signal(signal.SIGHUP)
    assert finish(process)[0] == -signal.SIGHUP


def test_sighup_to_a_supervisor_is_its_runs_from_the_first_moment_on(colors_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    process = start("run", colors_bundle, "synthetic://64x48@50", "--jsonl", out, "--restart")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: bool(children.read_text()))
    # The run's own Python has just begun.
    os.kill(int(children.read_text()), signal.SIGHUP)
    wait_for(lambda: len(lines_of(out)) > 5)
    process.send_signal(signal.SIGHUP)
    before = len(lines_of(out))
    wait_for(lambda: len(lines_of(out)) > before + 50)
    process.terminate()
    code, _, err = finish(process)
    assert code == 143
    assert err.count("the bundle is loaded again") == 2
    assert "restarting in" not in err


def test_a_reload_is_heeded_while_no_frame_comes(tmp_path: Path) -> None:
    bundle = write_colors_bundle(tmp_path / "a.bundle")
    process = start("run", bundle, f"http://127.0.0.1:{free_port()}/cam")
    assert process.stderr is not None
    assert "retrying until it is back" in process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    assert process.stderr.readline() == "edgebone: the bundle is loaded again\n"
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130


def test_a_bundle_that_lacks_what_the_run_needs_is_refused_and_zones_are_loaded_again(tmp_path: Path) -> None:
    pytest.importorskip("trackers")
    everywhere = {"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    bundle, zones, events = tmp_path / "a.bundle", tmp_path / "zones.json", tmp_path / "events.jsonl"
    write_boxes_bundle(bundle, "found")
    zones.write_text(json.dumps({"schema": 1, "zones": [everywhere]}))
    with mjpeg_server([cv2.imencode(".jpg", picture(RED))[1].tobytes()], fps=20) as url:
        process = start("run", bundle, url, "--track", "--zones", zones, "--events", events)
        assert process.stderr is not None

        def places() -> list[str]:
            return [f"{line['event']} {line['place']}" for line in lines_of(events)]

        wait_for(lambda: places() == ["enter all"])
        shutil.rmtree(bundle)
        write_colors_bundle(bundle)
        zones.write_text("{")
        process.send_signal(signal.SIGHUP)
        said = [process.stderr.readline() for _ in range(2)]
        assert "zones.json is not JSON" in said[0]
        assert said[0].endswith("; continuing with the zones as they were\n")
        assert "tracking follows boxes, and" in said[1]
        assert "has no head that returns any; it has classification: classification@1; continuing with the" in said[1]
        shutil.rmtree(bundle)
        write_boxes_bundle(bundle)
        zones.write_text(json.dumps({"schema": 1, "zones": [everywhere, {**everywhere, "name": "again"}]}))
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "enter again" in places())
        process.send_signal(signal.SIGINT)
        code, out, err = finish(process)
    assert code == 130
    assert "edgebone: the zones are loaded again\nedgebone: the bundle is loaded again\n" in err
    # The one that stayed as it was kept what it knew; the new one counts from then on.
    assert "all: now 1, entered 1, left 0" in out or "all: now 2, entered 2, left 0" in out


def test_lines_on_the_standard_output_are_json_alone(colors_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [RED] * 3)
    code, out, err = finish(start("run", colors_bundle, video, "--jsonl", "-"))
    assert code == 0
    assert [json.loads(line)["frame"] for line in out.splitlines()] == [0, 1, 2]
    assert "3 frames" in err
    code, _, err = finish(
        start("run", colors_bundle, video, "--track", "--zones", "z", "--events", "x", "--jsonl", "x")
    )
    assert code == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_standard_output_on_a_full_disk_is_one_line(
    colors_bundle: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    video = write_video(tmp_path / "v.avi", [RED] * 3)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edgebone", "run", colors_bundle, video, *words],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1] == "edgebone: the output cannot be written: no space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("policy", "code"), [("raise", 7), ("log", 0)])
def test_events_on_a_full_disk_go_the_policys_way(tmp_path: Path, policy: str, code: int) -> None:
    pytest.importorskip("trackers")
    bundle = write_boxes_bundle(tmp_path / "b.bundle", "found")
    zone = {"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    (tmp_path / "zones.json").write_text(json.dumps({"schema": 1, "zones": [zone]}))
    video = write_video(tmp_path / "v.avi", [RED] * 5)
    words = ("run", bundle, video, "--track", "--zones", tmp_path / "zones.json", "--events", "/dev/full")
    found, out, err = finish(start(*words, "--sink-error", policy))
    assert found == code
    assert "/dev/full cannot be written: the disk is full" in err
    assert ("5 frames" in out) == (policy == "log")
