"""Results of live sources on their way to the caller."""

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
        model: What gave the result.
        turn: Which of its source's frames it is, where the model's heads leave frames out.
    """

    number: int
    frame: Frame
    result: Results
    model: M
    turn: int


class Outbox(Generic[M]):
    """Holds results until the caller asks: of a live source the newest only, of any other every one.

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
        """Leave a result, in place of an older one of the same live source.

        Returns:
            The older result, which is dropped for it; None where there is none.
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
        """No more will come; an error is raised once what was before it is taken."""
        with self._changed:
            self._ended = True
            self._error = error
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Delivery[M] | None:
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
