"""The time of frames."""

from __future__ import annotations

from edgebone.core.frame import Frame

NOMINAL_FPS = 30.0
"""Frames per second of a source without times."""


def time_s(frame: Frame) -> float:
    """Return seconds on the frame's own clock; only differences within one source are meaningful.

    A recorded frame's time is its position in the recording, however fast it is processed; a live one's is the
    monotonic clock at its capture, however late it is processed. Pictures without times only have an order: they count
    as frames at 30 per second.
    """
    if not frame.has_time:
        return frame.index / NOMINAL_FPS
    return frame.captured_at_ns / 1e9 if frame.position_s is None else frame.position_s
