"""How a source is doing."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass

_STALL_FRAMES = 5
_STALL_S = 1.0


class State(str, enum.Enum):
    """Where a source is in its life."""

    CONNECTING = "CONNECTING"
    """It has not given a frame yet."""
    LIVE = "LIVE"
    """Frames come."""
    STALLED = "STALLED"
    """Connected, but no frame has come for longer than it should take."""
    RECONNECTING = "RECONNECTING"
    """The connection was lost, and is being made again."""
    ENDED = "ENDED"
    """No more frames will come."""


@dataclass(frozen=True)
class Health:
    """A source's state, and what led to it.

    Attributes:
        state: Where it is now.
        reconnects: How often it came back after it was lost.
        error: Why it is not live, in one line; empty where nothing is known to be wrong.
    """

    state: State
    reconnects: int = 0
    error: str = ""


def is_stalled(seen_ns: int, fps: float | None) -> bool:
    """Whether a live source has been quiet for longer than it should be.

    Args:
        seen_ns: When its latest frame came, on ``time.monotonic_ns``'s clock.
        fps: Frames a second, as it says; None where it does not.
    """
    quiet_s = (time.monotonic_ns() - seen_ns) / 1e9
    return quiet_s > max(_STALL_S, _STALL_FRAMES / (fps or 25.0))
