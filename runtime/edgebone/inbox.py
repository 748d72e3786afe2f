"""Frames of several sources, read in the background and handed out in turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from edgebone.core.frame import Frame
from edgebone.sources.protocol import Source

_AHEAD = 4
_JOIN_S = 5.0


class Inbox:
    """Reads each source in a thread of its own and hands the frames out, a source at a time.

    A live source keeps only its newest frame here; any other is read a few frames ahead and then waits. A
    source that fails raises from :meth:`take` once the frames before the failure are handed out.

    Args:
        sources: The sources; closed by :meth:`close`.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._waiting: list[deque[Frame]] = [deque() for _ in sources]
        self._errors: list[BaseException | None] = [None] * len(sources)
        self._reading = len(sources)
        self._turn = 0
        self._closed = False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def take(self, wait: bool = True) -> tuple[int, Frame] | None:
        """Wait for the next frame.

        Args:
            wait: False takes only what is there already.

        Returns:
            The source's number and its frame, or None when all sources have ended; or, without waiting, when none
            is there.

        Raises:
            SourceError: A source failed.
        """
        if not self._threads:
            self._start()
        with self._changed:
            while True:
                for step in range(len(self._sources)):
                    number = (self._turn + step) % len(self._sources)
                    if self._waiting[number]:
                        self._turn = number + 1
                        self._changed.notify_all()
                        return number, self._waiting[number].popleft()
                    error = self._errors[number]
                    if error is not None and wait:
                        raise error
                if not self._reading or not wait:
                    return None
                self._changed.wait()

    def close(self) -> None:
        """Stop reading and close the sources."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for source in self._sources:
            source.interrupt()
        for number, source in enumerate(self._sources):
            thread = self._threads[number] if number < len(self._threads) else None
            if thread is not None and thread.ident is not None:
                thread.join(_JOIN_S)
            # A camera whose driver hangs cannot be closed safely; its thread ends with the process.
            if thread is None or not thread.is_alive():
                source.close()

    def _start(self) -> None:
        # Not in __init__: Ctrl-C among these lines would leave threads that nobody could close.
        for number, source in enumerate(self._sources):
            name = f"edgebone-read-{source.name}"
            self._threads.append(threading.Thread(target=self._read, args=(number,), name=name, daemon=True))
            self._threads[-1].start()

    def _read(self, number: int) -> None:
        source = self._sources[number]
        waiting = self._waiting[number]
        try:
            while not self._closed and (frame := source.read()) is not None:
                with self._changed:
                    if source.live:
                        waiting.clear()
                    while len(waiting) >= _AHEAD and not self._closed:
                        self._changed.wait()
                    waiting.append(frame)
                    self._changed.notify_all()
        except BaseException as error:
            self._errors[number] = error
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify_all()
