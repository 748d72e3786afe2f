"""Results of live sources on their way to the caller."""

from __future__ import annotations

import threading
from collections import deque

from edgebone.core.frame import Frame
from edgebone.core.results import Results

_LOSSLESS = 4

Delivery = tuple[int, Frame, Results]
"""A source's number, the frame and its result."""


class Outbox:
    """Holds results until the caller asks: of a live source the newest only, of any other every one.

    Args:
        live: Whether each source is live.
    """

    def __init__(self, live: list[bool]) -> None:
        self._live = live
        self._waiting: deque[Delivery] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._changed = threading.Condition()

    def put(self, delivery: Delivery) -> bool:
        """Leave a result, in place of an older one of the same live source.

        Returns:
            Whether an older result was dropped for it.
        """
        number = delivery[0]
        with self._changed:
            old = [place for place, waiting in enumerate(self._waiting) if waiting[0] == number]
            if self._live[number] and old:
                self._waiting[old[0]] = delivery
                return True
            while not self._live[number] and len(self._waiting) >= _LOSSLESS and not self._closed:
                self._changed.wait()
            self._waiting.append(delivery)
            self._changed.notify_all()
            return False

    def finish(self, error: BaseException | None = None) -> None:
        """No more will come; an error is raised once what was before it is taken."""
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Delivery | None:
        """Wait for the next result.

        Returns:
            The result; None when all are taken and no more will come.

        Raises:
            TimeoutError: None came in time.
            BaseException: What ended the work.
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
        """Nobody takes any more: let go of whoever waits for room."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
