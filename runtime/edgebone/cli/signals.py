"""Ctrl-C and SIGTERM: raised where the program is, but neither lost there nor at the cost of a lock."""

from __future__ import annotations

import signal
import sys
from types import FrameType

_AGAIN_S = 0.005

_heard: list[int] = []
_reload: list[int] = []
_owed: list[int] = []


class Terminated(BaseException):
    """SIGTERM came: unwinds as Ctrl-C does, so that files are finished and temporary ones removed."""


def listen() -> None:
    """Raise KeyboardInterrupt on SIGINT and Terminated on SIGTERM; one that the parent ignores stays ignored.

    It is raised a moment later, by SIGALRM, where Python would drop it or a lock would stay taken.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _hear)
    signal.signal(signal.SIGALRM, _hear_again)
    sys.unraisablehook = _raise_dropped_again


def listen_for_reload() -> None:
    """Take SIGHUP as the wish to load again, in place of the end that it means otherwise."""
    signal.signal(signal.SIGHUP, lambda number, _: _reload.append(number))


def reload_asked() -> bool:
    """Whether SIGHUP has come since the last question."""
    asked = bool(_reload)
    _reload.clear()
    return asked


def raise_if_heard() -> None:
    """Raise for a signal that has come already: what a handler raises, a library's C code may swallow."""
    if _heard:
        _owed.clear()
        raise KeyboardInterrupt if _heard[0] == signal.SIGINT else Terminated


def _hear(number: int, frame: FrameType | None) -> None:
    _heard.append(number)
    _raise_or_owe(frame)


def _hear_again(_: int, frame: FrameType | None) -> None:
    # It may have been raised elsewhere since; what unwinds now is not to be disturbed.
    if _owed:
        _raise_or_owe(frame)


def _raise_or_owe(frame: FrameType | None) -> None:
    if frame is not None and _holds_a_lock(frame):
        _owe()
    else:
        raise_if_heard()


def _holds_a_lock(frame: FrameType) -> bool:
    """Whether an exception here may leave a lock taken for ever, and every thread that waits for it.

    The import system does so between its ``acquire_lock()`` and the ``try`` that follows, and a ``with`` while its
    ``__enter__`` returns or its ``__exit__`` begins (https://github.com/python/cpython/issues/74174).
    """
    code = frame.f_code
    return code.co_filename == "<frozen importlib._bootstrap>" or code.co_name in ("__enter__", "__exit__")


def _raise_dropped_again(unraisable: sys.UnraisableHookArgs) -> None:
    """What was raised in a finalizer or a weak reference's callback cannot leave it: it is raised outside."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt | Terminated):
        _owe()
    else:
        sys.__unraisablehook__(unraisable)


def _owe() -> None:
    _owed[:] = _heard[:1]
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
