"""Several runs of one engine at the same time, with a bound on how many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from edgebone.core.errors import EngineError
from edgebone.engines.protocol import Outputs

Feeds = TypeVar("Feeds")


class InFlight(Generic[Feeds]):
    """Runs an engine's blocking ``run`` on a few threads of its own, started at the first submit.

    Args:
        run: The engine's ``run``; must be safe to call from several threads.
        name: The engine's name.
        limit: How many runs may be in flight; a further submit waits for one to end.
    """

    def __init__(self, run: Callable[[Feeds], Outputs], name: str, limit: int = 2) -> None:
        self._run = run
        self._name = name
        self._limit = limit
        self._slots = threading.BoundedSemaphore(limit)
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def submit(self, feeds: Feeds) -> Future[Outputs]:
        """Start a run.

        Raises:
            EngineError: The engine is closed.
        """
        self._slots.acquire()
        try:
            with self._lock:
                if self._closed:
                    raise EngineError(f"{self._name}: the engine is closed")
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._limit, thread_name_prefix=f"edgebone-{self._name}")
                future = self._pool.submit(self._run, feeds)
        except BaseException:
            self._slots.release()
            raise
        future.add_done_callback(lambda _: self._slots.release())
        return future

    def close(self) -> None:
        """Wait for the runs in flight; later submits are refused."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool:
            pool.shutdown(wait=True)
