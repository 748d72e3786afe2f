"""Many live sources on one engine: fresh, fair, counted, and nothing that fails stays silent."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgebone
from edgebone import Limited, Limits
from edgebone.core.errors import BundleError, EngineError, EngineStalledError, SourceError
from edgebone.sources import open_source
from edgebone.stream.stream import Stream
from support.bundles import other_colors
from support.camera_servers import wait_for
from support.pictures import BLUE, GREEN, RED, picture, write_video
from support.slow_engine import SlowEngine, slow_model
from support.sources import Paced, Ticking


def test_cameras_on_a_slow_engine_share_it_evenly_and_stay_fresh(colors_bundle: Path) -> None:
    cameras = [Ticking(f"camera {n}", 30, 60) for n in range(6)]
    infer_s = 0.02
    with slow_model(colors_bundle, infer_s) as model, model.stream(*cameras) as stream:
        ages_s = [(time.monotonic_ns() - frame.captured_at_ns) / 1e9 for frame, _ in stream]
        stats = stream.stats
    served = [source.frames for source in stats.sources]
    assert sum(served) == stats.frames == len(ages_s) > 30
    assert min(served) >= 0.7 * np.mean(served)
    # In a queue, half of the frames would wait for longer than two seconds: 360 frames of 20 ms each.
    assert np.median(ages_s) < 0.5
    for source, camera in zip(stats.sources, cameras, strict=True):
        assert source.frames + source.dropped == camera.read_count == 60
        assert source.state == "ENDED"
    assert stats.dropped == sum(source.dropped for source in stats.sources)


def test_a_slow_camera_does_not_starve_and_does_not_hold_up_a_fast_one(colors_bundle: Path) -> None:
    slow, fast = Paced("slow", 10), Ticking("fast", 500, 10_000)
    with slow_model(colors_bundle, 0.01) as model, model.stream(slow, fast) as stream:
        served: Counter[str] = Counter()
        fast_since_slow = []
        for frame, _ in stream:
            served[frame.source] += 1
            if frame.source == "slow":
                fast_since_slow.append(0)
                if served["slow"] == 10:
                    break
            elif fast_since_slow:
                fast_since_slow[-1] += 1
                # It comes again only when the other has been served without it.
                if fast_since_slow[-1] == 5:
                    slow.give()
    assert served["slow"] == 10
    # It was served long before the fast one had nothing left.
    assert served["fast"] < 1000


def test_a_caller_that_is_held_up_gets_the_newest_results_afterwards(colors_bundle: Path) -> None:
    camera = Ticking("camera", 100, 150)
    with slow_model(colors_bundle, 0.005) as model, model.stream(camera) as stream:
        for number, (frame, _) in enumerate(stream):
            if number == 1:
                began_s = time.monotonic()
                wait_for(lambda: camera.read_count > 80)
                held_up_ms = 1000 * (time.monotonic() - began_s)
            if number == 2:
                assert frame.index > 50
        stats = stream.stats
    assert stats.frames + stats.dropped == 150
    assert stats.sink.max_ms >= held_up_ms


def test_several_cameras_share_a_batch_and_a_dead_one_is_not_waited_for(
    colors_batch_bundle: Path,
) -> None:
    cameras = [Ticking(f"camera {n}", 50, 50, color) for n, color in enumerate((RED, GREEN, BLUE))]
    dead = Ticking("dead", 50, 2)
    dead.frames = -1
    dead.read = lambda: dead._interrupted.wait() and None  # type: ignore[method-assign]
    with slow_model(colors_batch_bundle, 0.03) as model:
        # As a plan that `edgebone tune` made says it.
        model.candidate, model._min_batch = replace(model.candidate, batch=4), 4
        seen: Counter[tuple[str, str]] = Counter()
        with model.stream(*cameras, dead) as stream:
            for frame, result in stream:
                seen[frame.source, result.label] += 1
                if all(camera.read_count == 50 for camera in cameras):
                    break
        engine: Any = model.engine
        assert set(seen) == {("camera 0", "red"), ("camera 1", "green"), ("camera 2", "blue")}
        # Three fresh frames a run, most of the time: the fourth camera's place stays empty.
        assert sum(seen.values()) / len(engine.batches) > 1.5


def test_damaged_frames_are_left_out_and_counted(colors_bundle: Path) -> None:
    camera = Ticking("camera", 200, 40)
    camera.damaged = set(range(1, 40, 2))
    with edgebone.load(colors_bundle) as model, model.stream(camera) as stream:
        indices = [frame.index for frame, _ in stream]
        (source,) = stream.stats.sources
    assert not camera.damaged & set(indices)
    assert source.frames + source.dropped + source.damaged == 40
    assert source.damaged >= 1


def test_a_camera_that_fails_raises_or_ends_alone(colors_bundle: Path) -> None:
    with edgebone.load(colors_bundle) as model:
        broken, well = Ticking("broken", 100, 50), Ticking("well", 50, 20)
        broken.fails_after = 5
        with pytest.raises(SourceError, match="broken is gone"), model.stream(broken, well) as stream:
            list(stream)
        broken, well = Ticking("broken", 100, 50), Ticking("well", 50, 20)
        broken.fails_after = 5
        with model.stream(broken, well, forgiving=True) as stream:
            served = Counter(frame.source for frame, _ in stream)
            first, second = stream.stats.sources
    assert served["well"] == second.frames > 0
    assert second.frames + second.dropped == 20
    assert (first.state, first.error) == ("ENDED", "broken is gone")


def test_sixty_four_cameras_at_once(colors_bundle: Path) -> None:
    cameras = [Ticking(f"camera {n}", 20, 30) for n in range(64)]
    threads = threading.active_count()
    with slow_model(colors_bundle, 0.002) as model, model.stream(*cameras) as stream:
        for _ in stream:
            pass
        stats = stream.stats
    assert min(source.frames for source in stats.sources) >= 2
    assert all(source.frames + source.dropped == 30 for source in stats.sources)
    assert threading.active_count() <= threads


def test_a_file_among_cameras_loses_nothing(colors_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [RED, GREEN] * 20)
    with slow_model(colors_bundle, 0.005) as model, model.stream(video, Ticking("camera", 100, 40)) as stream:
        indices = []
        for frame, _ in stream:
            time.sleep(0.003)
            if frame.source == str(video):
                indices.append(frame.index)
    assert indices == list(range(40))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"every": 3}, list(range(0, 50, 3))),
        ({"max_fps": 5}, list(range(0, 50, 5))),
        ({"max_fps": 12.5, "every": 2}, list(range(0, 50, 2))),
        ({"max_fps": 1000}, list(range(50))),
    ],
)
def test_fewer_frames_of_a_video_keep_their_numbers(
    colors_bundle: Path, tmp_path: Path, limits: dict[str, Any], expected: list[int]
) -> None:
    video = write_video(tmp_path / "v.avi", [RED] * 50)
    with edgebone.load(colors_bundle) as model, model.stream(video, **limits) as stream:
        assert [frame.index for frame, _ in stream] == expected
        (source,) = stream.stats.sources
    assert source.skipped == 50 - len(expected)
    assert source.dropped == 0


def test_limits_of_one_source_alone(colors_bundle: Path) -> None:
    capped = Limited(Ticking("capped", 100, 100), Limits(max_fps=10))
    taken_s = []
    with edgebone.load(colors_bundle) as model, model.stream(capped, Ticking("free", 100, 100)) as stream:
        for frame, _ in stream:
            if frame.source == "capped":
                taken_s.append(frame.captured_at_ns / 1e9)
        first, second = stream.stats.sources
    assert 1 < len(taken_s) <= 10 * (taken_s[-1] - taken_s[0]) + 2
    assert first.frames + first.skipped + first.dropped == 100
    assert first.skipped > 50
    assert second.skipped == 0
    assert second.frames + second.dropped == 100


def test_a_region_of_interest_is_all_that_the_model_sees(colors_bundle: Path) -> None:
    image = picture(RED)
    image[10:40, 20:50] = GREEN
    with edgebone.load(colors_bundle) as model:
        ((frame, result),) = model.stream(image, roi_xyxy=(20, 10, 50, 40))
        assert result.label == "green"
        assert (frame.size_hw, frame.origin_xy) == ((30, 30), (20, 10))
        with pytest.raises(SourceError, match=r"60,10,65,40 is not within the picture of 64x48"):
            list(model.stream(image, roi_xyxy=(60, 10, 65, 40)))
        for wrong in ((5, 5, 5, 9), (-1, 0, 5, 5)):
            with pytest.raises(SourceError, match="left, top, right, bottom"):
                model.stream(image, roi_xyxy=wrong)
        with pytest.raises(SourceError, match="max_fps"):
            model.stream(image, max_fps=0)


def test_a_swap_under_load_loses_no_frame_and_frees_the_old_engine(colors_bundle: Path, tmp_path: Path) -> None:
    other = other_colors(tmp_path / "other.bundle")
    camera = Paced("camera", 60)
    labels = []
    with edgebone.load(colors_bundle) as model:
        new = edgebone.load(other)
        old: Any = SlowEngine(model.engine, 0.02)
        model.engine = old
        with model.stream(camera) as stream:
            for number, (frame, result) in enumerate(stream):
                labels.append((frame.index, result.label))
                camera.give()
                if number == 20:
                    # The next frame is in the old engine by then.
                    wait_for(lambda: len(old.batches) == 22)
                    stream.swap(new)
            assert stream.model is new
            assert old.closed
            assert stream.stats.dropped == 0
        with pytest.raises(EngineError, match="closed"):
            new(picture(RED))
    assert [index for index, _ in labels] == list(range(60))
    names = [label for _, label in labels]
    assert names == ["red"] * names.count("red") + ["rose"] * names.count("rose")
    assert names.count("red") == 22


def test_a_swap_of_a_video_loses_no_frame(colors_bundle: Path, tmp_path: Path) -> None:
    other = other_colors(tmp_path / "other.bundle")
    video = write_video(tmp_path / "v.avi", [GREEN] * 40)
    with edgebone.load(colors_bundle) as model, model.stream(video) as stream:
        names = []
        for frame, result in stream:
            names.append(result.label)
            if frame.index in (10, 20):
                stream.swap(other)
    assert names[:11] == ["green"] * 11
    assert names[13:] == ["lime"] * 27
    assert len(names) == 40


def test_a_broken_new_bundle_leaves_the_old_one_running(colors_bundle: Path, tmp_path: Path) -> None:
    with edgebone.load(colors_bundle) as model, model.stream([picture(RED)] * 10) as stream:
        seen = 0
        for _ in stream:
            seen += 1
            if seen == 3:
                with pytest.raises(BundleError):
                    stream.swap(tmp_path / "none.bundle")
        assert seen == 10
        assert stream.model is model


def test_a_swap_after_the_end_says_so_and_leaves_nothing_open(colors_bundle: Path) -> None:
    with edgebone.load(colors_bundle) as model, model.stream([picture(RED)]) as stream:
        list(stream)
        with pytest.raises(EngineError, match="the stream has ended"):
            stream.swap(colors_bundle)
        assert model(picture(RED)).label == "red"


def test_an_engine_that_does_not_answer_is_an_error_and_not_a_silence(colors_bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.avi", [RED] * 9)
    for source in (Ticking("camera", 50, 100), open_source(video)):
        with slow_model(colors_bundle, 0.001) as model:
            engine: Any = model.engine
            with (
                pytest.raises(EngineStalledError, match="has not answered for 1 s"),
                Stream(model, [source], stall_s=1.0) as stream,
            ):
                for number, _ in enumerate(stream):
                    if number == 2:
                        engine.answers.clear()
            engine.answers.set()


def test_what_fails_in_the_streams_own_thread_is_raised_at_the_caller(colors_bundle: Path) -> None:
    camera = Ticking("camera", 50, 100)
    with slow_model(colors_bundle, 0.001) as model, model.stream(camera) as stream:
        seen = 0
        model.answers = lambda *_: 1 / 0 if seen > 5 else edgebone.Model.answers(model, *_)
        with pytest.raises(ZeroDivisionError):
            for _ in stream:
                seen += 1
    assert seen >= 5


@pytest.mark.parametrize("kind", ["camera", "video"])
def test_frames_that_are_done_with_are_freed_at_once(colors_bundle: Path, tmp_path: Path, kind: str) -> None:
    made: list[weakref.ref[np.ndarray]] = []
    gc.collect()
    gc.disable()
    try:
        with edgebone.load(colors_bundle) as model:
            source: Any = write_video(tmp_path / "v.avi", [RED] * 60) if kind == "video" else Ticking("c", 200, 60)
            with model.stream(source) as stream:
                for frame, _ in stream:
                    made.append(weakref.ref(frame.image))
                    del frame
                    assert sum(image() is not None for image in made) <= 3
    finally:
        gc.enable()
    assert len(made) > 5


def test_pictures_in_memory_are_live_until_they_are_gone_through(colors_bundle: Path) -> None:
    with edgebone.load(colors_bundle) as model, model.stream([picture(RED)] * 3) as stream:
        states = [stream.stats.sources[0].state for _ in stream]
    assert states == ["LIVE"] * 3
    assert stream.stats.sources[0].state == "ENDED"


def test_every_stage_is_measured(colors_bundle: Path) -> None:
    with slow_model(colors_bundle, 0.02) as model, model.stream(Ticking("camera", 20, 12)) as stream:
        for _ in stream:
            time.sleep(0.005)
        stats = stream.stats
    assert stats.infer.p50_ms >= 20
    assert stats.sink.p50_ms >= 5
    assert stats.queue.p50_ms > 0
    assert stats.age.p50_ms >= stats.infer.p50_ms
    assert stats.sources[0].age.p50_ms == stats.age.p50_ms
    assert 0 < stats.sources[0].fps < 21
