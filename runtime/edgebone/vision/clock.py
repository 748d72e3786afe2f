"""When a frame was."""

from __future__ import annotations

from edgebone.core.frame import Frame

NOMINAL_FPS = 30.0
"""Frames a second of a source that has no times."""


def time_s(frame: Frame) -> float:
    """Seconds on the frame's own clock; only differences within one source mean anything.

    A recorded frame's time is its place in the recording, however fast it is gone through; a live one's is the
    monotonic clock when it was captured, however late it is looked at. Of pictures without times only their order is
    known: they count as frames at 30 a second.
    """
    if not frame.has_time:
        return frame.index / NOMINAL_FPS
    return frame.captured_at_ns / 1e9 if frame.position_s is None else frame.position_s
