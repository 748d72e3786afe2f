"""A stream's figures: counts, durations per stage, and the state of every source."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from edgebone.core.timing import Percentiles, Window

STAGES = ("queue", "pre", "infer", "decode", "sink", "age")


@dataclass(frozen=True)
class SourceStats:
    """The figures of one source.

    Every numbered frame is delivered, dropped, skipped or damaged, or still in flight.

    Attributes:
        name: The source's name, without credentials; unique within a stream.
        state: ``CONNECTING``, ``LIVE``, ``STALLED``, ``RECONNECTING`` or ``ENDED``.
        frames: Frames delivered.
        dropped: Frames of live sources that were dropped for newer ones.
        skipped: Frames left out on purpose, by ``max_fps`` or ``every``.
        damaged: Frames that could not be decoded.
        reconnects: The number of reconnections.
        error: Why it is not live, in one line; empty if no error is known.
        fps: Frames delivered per second, from its first to its latest.
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
    """The figures of a stream; percentiles are over the latest 2048 frames.

    Attributes:
        frames: Frames delivered.
        dropped: Frames of live sources that were dropped for newer ones.
        seconds: Time from the first frame's arrival to the latest delivery.
        fps: Frames delivered per second.
        queue: From capture until processing starts.
        pre: Decoding of a camera's frame and preprocessing.
        infer: Inference, from hand-over to result.
        decode: Decoding of the network's outputs.
        sink: The caller's time with a result before it asks for the next.
        age: From capture to delivery.
        sources: One per source, in order.
        infer_now_s: The duration so far of the oldest run in progress, in seconds; 0 without one.
        sink_now_s: The caller's time so far with the latest result, in seconds; 0 if it waits for the next.
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
        """Record a delivery."""
        self._first_ns = self._first_ns or now_ns
        self._last_ns = now_ns
        self.frames += 1
        self.age.add(age_ns)

    @property
    def fps(self) -> float:
        """Deliveries per second; 0 before the second one."""
        seconds = (self._last_ns - self._first_ns) / 1e9
        return round((self.frames - 1) / seconds, 2) if seconds else 0.0


class Meter:
    """Collects durations per stage; written by the stream's threads, readable by any."""

    def __init__(self) -> None:
        self._windows = {stage: Window() for stage in STAGES}
        self._lock = threading.Lock()

    def add(self, stage: str, duration_ns: int, frames: int = 1) -> None:
        """Record a stage's duration; each of several frames waited for all of it."""
        with self._lock:
            for _ in range(frames):
                self._windows[stage].add(duration_ns)

    def percentiles(self) -> dict[str, Percentiles]:
        """Return the percentiles per stage."""
        with self._lock:
            return {stage: window.percentiles() for stage, window in self._windows.items()}
