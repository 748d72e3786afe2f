"""Threads that own an engine: only they call into it, from opening to closing."""

from __future__ import annotations

import ctypes
import os
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from edgebone.core.errors import EdgeboneError, EngineError

T = TypeVar("T")


def first_line(error: BaseException) -> str:
    """Return an error's first non-empty line; its type if it has no text."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


class EngineThreads:
    """A few threads that open, run and free one engine, and end with it.

    Native code keeps state per thread, not always correctly: OpenVINO's CPU plugin corrupts its heap if one thread runs
    a network first and threads that end run it later (docs/reports/openvino-threads.md). So all calls to an engine go
    through its threads.

    Any exception from native code becomes an ``EngineError`` of one line here, for every engine.

    Attributes:
        limit: The number of calls in progress; an engine with fewer parallel runs lowers it as it opens.

    Args:
        name: The engine's name.
        limit: The number of calls in progress, with one thread each; a further call waits.
        free: Frees the engine, at :meth:`close` or after an :meth:`open` that failed; called once.
        reason: Turns an error of the engine into one line.
    """

    def __init__(
        self,
        name: str,
        limit: int = 2,
        free: Callable[[], object] = lambda: None,
        reason: Callable[[BaseException], str] = first_line,
    ) -> None:
        self._name = name
        self.limit = limit
        self._free = free
        self._reason = reason
        self._forked = False
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(limit, thread_name_prefix=f"edgebone-{name}")
        self._changed = threading.Condition()
        self._under_way = 0
        self._closed = False
        _opened.add(self)

    def open(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run the work that opens the engine, and wait; on failure, free what was created.

        Raises:
            EngineError: It failed.
        """
        try:
            return self._wait_for(lambda: self._submit("cannot load the network", work, arguments))
        except BaseException:
            self.close()
            raise

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run work and wait. Ctrl-C is raised only when it is done: its arguments must not be freed while it runs.

        Raises:
            EngineError: It failed, the engine is closed, or another process opened it.
        """
        return self._wait_for(lambda: self.submit(work, *arguments))

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Start work; its result and errors are those of :meth:`call`.

        Raises:
            EngineError: The engine is closed, or another process opened it.
        """
        return self._submit("failed while running", work, arguments)

    def close(self) -> None:
        """Wait for the work in progress, free the engine and end the threads; a second call does nothing.

        Raises:
            EngineError: The engine could not be freed.
        """
        if self._forked:
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._under_way <= 0)
            pool, self._pool = self._pool, None
        if pool is not None:
            with pool:
                pool.submit(self._free).result()

    def _submit(self, failed: str, work: Callable[..., T], arguments: tuple[Any, ...]) -> Future[T]:
        # Checked first: a lock held by some thread during a fork stays locked in the child.
        if self._forked:
            raise EngineError(
                f"{self._name}: the engine was loaded by another process, and a fork has none of its threads: load it "
                'in this process, or start processes by multiprocessing\'s "spawn"'
            )
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._under_way < self.limit)
            if self._closed or self._pool is None:
                raise EngineError(f"{self._name}: the engine is closed")
            future = self._pool.submit(self._do, failed, work, arguments)
            self._under_way += 1
            return future

    def _after_fork(self) -> None:
        """In the child the engine exists, but neither its own threads nor ours.

        It is never freed: that would wait for its threads forever, even at the child's exit.
        """
        self._forked = True
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def _do(self, failed: str, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        try:
            return work(*arguments)
        except EdgeboneError as error:
            _let_go(error)
            raise
        except Exception as error:
            _let_go(error)
            raise EngineError(f"{self._name} {failed}: {self._reason(error)}") from error
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _wait_for(self, start: Callable[[], Future[T]]) -> T:
        future: Future[T] | None = None
        try:
            # Within the try, since Ctrl-C may be raised as soon as a function begins, as here.
            future = start()
            return future.result()
        except BaseException:
            if future is not None:
                wait([future])
            raise
        finally:
            # Avoids a reference cycle between the error and this frame.
            del future


def _let_go(error: BaseException) -> None:
    """Drop an error's references to the engine's objects, which its traceback would keep alive."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__


_opened: weakref.WeakSet[EngineThreads] = weakref.WeakSet()


def _tell_of_fork() -> None:
    for threads in _opened:
        threads._after_fork()


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_of_fork)
