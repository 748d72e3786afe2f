"""How a source is doing."""

from __future__ import annotations

import enum
from dataclasses import dataclass


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
