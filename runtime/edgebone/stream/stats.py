"""How a stream is doing: counts, durations a stage, and the state of every source."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from edgebone.core.timing import Percentiles, Window

STAGES = ("queue", "pre", "infer", "decode", "sink", "age")


@dataclass(frozen=True)
class SourceStats:
    """How one source of a stream is doing.

    Every frame that the source numbered is delivered, dropped, skipped or damaged, or still on its way.

    Attributes:
        name: The source's name, without credentials; no two of a stream are alike.
        state: ``CONNECTING``, ``LIVE``, ``STALLED``, ``RECONNECTING`` or ``ENDED``.
        frames: Frames delivered.
        dropped: Frames that were lost because newer ones had come; of live sources only.
        skipped: Frames left out on purpose, by ``max_fps`` or ``every``.
        damaged: Frames that came, but could not be decoded.
        reconnects: How often it came back after it was lost.
        error: Why it is not live, in one line; empty where nothing is known to be wrong.
        fps: Frames delivered a second, from its first to its latest.
        age: From capture to delivery.
    """

    name: str
    state: str
    frames: int
    dropped: int
    skipped: int
    damaged: int
    reconnects: int
    error: str
    fps: float
    age: Percentiles


@dataclass(frozen=True)
class StreamStats:
    """How a stream is doing; percentiles are over the latest 2048 frames.

    Attributes:
        frames: Frames delivered.
        dropped: Frames of live sources that were lost because newer ones had come.
        seconds: Time from the first frame's arrival to the latest delivery.
        fps: Frames delivered a second.
        queue: From capture until the frame was taken up.
        pre: Decoding of a camera's frame and preprocessing.
        infer: Inference, from hand-over to result.
        decode: Decoding of the network's outputs.
        sink: What the caller did with a result before it asked for the next.
        age: From capture to delivery.
        sources: One a source, in order.
        infer_now_s: How long the oldest run that is under way has taken by now, in seconds; 0 where none is.
        sink_now_s: How long the caller has been at the latest result by now, in seconds; 0 where it waits for the next.
    """

    frames: int
    dropped: int
    seconds: float
    fps: float
    queue: Percentiles
    pre: Percentiles
    infer: Percentiles
    decode: Percentiles
    sink: Percentiles
    age: Percentiles
    sources: tuple[SourceStats, ...]
    infer_now_s: float = 0.0
    sink_now_s: float = 0.0


class Delivered:
    """Counts one source's deliveries."""

    def __init__(self) -> None:
        self.frames = 0
        self.age = Window()
        self._first_ns = 0
        self._last_ns = 0

    def add(self, now_ns: int, age_ns: int) -> None:
        """Note a delivery."""
        self._first_ns = self._first_ns or now_ns
        self._last_ns = now_ns
        self.frames += 1
        self.age.add(age_ns)

    @property
    def fps(self) -> float:
        """Deliveries a second; 0 before the second one."""
        seconds = (self._last_ns - self._first_ns) / 1e9
        return round((self.frames - 1) / seconds, 2) if seconds else 0.0


class Meter:
    """Gathers durations a stage; written by the stream's threads, read by any."""

    def __init__(self) -> None:
        self._windows = {stage: Window() for stage in STAGES}
        self._lock = threading.Lock()

    def add(self, stage: str, duration_ns: int, frames: int = 1) -> None:
        """Note how long a stage took; each of several frames waited for all of it."""
        with self._lock:
            for _ in range(frames):
                self._windows[stage].add(duration_ns)

    def percentiles(self) -> dict[str, Percentiles]:
        """The spread a stage."""
        with self._lock:
            return {stage: window.percentiles() for stage, window in self._windows.items()}
