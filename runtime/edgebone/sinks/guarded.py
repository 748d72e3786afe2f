"""Handles failures of sinks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

from edgebone.core.errors import OutputError
from edgebone.core.event import Event
from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.sinks.protocol import Sink

Policy = Literal["raise", "log", "stop"]

_log = logging.getLogger("edgebone.sinks")


class StopRequest(Exception):
    """A sink failed, and the run must end in an orderly way: the output so far is finished and kept."""

    def __init__(self, error: OutputError) -> None:
        super().__init__(str(error))
        self.error = error


class GuardedSink:
    """A sink with a policy for failures.

    Args:
        sink: The sink.
        policy: ``raise`` raises the error; ``stop`` requests an orderly end; ``log`` continues, logs once that it fails
            and once that it works again, and counts the frames whose results were lost.
    """

    def __init__(self, sink: Sink, policy: Policy) -> None:
        self._sink = sink
        self._policy = policy
        self._failing = ""
        self.lost = 0

    def write(self, frame: Frame, result: Results, events: Sequence[Event] = ()) -> None:
        """Pass on one frame, its result and its events.

        Raises:
            OutputError: It cannot be written, and the policy is ``raise``.
            StopRequest: It cannot be written, and the policy is ``stop``.
        """
        try:
            self._sink.write(frame, result, events)
        except OutputError as error:
            if self._policy == "raise":
                raise
            if self._policy == "stop":
                raise StopRequest(error) from error
            self.lost += 1
            if self._failing != str(error):
                self._failing = str(error)
                _log.warning("%s; continuing without it", error)
            return
        if self._failing:
            _log.warning("written again, after %d lost: %s", self.lost, self._failing)
            self._failing = ""

    def close(self) -> None:
        """Finish the output; the policy also applies to failures here."""
        try:
            self._sink.close()
        except OutputError as error:
            if self._policy != "log":
                raise
            _log.warning("%s", error)

    def discard(self) -> None:
        """Remove partial output."""
        self._sink.discard()
