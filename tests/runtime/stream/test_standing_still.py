"""Time in which the process stood still: no engine and no camera is given up for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgebone.core.errors import SourceError
from edgebone.core.frame import Decode
from edgebone.sources import camera as cameras
from edgebone.sources.camera import Camera
from edgebone.stream.watchdog import Watchdog
from support import ROOT
from support.pictures import RED, picture, write_video

# An engine that computes 0.2 s a frame, and so is nearly always at it; each frame is told by a byte.
_BUSY = """
import os, sys, time
from support.slow_engine import SlowEngine
import edgebone
from edgebone.sources import open_source
from edgebone.stream.stream import Stream

class BusyEngine(SlowEngine):
    def _run(self, feeds):
        end_s = time.thread_time() + 0.2
        while time.thread_time() < end_s:
            pass
        return self._engine.run(feeds)

with edgebone.load(sys.argv[1]) as model:
    model.engine = BusyEngine(model.engine, 0)
    with Stream(model, [open_source(sys.argv[2])], stall_s=10.0) as stream:
        for number, _ in enumerate(stream):
            os.write(1, b".")
            if number == 14:
                break
"""


def stand_still(process: subprocess.Popen[Any], seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["synthetic://64x48@100", "video"])
def test_a_stop_longer_than_the_limit_is_no_stalled_engine(colors_bundle: Path, tmp_path: Path, source: str) -> None:
    given = write_video(tmp_path / "v.avi", [RED] * 15) if source == "video" else source
    process = subprocess.Popen(
        [sys.executable, "-c", _BUSY, str(colors_bundle), str(given)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
    )
    assert process.stdout is not None
    seen = b"".join(process.stdout.read(1) for _ in range(3))
    stand_still(process, 12)
    rest, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert seen + rest == b"." * 15


class Scripted:
    """A camera's connection that does one thing at each grab."""

    fps = 10.0

    def __init__(self, *grabs: Callable[[], Decode]) -> None:
        self._grabs = list(grabs)

    def grab(self) -> Decode:
        return self._grabs.pop(0)()

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


def good() -> Decode:
    return lambda: picture(RED)


def test_a_camera_is_tried_once_more_after_its_time_was_over_at_a_stroke(monkeypatch: pytest.MonkeyPatch) -> None:
    real, ahead_ns = time.monotonic_ns, 0

    def stop() -> Decode:
        nonlocal ahead_ns
        ahead_ns += 70_000_000_000
        raise SourceError("cam: no data for 5 s")

    def lost() -> Decode:
        raise SourceError("cam: no data for 5 s")

    monkeypatch.setattr(cameras.time, "monotonic_ns", lambda: real() + ahead_ns)
    there = Camera("cam", lambda: Scripted(good), first=Scripted(good, stop), give_up_s=60)
    assert there.read() is not None
    frame = there.read()
    assert frame is not None
    assert frame.index == 1
    assert there.health.reconnects == 1
    gone = Camera("cam", lambda: Scripted(lost), first=Scripted(good, stop), give_up_s=60)
    assert gone.read() is not None
    with pytest.raises(SourceError, match=r"no data for 5 s; no frame for 7\d s, giving up"):
        gone.read()


def test_a_watchdog_counts_its_wake_ups_and_not_the_time() -> None:
    waits: list[float] = []

    def after(wakes: int) -> Callable[[float], bool]:
        def answers(wait_s: float) -> bool:
            waits.append(wait_s)
            return len(waits) == wakes

        return answers

    assert Watchdog(120).wait(after(60))
    # Each wait may have taken any time at all.
    assert waits == [2.0] * 60
    waits.clear()
    assert not Watchdog(120).wait(after(61))
    watchdog = Watchdog(60)
    assert watchdog.tick_s == 1.0
    assert [watchdog.wake(7) for _ in range(61)] == [False] * 60 + [True]
    assert not watchdog.wake(8)
    assert not any(watchdog.wake(number) for number in range(100))
    assert not any(watchdog.wake(None) for _ in range(100))
