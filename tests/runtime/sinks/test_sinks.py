"""Sinks: whole lines, whole videos, or nothing."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebone.core.detections import Detections
from edgebone.core.errors import OutputError
from edgebone.core.frame import Frame
from edgebone.core.results import Classification, Embedding
from edgebone.core.segmentation import SegmentationMap
from edgebone.sinks import annotate as annotations
from edgebone.sinks.annotate import annotate
from edgebone.sinks.callback import CallbackSink
from edgebone.sinks.jsonl import JsonLines, to_line
from edgebone.sinks.video import VideoFileSink
from edgebone.sources.video import VideoFile
from support.pictures import BLUE, GREEN, RED, picture


def seen(*labels: str, confidence: tuple[float, ...] = (0.75, 0.2, 0.05)) -> Classification:
    labels = labels or ("traffic light ☂ 2", "b", "c")
    scores = np.array(confidence[: len(labels)], np.float32)
    return Classification(np.arange(len(labels)), scores, labels, scores)


def frame(index: int = 0, image: np.ndarray | None = None, source: str = "v.mp4", fps: float = 25) -> Frame:
    return Frame(picture(BLUE) if image is None else image, index, 0, source, index / fps)


def read(path: Path) -> tuple[list[np.ndarray], float | None]:
    video = VideoFile(path)
    found = []
    while (got := video.read()) is not None:
        found.append(got.image)
    video.close()
    return found, video.fps


def test_json_lines_can_be_read_while_they_are_written(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "out.jsonl")
    for index in range(3):
        sink.write(frame(index), seen())
        lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
        assert len(lines) == index + 1
        assert all(line.endswith(b"\n") for line in lines)
    sink.close()
    sink.close()
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["source"], line["frame"], line["position_s"]) for line in found] == [
        ("v.mp4", 0, 0), ("v.mp4", 1, 0.04), ("v.mp4", 2, 0.08),
    ]  # fmt: skip
    assert found[0]["classes"][0] == {"class_id": 0, "label": "traffic light ☂ 2", "confidence": 0.75}


def test_labels_and_names_of_any_kind_stay_one_line_of_json() -> None:
    line = to_line(
        frame(source='a "b"\n☂.jpg'), {"one": seen("x\ny", "\u2028"), "two": Embedding(np.ones(2, np.float32))}
    )
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert found["source"] == 'a "b"\n☂.jpg'
    assert found["heads"]["one"]["classes"][0]["label"] == "x\ny"
    assert found["heads"]["two"] == {"embedding": [1, 1]}


def test_a_file_name_that_is_not_utf8_is_still_valid_json() -> None:
    assert json.loads(to_line(frame(source=os.fsdecode(b"caf\xe9.jpg")), seen()))["source"] == "caf�.jpg"


def test_a_full_disk_half_way_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLines(path)
    sink.write(frame(0), seen())
    sink.write(frame(1), seen())

    real, room = os.write, [100, 0]

    def write(descriptor: int, content: memoryview) -> int:
        if not (taken := room.pop(0)):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content[:taken])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(OutputError, match=r"out\.jsonl cannot be written: the disk is full"):
            sink.write(frame(2), seen())
    sink.discard()
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [0, 1]
    assert path.read_bytes().endswith(b"\n")


def test_a_file_that_may_grow_no_further_keeps_whole_lines(tmp_path: Path) -> None:
    """The kernel itself refuses the write here, in the middle of a line."""
    program = """
        import resource, sys
        import numpy as np
        from pathlib import Path
        from edgebone.core.errors import OutputError
        from edgebone.core.frame import Frame
        from edgebone.core.results import Embedding
        from edgebone.sinks.jsonl import JsonLines
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        sink = JsonLines(Path("out.jsonl"))
        try:
            for index in range(100):
                sink.write(Frame(None, index, 0, "x"), Embedding(np.ones(20, np.float32)))
        except OutputError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "out.jsonl cannot be written: File too large" in done.stdout
    lines = (tmp_path / "out.jsonl").read_text()
    assert lines.endswith("\n")
    assert [json.loads(line)["frame"] for line in lines.splitlines()] == list(range(len(lines.splitlines())))
    assert 3 < len(lines.splitlines()) < 20


APPENDER = """
    import json, resource, sys
    from pathlib import Path
    from edgebone.core.errors import OutputError
    from edgebone.sinks.jsonl import JsonLines
    path, name, most, text = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), "x" * int(sys.argv[4])
    if len(sys.argv) > 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]),) * 2)
    sink, written, failed = JsonLines(path, append=True), 0, 0
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(most):
        try:
            sink.write_line(json.dumps({"name": name, "number": number, "text": text}).encode() + b"\\n")
            written += 1
        except OutputError:
            failed += 1
    print(written, failed)
"""


def appended(path: Path, *each: tuple[object, ...]) -> list[list[int]]:
    """How many lines each of several processes wrote and failed to write, all at the same time."""
    command = [sys.executable, "-c", textwrap.dedent(APPENDER), str(path)]
    writers = [
        subprocess.Popen([*command, *map(str, asked)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for asked in each
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    return [[int(number) for number in writer.communicate()[0].split()] for writer in writers]


def test_two_processes_that_append_never_delete_each_others_lines(tmp_path: Path) -> None:
    """The one may not let the file grow beyond 100 kB, and fails within lines while the other goes on."""
    path = tmp_path / "out.jsonl"
    (one, one_failed), (other, other_failed) = appended(path, ("one", 2000, 200, 100_000), ("other", 2000, 90))
    assert (other, other_failed) == (2000, 0)
    assert one_failed > 500
    found = [json.loads(line)["name"] for line in path.read_bytes().splitlines()]
    assert (found.count("one"), found.count("other")) == (one, other)


def test_two_processes_that_append_to_a_full_disk_lose_nothing_that_was_written(small_disk: Path) -> None:
    path = small_disk / "out.jsonl"
    counts = appended(path, ("one", 1500, 200), ("other", 1500, 90))
    assert min(failed for _, failed in counts) > 100
    found = [json.loads(line)["name"] for line in path.read_bytes().splitlines()]
    assert [found.count("one"), found.count("other")] == [written for written, _ in counts]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)], capture_output=True, check=False
    ).returncode:  # fmt: skip
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("append", [False, True])
def test_a_file_that_logrotate_empties_holds_whole_lines_and_no_zeros(tmp_path: Path, append: bool) -> None:
    sink = JsonLines(tmp_path / "out.jsonl", append)
    for index in range(3):
        sink.write(frame(index), seen())
    os.truncate(tmp_path / "out.jsonl", 0)
    sink.write(frame(3), seen())
    sink.close()
    assert [json.loads(line)["frame"] for line in (tmp_path / "out.jsonl").read_bytes().splitlines()] == [3]


def test_what_is_appended_after_a_line_that_broke_off_is_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_bytes(b'{"frame": 0}\n{"fra')
    sink = JsonLines(tmp_path / "out.jsonl", append=True)
    for index in (1, 2):
        sink.write(frame(index), seen())
    sink.close()
    first, broken, *rest = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert (first, broken) == (b'{"frame": 0}', b'{"fra')
    assert [json.loads(line)["frame"] for line in rest] == [1, 2]


def test_lines_go_into_a_pipe_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    sink = JsonLines(tmp_path / "pipe", append=True)
    for index in range(2):
        sink.write(frame(index), seen())
    sink.close()
    assert [json.loads(line)["frame"] for line in reader.communicate()[0].splitlines()] == [0, 1]


@pytest.mark.parametrize("append", [False, True])
def test_a_file_that_logrotate_renames_is_begun_anew(tmp_path: Path, append: bool) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLines(path, append)
    sink.write(frame(0), seen())
    path.rename(tmp_path / "out.jsonl.1")
    sink.write(frame(1), seen())
    path.rename(tmp_path / "out.jsonl.2")
    # With `create`, and with a line of another process in it.
    path.write_bytes(b'{"frame": 9}\n')
    sink.write(frame(2), seen())
    path.unlink()
    sink.write(frame(3), seen())
    sink.close()

    def frames(name: str) -> list[int]:
        return [json.loads(line)["frame"] for line in (tmp_path / name).read_bytes().splitlines()]

    assert (frames("out.jsonl.1"), frames("out.jsonl.2"), frames("out.jsonl")) == ([0], [1], [3])


def test_a_folder_that_is_gone_is_an_error_and_writing_goes_on_once_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = JsonLines(folder / "out.jsonl")
    sink.write(frame(0), seen())
    folder.rename(tmp_path / "away")
    with pytest.raises(OutputError, match="its folder does not exist"):
        sink.write(frame(1), seen())
    folder.mkdir()
    sink.write(frame(2), seen())
    sink.close()
    assert [json.loads(line)["frame"] for line in (folder / "out.jsonl").read_bytes().splitlines()] == [2]


def test_a_fifo_is_waited_for_and_its_reader_may_go_and_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sink = JsonLines(pipe)

    def read_one() -> int:
        with pipe.open("rb") as file:
            return int(json.loads(file.readline())["frame"])

    with ThreadPoolExecutor(1) as reader:
        writing = reader.submit(sink.write, frame(0), seen())
        time.sleep(0.2)
        assert not writing.done()
        assert read_one() == 0
        writing.result(30)
        for index in (1, 2, 3):
            sink.write(frame(index), seen())
        again = reader.submit(read_one)
        index = 3
        while not again.done():
            index += 1
            sink.write(frame(index), seen())
            time.sleep(0.01)
        assert 4 <= again.result() <= index
    sink.close()
    assert [message.partition("pipe")[2] for message in caplog.messages][:2] == [
        " is a FIFO: waiting for a reader",
        " has no reader any more; lines are lost until it is read again",
    ]
    assert "is read again, after" in caplog.messages[2]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-", "/dev/stderr"])
def test_what_is_open_already_is_written_to_and_not_emptied(tmp_path: Path, name: str) -> None:
    program = f"""
        import sys
        from pathlib import Path
        from edgebone.sinks.jsonl import JsonLines
        sink, stream = JsonLines(Path("{name}")), sys.stderr if "err" in "{name}" else sys.stdout
        for number in range(3):
            stream.write(f"text {{number}}\\n")
            sink.write_line(b"line %d\\n" % number)
        sink.close()
        stream.write("end\\n")
    """
    (tmp_path / "log").write_text("before\n")
    with (tmp_path / "log").open("a") as log:
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], stdout=log, stderr=log, check=True)
    wanted = ["before", "text 0", "line 0", "text 1", "line 1", "text 2", "line 2", "end"]
    assert (tmp_path / "log").read_text().splitlines() == wanted


def test_a_process_that_stopped_amid_a_line_does_not_stop_the_others(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLines(path, append=True)
    sink.write(frame(0), seen())
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match=r"out\.jsonl cannot be written: another process has been writing it"):
            sink.write(frame(1), seen())
    sink.write(frame(2), seen())
    sink.close()
    assert [json.loads(line)["frame"] for line in path.read_bytes().splitlines()] == [0, 2]


def test_no_result_leaves_an_older_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("old\n")
    JsonLines(tmp_path / "out.jsonl").close()
    assert (tmp_path / "out.jsonl").read_text() == "old\n"
    sink = JsonLines(tmp_path / "out.jsonl")
    sink.write(frame(), seen())
    sink.close()
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("target", ["file/out", "missing/out", "folder"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, target: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=f"{tmp_path / target} cannot be written"):
        JsonLines(tmp_path / target).write(frame(), seen())
    if target != "folder":
        with pytest.raises(OutputError, match="cannot be written"):
            VideoFileSink(tmp_path / f"{target}.avi", 25).write(frame(), seen())
    assert sorted(child.name for child in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov", ".MP4"])
@pytest.mark.parametrize(("fps", "count"), [(29.97, 30), (1.0, 1), (0.5, 3), (23.976, 7), (120.0, 2), (59.94, 61)])
def test_a_video_holds_every_frame_at_its_rate(tmp_path: Path, suffix: str, fps: float, count: int) -> None:
    path = tmp_path / f"out{suffix}"
    sink = VideoFileSink(path, fps)
    for index in range(count):
        sink.write(frame(index, picture((GREEN, RED)[index % 2], (96, 128)), fps=fps), seen("x"))
        assert not path.exists()
    sink.close()
    sink.close()
    found, rate = read(path)
    assert len(found) == count
    assert rate == pytest.approx(fps, abs=0.01)
    for index, image in enumerate(found):
        assert np.abs(image[-20:].reshape(-1, 3).mean(0) - (GREEN, RED)[index % 2]).max() < 20
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("size_hw", [(47, 63), (1, 1), (2, 7), (480, 641)])
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_odd_sizes_are_written(tmp_path: Path, suffix: str, size_hw: tuple[int, int]) -> None:
    sink = VideoFileSink(tmp_path / f"out{suffix}", 25)
    for index in range(3):
        sink.write(frame(index, picture(RED, size_hw)), seen())
    sink.close()
    found, _ = read(tmp_path / f"out{suffix}")
    assert len(found) == 3
    assert found[0].shape[:2] == tuple(side + side % 2 for side in size_hw)


def test_frames_of_other_sizes_are_fitted_into_the_first_ones(tmp_path: Path) -> None:
    sink = VideoFileSink(tmp_path / "out.avi", 25)
    sizes = [(100, 200), (200, 100), (10, 10), (1000, 50), (101, 201), (50, 100)]
    for index, size_hw in enumerate(sizes):
        sink.write(frame(index, picture(RED, size_hw)), seen("x"))
    sink.close()
    found, _ = read(tmp_path / "out.avi")
    assert [image.shape for image in found] == [(100, 200, 3)] * 6
    assert np.abs(found[1][80, 100].astype(int) - RED).max() < 30
    assert found[1][80, 10].max() < 30
    assert np.abs(found[5][90, 190].astype(int) - RED).max() < 30


def test_a_discarded_video_leaves_nothing_and_the_old_one_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"old")
    sink = VideoFileSink(tmp_path / "out.mp4", 25)
    sink.write(frame(), seen())
    sink.discard()
    sink.discard()
    sink.close()
    assert [child.name for child in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    VideoFileSink(tmp_path / "new.mp4", 25).close()
    assert not (tmp_path / "new.mp4").exists()


@pytest.mark.parametrize("name", ["out.webm", "out", "out.jsonl", ".mp4"])
def test_a_kind_of_video_that_is_not_written_is_refused_with_those_that_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"videos can be written as \.mp4, \.mov, \.mkv, \.avi"):
        VideoFileSink(tmp_path / name, 25)


def test_a_video_that_may_grow_no_further_is_reported_and_removed(tmp_path: Path) -> None:
    program = """
        import resource
        import numpy as np
        from pathlib import Path
        from edgebone.core.errors import OutputError
        from edgebone.core.frame import Frame
        from edgebone.core.results import Embedding
        from edgebone.sinks.video import VideoFileSink
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        sink = VideoFileSink(Path("out.avi"), 25.0)
        rng = np.random.default_rng(0)
        try:
            for index in range(60):
                noise = rng.integers(0, 255, (240, 320, 3), np.uint8)
                sink.write(Frame(noise, index, 0, "x"), Embedding(np.ones(2, np.float32)))
            sink.close()
        except OutputError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "out.avi cannot be written" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_video_on_a_full_disk_says_that_it_is_full(small_disk: Path, suffix: str) -> None:
    with contextlib.suppress(OSError), (small_disk / "fill").open("wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass
    sink = VideoFileSink(small_disk / f"out{suffix}", 25)
    with pytest.raises(OutputError, match=rf"out\{suffix} cannot be written: the disk is full"):
        sink.write(frame(), seen())
    sink.discard()
    assert [item.name for item in small_disk.iterdir()] == ["fill"]


def test_a_video_of_a_killed_run_is_cleared_up_and_one_that_is_being_written_is_not(tmp_path: Path) -> None:
    program = """
        import os, sys
        import numpy as np
        from pathlib import Path
        from edgebone.core.frame import Frame
        from edgebone.core.results import Embedding
        from edgebone.sinks.video import VideoFileSink
        sink = VideoFileSink(Path(sys.argv[1]), 25.0)
        sink.write(Frame(np.zeros((32, 32, 3), np.uint8), 0, 0, "x"), Embedding(np.ones(2, np.float32)))
        os.kill(os.getpid(), 9)
    """
    path = tmp_path / "out.avi"
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(path)], check=False)
    left = list(tmp_path.iterdir())
    assert len(left) == 1
    one, other = VideoFileSink(path, 25), VideoFileSink(path, 25)
    for index in range(3):
        for sink in (one, other):
            sink.write(frame(index), seen())
    assert not left[0].exists()
    assert len(list(tmp_path.iterdir())) == 2
    for sink in (one, other):
        sink.close()
        assert len(read(path)[0]) == 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size_hw", [(8, 8), (1, 1), (3, 500), (500, 3), (48, 64), (1080, 1920)])
@pytest.mark.parametrize(
    "result",
    [
        seen(), seen("x" * 500), seen("信号機 🚦", "ü\nö"),
        seen("a", confidence=(float("nan"),)), seen("a", confidence=(7.0,)),
        Embedding(np.ones(3, np.float32)), {f"head {n}": seen() for n in range(20)}, {},
    ],
    ids=["three", "long", "unicode", "nan", "more than 1", "embedding", "many heads", "no heads"],
)  # fmt: skip
def test_annotating_draws_onto_a_copy(size_hw: tuple[int, int], result: Any) -> None:
    image = picture((200, 200, 200), size_hw)
    image.flags.writeable = False
    drawn = annotate(image, result)
    assert (image == 200).all()
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert result == {} or not np.array_equal(drawn, image)


def boxes(*xyxy: tuple[float, float, float, float], label: str = "car") -> Detections:
    n = len(xyxy)
    return Detections(
        np.array(xyxy, np.float32).reshape(-1, 4),
        np.linspace(0.9, 0.5, n).astype(np.float32),
        np.arange(n) % 9,
        {"class_name": np.array([label] * n)},
    )


@pytest.mark.parametrize("installed", [True, False], ids=["supervision", "plain"])
@pytest.mark.parametrize("size_hw", [(1, 1), (3, 500), (500, 3), (240, 320)])
@pytest.mark.parametrize("label", ["car", "信号機 🚦", "ü\nö", ""])
def test_boxes_are_drawn_where_they_are(
    size_hw: tuple[int, int], label: str, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "supervision", None)
    annotations._supervision.cache_clear()
    image = picture((200, 200, 200), size_hw)
    image.flags.writeable = False
    height, width = size_hw
    found = boxes((0.6 * width, 0.5 * height, width, height), label=label)
    drawn = annotate(image, found)
    annotations._supervision.cache_clear()
    assert drawn.shape == image.shape
    changed = (drawn != 200).any(axis=2)
    assert changed.any()
    if size_hw == (240, 320):
        # The sides are drawn, the far corner of the picture and the inside of the box are not.
        assert changed[150:230, 192].all() and changed[239, 200:310].all()
        assert not changed[:80, :100].any() and not changed[150:230, 220:300].any()


def test_no_boxes_leave_the_picture_as_it_is() -> None:
    image = picture(BLUE, (40, 60))
    assert np.array_equal(annotate(image, Detections.empty()), image)
    assert np.array_equal(annotate(image, boxes()), image)


def test_areas_are_tinted_and_named_and_the_background_is_not() -> None:
    image = picture((200, 200, 200), (240, 320))
    mask = np.zeros((240, 320), np.uint8)
    mask[150:200, 100:200] = 1
    drawn = annotate(image, SegmentationMap(mask, ("background", "lane")))
    assert (drawn[150:200, 100:200] != 200).any(axis=2).all()
    assert (drawn[205:, :] == 200).all()
    assert (drawn[:20, :20] != 200).any()
    nothing = annotate(image, SegmentationMap(np.zeros_like(mask), ("background", "lane")))
    assert np.array_equal(nothing, image)


def test_two_heads_areas_have_colours_of_their_own() -> None:
    image = picture((200, 200, 200), (240, 320))
    mask = np.zeros((240, 320), np.uint8)
    mask[150:200, 100:200] = 1
    area = SegmentationMap(mask, ("background", "road"))
    line = SegmentationMap(np.roll(mask, 120, axis=1), ("background", "lane"))
    drawn = annotate(image, {"da": area, "ll": line, "found": boxes((10, 200, 50, 230))})
    assert tuple(drawn[175, 150]) != tuple(drawn[175, 290])
    assert (drawn[200:231, 10] != 200).any(axis=1).all()


def test_what_is_drawn_depends_on_the_result() -> None:
    image = picture(BLUE, (200, 300))
    drawn = [annotate(image, seen(label)) for label in ("cat", "dog", "猫")]
    assert len({one.tobytes() for one in drawn}) == 3
    bars = [annotate(image, seen("cat", confidence=(value,))) for value in (0.1, 0.9)]
    assert not np.array_equal(*bars)


def test_a_callback_gets_every_frame_and_its_errors_pass() -> None:
    got: list[tuple[int, str]] = []
    sink = CallbackSink(lambda frame, result: got.append((frame.index, result.label)))
    sink.write(frame(3), seen("a"))
    sink.close()
    sink.discard()
    assert got == [(3, "a")]
    with pytest.raises(ZeroDivisionError):
        CallbackSink(lambda *_: 1 / 0).write(frame(), seen())


def test_a_video_whose_folder_is_a_file_can_be_discarded_after_the_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sink = VideoFileSink(tmp_path / "file" / "seen.mp4", 25.0)
    with pytest.raises(OutputError, match="part of its path is a file"):
        sink.write(Frame(picture(RED), 0, 0, "x"), seen())
    sink.discard()
