"""Ctrl-C and SIGTERM: raised in the running code, without being lost or leaving a lock held; then the program ends.

SIGHUP: a request to reload, accepted from the program's start on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
TERMINATED = 143
_AGAIN_S = 0.005
# Windows has none: there a signal is raised wherever it arrives.
_HAS_TIMER = hasattr(signal, "setitimer")
_HAS_HANGUP = hasattr(signal, "SIGHUP")

_heard: list[int] = []
_reload: list[int] = []
_owed: list[int] = []


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived: unwinds, so that files are finished and temporary ones removed.

    Not a KeyboardInterrupt, which the command line library would handle itself.
    """


def listen(hold_reload: bool = False) -> None:
    """Raise Stopped on SIGINT and SIGTERM; a signal that the parent ignores stays ignored.

    It is raised slightly later, by SIGALRM, where Python would drop it or a lock would stay held.

    Args:
        hold_reload: Hold a SIGHUP until its meaning is known: see :func:`listen_for_reload` and :func:`end_at_hangup`.
    """
    if hold_reload and _HAS_HANGUP and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        listen_for_reload()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _hear)
    if _HAS_TIMER:
        signal.signal(signal.SIGALRM, _hear_again)
        sys.unraisablehook = _raise_dropped_again
    if _HAS_HANGUP:
        # Blocked by a supervisor until a handler is installed.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


def listen_for_reload() -> None:
    """Treat SIGHUP as a reload request instead of ending the program.

    An earlier one also counts: the changed files may already have been read.
    """
    if _HAS_HANGUP:
        signal.signal(signal.SIGHUP, lambda number, _: _reload.append(number))


def end_at_hangup() -> None:
    """Let SIGHUP end the program again, as for a closed terminal; an earlier one ends it now."""
    if _HAS_HANGUP and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if reload_asked():
            os.kill(os.getpid(), signal.SIGHUP)


@contextlib.contextmanager
def hangups_held_back() -> Iterator[None]:
    """Within the context a child gets SIGHUP only after it calls :func:`listen`, and this process at its end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


def reload_asked() -> bool:
    """Return whether SIGHUP has arrived since the last call."""
    asked = bool(_reload)
    _reload.clear()
    return asked


def raise_if_heard() -> None:
    """Raise for a signal that has already arrived: C code of a library may swallow a handler's exception."""
    if _heard:
        _owed.clear()
        raise Stopped


def heard() -> bool:
    """Return whether a signal has arrived: the exception that ends the program may be a wrapped Stopped."""
    return bool(_heard)


def end() -> NoReturn:
    """Report which signal ended the program, and exit.

    Immediately, since everything is closed: at Python's own shutdown a thread still in native code aborts the process,
    and an executor's orphaned thread is waited for forever.
    """
    # A further signal ends even a process whose reader has stalled.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    _owed.clear()
    terminated = signal.SIGTERM in _heard[:1]
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        sys.stderr.write(f"edgebone: {'terminated' if terminated else 'interrupted'}\n")
        sys.stderr.flush()
    os._exit(TERMINATED if terminated else INTERRUPTED)


def _hear(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    _raise_or_owe(frame)


def _hear_again(_: int, frame: FrameType | None) -> None:
    # It may have been raised elsewhere since; do not disturb the unwinding.
    if _owed:
        _raise_or_owe(frame)


def _raise_or_owe(frame: FrameType | None) -> None:
    if _HAS_TIMER and frame is not None and _holds_a_lock(frame):
        _owe()
    else:
        raise_if_heard()


def _holds_a_lock(frame: FrameType) -> bool:
    """Return whether an exception here may leave a lock held forever.

    The import system does so between its ``acquire_lock()`` and the ``try`` that follows, and a ``with`` while its
    ``__enter__`` returns or its ``__exit__`` begins (https://github.com/python/cpython/issues/74174).
    """
    code = frame.f_code
    return code.co_filename == "<frozen importlib._bootstrap>" or code.co_name in ("__enter__", "__exit__")


def _raise_dropped_again(unraisable: sys.UnraisableHookArgs) -> None:
    """Re-raise outside an exception from a finalizer or a weak reference's callback, which cannot leave it."""
    if isinstance(unraisable.exc_value, Stopped):
        _owe()
    else:
        sys.__unraisablehook__(unraisable)


def _owe() -> None:
    _owed.append(_heard[0])
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
