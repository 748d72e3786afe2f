"""The health of sources."""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass

_STALL_FRAMES = 5
_STALL_S = 1.0


class State(str, enum.Enum):
    """The states of a source."""

    CONNECTING = "CONNECTING"
    """It has not delivered a frame yet."""
    LIVE = "LIVE"
    """Frames come."""
    STALLED = "STALLED"
    """Connected, but the next frame is overdue."""
    RECONNECTING = "RECONNECTING"
    """The connection was lost and is being re-established."""
    ENDED = "ENDED"
    """No more frames will arrive."""


@dataclass(frozen=True)
class Health:
    """A source's state with its reason.

    Attributes:
        state: Its current state.
        reconnects: The number of reconnections.
        error: Why it is not live, in one line; empty if no error is known.
    """

    state: State
    reconnects: int = 0
    error: str = ""


def is_stalled(seen_ns: int, fps: float | None) -> bool:
    """Return whether a live source's next frame is overdue.

    Args:
        seen_ns: The time of its latest frame, on ``time.monotonic_ns``'s clock.
        fps: Frames per second as stated by the source; None if not stated.
    """
    quiet_s = (time.monotonic_ns() - seen_ns) / 1e9
    return quiet_s > max(_STALL_S, _STALL_FRAMES / (fps or 25.0))
