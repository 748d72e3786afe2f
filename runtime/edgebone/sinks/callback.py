"""Passes results and events to the caller's functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results


class CallbackSink:
    """Calls functions with each frame's results and events; their exceptions end the run.

    Args:
        result: Called with every frame and its result; None for none.
        event: Called with every event, before ``result``; None for none.
    """

    def __init__(
        self,
        result: Callable[[Frame, Results], object] | None = None,
        event: Callable[[Event], object] | None = None,
    ) -> None:
        self._result = result
        self._event = event

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Call the functions."""
        if self._event is not None:
            for event in events:
                self._event(event)
        if self._result is not None:
            self._result(frame, result)

    def close(self) -> None:
        """Nothing is held."""

    def discard(self) -> None:
        """Nothing was written."""
