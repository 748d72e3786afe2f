"""Results of live sources, waiting for the caller."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic

from edgebone.core.frame import Frame
from edgebone.core.results import Results
from edgebone.stream.served import M

_LOSSLESS = 4


@dataclass(frozen=True)
class Delivery(Generic[M]):
    """A frame and its result.

    Attributes:
        number: Its source's number.
        frame: The frame.
        result: Its result.
        model: The model that made the result.
        turn: The number of the frame within its source, for heads that skip frames.
    """

    number: int
    frame: Frame
    result: Results
    model: M
    turn: int


class Outbox(Generic[M]):
    """Holds results until the caller asks: for a live source only the newest, for any other all.

    Args:
        live: Whether each source is live.
    """

    def __init__(self, live: list[bool]) -> None:
        self._live = live
        self._waiting: deque[Delivery[M]] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._changed = threading.Condition()

    def put(self, delivery: Delivery[M]) -> Delivery[M] | None:
        """Add a result, replacing an older one of the same live source.

        Returns:
            The older result, which is dropped; None if there is none.
        """
        number = delivery.number
        with self._changed:
            old = [place for place, waiting in enumerate(self._waiting) if waiting.number == number]
            if self._live[number] and old:
                dropped, self._waiting[old[0]] = self._waiting[old[0]], delivery
                return dropped
            while not self._live[number] and len(self._waiting) >= _LOSSLESS and not self._closed:
                self._changed.wait()
            self._waiting.append(delivery)
            self._changed.notify_all()
            return None

    def finish(self, error: BaseException | None = None) -> None:
        """Mark the end; an error is raised after the earlier results are taken."""
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Delivery[M] | None:
        """Wait for the next result.

        Returns:
            The result; None if all are taken and no more will come.

        Raises:
            TimeoutError: None arrived in time.
            BaseException: The error that ended the work.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._ended, timeout_s):
                raise TimeoutError
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Stop taking results, and wake threads that wait for space."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
