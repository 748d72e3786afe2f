"""Streams: files lose nothing, live sources stay live, and no failure hangs or hides."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgebone
from edgebone.core.errors import EngineError, SourceError, TensorError
from edgebone.core.frame import Frame
from edgebone.core.machine import usable_cores
from support.pictures import BLUE, GREEN, RED, picture, write_video
from support.sources import Scripted


@pytest.fixture(scope="module")
def model(colors_bundle: Path) -> Iterator[Any]:
    with edgebone.load(colors_bundle) as loaded:
        yield loaded


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 20
    while reading() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not reading()


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("edgebone-read")]


COLORS = [BLUE, GREEN, RED, RED, GREEN, BLUE, BLUE] * 9
NAMES = {BLUE: "blue", GREEN: "green", RED: "red"}


@pytest.mark.skipif(usable_cores() < 2, reason="one core runs one at a time")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_model_for_throughput_has_as_many_runs_in_flight_as_it_benefits_from(
    colors_bundle: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with edgebone.load(colors_bundle, engine=engine, offline=True) as model:
        depth = model.engine.in_flight
        assert depth > 1
        run = model.engine._run  # type: ignore[attr-defined]
        together = threading.Barrier(depth, timeout=30)

        def wait_for_the_others(feeds: Any) -> Any:
            together.wait()
            return run(feeds)

        monkeypatch.setattr(model.engine, "_run", wait_for_the_others)
        assert len(list(model.stream([picture(RED)] * 2 * depth))) == 2 * depth


def test_every_frame_of_a_video_comes_once_in_order_with_its_own_result(model: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", COLORS)
    stream = model.stream(path)
    found = list(stream)
    assert [frame.index for frame, _ in found] == list(range(len(COLORS)))
    assert [result.label for _, result in found] == [NAMES[color] for color in COLORS]
    for frame, result in found:
        assert np.array_equal(result.probabilities, model(frame.image).probabilities)
    stats = stream.stats
    assert (stats.frames, stats.dropped) == (len(COLORS), 0)
    assert stats.fps > 0
    assert 0 < stats.pre.p50_ms <= stats.pre.p99_ms <= stats.pre.max_ms
    assert stats.infer.p50_ms > 0
    assert stats.decode.p50_ms > 0
    assert 0 < stats.seconds < 60


def test_a_batch_bundle_streams_the_same(colors_batch_bundle: Path, model: Any) -> None:
    pictures = [picture(color) for color in COLORS]
    with edgebone.load(colors_batch_bundle) as other:
        assert [result.label for _, result in other.stream(pictures)] == [NAMES[color] for color in COLORS]


def test_results_kept_from_earlier_frames_do_not_change(model: Any) -> None:
    kept = [(result, result.probabilities.copy()) for _, result in model.stream([picture(c) for c in COLORS])]
    assert all(np.array_equal(result.probabilities, before) for result, before in kept)


def test_pictures_in_memory_need_no_thread(model: Any) -> None:
    for _ in model.stream([picture(RED)] * 3):
        assert not reading()


def test_a_stream_of_nothing_ends_at_once(model: Any) -> None:
    stream = model.stream([])
    assert list(stream) == []
    assert (stream.stats.frames, stream.stats.fps, stream.stats.seconds) == (0, 0, 0)
    assert stream.stats.pre.max_ms == 0
    assert list(model.stream(Scripted([]))) == []


def test_a_live_source_keeps_its_newest_frame_for_a_slow_reader(model: Any) -> None:
    stream = model.stream("synthetic://64x48@100?frames=60")
    indices = []
    ages = []
    for frame, _ in stream:
        indices.append(frame.index)
        ages.append(time.monotonic_ns() - frame.captured_at_ns)
        time.sleep(0.1)
    assert indices == sorted(set(indices))
    assert len(indices) < 20
    assert stream.stats.dropped == indices[-1] + 1 - len(indices) > 30
    assert stream.stats.frames == len(indices)
    # The frame was the newest when it was taken. In a queue, the median would be seconds old.
    assert sorted(ages)[len(ages) // 2] < 0.3e9


def test_what_a_live_source_lost_is_what_is_missing_in_its_indices(model: Any) -> None:
    stream = model.stream("synthetic://64x48@20?frames=10")
    indices = [frame.index for frame, _ in stream]
    assert len(indices) > 1
    assert stream.stats.dropped == indices[-1] + 1 - len(indices)


def test_two_sources_are_both_served_and_keep_their_order(model: Any, tmp_path: Path) -> None:
    first = write_video(tmp_path / "a.avi", [RED] * 20)
    second = write_video(tmp_path / "b.avi", [BLUE] * 30)
    found: dict[str, list[int]] = {str(first): [], str(second): []}
    for frame, result in model.stream(first, second):
        found[frame.source].append(frame.index)
        assert result.label == ("red" if frame.source == str(first) else "blue")
    assert found == {str(first): list(range(20)), str(second): list(range(30))}


def test_a_live_source_and_a_file_are_both_served(model: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", [RED] * 10)
    stream = model.stream("synthetic://64x48@200?frames=40", path)
    sources = [(frame.source, frame.index) for frame, _ in stream]
    assert [index for source, index in sources if source == str(path)] == list(range(10))
    live = [index for source, index in sources if source != str(path)]
    assert live
    assert stream.stats.dropped == live[-1] + 1 - len(live)


@pytest.mark.parametrize("live", [False, True])
def test_a_source_that_fails_gives_its_good_frames_first(model: Any, live: bool) -> None:
    source = Scripted([1, 1, 1, SourceError("the cable is out")], live=live)
    found = []
    with pytest.raises(SourceError, match="the cable is out"):
        for frame, result in model.stream(source):
            found.append(frame.index)
            assert result.label == "red"
    assert live or found == [0, 1, 2]
    assert source.closed == 1


def test_an_error_that_comes_between_a_wait_and_its_end_is_raised(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    class Late(Scripted):
        def read(self) -> Frame | None:
            failed.wait(10)
            raise SourceError("the cable is out")

    stream = model.stream(Late([]))
    take = stream._inbox.take

    def take_nothing_first(until_s: float) -> Any:
        monkeypatch.setattr(stream._inbox, "take", take)
        failed.set()
        while not stream._inbox.ended:
            time.sleep(0.001)

    stream._inbox._start()
    monkeypatch.setattr(stream._inbox, "take", take_nothing_first)
    with pytest.raises(SourceError, match="the cable is out"):
        list(stream)


def test_a_video_that_breaks_off_gives_a_result_for_every_frame_that_can_be_read(model: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", COLORS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    readable = 0
    source = edgebone.sources.open_source(path)
    with pytest.raises(SourceError):
        while source.read() is not None:
            readable += 1
    source.close()
    results = []
    with pytest.raises(SourceError, match="the video ends after"):
        for _, result in model.stream(path):
            results.append(result.label)
    assert results == [NAMES[color] for color in COLORS[:readable]]


def test_a_picture_that_is_none_fails_after_the_results_before_it(model: Any) -> None:
    found = []
    with pytest.raises(TensorError, match="a picture must be uint8"):
        for frame, _ in model.stream([picture(RED), picture(RED), np.zeros((5, 5), np.uint8), picture(RED)]):
            found.append(frame.index)
    assert found == [0, 1]


@pytest.mark.parametrize("source", ["synthetic://64x48@100", "video", "arrays"])
def test_an_engine_that_fails_is_heard_at_once(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    given: Any = source
    if source == "video":
        given = write_video(tmp_path / "v.avi", COLORS)
    elif source == "arrays":
        given = [picture(color) for color in COLORS]
    runs = iter(range(100))

    def run(feeds: Any, real: Any = model.engine._run) -> Any:
        if next(runs) == 3:
            raise EngineError("the driver is gone")
        return real(feeds)

    monkeypatch.setattr(model.engine, "_run", run)
    stream = model.stream(given)
    found = []
    with pytest.raises(EngineError, match="the driver is gone"):
        for frame, _ in stream:
            found.append(frame.index)
    # Of a camera the newest result replaces one that nobody took yet.
    assert len(found) == 3 or (source.startswith("synthetic") and len(found) < 3)
    assert stream.stats.frames == len(found)
    monkeypatch.undo()
    assert model(picture(RED)).label == "red"


def test_a_closed_model_is_heard(colors_bundle: Path) -> None:
    model = edgebone.load(colors_bundle)
    model.close()
    for source in ("synthetic://64x48@100", [picture(RED)]):
        with pytest.raises(EngineError, match="closed"):
            list(model.stream(source))


@pytest.mark.parametrize("look", [True, False])
def test_who_wants_to_know_that_it_lives_is_told_while_a_file_gives_nothing(model: Any, look: bool) -> None:
    told = threading.Event()

    class Slow(Scripted):
        def read(self) -> Frame | None:
            # Nothing comes until somebody has been told.
            return super().read() if told.wait(30) else None

    with model.stream(Slow([1, 1]), look=look, pulse=told.set) as stream:
        results = [result for _, result in stream]
    assert [str(result)[:3] for result in results] == (["red", "red"] if look else ["{}", "{}"])


def test_frames_that_nobody_looks_at_are_a_cameras_newest(model: Any) -> None:
    live = Scripted([1] * 30, live=True)
    found = []
    with model.stream(live, look=False) as stream:
        for frame, result in stream:
            assert result == {}
            found.append(frame.index)
            while live.script:
                time.sleep(0.01)
    assert found[-1] == 29
    assert stream.stats.frames + stream.stats.dropped == 30


@pytest.mark.parametrize("live", [False, True])
def test_leaving_the_loop_closes_the_sources(model: Any, live: bool) -> None:
    gc.disable()
    try:
        source = Scripted([1] * 1000, live=live)
        for _ in model.stream(source):
            break
        assert source.closed == 1
        assert not reading()
        again = Scripted([1] * 1000, live=live)
        stream = model.stream(again)
        for _ in stream:
            break
        assert again.closed == 1
        assert list(stream) == []
        assert stream.stats.frames == 1
    finally:
        gc.enable()


def test_an_error_in_the_loop_closes_the_sources_with_the_block(model: Any) -> None:
    source = Scripted([1] * 1000)
    with pytest.raises(ZeroDivisionError), model.stream(source) as stream:
        for _ in stream:
            raise ZeroDivisionError
    assert source.closed == 1


def test_a_stream_that_is_never_gone_through_closes_its_sources(model: Any) -> None:
    unused, begun, closed = Scripted([1]), Scripted([1]), Scripted([1])
    with model.stream(unused):
        pass
    assert unused.closed == 1
    stream = model.stream(begun)
    iterator = iter(stream)
    stream.close()
    stream.close()
    assert begun.closed == 1
    assert list(iterator) == []
    stream = model.stream(closed)
    stream.close()
    assert list(stream) == []
    assert closed.read_count == 0


def test_a_stream_can_be_closed_from_within_its_loop(model: Any) -> None:
    source = Scripted([1] * 1000)
    stream = model.stream(source)
    count = 0
    for _ in stream:
        count += 1
        if count == 3:
            stream.close()
    assert count == 3
    assert source.closed == 1


def test_two_streams_of_one_model_run_side_by_side(model: Any) -> None:
    found: dict[str, list[str]] = {"red": [], "blue": []}

    def work(name: str, color: tuple[int, int, int]) -> None:
        found[name] += [result.label for _, result in model.stream([picture(color)] * 60)]

    threads = [threading.Thread(target=work, args=("red", RED)), threading.Thread(target=work, args=("blue", BLUE))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {"red": ["red"] * 60, "blue": ["blue"] * 60}


def test_frames_pass_with_their_own_times_and_names(model: Any) -> None:
    given = [Frame(picture(RED), 10 * n, time.monotonic_ns(), f"camera {n}", n / 3) for n in range(4)]
    assert [frame for frame, _ in model.stream(given)] == given
