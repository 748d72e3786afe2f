"""The threads that an engine belongs to: nobody else calls into it, from its opening to its end."""

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
    """What an error says in its first line that is not empty, or its type where it says nothing."""
    return next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)


class EngineThreads:
    """A few threads that open one engine, run it and free it, and that end with it.

    Native code keeps state by thread, and is not always right about it: OpenVINO's CPU plugin damages its heap where
    one thread serves a network first, and others that end serve it afterwards (docs/reports/openvino-threads.md).
    So whoever wants something of an engine asks its threads.

    Whatever native code raises becomes an ``EngineError`` of one line here, for every engine alike.

    Attributes:
        limit: How many calls may be under way; an engine that turns out to do fewer at a time lowers it as it opens.

    Args:
        name: The engine's name.
        limit: How many calls may be under way, of which there is a thread each; a further one waits for one to end.
        free: Frees the engine, at :meth:`close` or after an :meth:`open` that failed; called once.
        reason: From an error of the engine's to one line.
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
        """Do the work that opens the engine, and wait for it; where it fails, what there is by then is freed.

        Raises:
            EngineError: It failed.
        """
        try:
            return self._wait_for(lambda: self._submit("cannot load the network", work, arguments))
        except BaseException:
            self.close()
            raise

    def call(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do work and wait for it. Ctrl-C is raised once it is done: what it was given must not be freed under it.

        Raises:
            EngineError: It failed, the engine is closed, or another process opened it.
        """
        return self._wait_for(lambda: self.submit(work, *arguments))

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Start work; its result and errors are :meth:`call`'s.

        Raises:
            EngineError: The engine is closed, or another process opened it.
        """
        return self._submit("failed while running", work, arguments)

    def close(self) -> None:
        """Wait for the work under way, free the engine and end the threads; a second call does nothing.

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
        # Asked first: a lock that some thread held at the moment of a fork stays taken in the child.
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
        """In the child: the engine is here, but none of the threads that it is made of, nor ours.

        It is never freed: that would wait for its threads without end, be it at the child's exit.
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
            # Within the try: Ctrl-C is raised where a function begins, too, as this one does.
            future = start()
            return future.result()
        except BaseException:
            if future is not None:
                wait([future])
            raise
        finally:
            # The error holds this frame, and would be held by it.
            del future


def _let_go(error: BaseException) -> None:
    """Have an error not hold the engine's own objects, which its traceback would keep until another thread frees it."""
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
